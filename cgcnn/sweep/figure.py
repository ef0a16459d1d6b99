"""The effect of each axis of a sweep: the results of all combinations over the values of one axis at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cgcnn.flag_kinds import shown
from cgcnn.plots import BLUE, PAGE, SKY, VERMILION, panels
from cgcnn.sweep.entry import Entry
from cgcnn.sweep.summary import SCORE, ranking

MAX_VALUES = 10  # of an axis up to which each has a place of its own
_UNITS = {"Avg WF-MAE": " (eV)", "Avg BG-MAE": " (eV)"}


def axis_effects(entries: Sequence[Entry], table: pd.DataFrame) -> Figure | None:
    """A row an axis that was swept: the validation score and the first two test metrics over its values.

    table: `summary_table(entries)`. None where no axis has two values among the complete combinations.
    """
    complete = [k for k, entry in enumerate(entries) if entry.state == "complete"]
    metrics = [SCORE, *ranking(table)[:2]]
    numbers = table.iloc[complete][metrics].to_numpy(dtype=float, copy=True)
    numbers[~np.isfinite(numbers)] = np.nan
    draws = []
    for name in dict.fromkeys(name for k in complete for name in entries[k].combination.effective):
        values = [entries[k].combination.effective.get(name) for k in complete]
        if len({shown(value) for value in values if value is not None}) < 2:
            continue
        draws += [partial(effect, name=name, values=values, y=numbers[:, m], ylabel=_label(metric))
                  for m, metric in enumerate(metrics)]  # fmt: skip
    if not draws:
        return None
    return panels(draws, columns=len(metrics), width=PAGE, height=4.8)


def effect(ax: Axes, *, name: str, values: Sequence[object], y: np.ndarray, ylabel: str) -> None:
    """One metric y (n,) over one axis's values (n; None: not on this axis): every combination, mean and deviation."""
    rows = [k for k, value in enumerate(values) if value is not None and np.isfinite(y[k])]
    values, y = [values[k] for k in rows], y[rows]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    order = sorted(set(values)) if numeric else list({shown(value): value for value in values}.values())
    if numeric and len(order) > MAX_VALUES:
        ax.scatter(values, y, s=12, color=BLUE, alpha=0.7, linewidth=0)
        if order[0] > 0 and order[-1] / order[0] > 20:
            ax.set_xscale("log")
    else:
        _by_value(ax, [shown(value) for value in values], [shown(value) for value in order], y)
    if len(y) and y.min() > 0 and y.max() / y.min() > 20:
        ax.set_yscale("log")
    ax.set(xlabel=name, ylabel=ylabel)


def _by_value(ax: Axes, values: Sequence[str], order: Sequence[str], y: np.ndarray) -> None:
    for place, value in enumerate(order):
        here = y[[k for k, other in enumerate(values) if other == value]]
        if not len(here):
            continue
        # side by side in a fixed order, so that the same sweep gives the same figure
        spread = np.linspace(-0.18, 0.18, len(here)) if len(here) > 1 else np.zeros(1)
        ax.scatter(place + spread, here, s=14, color=SKY, edgecolor=BLUE, linewidth=0.4, zorder=2)
        deviation = here.std() if len(here) > 1 else 0.0
        ax.errorbar(place, here.mean(), deviation, color=VERMILION, marker="D", markersize=4, capsize=3, zorder=3)
    long = max(map(len, order), default=0) > 12
    ax.set_xticks(range(len(order)), order, rotation=30 if long else 0, ha="right" if long else "center")
    ax.set_xlim(-0.6, len(order) - 0.4)


def _label(metric: str) -> str:
    if metric == SCORE:
        return "validation score"
    return f"{metric.removeprefix('Avg ')}, test{_UNITS.get(metric, '')}"
