"""Predictions → intervals that hold the truth as often as they say: split conformal prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cgcnn.labels import DataError, parse_number, raise_all, read_rows
from cgcnn.tasks import Task, TaskSet

HEADER = ["cif_id", "target", "prediction"]  # of a table without one


@dataclass(frozen=True)
class Interval:
    """Prediction ŷ → [ŷ − q·s, ŷ + q·s], s = 1, or σ + `offset` with the ensemble's standard deviation σ.

    q is the k-th smallest of |y − ŷ|/s over n crystals that the model was not trained on, k = ⌈(n + 1)·coverage⌉: a
    new crystal drawn from where these were drawn has its y within with a probability of at least `coverage`,
    whatever the model is, and of less than coverage + 1/(n + 1) where no two scores are equal (Papadopoulos et al.,
    ECML 2002; Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), theorem 2.2, and section 5.2 for s). The offset, the
    mean of the calibration crystals' σ, keeps an s that happens to be tiny from deciding q. floor: what no true value
    is below.
    """

    quantile: float
    offset: float | None = None  # None: every crystal has the same width
    count: int = 0
    floor: float = -math.inf

    def __str__(self) -> str:
        """Half its width, as a formula."""
        if self.offset is None:
            return f"± {self.quantile:.3g}"
        return f"± {self.quantile:.3g} · (std + {self.offset:.3g})"

    def __call__(self, prediction: np.ndarray, deviation: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (n,) for predictions (n,) and, if the interval needs them, deviations (n,)."""
        half = self.quantile if self.offset is None else self.quantile * (deviation + self.offset)
        return np.maximum(prediction - half, self.floor), prediction + half


def conformal_interval(
    target: np.ndarray, prediction: np.ndarray, deviation: np.ndarray | None = None, *, coverage: float = 0.9
) -> Interval:
    """The interval that these held-out crystals give: target, prediction and, if there are any, deviation (n,).

    Raises ValueError where n is too small for the coverage: k would be more than n.
    """
    count = len(target)
    place = math.ceil((count + 1) * coverage - 1e-9)  # 10 · 0.9 is 9
    if place > count:
        needed = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise ValueError(f"{count} rows, {needed} are needed for a coverage of {coverage:g}")
    error, offset = np.abs(target - prediction), None
    if deviation is not None and deviation.mean() > 0:
        offset = float(deviation.mean())
        error = error / (deviation + offset)
    return Interval(float(np.partition(error, place - 1)[place - 1]), offset, count)


def read_intervals(
    path: Path, tasks: TaskSet, *, coverage: float, with_deviations: bool, unnamed: bool = False
) -> dict[str, Interval]:
    """The interval of every regression that the table has targets and predictions of: task → Interval.

    The columns are those of predict.py and main.py: `<task>_target`, `<task>_pred`, `<task>_std`; or, for a single
    regression, `target`, `prediction`, `prediction_std`, with or without a header. with_deviations: whether the
    new predictions will have standard deviations. Raises DataError for a table without such columns, a cell that is
    no number, and too few rows.
    """
    header, rows = _read(path)
    regressions = [task for task in tasks if task.is_regression]
    found = {}
    for task in regressions:
        names = _columns(task, header, alone=unnamed or len(regressions) == 1)
        if names is None:
            continue
        use = with_deviations and names[2] in header
        values = _numbers(path, header, rows, names if use else names[:2])
        values = values[np.isfinite(values).all(axis=1)]
        try:
            interval = conformal_interval(*values.T, coverage=coverage)
        except ValueError as error:
            raise DataError(f"{path}: too few crystals with {names[0]} and {names[1]}: {error}") from None
        is_gap = task == tasks.gap and (values[:, 0] >= 0).all()
        found[task.name] = replace(interval, floor=0.0) if is_gap else interval
    if not found:
        wanted = " or ".join(f"{task.name}_target and {task.name}_pred" for task in regressions)
        raise DataError(f"{path}: no columns {wanted}" if wanted else f"{path}: the model predicts classes only")
    return found


def _columns(task: Task, header: list[str], *, alone: bool) -> tuple[str, str, str] | None:
    for names in (
        (f"{task.name}_target", f"{task.name}_pred", f"{task.name}_std"),
        *([("target", "prediction", "prediction_std")] if alone else []),
    ):
        if names[0] in header and names[1] in header:
            return names
    return None


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    rows = read_rows(path)
    first = rows[0][1]
    if len(first) == 3 and all(parse_number(cell) is not None for cell in first[1:]):
        header, body = HEADER, rows
    else:
        header, body = first, rows[1:]
    raise_all(
        [f"{path}, row {n}: {len(c)} columns, {len(header)} expected" for n, c in body if len(c) != len(header)]
    )
    return header, body


def _numbers(path: Path, header: list[str], rows: list[tuple[int, list[str]]], names: tuple[str, ...]) -> np.ndarray:
    """The cells of these columns (n, columns), NaN for blank ones."""
    places = [header.index(name) for name in names]
    values = [[parse_number(cells[k]) for k in places] for _, cells in rows]
    raise_all(
        [
            f"{path}, row {line}: {name} {cells[k]!r} is not a finite number"
            for (line, cells), found in zip(rows, values, strict=True)
            for name, k, number in zip(names, places, found, strict=True)
            if number is None
        ]
    )
    return np.array(values, dtype=float).reshape(len(rows), len(names))
