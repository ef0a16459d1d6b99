"""Where broken files go in: one function an entry of the package. It returns reasons, one for each file refused.

What it may raise is what the entry documents: DataError or StructureError. All else is a fault.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.fuzz import mutations
from benchmarks.fuzz.objects import change_manifest, change_object, change_pickle
from cgcnn.arguments import parse_training
from cgcnn.component_splits import read_published
from cgcnn.crystal_features import CrystalTable
from cgcnn.data_source import open_source
from cgcnn.features import read_element_table
from cgcnn.graph import CrystalGraph, GraphSettings, build_graph
from cgcnn.inference import load_model
from cgcnn.labels import raise_all, read_auxiliary, read_categories, read_labels
from cgcnn.merge.command import merge_command
from cgcnn.predicted import classes_of, read_predictions
from cgcnn.screening.calibration import read_intervals
from cgcnn.splits import read_split
from cgcnn.store import GraphStore
from cgcnn.structures import find_structure_names, read_crystal
from cgcnn.sweep.flags import parse_sweep
from cgcnn.tasks import Task, TaskSet

Change = Callable[[bytes, random.Random], tuple[bytes, str]]
SETTINGS = (
    GraphSettings(),
    GraphSettings(environment=True, symmetry=True),
    GraphSettings(neighbours="classic", padded=True),
    GraphSettings(images=True),
    GraphSettings(histogram=40, symmetry=True),
    GraphSettings(histogram=40, periodic=False),
)


class WrongError(Exception):
    """An entry went on, but did what it must not: the message says what."""


@dataclass(frozen=True)
class Entry:
    """template: the folder of good inputs that is copied. targets: the pattern of the files that can be broken.

    call: (copy, broken file, random numbers) → reasons. change: how its files are broken. is_named: whether what it
    says has to name the file. weight: how often it is drawn. pool: where targets are that do not lie in the template.
    """

    template: str
    targets: str
    call: Callable[[Path, Path, random.Random], list[str]]
    change: Change
    is_named: bool = True
    weight: int = 2
    pool: str = ""


def structures(folder: Path, target: Path, rng: random.Random) -> list[str]:
    """A folder with one bad file: the others have to become graphs."""
    files = {i: Path(name) for i, name in find_structure_names(folder).items()}
    settings = rng.choice(SETTINGS)
    store = GraphStore(folder / "cache", settings)
    failed, _ = store.update(files, jobs=1, quiet=True)
    if lost := [i for i, path in files.items() if path != target and i in failed]:
        raise WrongError(f"{lost[0]}, a good file beside it, is not used: {failed[lost[0]]}")
    used = [i for i in files if i not in failed]
    table = store.table(used)
    for row, crystal_id in enumerate(used):
        _check_graph(table.graph(row), crystal_id)
    return [f"{files[i]}: {reason}" for i, reason in failed.items()]


def one_structure(folder: Path, target: Path, rng: random.Random) -> list[str]:
    """The bad file alone, and back to pymatgen where it is read."""
    crystal = read_crystal(target)
    _check_graph(build_graph(crystal, rng.choice(SETTINGS)), target.name)
    if not crystal.reduced_formula:
        raise WrongError("a crystal without a formula")
    crystal.to_structure()
    return []


def _check_graph(graph: CrystalGraph, name: str) -> None:
    numbers = (graph.distances, graph.occupancies, graph.environment, graph.lattice, graph.frac_coords, graph.counts)
    if not all(np.isfinite(each).all() for each in numbers):
        raise WrongError(f"{name}: a number of its graph is not finite")
    if len(graph.neighbours) and not 0 <= graph.neighbours.min() <= graph.neighbours.max() < graph.num_atoms:
        raise WrongError(f"{name}: a neighbour that is no atom")
    if graph.degree.sum() != len(graph.distances) or graph.num_atoms < 1:
        raise WrongError(f"{name}: its edges and atoms disagree")


def _ids(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.cif"))


def labels(folder: Path, target: Path, rng: random.Random) -> list[str]:
    table = read_labels(target, known_ids=_ids(folder), labels_needed=rng.random() < 0.8)
    if np.isinf(table.values).any() or len(table.ids) != len(set(table.ids)):
        raise WrongError("an infinite label, or an id twice")
    return []


def categories(folder: Path, target: Path, rng: random.Random) -> list[str]:
    read_categories(target, _ids(folder))
    return []


def auxiliary(folder: Path, target: Path, rng: random.Random) -> list[str]:
    read_auxiliary(target, _ids(folder))
    return []


def split(folder: Path, target: Path, rng: random.Random) -> list[str]:
    found, left_out = read_split(target, ids := _ids(folder), needs_val=rng.random() < 0.8)
    if len(found.train) + len(found.val) + len(found.test) + len(left_out) != len(ids):
        raise WrongError("crystals are lost")
    return []


def published_split(folder: Path, target: Path, rng: random.Random) -> list[str]:
    read_published(target, _ids(folder))
    return []


def features(folder: Path, target: Path, rng: random.Random) -> list[str]:
    table = CrystalTable.read(target)
    names = table.learn(["temperature", "phase"], _ids(folder))
    values, failed = table.encode(names, _ids(folder))
    if not np.isfinite(values).all():
        raise WrongError("a feature that is not finite")
    return list(failed.values())


def data_file(folder: Path, target: Path, rng: random.Random) -> list[str]:
    """A data file or a folder of pickled parts, as far as its crystals and labels."""
    path = target if target.parent == folder else folder
    source = open_source(path)
    table = source.labels(needed=False)
    if table is not None and np.isinf(table.values).any():
        raise WrongError("an infinite label")
    failed = [f"{source.where(i)}: {reason}" for i, reason in source.lacking.items()]
    store = GraphStore(source.cache, GraphSettings())
    bad, _ = store.update({i: Path(name) for i, name in source.files.items()}, jobs=1, quiet=True)
    store.table([i for i in source.files if i not in bad])
    return [*source.faults, *failed, *(f"{source.where(i)}: {reason}" for i, reason in bad.items())]


def unpacked(folder: Path, target: Path, rng: random.Random) -> list[str]:
    """What was unpacked of a good data file is broken: it is made anew, or read as it is."""
    return [] if target.name == "list.json" else data_file(folder, folder / "list.json", rng)


def store(folder: Path, target: Path, rng: random.Random) -> list[str]:
    """The graphs on disk are broken, the structure files are good: none may be missing."""
    files = {path.stem: path for path in folder.glob("*.cif")}
    opened = GraphStore(folder / ".cgcnn_cache", GraphSettings())
    failed, _ = opened.update(files, jobs=1, quiet=True)
    if failed:
        raise WrongError(f"a good file is not used: {next(iter(failed.values()))}")
    table = opened.table(list(files))
    # Columns are mapped, not read: another byte in them is not seen here; those that are cut short are made anew.
    for row, crystal_id in enumerate(() if target.suffix == ".bin" else files):
        _check_graph(table.graph(row), crystal_id)
    return []


def elements(folder: Path, target: Path, rng: random.Random) -> list[str]:
    if torch.isinf(read_element_table(target)).any():
        raise WrongError("an infinite vector")
    return []


def config(folder: Path, target: Path, rng: random.Random) -> list[str]:
    parse_training([str(folder), "--config", str(target)])
    return []


def axes(folder: Path, target: Path, rng: random.Random) -> list[str]:
    parse_sweep([str(folder), "--grid-file", str(target)])
    return []


def model(folder: Path, target: Path, rng: random.Random) -> list[str]:
    """A model is loaded and predicts, or its run is taken up, or another starts from it."""
    use = rng.choice(("predict", "predict", "--resume", "--init-from", "--evaluate"))
    if use == "predict":
        with np.errstate(all="ignore"):
            load_model(target).predict([sorted(folder.glob("*.cif"))[0]])
    else:
        parse_training([str(folder), use, str(target)])
    return []


def predictions(folder: Path, target: Path, rng: random.Random) -> list[str]:
    with np.errstate(all="ignore"):
        found = read_predictions(target, classes=rng.random() < 0.2)
        _ = [each.accuracy + each.auc for each in classes_of(found)] + [one.metrics() for one in found if len(one)]
    return []


def calibration(folder: Path, target: Path, rng: random.Random) -> list[str]:
    names = ("work_function",) if target.name == "plain.csv" else ("work_function", "band_gap")
    tasks = TaskSet(tuple(Task(name, unit="eV") for name in names))
    with np.errstate(all="ignore"):
        found = read_intervals(target, tasks, coverage=0.8, with_deviations=rng.random() < 0.5)
        for interval in found.values():
            interval(np.zeros(2), np.ones(2))
    return []


def merge(folder: Path, target: Path, rng: random.Random) -> list[str]:
    """The whole command, which is quick."""
    words = [str(folder / "work.csv"), str(folder / "band.csv"), "--out", str(folder / "out")]
    words += ["--categories", str(folder / "kinds.csv")] * (target.name == "kinds.csv" or rng.random() < 0.3)
    words += rng.choice(([], ["--structures", str(folder)], ["--how", "outer"], ["--duplicates", "mean"]))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = merge_command(words)
    if status == 2:
        raise_all([line.removeprefix("error: ") for line in err.getvalue().splitlines()])
    if status not in (0, 3):
        raise WrongError(f"exit status {status}: {err.getvalue()}")
    return []


def _of(kinds: tuple[Callable, ...]) -> Change:
    return partial(mutations.mutated, kinds=kinds)


_TABLE = {"template": "folder", "change": _of(mutations.TEXT)}
_BROKEN = Entry("beside", "", structures, _of(mutations.TEXT), pool="pool")
ENTRIES: dict[str, Entry] = {
    "CIF in a folder": replace(_BROKEN, targets="*.cif", weight=8),
    "CIF": replace(_BROKEN, targets="*.cif", call=one_structure, is_named=False, weight=8),
    "POSCAR": replace(_BROKEN, targets="*.vasp", weight=6),
    "JSON structure": replace(_BROKEN, targets="*.json", change=_of(mutations.JSON), weight=6),
    "id_prop.csv": Entry(targets="id_prop.csv", call=labels, weight=5, **_TABLE),
    "all.csv": Entry(targets="all.csv", call=categories, **_TABLE),
    "ax.csv": Entry(targets="ax.csv", call=auxiliary, **_TABLE),
    "split file": Entry(targets="split.csv", call=split, **_TABLE),
    "alloys.csv": Entry(targets="alloys.csv", call=published_split, **_TABLE),
    "crystal features": Entry(targets="features.csv", call=features, **_TABLE),
    "data file": Entry("files", "*.json*", data_file, _of(mutations.JSON), weight=6),
    "packed data file": Entry("files", "*.gz", data_file, _of(mutations.BYTES), weight=1),
    "pickle": Entry("files", "*.pkl", data_file, change_pickle, weight=4),
    "pickled parts": Entry("parts", "*/raw/raw_data.pkl", data_file, change_pickle, weight=4),
    "unpacked data file": Entry(
        "unpacked", "list.json.cgcnn_cache/**/*", unpacked, _of(mutations.JSON), is_named=False
    ),
    "atom_init.json": Entry("folder", "elements.json", elements, _of(mutations.JSON)),
    "configuration": Entry("folder", "flags.*", config, _of(mutations.JSON), is_named=False, weight=4),
    "axes of a sweep": Entry(targets="axes.toml", call=axes, is_named=False, **_TABLE),
    "model": Entry("models", "*.pth.tar", model, change_object, weight=8),
    "graph store": Entry("stored", ".cgcnn_cache/**/*", store, change_manifest, weight=5),
    "tables to merge": Entry(targets="[wbk]*.csv", call=merge, is_named=False, weight=5, **_TABLE),
    "predictions": Entry(targets="[pc]*.csv", call=predictions, weight=3, **_TABLE),
    "calibration": Entry(targets="p*.csv", call=calibration, weight=2, **_TABLE),
}
