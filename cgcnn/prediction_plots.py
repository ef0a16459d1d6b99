"""Panels that compare predictions with labels: parity, residuals, error over the target, confusion matrix, ROC.

Each is a function of matplotlib Axes and of what was predicted, for `plots.panels`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from cgcnn.plots import BLUE, CYCLE, GREY, SKY, THIN, VERMILION, number, plain, quantity, share, ticks
from cgcnn.predicted import Guesses, Predicted

DENSE = 50  # points from which on their density says something
MANY = 1000  # points from which on a vector file holds them as a picture
MAX_CELLS = 12  # classes up to which the cells of a confusion matrix have room for numbers
MAX_BINS, MIN_IN_BIN = 8, 10
NOTHING = 1e-100  # a span that has no room for bins and ticks


def parity(ax: Axes, predicted: Predicted) -> None:
    """Prediction over target, both on one scale, coloured by the density of points."""
    x, y = predicted.target, predicted.prediction
    limits = _limits(np.concatenate([x, y]))
    ax.plot(limits, limits, color=GREY, linewidth=0.8, zorder=3)
    _points(ax, x, y)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ticks(ax.xaxis, ax.yaxis)
    ax.set(xlabel=_axis(predicted, "target"), ylabel=_axis(predicted, "predicted"))
    metrics = predicted.metrics()
    lines = [f"MAE {quantity(metrics['MAE'], predicted.task.unit)}", f"R² {share(metrics['R^2'])}"]
    _note(ax, x, y, [*lines, *_count(predicted)])


def residuals(ax: Axes, predicted: Predicted) -> None:
    """Histogram of prediction − target."""
    error = predicted.error
    reach = np.abs(error).max()
    usual = 4 * np.quantile(np.abs(error), 0.95)
    beyond = int((np.abs(error) > usual).sum()) if 0 < usual < reach else 0
    reach = 1.02 * (usual if beyond else reach)
    reach = reach if reach > NOTHING else 1.0
    bins = int(np.clip(2 * len(error) ** 0.5, 8, 60)) // 2 * 2 + 1
    ax.hist(error, bins=bins, range=(-reach, reach), color=SKY, edgecolor=BLUE, linewidth=0.5)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.axvline(error.mean(), color=VERMILION, linewidth=1.0, linestyle="--")
    ax.set(xlim=(-reach, reach), ylabel="crystals")
    ax.set_xlabel(_axis(predicted, "predicted − target"))
    ax.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    ticks(ax.xaxis)
    spread = f"mean {number(error.mean())}, standard deviation {quantity(error.std(), predicted.task.unit)}"
    more = [f"{beyond} beyond the axis"] if beyond else []
    ax.set_title(f"{spread}\n{', '.join(_count(predicted) + more)}")


def error_over_target(ax: Axes, predicted: Predicted) -> None:
    """Prediction − target over the target, with the median of bins that hold as many crystals each."""
    x, y = predicted.target, predicted.error
    ax.axhline(0, color=GREY, linewidth=0.8, zorder=3)
    _points(ax, x, y)
    centres, middle = _binned_median(x, y)
    if len(centres) > 1:
        ax.plot(centres, middle, color=VERMILION, marker="o", markersize=3, zorder=4, label="median")
        ax.legend(loc="best", handlelength=1.5, borderaxespad=0.3)
    low, high = _limits(y)
    ax.set(xlim=_limits(x), ylim=(min(low, -0.05 * high), max(high, -0.05 * low)))
    ax.set(xlabel=_axis(predicted, "target"), ylabel=plain(f"predicted − target{_unit(predicted)}"))
    ticks(ax.xaxis, ax.yaxis)


def confusion(ax: Axes, guessed: Guesses) -> None:
    """How many crystals of each class were taken for which; colours are shares of the true class, white: none."""
    count = len(guessed.classes)
    matrix = np.zeros((count, count), dtype=int)
    np.add.at(matrix, (guessed.target, guessed.guess), 1)
    with np.errstate(invalid="ignore"):
        shares = matrix / matrix.sum(axis=1, keepdims=True)
    ax.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    if count <= MAX_CELLS:
        for (row, column), part in np.ndenumerate(shares):
            text = f"{matrix[row, column]}" + (f"\n{part:.0%}" if matrix[row].any() and count <= 6 else "")
            ax.text(column, row, text, ha="center", va="center", color="white" if part < 0.55 else "black")
        names = [plain(name) for name in guessed.classes]
        ax.set_xticks(range(count), names)
        ax.set_yticks(range(count), names, rotation=90 if max(map(len, names)) > 3 else 0, va="center")
    ax.set(xlabel="predicted", ylabel="true")
    ax.set_title(f"accuracy {share(guessed.accuracy)}, " + ", ".join(_count(guessed)))
    if guessed.rule:
        ax.set_xlabel(f"predicted ({guessed.rule})")


def roc(ax: Axes, guessed: Guesses) -> None:
    """True over false positive rate; a curve a class against the rest where there are more than two."""
    from sklearn.metrics import roc_auc_score, roc_curve

    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
    classes = range(len(guessed.classes)) if len(guessed.classes) > 2 else [1]
    there = [c for c in classes if 0 < (guessed.target == c).sum() < len(guessed.target)]
    for c, color in zip(there[: len(CYCLE)], CYCLE, strict=False):
        wrong, right, _ = roc_curve(guessed.target == c, guessed.score[:, c])
        area = roc_auc_score(guessed.target == c, guessed.score[:, c])
        name = f"class {guessed.classes[c]}" if guessed.classes[c].isdigit() else guessed.classes[c]
        ax.plot(wrong, right, color=color, label=f"{plain(name)}: AUC {share(area)}")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    ax.set(xlabel="false positive rate", ylabel="true positive rate")
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.set_yticks(np.linspace(0, 1, 6))
    some = [f"{len(CYCLE)} of {len(there)} classes"] if len(there) > len(CYCLE) else []
    ax.legend(loc="lower right", title=", ".join(_count(guessed) + some), handlelength=1.5, title_fontsize=8)


def has_roc(guessed: Guesses) -> bool:
    """Whether at least one class is there, and not alone."""
    return len(np.unique(guessed.target)) > 1


def label(predicted: Predicted, what: str = "") -> str:
    """Name and unit of what is shown of a task; an unnamed one is called `target`, and has no name to show."""
    name = "" if predicted.task.name == "target" else predicted.task.name.replace("_", " ")
    return (f"{what} {name}".strip() or "target") + _unit(predicted)


def _axis(predicted: Predicted, what: str) -> str:
    return plain(label(predicted, what))


def _unit(predicted: Predicted) -> str:
    return f" ({predicted.task.unit})" if predicted.task.unit else ""


def _count(shown: Predicted | Guesses) -> list[str]:
    pooled = [f"pooled over {shown.num_splits} splits"] if shown.num_splits > 1 else []
    return [f"n = {len(shown.target):,}".replace(",", THIN), *pooled]


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low)
    if margin < 1e-9 * abs(high):  # no numbers of their own in between
        margin = 0.05 * abs(high)
    margin = margin if margin > NOTHING else 1.0
    return low - margin, high + margin


def _points(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """A scatter, the densest points on top; few points have one colour."""
    size = float(np.clip(2500 / len(x), 1.5, 14))
    options = {"s": size, "linewidths": 0, "rasterized": len(x) > MANY, "zorder": 2}
    if len(x) < DENSE:
        ax.scatter(x, y, color=BLUE, alpha=0.8, **options)
        return
    density = np.log(_density(x, y))  # a logarithm, so that a sharp peak leaves the rest its shades
    order = density.argsort()
    drawn = ax.scatter(x[order], y[order], c=density[order], cmap="cividis", **options)
    bar = ax.figure.colorbar(drawn, ax=ax, aspect=30, pad=0.02)
    bar.set_ticks([density.min(), density.max()], labels=["low", "high"])
    bar.set_label("density of crystals (log)", labelpad=-10)
    bar.outline.set_linewidth(0.6)


def _density(x: np.ndarray, y: np.ndarray, *, bins: int = 60, blur: float = 2.0) -> np.ndarray:
    """Density of points (n,) at each of them, relative: a blurred histogram, whose cost does not grow with n²."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    counts, *edges = np.histogram2d(x, y, bins=bins, range=(_limits(x), _limits(y)))
    places = [(v - e[0]) / (e[1] - e[0]) - 0.5 for v, e in zip((x, y), edges, strict=True)]
    return map_coordinates(gaussian_filter(counts, blur), places, order=1, mode="nearest")


def _binned_median(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of x and median of y in bins of about as many points; x that many share (the gap of metals) is one bin."""
    count = min(MAX_BINS, len(x) // MIN_IN_BIN)
    if count < 3:
        return np.zeros(0), np.zeros(0)
    values, shares = np.unique(x, return_counts=True)
    shared = values[shares > len(x) / count]
    rest = np.flatnonzero(~np.isin(x, shared))
    bins = [np.flatnonzero(x == value) for value in shared]
    pieces = np.array_split(rest[x[rest].argsort()], max(1, min(count, len(rest) // MIN_IN_BIN)))
    bins = sorted((b for b in bins + pieces if len(b)), key=lambda rows: x[rows].mean())
    return np.array([x[b].mean() for b in bins]), np.array([np.median(y[b]) for b in bins])


def _note(ax: Axes, x: np.ndarray, y: np.ndarray, lines: Sequence[str]) -> None:
    """Text in the corner, above or below the diagonal, that covers fewer points."""
    low, high = ax.get_xlim()
    across, up = (x - low) / (high - low), (y - low) / (high - low)
    above = ((across < 0.45) & (up > 0.7)).sum() <= ((across > 0.55) & (up < 0.3)).sum()
    corner, ha, va = ((0.04, 0.96), "left", "top") if above else ((0.96, 0.04), "right", "bottom")
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5}
    ax.text(*corner, "\n".join(lines), transform=ax.transAxes, ha=ha, va=va, bbox=box, linespacing=1.3)
