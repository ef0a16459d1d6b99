"""A table somebody wrote → the labels of one quantity in eV, checked, and a line that says how it was understood."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cgcnn.labels import DataError, raise_all
from cgcnn.merge.columns import choose_column, find_column, other_candidates
from cgcnn.merge.join import Keys, Labels, collect
from cgcnn.merge.quantities import CATEGORY, FORMATION, GAP, ID, WORK, Quantity, means_metal, split_unit
from cgcnn.merge.sheets import Sheet, read_sheet
from cgcnn.merge.units import EV, LARGEST_FORMATION, LARGEST_GAP, WORK_RANGE, gap_fault, work_fault

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Source:
    """Where a quantity comes from: its labels (eV) by key, how the table was read, what looks odd in it."""

    quantity: Quantity
    path: str
    labels: Labels
    read_as: str
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class IdTable:
    """A sheet and the column of its ids."""

    sheet: Sheet
    column: int

    @property
    def path(self) -> str:
        return str(self.sheet.path)

    @property
    def ids(self) -> list[str]:
        return self.sheet.cells(self.column)

    def labels(self, values: Sequence[float], keys: Keys, quantity: Quantity, duplicates: str | None) -> Labels:
        rows = zip((line for line, _ in self.sheet.rows), self.ids, values, strict=True)
        return collect(self.path, rows, keys, label=quantity.title, duplicates=duplicates)

    def read_as(self, column: int, values: str) -> str:
        """How the table was understood, in a line; values: what is in the column."""
        names = self.sheet.names if not self.sheet.has_header else [repr(name) for name in self.sheet.names]
        header = "" if self.sheet.has_header else ", no header"
        rows = f"{len(self.sheet.rows)} rows{header}"
        return f"{self.path} ({rows}): id in {names[self.column]}, {values} in {names[column]}"


def _span(values: Sequence[float], unit: str) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{min(known):.4g} to {max(known):.4g} {unit}"


def read_ids(path: Path, id_column: str | None = None) -> IdTable:
    """A table and the column of its ids, as given or as its header names it. Raises DataError."""
    sheet = read_sheet(path)
    column = choose_column(sheet, ID, id_column)
    raise_all([f"{path}, row {line}: no id" for line, cells in sheet.rows if not cells[column]])
    return IdTable(sheet, column)


def read_source(
    table: IdTable,
    quantity: Quantity,
    keys: Keys,
    *,
    column: str | None = None,
    unit: str | None = None,
    duplicates: str | None = None,
) -> Source:
    """The work functions or band gaps of a table; column and unit as given, else as its header names them.

    Raises DataError where the column is not clear, a number is none, or numbers cannot be this quantity.
    """
    sheet = table.sheet
    chosen = choose_column(sheet, quantity, column, taken=table.column)
    numbers = sheet.numbers(chosen)
    known = [number for number in numbers if not math.isnan(number)]
    name = sheet.names[chosen]
    if not known:
        raise DataError(f"{sheet.path}: no number in {name!r}; {quantity.flag} chooses another column")
    of_header = split_unit(name)[1] if sheet.has_header else None
    used = unit or of_header or "eV"
    _check_sign(sheet, quantity, chosen, numbers)
    stated = bool(unit or of_header)
    fault = work_fault(known, used) if quantity is WORK else gap_fault(known, used, stated=stated)
    if fault:
        raise DataError(f"{sheet.path}, {name!r}: {fault}")
    values = [number * EV[used] for number in numbers]
    warnings = _check_range(sheet, quantity, chosen, values)
    others = other_candidates(sheet, quantity, chosen)
    if others and column is None:
        warnings.append(f"{sheet.path}: {', '.join(map(repr, others))} not used ({quantity.flag} chooses)")
    converted = f" (× {EV[used]:.6g}: given in {used})" if used != "eV" else ""
    labels = table.labels(values, keys, quantity, duplicates)
    return Source(quantity, table.path, labels, table.read_as(chosen, _span(values, "eV")) + converted, warnings)


def read_categories(
    table: IdTable, keys: Keys, *, column: str | None = None, duplicates: str | None = None
) -> Source:
    """The category of each id, 0 metal and 1 semiconductor. Raises DataError as read_source does."""
    chosen = choose_column(table.sheet, CATEGORY, column, taken=table.column)
    values = table.sheet.categories(chosen)
    # A mean of categories is none.
    labels = table.labels(values, keys, CATEGORY, duplicates if duplicates != "mean" else None)
    counts = f"{values.count(0.0)} metals and {values.count(1.0)} semiconductors"
    meaning = " (1: metal)" if table.sheet.has_header and means_metal(table.sheet.names[chosen]) else ""
    return Source(CATEGORY, table.path, labels, table.read_as(chosen, counts) + meaning)


def read_formation(
    tables: Sequence[IdTable], keys: Keys, *, column: str | None = None, duplicates: str | None = None
) -> tuple[list[Source], list[str]]:
    """The formation energies (eV/atom) that tables hold beside their label, and why a column was not taken.

    Raises DataError as read_source does.
    """
    found, notes = [], []
    for table in tables:
        sheet = table.sheet
        if (chosen := find_column(sheet, FORMATION, column)) is None:
            continue
        name = sheet.names[chosen]
        unit = (split_unit(name)[1] if sheet.has_header else None) or "eV"
        values = [number * EV[unit] for number in sheet.numbers(chosen)]
        sizes = [abs(value) for value in values if not math.isnan(value)]
        if sizes and statistics.median(sizes) > LARGEST_FORMATION:
            size = f"its median size, {statistics.median(sizes):.4g}, cannot be eV/atom"
            notes.append(f"{sheet.path}: {name!r} not used for ax.csv, {size}")
        elif sizes:
            labels = table.labels(values, keys, FORMATION, duplicates)
            found.append(Source(FORMATION, table.path, labels, table.read_as(chosen, _span(values, "eV/atom"))))
    if column and not found and not notes:
        raise DataError(f"--formation-column {column}: no table has a column of numbers of this name")
    return found, notes


def _check_sign(sheet: Sheet, quantity: Quantity, column: int, values: Sequence[float]) -> None:
    negative = [row for row, value in zip(sheet.rows, values, strict=True) if value < 0]
    if negative:
        cause = "leave a fill value blank" + ("; a metal has 0" if quantity is GAP else "")
        shown = _rows(sheet, column, negative)
        raise DataError(f"{sheet.path}: a {quantity.title} cannot be negative: {shown} ({cause})")


def _check_range(sheet: Sheet, quantity: Quantity, column: int, values: Sequence[float]) -> list[str]:
    """Warnings of work functions (eV) that are hardly any. Raises DataError for a gap that is none."""
    low, high = WORK_RANGE if quantity is WORK else (0.0, LARGEST_GAP)
    outside = [row for row, value in zip(sheet.rows, values, strict=True) if value < low or value > high]
    if not outside:
        return []
    shown = _rows(sheet, column, outside)
    if quantity is GAP:
        raise DataError(f"{sheet.path}: no band gap is above {high:g} eV: {shown} (leave a fill value blank)")
    return [f"{sheet.path}: work functions outside {low:g} to {high:g} eV, kept as they are: {shown}"]


def _rows(sheet: Sheet, column: int, rows: Sequence[tuple[int, list[str]]]) -> str:
    shown = ", ".join(f"row {line} ({cells[column]})" for line, cells in rows[:_SHOWN])
    return shown + (f" and {len(rows) - _SHOWN} more rows" if len(rows) > _SHOWN else "")
