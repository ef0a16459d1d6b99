"""The rows of a long table that meet a condition, and the best of them: read row by row, whatever the length."""

from __future__ import annotations

import csv
import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from cgcnn.files import replacing
from cgcnn.labels import DataError
from cgcnn.screening import long_tables
from cgcnn.screening.expressions import NUMBER, TRUTH, Expression, parse

BLOCK = 4096  # rows in memory at a time
SHOWN = 20  # rows that are printed


@dataclass(frozen=True)
class Shortlist:
    """What is asked for: a condition, and how many of the rows that meet it, smallest `sort` first."""

    where: Expression | None
    sort: Expression | None
    top: int | None
    texts: tuple[str, ...]

    def write(self, table: Path, output: Path) -> tuple[int, list[list[str]]]:
        """Write the rows of one CSV to another: how many meet the condition; the header and first rows written."""
        matching = _Counted(self._matching(table))
        rows = iter(matching)
        if self.top is not None:
            rows = iter(heapq.nsmallest(self.top, rows))  # by key, then by place in the table
        header = next(long_tables.rows(table))
        first = [header]
        with replacing(output) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for _, _, cells in rows:
                writer.writerow(cells)
                if len(first) <= SHOWN:
                    first.append(cells)
        return matching.count, first

    def _matching(self, table: Path) -> Iterator[tuple[tuple[bool, float], int, list[str]]]:
        """(key, place, cells) of every row that meets the condition; a key that is not finite comes last."""
        wanted = {name: None for part in (self.where, self.sort) if part for name in part.columns}
        place, body = 0, long_tables.rows(table)
        header = next(body)
        while rows := list(islice(body, BLOCK)):
            columns = {name: self._column(name, [cells[header.index(name)] for cells in rows]) for name in wanted}
            meets = self.where(columns, len(rows)) if self.where else np.ones(len(rows), dtype=bool)
            keys = self.sort(columns, len(rows)) if self.sort else np.zeros(len(rows))
            for k in np.flatnonzero(meets):
                key = float(keys[k])
                yield (math.isnan(key), 0.0 if math.isnan(key) else key), place + int(k), rows[k]
            place += len(rows)

    def _column(self, name: str, cells: Sequence[str]) -> np.ndarray:
        if name in self.texts:
            return np.array(cells, dtype=str)
        return np.array([float(cell) if cell else math.nan for cell in cells])


class _Counted:
    """An iterator that knows how many items it gave."""

    def __init__(self, items: Iterator) -> None:
        self.items, self.count = items, 0

    def __iter__(self) -> Iterator:
        for item in self.items:
            self.count += 1
            yield item


def shortlist(
    where: str | None,
    sort: str | None,
    top: int | None,
    *,
    columns: Sequence[str],
    short_names: Mapping[str, str],
    texts: Sequence[str],
) -> Shortlist | None:
    """The shortlist that the flags ask for, None for none; columns: of the table. Raises DataError.

    short_names: other names of columns. Without `sort`, the first comparison of `where` says what is best.
    """
    if sort is not None and top is None:
        raise DataError("--sort needs --top, the number of rows to keep")
    if where is None and top is None:
        return None
    known = {**short_names, **{name: name for name in columns}}
    options = {"columns": known, "texts": texts}
    condition = parse(where, wanted=TRUTH, flag="--where", **options) if where is not None else None
    if sort is None and top is not None:
        sort = condition.sort if condition else None
        if sort is None:
            raise DataError("--top: the best by what? --sort NAME puts the smallest first, --sort -NAME the largest")
    key = parse(sort, wanted=NUMBER, flag="--sort", **options) if sort is not None else None
    return Shortlist(condition, key, top, tuple(texts))


def as_text(rows: Sequence[Sequence[str]], columns: Sequence[str], texts: Sequence[str] = ()) -> str:
    """Some columns of a header and its rows for a terminal, numbers to four digits."""
    header = rows[0]
    places = [header.index(name) for name in columns]
    cells = [columns, *([row[k] if header[k] in texts else _short(row[k]) for k in places] for row in rows[1:])]
    widths = [max(len(row[k]) for row in cells) for k in range(len(places))]
    return "\n".join(
        "  ".join(c.rjust(w) if k else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in cells
    )


def _short(cell: str) -> str:
    try:
        return f"{float(cell):.4g}"
    except ValueError:
        return cell
