"""The parts of a run's page that show its tasks: result table, learning curves, figures, worst crystals, elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from cgcnn import plots, prediction_plots
from cgcnn.baselines import COMPOSITION, LARGEST, MEAN
from cgcnn.fitting import Epoch
from cgcnn.metrics import column_name, task_metrics
from cgcnn.periodic import element_mask, errors_by_element
from cgcnn.predicted import Predicted, from_table, guesses, guesses_by_gap
from cgcnn.tasks import CATEGORY, TARGET, Task

if TYPE_CHECKING:
    from cgcnn.experiment import Experiment
    from cgcnn.resume import SplitResult

WORST = 20
_FIGURE = {"width": 8.5, "height": 6.4}  # cm
_NAMES = {"ACC": "accuracy", "R^2": "R²"}


def sections(
    run: Experiment, metrics: pd.DataFrame, baselines: pd.DataFrame, tables: Sequence[pd.DataFrame]
) -> dict[str, object]:
    """What templates/report.html shows of the tasks; arguments as of `html_report.write_report`."""
    draw = _Drawing()
    predicted = _predicted(run, tables)
    shown = [task for task in run.data.tasks if task.role in (TARGET, CATEGORY)]
    of_task = baselines.groupby("task")
    results = [_result(metrics, of_task.get_group(task.name), task, predicted.get(task.name)) for task in shown]
    return {
        "regressions": [result for result in results if result["is_regression"]],
        "classes": [result for result in results if not result["is_regression"]],
        "per_split": _per_split(metrics) if len(tables) > 1 else None,
        "curves": _learning_curves(run, draw),
        "tasks": [_task(run, predicted[task.name], draw) for task in shown if task.name in predicted],
    }


class _Drawing:
    """Figures of one page, each with ids of its own."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, panel: Callable, description: str) -> Markup:
        self.count += 1
        return Markup(plots.svg(plots.figure(panel, **_FIGURE), f"f{self.count}", description))


def _predicted(run: Experiment, tables: Sequence[pd.DataFrame]) -> dict[str, Predicted]:
    """Task → predictions of all splits' test parts; tasks without a label there are left out."""
    together = pd.concat([table.assign(split=k) for k, table in enumerate(tables, start=1)], ignore_index=True)
    try:
        found = from_table(together, tasks={task.name: task for task in run.data.tasks})
    except ValueError:
        return {}
    return {one.task.name: one for one in found if len(one)}


def _result(
    metrics: pd.DataFrame, baselines: pd.DataFrame, task: Task, predicted: Predicted | None
) -> dict[str, object]:
    """A row of the result table: test metrics, a mean over splits, beside those of knowing no structure."""
    columns = ("MAE", "R^2") if task.is_regression else ("ACC", "F1", "AUC")
    without_structure = (MEAN, COMPOSITION) if task.is_regression else (LARGEST,)
    cells = [_spread(metrics[column_name(task, name)]) for name in columns]
    if task.is_regression:
        parts = [] if predicted is None else [predicted.split == k for k in baselines["split"]]
        root = [task_metrics(task, predicted.target[p], predicted.prediction[p])["RMSE"] for p in parts]
        cells.insert(1, _spread(root))
    return {
        "name": task.name,
        "unit": task.unit,
        "is_regression": task.is_regression,
        "count": 0 if predicted is None else len(predicted),
        "cells": cells,
        "baselines": [_spread(baselines[name]) for name in without_structure],
        "validation": _spread(metrics[f"Val_{column_name(task, columns[0])}"]),
    }


def _per_split(metrics: pd.DataFrame) -> dict[str, list]:
    """metrics.csv of the test parts."""
    columns = [column for column in metrics.columns if not column.startswith("Val_")]
    rows = [[str(int(row[0])), *map(_cell, row[1:])] for row in metrics[columns].itertuples(index=False)]
    return {"columns": [_title(column) for column in columns], "rows": rows}


def averaged_weights(table: pd.DataFrame) -> dict[str, list] | None:
    """The averaged network beside that of one epoch (see `tested.comparison_table`): test part, validation score."""
    if table.empty:
        return None
    columns = [name for name in table if name == "Val_Score" or not name.startswith(("Val_", "is_saved"))]
    several = table["split"].nunique() > 1
    columns = [name for name in columns if several or name != "split"]
    rows = [
        {"cells": [value if isinstance(value, str) else _cell(value) for value in row], "is_saved": saved}
        for row, saved in zip(table[columns].itertuples(index=False), table["is_saved"], strict=True)
    ]
    return {"columns": [_title(name) for name in columns], "rows": rows}


def _title(column: str) -> str:
    """A column of a table as the page has it."""
    return "validation score" if column == "Val_Score" else column.replace("_", " ").replace("R^2", "R²")


def _learning_curves(run: Experiment, draw: _Drawing) -> list[Markup]:
    """Figures over the epochs: training loss, validation score, each validation metric, learning rate."""
    networks = [(f"split {k}", epochs) for k, done in enumerate(run.done, start=1) for epochs in _networks(done)]
    networks = [(group, epochs) for group, epochs in networks if epochs]
    if not networks:
        return []
    figures = []
    for text, value_of, log in _quantities(networks[0][1][0], {task.name: task.unit for task in run.data.tasks}):
        lines = []
        for group, epochs in networks:
            values = np.array([value_of(epoch) for epoch in epochs], dtype=float)
            values[~np.isfinite(values)] = np.nan
            best = int(np.argmin([epoch.score for epoch in epochs])) if text.startswith("validation") else None
            lines.append(plots.Curve(run.args.start_epoch + 1 + np.arange(len(epochs)), values, group, best))
        if any(np.isfinite(line.values).any() for line in lines):
            figures.append(draw(partial(plots.curves, lines=lines, ylabel=text, log=log), f"{text} over the epochs"))
    return figures


def _networks(done: SplitResult) -> list[list[Epoch]]:
    """The epochs of each network of a split's ensemble."""
    ends = [int(end) for end in np.cumsum(done.lengths)]
    starts = [0, *ends[:-1]]
    return [done.history[start:end] for start, end in zip(starts, ends or [len(done.history)], strict=True)]


def _quantities(epoch: Epoch, units: Mapping[str, str]) -> list[tuple[str, Callable[[Epoch], float], bool]]:
    """What is shown over the epochs: its name, how an epoch gives it, and whether on a logarithmic axis."""
    found: list[tuple[str, Callable[[Epoch], float], bool]] = [
        ("training loss", lambda e: np.nansum([e.weights.get(n, 1.0) * v for n, v in e.losses.items()]), True),
        ("validation score", lambda e: e.score, True),
    ]
    for name in epoch.metrics:
        task, _, what = name.rpartition(" ")
        unit = f" ({units[task]})" if units.get(task) and what == "MAE" else ""
        shown = task.replace("_", " ") if task != "target" else ""
        text = ", ".join(part for part in (f"validation {_NAMES.get(what, what)}", shown) if part) + unit
        found.append((text, lambda e, name=name: e.metrics.get(name, np.nan), what == "MAE"))
    return [*found, ("learning rate", lambda e: e.lr, False)]


def _task(run: Experiment, one: Predicted, draw: _Drawing) -> dict[str, object]:
    """Figures, worst predictions and errors by element of one task."""
    name, panels = prediction_plots.label(one), []
    if one.task.is_regression:
        panels = [
            (partial(prediction_plots.parity, predicted=one), "predicted over target"),
            (partial(prediction_plots.residuals, predicted=one), "histogram of predicted − target"),
            (partial(prediction_plots.error_over_target, predicted=one), "error over target"),
        ]
        guessed = guesses_by_gap(one) if run.data.tasks.category is None else None
    else:
        guessed = guesses(one)
    if guessed is not None:
        panels.append((partial(prediction_plots.confusion, guessed=guessed), "confusion matrix"))
        if prediction_plots.has_roc(guessed):
            panels.append((partial(prediction_plots.roc, guessed=guessed), "ROC"))
    return {
        "name": one.task.name,
        "unit": one.task.unit,
        "is_regression": one.task.is_regression,
        "figures": [draw(panel, f"{name}: {what}") for panel, what in panels],
        "worst": _worst(run, one),
        **_elements(run, one),
    }


def _worst(run: Experiment, one: Predicted) -> list[dict[str, object]]:
    """The crystals with the largest error, or the smallest probability of their class."""
    formula = dict(zip(run.data.ids, run.data.table.formulas, strict=True))
    chance = one.error if one.task.is_regression else one.prediction[np.arange(len(one)), one.target.astype(int)]
    order = np.argsort(-np.abs(one.error) if one.task.is_regression else chance, kind="stable")
    rows = []
    if one.task.is_regression:
        order = order[one.error[order] != 0]
    for k in order[:WORST]:
        if one.task.is_regression:
            cells = [
                _cell(one.target[k]),
                _cell(one.prediction[k]),
                ("+" if chance[k] > 0 else "") + _cell(chance[k]),
            ]
        else:
            classes = one.task.classes
            cells = [classes[int(one.target[k])], classes[one.prediction[k].argmax()], _cell(chance[k])]
        row = {"id": one.ids[k], "formula": formula[one.ids[k]], "split": int(one.split[k]), "cells": cells}
        rows.append({**row, "is_wrong": bool(one.error[k])})
    return rows


def _elements(run: Experiment, one: Predicted) -> dict[str, object]:
    """Cells of the periodic table, coloured up to the error that nine in ten elements stay below, or share 1."""
    row_of = {crystal_id: row for row, crystal_id in enumerate(run.data.ids)}
    found = errors_by_element(element_mask(run.data.table, [row_of[i] for i in one.ids]), one.error)
    means = [element.mean for element in found if element.mean is not None]
    top = (float(np.quantile(means, 0.9)) or max(means) or 1.0) if one.task.is_regression else 1.0
    cells = []
    for element in found:
        background, text = plots.shade(element.mean / top) if element.mean is not None else ("", "")
        value = "" if element.mean is None else plots.number(element.mean, 2)
        cells.append({"element": element, "background": background, "text": text, "value": value})
    return {
        "elements": cells,
        "scale": ", ".join(plots.shade(part)[0] for part in np.linspace(0, 1, 11)),
        "scale_top": ("≥ " if max(means) > top else "") + plots.number(top, 2),
    }


def _spread(values: Sequence[float]) -> str:
    """One value, or the mean ± deviation over splits; – where there is none."""
    known = np.array([value for value in values if not np.isnan(value)])
    if len(known) < 2:
        return _cell(known[0] if len(known) else np.nan)
    return f"{_cell(known.mean())} ± {_cell(known.std())}"


def _cell(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}".replace("-", "−")
