"""Many structure files in little memory: chunks in order, the same from other processes, no file ends the others."""

import os
import time

import numpy as np
import pytest
from conftest import make_crystal
from screening_helpers import folder_of, salts

from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import COLUMNS
from cgcnn.labels import DataError
from cgcnn.screening import stream
from cgcnn.screening.stream import read_chunk, read_chunks

SETTINGS = [GraphSettings(), GraphSettings(radius=5.0, max_num_nbr=6)]


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list[tuple[str, str]]:
    folder = folder_of(salts(20), tmp_path_factory.mktemp("salts"))
    (folder / "c007.cif").write_text("no crystal")
    return [(path.stem, str(path)) for path in sorted(folder.iterdir())]


def same(one, other) -> bool:
    tables = zip(one.tables, other.tables, strict=True)
    return (one.ids, one.failed) == (other.ids, other.failed) and all(
        a.formulas == b.formulas and all(np.array_equal(a.columns[c], b.columns[c]) for c in COLUMNS)
        for a, b in tables
    )


def test_a_chunk_holds_graphs_under_every_setting(items):
    chunk = read_chunk(items, SETTINGS)
    assert len(chunk) == 20 and len(chunk.ids) == 19 and list(chunk.failed) == ["c007"]
    for settings, table in zip(SETTINGS, chunk.tables, strict=True):
        expected = build_graph(salts(20)["c010"], settings)
        found = table.graph(chunk.ids.index("c010"))
        np.testing.assert_array_equal(found.neighbours, expected.neighbours)
        np.testing.assert_allclose(found.distances, expected.distances, atol=1e-5)


@pytest.mark.parametrize("number", [0, 2])
def test_chunks_come_in_order_and_the_same_from_other_processes(number, items):
    expected = [read_chunk(items[k : k + 3], SETTINGS) for k in range(0, 20, 3)]
    found = list(read_chunks(items, SETTINGS, size=3, workers=number))
    assert len(found) == 7
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))


def test_no_items_no_chunks():
    assert list(read_chunks([], SETTINGS, size=3)) == list(read_chunks([], SETTINGS, size=3, workers=1)) == []


def test_no_more_is_read_ahead_than_fits(items):
    asked = []

    def counted():
        for k, item in enumerate(items):
            asked.append(k)
            yield item

    chunks = read_chunks(counted(), SETTINGS[:1], size=2, workers=2)
    next(chunks)
    time.sleep(0.5)
    assert len(asked) <= 2 * 4
    chunks.close()


def test_one_bad_structure_leaves_the_others(monkeypatch, tmp_path):
    crowd = make_crystal(1e-3, ["Na"] * 5, np.linspace(0, 0.9, 15).reshape(5, 3))
    odd = {"good": salts(1)["c000"], "dense": crowd, "number": 5, "lost": str(tmp_path / "lost.cif")}
    chunk = read_chunk(list(odd.items()), SETTINGS[:1])
    assert chunk.ids == ["good"] and set(chunk.failed) == {"dense", "number", "lost"}
    assert "too small" in chunk.failed["dense"] and "cannot be read" in chunk.failed["lost"]
    assert all("\n" not in reason for reason in chunk.failed.values())
    assert read_chunk([("dense", crowd)], SETTINGS[:1]).tables == []


def test_pymatgen_structures_and_crystals_are_taken(crystals):
    chunk = read_chunk([("a", crystals["NaCl"]), ("b", crystals["NaCl"].to_structure())], SETTINGS[:1])
    first, second = chunk.tables[0].graph(0), chunk.tables[0].graph(1)
    np.testing.assert_array_equal(first.neighbours, second.neighbours)


def die(part, settings):
    os._exit(9)


def test_a_dead_process_is_told_in_one_line(items, monkeypatch):
    monkeypatch.setattr(stream, "read_chunk", die)
    with pytest.raises(DataError, match=r"died.*--workers") as error:
        list(read_chunks(items, SETTINGS, size=3, workers=1))
    assert "\n" not in str(error.value)
