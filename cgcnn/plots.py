"""Figures without a screen: sizes for a paper's columns, colours that colour-blind eyes tell apart, learning curves.

Colours: cividis (Nuñez, Anderton & Renslow, https://doi.org/10.1371/journal.pone.0199239) and those of Okabe & Ito
(https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from cgcnn.files import replacing

COLUMN, PAGE = 8.5, 17.5  # cm, width of one column of a paper and of two
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
GREY = "#6b6b6b"
DPI = 300
STYLE = {
    "font.family": ["sans-serif", "DejaVu Sans"],  # the second for letters that the first does not have
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
    "lines.linewidth": 1.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # editable text
    "svg.fonttype": "none",
}
THIN = "\u202f"  # between thousands


def figure(draw: Callable[[Axes], None], *, width: float = COLUMN, height: float = 6.5) -> Figure:
    """One panel, width × height cm."""
    return panels([draw], columns=1, width=width, height=height)


def panels(draws: Sequence[Callable[[Axes], None]], *, columns: int, width: float, height: float) -> Figure:
    """Panels in rows of `columns`, each row `height` cm high; with letters where there are several."""
    rows = -(-len(draws) // columns)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(width / 2.54, rows * height / 2.54), layout="constrained")
        for k, draw in enumerate(draws):
            ax = fig.add_subplot(rows, columns, k + 1)
            draw(ax)
            if len(draws) > 1:
                ax.set_title(f"({chr(97 + k % 26)})", loc="left", fontweight="bold")
    return fig


def save(fig: Figure, stem: Path) -> list[Path]:
    """`stem`.png and `stem`.pdf, each whole or not at all."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf")]
    with matplotlib.rc_context(STYLE):
        for path in paths:
            drawn = io.BytesIO()  # what matplotlib says of a PDF that cannot be written is no OSError
            fig.savefig(drawn, format=path.suffix[1:], dpi=DPI)
            with replacing(path) as temporary:
                temporary.write_bytes(drawn.getbuffer())
    return paths


def svg(fig: Figure, name: str, description: str) -> str:
    """The figure as an <svg> element for a page; `name` makes its ids its own there."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has letters that the font here has not
        fig.savefig(text, format="svg", dpi=160, metadata=nothing)
    element = text.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", element)
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)


@dataclass(frozen=True)
class Curve:
    """Values of one quantity over the epochs of one network; `group` gives its colour and its name."""

    epochs: np.ndarray
    values: np.ndarray
    group: str
    best: int | None = None  # position of the epoch that was kept


def curves(ax: Axes, lines: Sequence[Curve], ylabel: str, *, log: bool = False) -> None:
    """Learning curves: a colour a group, a thin line a network, a dot where its best epoch is."""
    groups = list(dict.fromkeys(line.group for line in lines))
    for line in lines:
        place = groups.index(line.group)
        color = CYCLE[place % len(CYCLE)]
        alpha = 1.0 if len(lines) == len(groups) else 0.6
        first = next(other for other in lines if other.group == line.group) is line
        name = line.group if first and 1 < len(groups) <= len(CYCLE) else None
        marker = "." if len(line.epochs) == 1 else None
        ax.plot(line.epochs, line.values, color=color, alpha=alpha, linewidth=0.9, marker=marker, label=name)
        if line.best is not None:
            ax.plot(line.epochs[line.best], line.values[line.best], "o", color=color, markersize=3.5)
    ax.set(xlabel="epoch", ylabel=plain(ylabel))
    ax.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True, min_n_ticks=1))
    if log:
        log_scale(ax)
    elif len({value for line in lines for value in line.values}) == 1:
        ax.set_ylim(bottom=0)
    if 1 < len(groups) <= len(CYCLE):
        ax.legend(loc="best", handlelength=1.2, fontsize=7)


def draw_learning_curve(table: pd.DataFrame, stem: Path) -> list[Path]:
    """Errors over the number of training crystals and the power law through them: `stem`.png and .pdf.

    table: a row a share, with columns `train`, `<task>_MAE` and, over splits, `<task>_MAE_std`.
    """
    names = [column for column in table if column.endswith("_MAE")]
    columns = min(len(names), 2)
    draws = [partial(errors_over_size, table=table, column=name) for name in names]
    return save(panels(draws, columns=columns, width=PAGE if columns > 1 else COLUMN, height=6.5), stem)


def errors_over_size(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """One error over the number of training crystals, both logarithmic."""
    from cgcnn.metrics import SHORT_NAMES
    from cgcnn.tasks import UNITS

    size, error = table["train"].to_numpy(dtype=float), table[column].to_numpy(dtype=float)
    if len(table) > 1 and (error > 0).all():
        slope, intercept = np.polyfit(np.log(size), np.log(error), 1)
        law = rf"$\propto n^{{{slope:.2f}}}$"
        ax.plot(size, np.exp(intercept) * size**slope, color=GREY, linewidth=0.8, label=law)
        ax.legend(loc="best", handlelength=1.5)
    deviation = table.get(f"{column}_std")
    ax.errorbar(size, error, deviation, color=BLUE, marker="o", markersize=4, linestyle="none", capsize=2)
    short = column.removesuffix("_MAE")
    task = next((name for name, other in SHORT_NAMES.items() if other == short), short)
    unit = f" ({UNITS[task]})" if task in UNITS else ""
    ax.set(xlabel="training crystals (n)", ylabel=plain(f"test MAE, {task.replace('_', ' ')}{unit}"), xscale="log")
    ax.set_xticks(size, [f"{n:,.0f}".replace(",", THIN) for n in size], minor=False)
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    log_scale(ax)


def shade(part: float) -> tuple[str, str]:
    """Colour of cividis at 0 … 1, and that of text upon it."""
    red, green, blue, _ = matplotlib.colormaps["cividis"](float(np.clip(part, 0, 1)), bytes=True)
    return f"#{red:02x}{green:02x}{blue:02x}", "#ffffff" if part < 0.55 else "#000000"


def plain(text: str) -> str:
    """A name as text of a figure: $ would begin a formula."""
    return text.replace("$", r"\$")


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, as print shows it; – for none."""
    if not np.isfinite(value):
        return "–"
    places = digits - 1 - int(np.floor(np.log10(abs(value)))) if value else digits - 1
    text = f"{value:,.{max(0, places)}f}" if abs(value) >= 1e-4 or not value else f"{value:.1e}"
    return text.replace(",", THIN).replace("-", "−")


def share(value: float) -> str:
    """A number that is mostly between 0 and 1."""
    return f"{value:.3f}".replace("-", "−") if np.isfinite(value) else "–"


def quantity(value: float, unit: str) -> str:
    """A number with its unit."""
    return plain(f"{number(value)} {unit}".rstrip())


def ticks(*axes: Axis) -> None:
    """A few places at round numbers."""
    for axis in axes:
        axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def log_scale(ax: Axes) -> None:
    """Decades where there are several; otherwise plain numbers at 1, 2, 5."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if low > 0 and high / low < 100:
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        ax.yaxis.set_minor_formatter(ticker.NullFormatter())
