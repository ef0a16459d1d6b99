"""A CSV of any length, read row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path


def rows(path: Path) -> Iterator[list[str]]:
    """The cells of every row, the header's first."""
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.reader(file)


def first_column(path: Path) -> Iterator[str]:
    """The first cell of every row below the header."""
    body = rows(path)
    next(body, None)
    yield from (cells[0] for cells in body)


def count_rows(path: Path, column: str = "") -> tuple[int, int]:
    """How many rows stand below the header, and in how many of them a column, if it is there, is not blank."""
    body = rows(path)
    header = next(body, [])
    place = header.index(column) if column in header else None
    count = filled = 0
    for cells in body:
        count += 1
        filled += place is not None and bool(cells[place])
    return count, filled
