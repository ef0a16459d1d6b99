"""A data folder or file → crystals with graphs, tasks and labels, ready to be split and trained on."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cgcnn.data_source import MAX_LISTED, DataSource, beside, open_source
from cgcnn.features import atom_features
from cgcnn.global_features import composition_averages, global_features, needs_symmetry
from cgcnn.graph import GraphSettings
from cgcnn.labels import (
    AUXILIARY_NAMES,
    DataError,
    LabelTable,
    raise_all,
    read_auxiliary,
    read_categories,
)
from cgcnn.store import GraphStore, GraphTable
from cgcnn.tasks import (
    AUXILIARY,
    CATEGORY,
    CLASSIFICATION,
    REGRESSION,
    TARGET,
    UNITS,
    Task,
    TaskSet,
    class_labels,
)

CATEGORY_NAME = "material_type"


@dataclass(frozen=True, eq=False)
class Dataset:
    """n crystals: ids, graphs, the T tasks and their labels (n, T) in their units, NaN where missing.

    elements: element vectors (119, F₀). global_features: (n, G), if the flags ask for any. notes: lines that the
    user should read. failed: id → reason, of crystals that were left out. unnamed: one target from a table
    without header.
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


def load_dataset(args: Namespace, check_stop: Callable[[], None] = lambda: None) -> Dataset:
    """Read labels, build or fetch graphs, settle the tasks, as the flags say. Raises DataError.

    check_stop: see `GraphStore.update`.
    """
    path = Path(args.data_options[0])
    if args.conditional_loss and path.is_file():
        raise DataError(f"--conditional-loss needs a data folder with an all.csv; {path} is a file")
    source = open_source(path, cache_dir=args.cache_dir, verify=args.verify_cache, check_stop=check_stop)
    notes: list[str] = []
    table, unnamed = _read_targets(source, args)
    graphs, ids, failed = _graphs(source, table.ids, args, check_stop)
    values = table.values[[i not in failed for i in table.ids]]
    tasks, columns = target_tasks(table, values, args)
    labels = [values[:, column] for column in columns]
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
    elements = atom_features(args.atom_features, beside(path, "atom_init.json"))
    _check_elements(graphs, ids, elements)
    if failed:
        notes.append(f"{len(failed)} of {len(table.ids)} crystals are left out (--on-bad-structure skip)")
    return Dataset(
        ids,
        graphs,
        task_set,
        np.stack(labels, axis=1),
        elements,
        global_features(args.global_features, graphs),
        unnamed,
        notes,
        failed,
    )


def target_tasks(table: LabelTable, values: np.ndarray, args: Namespace) -> tuple[list[Task], list[int]]:
    """The targets that the flags choose among the columns, and the column of each. Raises DataError."""
    wanted = args.targets or table.names
    names = [word.removesuffix(":class") for word in wanted]
    unknown = [name for name in names if name not in table.names]
    if unknown:
        raise DataError(f"{table.path}: no column {unknown[0]!r}; there are {', '.join(table.names)}")
    columns = [table.names.index(name) for name in names]
    kinds = [
        CLASSIFICATION
        if word.endswith(":class")
        or args.task == "classification"
        or (args.task == "multi" and not args.targets and k == len(wanted) - 1)
        else REGRESSION
        for k, word in enumerate(wanted)
    ]
    if args.task == "multi" and CLASSIFICATION not in kinds:
        kinds[-1] = CLASSIFICATION
    if args.task == "multi" and REGRESSION not in kinds:
        raise DataError(f"{table.path}: --task multi needs a regression and a class, found one label column")
    num_regressions = kinds.count(REGRESSION)
    weights = [args.task1_weight, args.task2_weight] if num_regressions > 1 else [1.0]
    tasks = []
    for name, column, kind in zip(names, columns, kinds, strict=True):
        if np.isnan(values[:, column]).all():
            raise DataError(f"{table.path}: no label for {name} in any row")
        transform = args.transforms.get(name, "none")
        unit = args.units.get(name, UNITS.get(name, ""))
        try:
            if kind == REGRESSION:
                weight = weights.pop(0) if weights else 0.5
                tasks.append(Task(name, kind, TARGET, unit, weight, transform=transform))
            else:
                weight = args.cls_weight if num_regressions else (1.0 if len(kinds) == 1 else 0.5)
                tasks.append(Task(name, kind, weight=weight, classes=class_labels(values[:, column])))
        except ValueError as error:
            raise DataError(f"{table.path}: column {name}: {error}") from None
    return tasks, columns


def target_columns(table: LabelTable, ids: Sequence[str], tasks: TaskSet) -> np.ndarray:
    """Labels (n, T) of these ids for a model's tasks, to stand beside its predictions; NaN where there is none.

    Columns go by name; a table without header, or one whose single column has another name, by position.
    """
    row_of = {crystal_id: row for row, crystal_id in enumerate(table.ids)}
    rows = np.array([row_of.get(i, -1) for i in ids])
    labels = np.full((len(ids), len(tasks)), np.nan)
    targets = [task.name for task in tasks.targets]
    by_position = not table.has_header or (len(targets) == 1 and len(table.names) == 1)
    names = dict(zip(targets, table.names, strict=False)) if by_position else {name: name for name in targets}
    for name, column in names.items():
        if column in table.names:
            values = np.append(table.values[:, table.names.index(column)], np.nan)
            labels[:, tasks.column(name)] = values[rows]
    return labels


def graph_settings(args: Namespace) -> GraphSettings:
    """What the flags say about graphs."""
    return GraphSettings(
        args.radius,
        args.max_num_nbr,
        args.neighbors,
        environment=args.environment,
        symmetry=needs_symmetry(args.global_features),
    )


def _read_targets(source: DataSource, args: Namespace) -> tuple[LabelTable, bool]:
    table = source.labels()
    if table.has_header:
        return table, False
    if len(table.names) == 2 and args.task != "classification":
        names = ["formation_energy", "defect_label"] if args.task == "multi" else ["work_function", "band_gap"]
        return replace(table, names=names), False
    return table, len(table.names) == 1


def _graphs(
    source: DataSource, ids: Sequence[str], args: Namespace, check_stop: Callable[[], None]
) -> tuple[GraphTable, list[str], dict[str, str]]:
    """Graphs of the crystals that can be read, their ids, and the reason for each that cannot."""
    if args.on_bad_structure == "skip":
        raise_all(source.faults, limit=MAX_LISTED)
    failed = {i: source.lacking.get(i, "no structure file of this name") for i in ids if i not in source.files}
    store = GraphStore(source.cache, graph_settings(args))
    files = {i: Path(source.files[i]) for i in ids if i in source.files}
    bad, _ = store.update(files, jobs=args.graph_jobs, verify=args.verify_cache, check_stop=check_stop)
    failed |= bad
    if args.on_bad_structure == "stop":
        lines = [f"{source.where(i)}: {reason}" for i, reason in failed.items()]
        head = f"{source.table}: {len(failed)} of {len(ids)} crystals cannot be used"
        lines[:0] = [f"{head} (--on-bad-structure skip goes on without them)"] if failed else []
        raise_all([*source.faults, *lines], limit=MAX_LISTED)
    good = [i for i in ids if i not in failed]
    if not good:
        raise DataError(f"{source.table}: none of the {len(ids)} crystals can be used")
    return store.table(good), good, failed


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
        unknown: Mapping = {name: None for name in given if name not in tasks}
        if unknown:
            known = ", ".join(task.name for task in tasks)
            raise DataError(f"{flag}: no task {next(iter(unknown))!r}; there are {known}")
    if not any(args.task_weights.get(task.name, task.weight) > 0 for task in tasks.targets):
        raise DataError("all targets have the weight 0")
