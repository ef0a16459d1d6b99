"""The table of a comparison: its rows as CSV, as Markdown, and as text for a terminal of any width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

NOTHING = "–"
BEST = "best on validation"
_GAP = "  "
_FIXED = ("Validation score", "Parameters", "Seconds an epoch")

Spread = tuple[float, float]  # mean and standard deviation over the splits; NaN where there is one split, or none


@dataclass(frozen=True)
class Metric:
    """column: of metrics.csv. title: as the table has it. unit: of it, "" if it has none."""

    column: str
    title: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Row:
    """A combination. settings: Model, Edge features, Atom features and further axes as text.

    metrics: of the test part, and trivial: what always predicting the training mean gives there, by column of
    metrics.csv. score: of the validation part. facts: parameters, epoch_seconds. lines: why it failed.
    """

    settings: dict[str, str]
    command: str
    state: str
    metrics: dict[str, Spread] = field(default_factory=dict)
    trivial: dict[str, Spread] = field(default_factory=dict)
    score: Spread = (math.nan, math.nan)
    facts: dict[str, float] = field(default_factory=dict)
    folder: str | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """rows: those that were asked for, in that order, `asked` of them, then those of earlier commands.

    splits: the numbers of splits that rows have, rising.
    """

    name: str
    rows: list[Row]
    metrics: list[Metric]
    asked: int
    splits: tuple[int, ...]

    @property
    def best(self) -> int | None:
        """Position of the row that is best on validation; the test part has no say."""
        scores = [row.score[0] if np.isfinite(row.score[0]) else np.inf for row in self.rows]
        return int(np.argmin(scores)) if scores and min(scores) < np.inf else None

    @property
    def missing(self) -> str:
        """How many of the rows that were asked for are not there, and why; "" if all are."""
        states = [row.state for row in self.rows[: self.asked] if row.state != "complete"]
        if not states:
            return ""
        why = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        way_on = "; --retry-failed runs failed ones once more" if "failed" in states else ""
        rest = "; the same command goes on" if set(states) != {"failed"} else ""
        return f"{len(states)} of {self.asked} rows are missing: {why}{rest}{way_on}"

    @property
    def is_trivial_shared(self) -> bool:
        """Whether the training mean gives the same in all rows, and can be a row of its own."""
        return len({str(row.trivial) for row in self.rows}) < 2

    def legend(self) -> list[str]:
        """What a reader has to know, a line each."""
        several = [str(count) for count in self.splits if count > 1]
        spread = f", mean ± deviation over {' or '.join(several)} splits" if several else ""
        spread += "; without ±: of one split" if several and 1 in self.splits else ""
        lines = [f"errors of the test part{spread}"]
        if not self.is_trivial_shared:
            lines[0] += "; in brackets: always the training mean"
        if any(value.endswith("*") for row in self.rows for value in row.settings.values()):
            lines.append("* trainable features")
        if (count := len(self.rows)) > self.asked:
            rows = f"row {count} is" if count == self.asked + 1 else f"rows {self.asked + 1} to {count} are"
            lines.append(f"{rows} of earlier commands of this name")
        return lines

    def failures(self) -> list[str]:
        """Row number and last words of what failed."""
        return [
            f"{k}: {row.lines[-1] if row.lines else 'failed'}"
            for k, row in enumerate(self.rows, 1)
            if row.state == "failed"
        ]


def as_csv(table: Table) -> pd.DataFrame:
    """A row a combination: settings, mean, deviation and training mean of every metric, facts, folder, command."""
    best = table.best
    rows = []
    for k, row in enumerate(table.rows):
        cells: dict[str, object] = dict(row.settings)
        for metric in table.metrics:
            mean, deviation = row.metrics.get(metric.column, (math.nan, math.nan))
            trivial = row.trivial.get(metric.column, (math.nan, math.nan))[0]
            cells |= {metric.title: mean, f"{metric.title} std": deviation, f"{metric.title} training mean": trivial}
        cells |= {"Validation score": row.score[0], "Validation score std": row.score[1]}
        cells |= {"Best on validation": "yes" if k == best else ""}
        cells |= {"Parameters": row.facts.get("parameters"), "Seconds an epoch": row.facts.get("epoch_seconds")}
        cells |= {"State": row.state, "Folder": row.folder, "Command": row.command}
        rows.append(cells)
    return pd.DataFrame(rows).astype({"Parameters": "Int64"})


def as_markdown(table: Table, page: str | None = None) -> str:
    """The table with a column for the command, and what a reader has to know. page: of the sweep, to be linked."""
    header, body, trivial = _cells(table)
    for k, (cells, row) in enumerate(zip(body, table.rows, strict=True)):
        cells.append(f"`{row.command}`")
        if k == table.best:
            cells[0] = f"**{cells[0]}**"
    lines = [[*header, "Command"], [*_alignment(table, len(header)), ":--"], *body]
    lines += [[*trivial, ""]] if trivial else []
    text = [f"# {table.name}", ""]
    text += ["| " + " | ".join(_escaped(cell) for cell in cells) + " |" for cells in lines]
    notes = [*table.legend(), f"bold: {BEST}" if table.best is not None else "", table.missing]
    notes += [f"failed, row {line}" for line in table.failures()]
    notes += [f"[every run, with its report]({page})"] if page else []
    bullets = [_escaped(note).replace("*", r"\*") for note in notes if note]
    return "\n".join([*text, "", *(f"- {bullet}" for bullet in bullets)]) + "\n"


def as_text(table: Table, width: int | None = None) -> str:
    """The table for a terminal so many columns wide (None: no end); where it does not fit, a block a row."""
    header, body, trivial = _cells(table)
    numbers = ["#", *(str(k) for k in range(1, len(body) + 1)), ""]
    rows = [[number, *cells] for number, cells in zip(numbers, [header, *body, trivial or []], strict=True) if cells]
    widths = [max(len(cells[k]) for cells in rows) for k in range(len(rows[0]))]
    left = len(table.rows[0].settings) + 1
    lines = []
    for cells in rows:
        parts = [
            c.ljust(w) if 0 < k < left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(_GAP.join(parts).rstrip())
    marks = [f"{_GAP}← {BEST}" if k - 1 == table.best else "" for k in range(len(lines))]
    lines = [line + mark for line, mark in zip(lines, marks, strict=True)]
    if width is not None and max(map(len, lines)) > width:
        lines = [line for k, cells in enumerate(rows[1:]) for line in _block(rows[0], cells, left, k == table.best)]
    notes = [*table.legend(), table.missing, *(f"failed, row {line}" for line in table.failures())]
    return "\n".join([*lines, *(note for note in notes if note)])


def commands(table: Table) -> str:
    """The command that repeats each row that was run, by its number."""
    ended = [(k, row) for k, row in enumerate(table.rows, 1) if row.state in ("complete", "failed")]
    return "\n".join(f"{k:>3}  {row.command}" for k, row in ended)


def measured(mean: float, deviation: float = math.nan) -> str:
    """0.3012 ± 0.0051: four digits of the mean, and no more places of the deviation."""
    if not np.isfinite(mean):
        return NOTHING
    places = min(max(3 - math.floor(math.log10(abs(mean))), 0), 6) if mean else 4
    return f"{mean:.{places}f}" + (f" ± {deviation:.{places}f}" if np.isfinite(deviation) else "")


def _cells(table: Table) -> tuple[list[str], list[list[str]], list[str] | None]:
    """Header, rows, and the row of the training mean where all rows share it."""
    with_state = any(row.state != "complete" for row in table.rows)
    header = [*table.rows[0].settings, *map(str, table.metrics), *_FIXED, *(["State"] * with_state)]
    body = []
    for row in table.rows:
        seconds, parameters = row.facts.get("epoch_seconds", math.nan), row.facts.get("parameters")
        cells = [*row.settings.values(), *(_metric(table, row, metric) for metric in table.metrics)]
        cells += [measured(*row.score), NOTHING if parameters is None else f"{parameters:,}"]
        cells += [NOTHING if math.isnan(seconds) else f"{seconds:.3g}", *([row.state] * with_state)]
        body.append(cells)
    if not table.is_trivial_shared or not table.rows[0].trivial:
        return header, body, None
    known = [measured(*table.rows[0].trivial.get(metric.column, (math.nan, math.nan))) for metric in table.metrics]
    settings = ["training mean", *[NOTHING] * (len(table.rows[0].settings) - 1)]
    return header, body, [*settings, *known, *[NOTHING] * (len(header) - len(settings) - len(known))]


def _metric(table: Table, row: Row, metric: Metric) -> str:
    text = measured(*row.metrics.get(metric.column, (math.nan, math.nan)))
    if table.is_trivial_shared:
        return text
    return f"{text} ({measured(row.trivial.get(metric.column, (math.nan, math.nan))[0])})"


def _alignment(table: Table, columns: int) -> list[str]:
    left = len(table.rows[0].settings)
    return [":--" if k < left else "--:" for k in range(columns)]


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")


def _block(header: Sequence[str], cells: Sequence[str], left: int, is_best: bool) -> list[str]:
    """One row as a few short lines."""
    number, *settings = cells[:left]
    named = [value if k < 3 else f"{header[k + 1]} {value}" for k, value in enumerate(settings) if value != NOTHING]
    title = f"{number}  {' · '.join(named)}".strip() + (f"  ← {BEST}" if is_best else "")
    width = max(map(len, header[left:]))
    numbers = [(name, cell) for name, cell in zip(header[left:], cells[left:], strict=True) if cell != NOTHING]
    return [title, *(f"   {name.ljust(width)}  {cell}" for name, cell in numbers)]
