"""The table that predict.py writes: labels, predictions, how sure they are, and what is unlike the training set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cgcnn.novelty import SYMBOLS
from cgcnn.report import prediction_table
from cgcnn.screening.calibration import Interval
from cgcnn.screening.predictions import Prediction
from cgcnn.tasks import Task, TaskSet

UNLIKE, DISTANCE = "unlike_training", "distance_to_training"
TEXT_COLUMNS = ("cif_id", UNLIKE)


def column(task: Task, what: str, *, unnamed: bool) -> str:
    """The column of a task that holds its `pred`, `target`, `std`, `low`, `high` or `score` (of an atom)."""
    if unnamed:
        return {"pred": "prediction", "target": "target", "score": "score"}.get(what, f"prediction_{what}")
    return f"{task.name}_{what}"


def full_table(
    tasks: TaskSet,
    prediction: Prediction,
    labels: np.ndarray | None = None,
    *,
    unnamed: bool = False,
    intervals: Mapping[str, Interval] | None = None,
) -> pd.DataFrame:
    """`report.prediction_table` of n crystals, with `<task>_std`, `_low`, `_high`, and what is unlike training.

    labels (n, T). intervals: task → its calibrated interval.
    """
    table = prediction_table(prediction.ids, tasks, prediction.values, labels, unnamed=unnamed)
    for task in tasks:
        new = {}
        deviation = prediction.deviations.get(task.name)
        if deviation is not None:
            new["std"] = deviation
        if intervals and task.name in intervals:
            bounds = intervals[task.name](prediction.values[task.name], deviation)
            new["low"], new["high"] = bounds
        place = table.columns.get_loc(column(task, "pred", unnamed=unnamed)) + 1
        for k, (what, values) in enumerate(new.items()):
            table.insert(place + k, column(task, what, unnamed=unnamed), values)
    if prediction.unlike is not None:
        table[UNLIKE] = np.array(prediction.unlike, dtype=object)
        table[DISTANCE] = prediction.distance
    return table


def short_names(tasks: TaskSet, *, unnamed: bool = False) -> dict[str, str]:
    """Name of a task → the column of its prediction."""
    return {task.name: column(task, "pred", unnamed=unnamed) for task in tasks}


def element_table(prediction: Prediction) -> pd.DataFrame:
    """A row an element of a crystal: how many atoms of it are in the cell, and its state, `state_0` … ."""
    elements = prediction.elements
    columns: dict[str, object] = {
        "cif_id": np.array(prediction.ids, dtype=object)[elements.crystal],
        "element": np.array([SYMBOLS[number] for number in elements.numbers.tolist()], dtype=object),
        "atoms": elements.amounts,
    }
    columns |= {f"state_{k}": values for k, values in enumerate(elements.states.T)}
    return pd.DataFrame(columns)


def atom_table(tasks: TaskSet, prediction: Prediction, *, unnamed: bool = False) -> pd.DataFrame:
    """A row an atom: its crystal, its number from 0 in the file's order, its element, its weight and its scores."""
    atoms = prediction.atoms
    count = np.bincount(atoms.crystal, minlength=len(prediction.ids))
    first = np.cumsum(count) - count
    columns: dict[str, object] = {
        "cif_id": np.array(prediction.ids, dtype=object)[atoms.crystal],
        "atom": np.arange(len(atoms.crystal)) - first[atoms.crystal],
        "element": atoms.elements,
        "attention": atoms.weight,
    }
    for task in tasks:
        if task.is_regression:
            columns[column(task, "score", unnamed=unnamed)] = atoms.scores[task.name]
    return pd.DataFrame(columns)
