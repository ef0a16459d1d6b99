"""Batches: what a loop over the crystals would put side by side."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from conftest import make_crystal, random_crystal

from cgcnn.batch import Batch, Collator, RadialPairs, divided
from cgcnn.graph import GraphSettings, build_graph, build_graphs
from cgcnn.graph_table import GraphTable
from cgcnn.store import GraphStore
from cgcnn.structures import find_structure_files

ODD = {
    "lonely": make_crystal(30.0, ["Ar"], [[0, 0, 0]]),
    "shared": make_crystal(4.0, [{"Ni": 0.5, "Co": 0.25}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "pair": make_crystal(30.0, ["Ar", "N", "N"], [[0.5, 0.5, 0.5], [0, 0, 0], [0.04, 0, 0]]),
    "large": random_crystal(1, 9, length=7.0),
}


@pytest.fixture(scope="module")
def table(crystals) -> GraphTable:
    several = (crystals | ODD).values()
    graphs = [build_graph(crystal, GraphSettings(environment=True)) for crystal in several]
    return GraphTable.from_graphs(graphs, [crystal.reduced_formula for crystal in several])


@pytest.fixture(scope="module")
def targets(table) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(len(table), 2))
    values[1, 0] = np.nan
    return values


def naive(table: GraphTable, rows: list[int]) -> dict[str, list]:
    """The same batch, crystal by crystal and atom by atom."""
    batch = {
        field.name: []
        for field in fields(Batch)
        if field.name not in ("targets", "global_features", "pairs", "multiplicity")
    }
    atoms = 0
    for number, row in enumerate(rows):
        graph = table.graph(row)
        batch["numbers"] += graph.numbers.tolist()
        batch["occupancies"] += graph.occupancies.tolist()
        batch["site"] += [atoms + site for site in graph.site.tolist()]
        batch["crystal"] += [number] * graph.num_atoms
        batch["num_atoms"].append(graph.num_atoms)
        for atom, degree in enumerate(graph.degree.tolist()):
            batch["centres"] += [atoms + atom] * degree
        batch["neighbours"] += [atoms + other for other in graph.neighbours.tolist()]
        batch["distances"] += graph.distances.tolist()
        batch["lattice"].append(graph.lattice.astype(np.float32).tolist())
        batch["frac_coords"] += graph.frac_coords.astype(np.float32).tolist()
        batch["environment"] += graph.environment.tolist()
        batch["rows"].append(row)
        atoms += graph.num_atoms
    return batch


@pytest.mark.parametrize(
    "rows",
    [range(8), [7, 2, 5, 0], [3], [4], [5], [6], [4, 4], [2, 5, 2, 2, 4, 5], [4, 0, 4]],
    ids=str,
)
def test_a_batch_is_what_a_loop_would_make(table, targets, rows):
    rows = list(rows)
    batch = Collator(table, targets)[torch.tensor(rows, dtype=torch.int64)]
    for name, values in naive(table, rows).items():
        assert getattr(batch, name).tolist() == values, name
    torch.testing.assert_close(batch.targets, torch.tensor(targets[rows], dtype=torch.float32), equal_nan=True)
    assert len(batch) == len(rows)
    integers = ("numbers", "site", "crystal", "num_atoms", "centres", "neighbours", "rows")
    assert all(getattr(batch, name).dtype == torch.int64 for name in integers)
    assert batch.distances.dtype == batch.occupancies.dtype == batch.targets.dtype == torch.float32


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1, 3], [2]], ids=str)
def test_histograms_are_what_a_loop_would_make(rows, crystals):
    settings = GraphSettings(5.0, histogram=50)
    graphs = build_graphs(list(crystals.values()), settings)
    pairs = Collator(GraphTable.from_graphs(graphs, [""] * 4))[torch.tensor(rows)].pairs
    dense, elements = [], 0
    for number, row in enumerate(rows):
        graph, count = graphs[row], len(graphs[row].elements)
        mine = slice(elements, elements + count)
        assert pairs.numbers[mine].tolist() == graph.elements.tolist()
        assert pairs.amounts[mine].tolist() == graph.amounts.tolist()
        assert pairs.crystal[mine].tolist() == [number] * count
        start = 0
        for pair, length in enumerate(graph.pair_bins.tolist()):
            histogram = np.zeros(51)
            histogram[graph.bins[start : start + length]] = graph.counts[start : start + length]
            one, other = elements + pair // count, elements + pair % count
            assert (pairs.centres[len(dense)], pairs.neighbours[len(dense)]) == (one, other)
            dense.append(histogram)
            start += length
        elements += count
    np.testing.assert_allclose(pairs.dense(51), np.array(dense), rtol=1e-6)
    assert pairs.num_elements.tolist() == [len(graphs[row].elements) for row in rows]


def test_the_cases_that_are_meant_are_there(table):
    lengths = {name: values.tolist() for name, values in table.length.items()}
    assert lengths["edges"][4] == 0
    assert lengths["species"][5] == 3
    assert lengths["atoms"][5] == 2
    assert table.graph(6).degree.tolist() == [0, 1, 1]


def test_without_targets(table):
    collator = Collator(table)
    assert len(collator) == len(table)
    assert collator[torch.tensor([1, 0])].targets is None


def test_from_a_store(data_folder):
    folder = data_folder()
    files = find_structure_files(folder)
    store = GraphStore(folder / "cache", GraphSettings())
    store.update(files, jobs=1, quiet=True)
    table = store.table(list(files))
    batch = Collator(table)[torch.tensor([2, 0, 2])]
    for name, values in naive(table, [2, 0, 2]).items():
        assert getattr(batch, name).tolist() == values, name


def test_numbers_of_whole_crystals(table):
    numbers = np.arange(16, dtype=np.float32).reshape(8, 2)
    batch = Collator(table, None, numbers)[torch.tensor([5, 5, 0])]
    assert batch.global_features.tolist() == [[10, 11], [10, 11], [0, 1]]
    assert Collator(table)[torch.tensor([0])].global_features is None


def test_to_moves_everything(table, targets):
    for batch in (Collator(table, targets, targets)[torch.tensor([0, 4])], Collator(table)[torch.tensor([0])]):
        moved = batch.to("meta")
        for field in fields(Batch):
            before, after = getattr(batch, field.name), getattr(moved, field.name)
            assert (before is None) == (after is None)
            assert after is None or (after.device.type, after.shape) == ("meta", before.shape)


def same_batch(one: Batch, other: Batch) -> None:
    for field in fields(Batch):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, RadialPairs):
            assert all(torch.equal(getattr(mine, f.name), getattr(theirs, f.name)) for f in fields(RadialPairs))
        elif mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True, msg=field.name)
        else:
            assert theirs is None, field.name


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1, 3], [2]], ids=str)
@pytest.mark.parametrize("settings", [{"environment": True}, {"histogram": 40}, {"images": True}], ids=str)
def test_data_that_lies_on_a_device_gives_the_same_batches(rows, settings, crystals, monkeypatch):
    """Here on the CPU, by way of copies of three crystals at a time."""
    monkeypatch.setattr("cgcnn.batch._ROWS_A_COPY", 3)
    many = [*crystals.values()][:4]
    graphs = [build_graph(crystal, GraphSettings(**settings)) for crystal in many]
    table = GraphTable.from_graphs(graphs, [""] * 4)
    plain = Collator(table, np.eye(4), np.ones((4, 2)))
    there = plain.resident("cpu")
    same_batch(plain[torch.tensor(rows)], there[torch.tensor(rows)])
    assert there.num_bytes == plain.num_bytes > 0


def test_a_gpu_is_told_all_sizes(table):
    """On the meta device a size that hung on values would be an error."""
    batch = Collator(table, np.zeros((8, 1))).resident("meta")[torch.tensor([1, 4])]
    assert {getattr(batch, name).device.type for name in ("centres", "distances", "targets", "rows")} == {"meta"}
    assert len(batch.distances) == int(table.length["edges"][[1, 4]].sum())


EDGES, ATOMS = [10, 20, 30, 100, 5, 5, 5, 1], [1, 2, 3, 9, 1, 1, 1, 1]


def parts(rows=range(8), **limits) -> list[list[int]]:
    length = {"edges": torch.tensor(EDGES), "atoms": torch.tensor(ATOMS)}
    return [part.tolist() for part in divided(torch.tensor(rows), length, **limits)]


@pytest.mark.parametrize(
    "limits, expected",
    [
        ({"batch_size": 3}, [[0, 1, 2], [3, 4, 5], [6, 7]]),
        ({"batch_size": 7}, [[0, 1, 2, 3, 4, 5, 6, 7]]),  # the last is not alone
        ({"batch_size": 9, "max_edges": 60}, [[0, 1, 2], [3], [4, 5, 6, 7]]),
        ({"batch_size": 2, "max_edges": 60}, [[0, 1], [2], [3], [4, 5], [6, 7]]),
        ({"batch_size": 9, "max_edges": 4}, [[0, 1], [2], [3], [4, 5], [6, 7]]),  # one atom is never alone
    ],
    ids=str,
)
def test_batches_end_before_they_have_too_many_edges(limits, expected):
    assert parts(**limits) == expected


def test_the_last_crystal_joins_only_where_it_fits():
    assert parts([0, 1, 2, 3], batch_size=9, max_edges=60) == [[0, 1, 2], [3]]
    assert parts([3, 0], batch_size=9, max_edges=60) == [[3, 0]]  # one atom
    assert parts([0, 1, 2], batch_size=2, max_edges=60) == [[0, 1, 2]]
