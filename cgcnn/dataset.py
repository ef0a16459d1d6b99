"""A data folder or file → crystals with graphs, tasks and labels, ready to be split and trained on."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from cgcnn.composition import atoms_of_elements
from cgcnn.crystal_features import CrystalTable, described, features_of_run, joined
from cgcnn.data_graphs import faults_of_files, graphs_of
from cgcnn.data_source import DataSource, beside, open_source
from cgcnn.features import atom_features, learned_elements
from cgcnn.global_features import composition_averages, global_features
from cgcnn.graph_table import GraphTable
from cgcnn.labels import (
    AUXILIARY_NAMES,
    DataError,
    LabelTable,
    raise_all,
    read_auxiliary,
    read_categories,
)
from cgcnn.pickled_splits import split_of_parts
from cgcnn.splits import Split
from cgcnn.targets import target_tasks
from cgcnn.tasks import (
    AUXILIARY,
    CATEGORY,
    CLASSIFICATION,
    EVERY,
    REGRESSION,
    UNITS,
    Task,
    TaskSet,
)

# Networks that learn the vectors of the elements, and the last element in the table of each.
LAST_ELEMENT = {"ecnet": 99, "crystalformer": 98}
CATEGORY_NAME = "material_type"


@dataclass(frozen=True, eq=False)
class Dataset:
    """n crystals: ids, graphs, the T tasks and their labels (n, T) in their units, NaN where missing.

    elements: element vectors (119, F₀). global_features: (n, G), if the flags ask for any; the last of them are
    crystal_features, by name, of the table `features`. notes: lines that the user should read. failed: id → reason,
    of crystals that were left out. unnamed: one target from a table without header.
    split: that of the data itself, where it comes in parts.
    """

    ids: list[str]
    table: GraphTable
    tasks: TaskSet
    labels: np.ndarray
    elements: Tensor
    global_features: np.ndarray | None = None
    unnamed: bool = False
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    features: CrystalTable | None = None
    crystal_features: tuple[str, ...] = ()
    split: Split | None = None

    @cached_property
    def atoms(self) -> sparse.csr_matrix:
        """Atoms of each element in every crystal (n, 119)."""
        return atoms_of_elements(self.table)


def load_dataset(
    args: Namespace, check_stop: Callable[[], None] = lambda: None, *, known: Sequence[str] = ()
) -> Dataset:
    """Read labels, build or fetch graphs, settle the tasks, as the flags say. Raises DataError.

    check_stop: see `GraphStore.update`. known: crystal features of a model that is started from, which stay as they
    are where the data has no others.
    """
    path = Path(args.data_options[0])
    if args.conditional_loss and path.is_file():
        raise DataError(f"--conditional-loss needs a data folder with an all.csv; {path} is a file")
    source = open_source(path, cache_dir=args.cache_dir, verify=args.verify_cache, check_stop=check_stop)
    notes: list[str] = []
    try:
        table, unnamed = _read_targets(source, args)
    except DataError as error:
        raise DataError("\n".join([str(error), *faults_of_files(source, args, check_stop)])) from None
    features, names, unknown = features_of_run(path, table, args, known)
    graphs, ids, failed = graphs_of(source, table, args, check_stop, unknown, notes)
    values = table.values[[i not in failed for i in table.ids]]
    tasks, columns = target_tasks(table, values, args)
    labels = [values[:, column] for column in columns]
    notes += _looks_like_classes(tasks, labels)
    if args.conditional_loss:
        category, note = read_categories(source.folder / "all.csv", ids)
        notes += [note] if note else []
        classes = ("metal", "semiconductor")
        weight = args.classification_weight
        tasks.append(Task(CATEGORY_NAME, CLASSIFICATION, CATEGORY, weight=weight, classes=classes))
        labels.append(category)
    if args.auxiliary_tasks:
        auxiliary, note = _auxiliary(source, ids, graphs)
        notes += [note] if note else []
        taken = {task.name for task in tasks}
        for k, name in enumerate(AUXILIARY_NAMES):
            unique = f"aux_{name}" if name in taken else name
            weight = getattr(args, f"aux_task{k + 1}_weight")
            tasks.append(Task(unique, REGRESSION, AUXILIARY, UNITS.get(name, ""), weight))
            labels.append(auxiliary[:, k])
    try:
        task_set = TaskSet(tuple(tasks))
    except ValueError as error:
        raise DataError(f"{table.path}: {error}") from None
    _check_names(task_set, args)
    if args.conditional_loss and task_set.gap is None:
        raise DataError(
            "--conditional-loss needs a regression target that is the band gap, with gap in its name; "
            f"there are {', '.join(task.name for task in task_set.targets)}"
        )
    if args.model in LAST_ELEMENT:
        elements = learned_elements(LAST_ELEMENT[args.model])
    else:
        elements = atom_features(args.atom_features, beside(path, "atom_init.json"))
    _check_elements(graphs, ids, elements)
    if failed:
        notes.append(f"{len(failed)} of {len(table.ids)} crystals are left out (--on-bad-structure skip)")
    of_crystals = global_features(args.global_features, graphs)
    if features is not None:
        notes.append(f"crystal features of {features.name}: {described(names)}")
        of_crystals = joined(of_crystals, features.values(names, ids))
    return Dataset(
        ids,
        graphs,
        task_set,
        np.stack(labels, axis=1),
        elements,
        of_crystals,
        unnamed,
        notes,
        failed,
        features,
        names,
        split_of_parts({name: part.entries for name, part in source.parts.items()}, ids) if source.parts else None,
    )


def _read_targets(source: DataSource, args: Namespace) -> tuple[LabelTable, bool]:
    table = source.labels()
    if table.has_header:
        return table, False
    if len(table.names) == 2 and args.task != "classification":
        names = ["formation_energy", "defect_label"] if args.task == "multi" else ["work_function", "band_gap"]
        return replace(table, names=names), False
    return table, len(table.names) == 1


def _looks_like_classes(tasks: Sequence[Task], labels: Sequence[np.ndarray]) -> list[str]:
    """A line for every regression whose labels are 0 and 1 alone."""
    return [
        f"{task.name}: its labels are 0 and 1, and are learned as numbers; --targets {task.name}:class takes classes"
        for task, values in zip(tasks, labels, strict=True)
        if task.is_regression and np.unique(values[~np.isnan(values)]).tolist() == [0, 1]
    ]


def _auxiliary(source: DataSource, ids: Sequence[str], graphs: GraphTable) -> tuple[np.ndarray, str | None]:
    path = source.folder / "ax.csv"
    if path.exists() and not source.is_file:
        return read_auxiliary(path, ids), None
    values = np.full((len(ids), 3), np.nan)
    values[:, [0, 2]] = composition_averages(graphs)
    lacking = f"{source.path}: without an ax.csv" if source.is_file else f"{path}: not there"
    note = f"{lacking}; {AUXILIARY_NAMES[0]} and {AUXILIARY_NAMES[2]} are computed from the composition, "
    return values, note + f"{AUXILIARY_NAMES[1]} is masked"


def _check_elements(graphs: GraphTable, ids: Sequence[str], elements: Tensor) -> None:
    """Every element needs a vector. Raises DataError that names the crystals."""
    unknown = torch.isnan(elements).any(dim=1).numpy()
    species = graphs.columns["numbers"]
    if not unknown[np.unique(species)].any():
        return
    faults = []
    for k, crystal_id in enumerate(ids):
        part = slice(s := int(graphs.start["species"][k]), s + int(graphs.length["species"][k]))
        for number in np.unique(species[part]):
            if unknown[number]:
                faults.append(f"{crystal_id}: no element vector for atomic number {number}")
    raise_all(faults)


def _check_names(tasks: TaskSet, args: Namespace) -> None:
    for flag, given in (
        ("--task-weights", args.task_weights),
        ("--units", args.units),
        ("--transforms", args.transforms),
    ):
        unknown: Mapping = {name: None for name in given if name not in tasks and name != EVERY}
        if unknown:
            known = ", ".join(task.name for task in tasks)
            raise DataError(f"{flag}: no task {next(iter(unknown))!r}; there are {known}")
    if not any(args.task_weights.get(task.name, task.weight) > 0 for task in tasks.targets):
        raise DataError("all targets have the weight 0")
    _check_first_guess(tasks, args)


def _check_first_guess(tasks: TaskSet, args: Namespace) -> None:
    """Raises DataError for an --extensive that cannot grow with the cell, and a --reference without a regression."""
    regressions = [task.name for task in tasks.targets if task.is_regression]
    for name in args.extensive:
        if name not in regressions:
            there = f"there are {', '.join(regressions)}" if regressions else "there is none"
            why = "is a class, which cannot grow" if name in tasks and not tasks[name].is_regression else "is none"
            raise DataError(f"--extensive takes regression targets; {name!r} {why}; {there}")
        if tasks[name].transform == "log":
            raise DataError(f"--extensive {name}: the logarithm of what grows with the cell does not, leave one out")
    if args.reference != "none" and not regressions:
        raise DataError(f"--reference {args.reference} needs a regression target")
