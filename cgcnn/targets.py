"""Columns of a label table → the targets that are learned from them, and the labels of a model's targets."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

import numpy as np

from cgcnn.labels import DataError, LabelTable
from cgcnn.tasks import CLASSIFICATION, EVERY, REGRESSION, TARGET, UNITS, Task, TaskSet, class_labels


def target_tasks(table: LabelTable, values: np.ndarray, args: Namespace) -> tuple[list[Task], list[int]]:
    """The targets that the flags choose among the columns, and the column of each. Raises DataError."""
    wanted = args.targets or table.names
    names = [word.removesuffix(":class") for word in wanted]
    found = [_column(name, table.names) for name in names]
    unknown = [name for name, column in zip(names, found, strict=True) if column is None]
    if unknown:
        raise DataError(f"{table.path}: no column {unknown[0]!r}; there are {', '.join(table.names)}")
    columns = [table.names.index(column) for column in found]
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
        transform = args.transforms.get(name, args.transforms.get(EVERY, "none"))  # * of every task
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
        if (column := _column(column, table.names)) is not None:
            values = np.append(table.values[:, table.names.index(column)], np.nan)
            labels[:, tasks.column(name)] = values[rows]
    return labels


def _column(name: str, columns: Sequence[str]) -> str | None:
    """The column of this name; the band gap is the same in one word and in two."""
    other = {"bandgap": "band_gap", "band_gap": "bandgap"}.get(name)
    return next((each for each in (name, other) if each in columns), None)
