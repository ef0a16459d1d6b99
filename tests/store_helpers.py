"""What tests of the graph store share: folders of small crystals, and what a store must hold of them."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
from conftest import cif_text, random_crystal

from cgcnn.graph import CrystalGraph, GraphSettings, build_graph
from cgcnn.graph_table import COLUMNS
from cgcnn.shard import MARKER
from cgcnn.store import GraphStore
from cgcnn.structures import read_crystal

SETTINGS = GraphSettings(radius=5.0, max_num_nbr=4, environment=True, symmetry=True)  # so that no column is empty
FORK = multiprocessing.get_context("fork")
LONG_AGO = 1_600_000_000  # s; long enough before now that the clock's step does not matter


def write_crystals(folder: Path, ids, *, seed: int = 0) -> dict[str, Path]:
    """A CIF for each id, dated long ago."""
    folder.mkdir(exist_ok=True)
    files = {}
    for k, crystal_id in enumerate(ids):
        files[crystal_id] = folder / f"{crystal_id}.cif"
        rewrite(files[crystal_id], seed + k, mtime=LONG_AGO + seed)
    return files


def rewrite(path: Path, seed: int, *, mtime: float) -> None:
    path.write_text(cif_text(random_crystal(seed, 1 + seed % 4)))
    os.utime(path, (mtime, mtime))


def change_within_size(path: Path, mtime: float) -> None:
    """A longer cell in a file of the same size and time."""
    text = path.read_text()
    longer = text.replace("_cell_length_a ", "_cell_length_a 1").replace("data_crystal", "data_crysta")
    assert len(longer) == len(text)
    path.write_text(longer)
    os.utime(path, (mtime, mtime))


HISTOGRAM = ("elements", "amounts", "pair_bins", "bins", "counts")
FILLED = [name for name in COLUMNS if name not in (*HISTOGRAM, "multiplicity")]
JOURNAL = ["records", "stamps", "names"]
FILES = len(FILLED) + len(JOURNAL)
SHARD = "shard-000000"


def opened(folder: Path, chosen: GraphSettings = SETTINGS) -> GraphStore:
    return GraphStore(folder / "cache", chosen)


def update(graph_store: GraphStore, files, **options) -> tuple[dict[str, str], int]:
    return graph_store.update(files, jobs=1, quiet=True, **options)


def assert_same_graph(found: CrystalGraph, expected: CrystalGraph) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def assert_holds(graph_store: GraphStore, files, chosen: GraphSettings = SETTINGS) -> None:
    """Exactly the graphs and formulas of these files, in whatever order they are asked for."""
    ids = list(files)[::-1]
    table = graph_store.table(ids)
    crystals = [read_crystal(files[crystal_id]) for crystal_id in ids]
    assert table.formulas == [crystal.reduced_formula for crystal in crystals]
    for row, crystal in enumerate(crystals):
        assert_same_graph(table.graph(row), build_graph(crystal, chosen))


def in_child(function, *arguments) -> int:
    """Exit code of a process that calls this; minus the signal that ended it."""
    child = FORK.Process(target=function, args=arguments)
    child.start()
    child.join(60)
    return child.exitcode


def cut_marker(length: int):
    def damage(shard: Path) -> None:
        path = shard / MARKER
        path.write_bytes(path.read_bytes()[:length])

    return damage


def overwrite_marker(content: bytes):
    return lambda shard: (shard / MARKER).write_bytes(content)


def change_marker(**changes):
    """What no version wrote, or another one."""

    def damage(shard: Path) -> None:
        (shard / MARKER).write_text(json.dumps(json.loads((shard / MARKER).read_text()) | changes))

    return damage


def truncate(name: str):
    def damage(shard: Path) -> None:
        path = shard / f"{name}.0.bin"
        os.truncate(path, path.stat().st_size - 1)

    return damage


def flip(name: str):
    """One bit of a file of the journal."""

    def damage(shard: Path) -> None:
        path = shard / f"{name}.0.bin"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)

    return damage
