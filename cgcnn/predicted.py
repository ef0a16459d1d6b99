"""Tables of predictions → what each task predicted: the common ground of figures and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cgcnn.dataset import CATEGORY_NAME
from cgcnn.labels import LARGEST, MISSING, DataError, raise_all, read_rows
from cgcnn.metrics import classification_metrics, task_metrics
from cgcnn.tasks import CATEGORY, CLASSIFICATION, TARGET, UNITS, Task

# eV; a predicted gap below it counts as metal where no category was learned: networks seldom predict exactly 0
METAL_BELOW = 0.1
METAL, SEMICONDUCTOR = "metal", "semiconductor"


@dataclass(frozen=True, eq=False)
class Predicted:
    """One task's predictions of the n crystals that have a label.

    ids (n,); target (n,); prediction (n,) in the task's unit, or probabilities (n, C); split (n,) from 1. num_lost:
    crystals that have a label, but no finite prediction.
    """

    task: Task
    ids: np.ndarray
    target: np.ndarray
    prediction: np.ndarray
    split: np.ndarray
    num_lost: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_splits(self) -> int:
        return len(np.unique(self.split))

    @property
    def error(self) -> np.ndarray:
        """Prediction − target (n,) of a regression; of a class, 1 where the guess is wrong."""
        if self.task.is_regression:
            return self.prediction - self.target
        return (self.prediction.argmax(axis=1) != self.target).astype(float)

    def metrics(self) -> dict[str, float]:
        return task_metrics(self.task, self.target, self.prediction)


@dataclass(frozen=True, eq=False)
class Guesses:
    """Classes (n,) beside those guessed (n,), and the scores (n, C) that rank them; `rule` says how was guessed.

    task: the name of the task they come from.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    target: np.ndarray
    guess: np.ndarray
    score: np.ndarray
    num_splits: int = 1
    rule: str = ""

    @property
    def accuracy(self) -> float:
        return float((self.guess == self.target).mean()) if len(self.target) else np.nan

    @property
    def auc(self) -> float:
        """Area under the ROC curve, see `classification_metrics`."""
        return classification_metrics(self.target.astype(float), self.score)["AUC"]


def guesses(predicted: Predicted) -> Guesses:
    """The classes of a classification: the most probable one is the guess."""
    target, probability = predicted.target.astype(int), predicted.prediction
    name, classes = predicted.task.name, predicted.task.classes
    return Guesses(name, name, classes, target, probability.argmax(axis=1), probability, predicted.num_splits)


def guesses_by_gap(predicted: Predicted) -> Guesses | None:
    """Metal (gap 0) or semiconductor from a gap itself, which is the score; None where it cannot be told."""
    task, target, gap = predicted.task, predicted.target, predicted.prediction
    if not task.is_regression or "gap" not in task.name.lower() or task.unit not in ("", "eV"):
        return None
    if not (target <= 0).any() or not (target > 0).any():
        return None
    rule = f"metal: predicted gap below {METAL_BELOW} eV"
    score = np.stack([-gap, gap], axis=1)
    guess = (gap >= METAL_BELOW).astype(int)
    return Guesses(
        f"{task.name}_class",
        task.name,
        (METAL, SEMICONDUCTOR),
        (target > 0).astype(int),
        guess,
        score,
        predicted.num_splits,
        rule,
    )


def classes_of(tasks: Sequence[Predicted]) -> list[Guesses]:
    """Every classification, and metal or semiconductor by the gap where no category was learned."""
    found = [guesses(one) for one in tasks if not one.task.is_regression]
    if any(one.task.role == CATEGORY for one in tasks):
        return found
    return found + [by_gap for one in tasks if (by_gap := guesses_by_gap(one)) is not None]


def from_table(
    table: pd.DataFrame, *, units: Mapping[str, str] | None = None, tasks: Mapping[str, Task] | None = None
) -> list[Predicted]:
    """The tasks of a table of `report.prediction_table`, with numbers in its columns; crystals without label go.

    units: of tasks by name. tasks: those whose kind is known; that of others follows from the columns. Other
    columns do not matter. Raises ValueError where there are no predictions, or no labels beside them.
    """
    columns = list(table.columns)
    pairs = {
        c.removesuffix("_pred"): (f"{c.removesuffix('_pred')}_target", c) for c in columns if c.endswith("_pred")
    }
    if not pairs and "prediction" in columns:
        pairs = {"target": ("target", "prediction")}
    if not pairs:
        raise ValueError("no predictions: a column <task>_pred, or one named prediction, is expected")
    pairs = {name: pair for name, pair in pairs.items() if pair[0] in columns}
    if not pairs:
        raise ValueError("no labels beside the predictions, so there is nothing to compare")
    ids = table[columns[0]].to_numpy(dtype=str)
    split = table["split"].to_numpy() if "split" in columns else np.ones(len(table))
    found = []
    for name, (label, prediction) in pairs.items():
        target = table[label].to_numpy(dtype=float, na_value=np.nan)
        values = table[prediction].to_numpy(dtype=float, na_value=np.nan)
        probability = _probabilities(table, name)
        given = (tasks or {}).get(name)
        is_class = not given.is_regression if given else probability is not None or _is_chance(label, target, values)
        if is_class and probability is None:
            probability = {"0": 1 - values, "1": values}
        shown = np.stack(list(probability.values()), axis=1) if is_class else values
        labelled = ~np.isnan(target)
        if is_class:
            labelled &= (target >= 0) & (target < len(probability))
        known = labelled & np.isfinite(shown.reshape(len(table), -1)).all(axis=1)
        task = given or _task(name, tuple(probability) if is_class else (), (units or {}).get(name))
        lost = int((labelled & ~known).sum())
        found.append(Predicted(task, ids[known], target[known], shown[known], split[known], lost))
    if not any(len(one) for one in found):
        raise ValueError("no labels beside the predictions, so there is nothing to compare")
    return found


def read_predictions(path: Path, *, units: Mapping[str, str] | None = None, classes: bool = False) -> list[Predicted]:
    """The tasks in a file of main.py, predict.py or the original code (id, target, prediction without header).

    classes: an unnamed target is known to be a class. Raises DataError for a file without predictions or labels,
    and for a cell that is no number, naming file and row.
    """
    rows = read_rows(path)
    header, body = rows[0][1], rows[1:]
    if len(header) == 3 and _number(header[1]) is not None and _number(header[2]) is not None:
        header, body = ["cif_id", "target", "prediction"], rows
    if not body:
        raise DataError(f"{path}: no rows below the header")
    raise_all(
        [
            f"{path}, row {n}: {len(cells)} columns, {len(header)} expected"
            for n, cells in body
            if len(cells) != len(header)
        ]
    )
    wanted = [k for k, name in enumerate(header) if k and _is_shown(name, header)]
    faults = [
        f"{path}, row {n}: {header[k]} {cells[k]!r} is not a number, or beyond {LARGEST:g}"
        for n, cells in body
        for k in wanted
        if _number(cells[k]) is None
    ]
    raise_all(faults)
    table = pd.DataFrame({header[0]: [cells[0] for _, cells in body]})
    for k in wanted:
        table[header[k]] = [_number(cells[k]) for _, cells in body]
    known = {"target": Task("target", CLASSIFICATION, classes=("0", "1"))} if classes else None
    if known and any(name.startswith("class_prob") for name in header):
        known = None  # more than two classes, each with its column
    try:
        return from_table(table, units=units, tasks=known)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _is_shown(name: str, header: Sequence[str]) -> bool:
    """Whether a column is one of those that `from_table` reads."""
    if name in ("target", "prediction", "split", f"{METAL}_prob", f"{SEMICONDUCTOR}_prob"):
        return True
    stems = ("class", *(other.removesuffix("_pred") for other in header if other.endswith("_pred")))
    return any(
        name in (f"{stem}_target", f"{stem}_pred", f"{stem}_prob") or name.startswith(f"{stem}_prob_")
        for stem in stems
    )


def _probabilities(table: pd.DataFrame, name: str) -> dict[str, np.ndarray] | None:
    """Class → its probability (rows,) in the columns that belong to a task; None for a regression."""
    stem = "class" if name == "target" and "prediction" in table else name
    if name == CATEGORY_NAME and {f"{METAL}_prob", f"{SEMICONDUCTOR}_prob"} <= set(table.columns):
        columns = {c: f"{c}_prob" for c in (METAL, SEMICONDUCTOR)}
    elif f"{stem}_prob" in table:
        second = table[f"{stem}_prob"].to_numpy(dtype=float, na_value=np.nan)
        return {"0": 1 - second, "1": second}
    else:
        columns = {c.removeprefix(f"{stem}_prob_"): c for c in table if c.startswith(f"{stem}_prob_")}
    return {c: table[of].to_numpy(dtype=float, na_value=np.nan) for c, of in columns.items()} or None


def _is_chance(label: str, target: np.ndarray, values: np.ndarray) -> bool:
    """Whether an unnamed prediction is the probability of class 1: labels 0 and 1, both there, it between them."""
    known = target[~np.isnan(target)]
    return label == "target" and set(known) == {0.0, 1.0} and bool(((values >= 0) & (values <= 1)).all())


def _task(name: str, classes: tuple[str, ...], unit: str | None) -> Task:
    if classes:
        role = CATEGORY if name == CATEGORY_NAME else TARGET
        return Task(name, CLASSIFICATION, role, classes=classes)
    return Task(name, unit=UNITS.get(name, "") if unit is None else unit)


def _number(cell: str) -> float | None:
    """The number in a cell, NaN for a blank one, None for what is neither, or finite and beyond LARGEST."""
    if cell.lower() in MISSING:
        return np.nan
    try:
        number = float(cell)
    except ValueError:
        return None
    return None if LARGEST < abs(number) < np.inf else number
