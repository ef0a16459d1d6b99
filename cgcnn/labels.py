"""The label tables of a data folder: id_prop.csv, all.csv, ax.csv → numbers, with the row of every fault."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cgcnn.reading import one_line, read_bytes

MISSING = ("", "nan", "na", "n/a", "none", "null", "-")
ID_NAMES = ("cif_id", "id", "material_id", "name")
SEPARATORS = {"\t": "tabs", ";": "semicolons"}
AUXILIARY_NAMES = ("electronegativity_variance", "formation_energy", "first_ionization_energy_avg")
MAX_REPORTED = 10
LARGEST = 1e30  # of a number; networks compute in single precision, which ends at 3e38


class DataError(ValueError):
    """What is wrong with the user's data or flags, in lines that name file and row and can be printed."""

    def __init__(self, message: str = "") -> None:
        super().__init__("\n".join(one_line(line) for line in str(message).split("\n")))


@dataclass(frozen=True, eq=False)
class LabelTable:
    """ids (n), names of the columns, values (n, columns) with NaN where a label is blank; its file and header.

    lines: id → where its row stands in the file.
    """

    path: Path
    ids: list[str]
    names: list[str]
    values: np.ndarray
    has_header: bool
    lines: Mapping[str, int] = field(default_factory=dict)

    def row(self, crystal_id: str) -> str:
        """Where it stands, to be put behind the name of another file: empty where that is not known."""
        return f" ({self.path.name}, row {self.lines[crystal_id]})" if crystal_id in self.lines else ""


def read_labels(
    path: Path, *, names: Sequence[str] | None = None, labels_needed: bool = True, known_ids: Container[str] = ()
) -> LabelTable:
    """Read a label table: an id and one or more numbers a row, with or without a header.

    The first row is a header where its first cell is `cif_id`, `id`, `material_id` or `name`, or where a word
    stands in its label columns and no number; but never where its first cell is one of `known_ids`, those that
    have a structure file. names: those of the columns of a table without header (default: `target`, or
    `target_1` …). labels_needed: a table of ids alone is refused. Raises DataError for a file that is missing,
    empty or ragged, an id that is blank or stands twice, a label that is no number.
    """
    rows = read_rows(path)
    first_line, first = rows[0]
    has_header = _is_header(first, known_ids)
    body = rows[1:] if has_header else rows
    if not body:
        raise DataError(f"{path}: no rows below the header")
    # Without a header the first row may itself be the ragged one.
    width = len(first) if has_header else Counter(len(cells) for _, cells in rows).most_common(1)[0][0]
    if width < 2 and labels_needed:
        line, cells = next((line, cells) for line, cells in rows if len(cells) < 2)
        raise DataError(f"{path}, row {line}: an id and at least one label expected, found {cells}")
    columns = first[1:] if has_header else list(names or _default_names(width - 1))
    if len(columns) != width - 1:
        raise DataError(f"{path}: {width - 1} label columns, but {len(columns)} names")
    if has_header and (len(set(columns)) < len(columns) or "" in columns):
        raise DataError(f"{path}, row {first_line}: a column name is blank or stands twice")
    faults, ids, values = [], [], []
    seen: dict[str, int] = {}
    for line, cells in body:
        if len(cells) != width:
            faults.append(f"{path}, row {line}: {len(cells)} columns, {width} expected")
            continue
        crystal_id = cells[0]
        if not crystal_id:
            faults.append(f"{path}, row {line}: no id")
        elif crystal_id in seen:
            faults.append(f"{path}, row {line}: id {crystal_id!r} stands in row {seen[crystal_id]} already")
        seen.setdefault(crystal_id, line)
        numbers = []
        for column, cell in zip(columns, cells[1:], strict=True):
            number = parse_number(cell)
            if number is None:
                faults.append(f"{path}, row {line}: {column} {cell!r} is not a finite number")
            numbers.append(number)
        ids.append(crystal_id)
        values.append(numbers)
    raise_all(faults)
    table = np.array(values, dtype=np.float64).reshape(len(ids), width - 1)
    return LabelTable(path, ids, columns, table, has_header, seen)


def joined_labels(tables: Sequence[LabelTable]) -> LabelTable:
    """Several tables as one, with the columns of all; a row is that of the first table that has its id."""
    names = list(dict.fromkeys(name for table in tables for name in table.names))
    rows: dict[str, np.ndarray] = {}
    for table in tables:
        columns = [names.index(name) for name in table.names]
        for crystal_id, values in zip(table.ids, table.values, strict=True):
            if crystal_id not in rows:
                rows[crystal_id] = np.full(len(names), math.nan)
                rows[crystal_id][columns] = values
    values = np.array(list(rows.values()), dtype=np.float64).reshape(len(rows), len(names))
    return LabelTable(tables[0].path, list(rows), names, values, has_header=True)


def read_categories(path: Path, ids: Sequence[str]) -> tuple[np.ndarray, str | None]:
    """The category of each id from all.csv, second column: 0 metal, 1 semiconductor, NaN unknown.

    Returns the categories (n,) and a warning that says how many are missing. Raises DataError where the file
    is missing or empty.
    """
    found = {cells[0]: cells[1] for _, cells in read_rows(path) if len(cells) > 1}
    numbers = [parse_number(found.get(i, "")) for i in ids]
    category = np.array([x if x in (0.0, 1.0) else math.nan for x in numbers])
    unknown = int(np.isnan(category).sum())
    if unknown == len(ids):
        raise DataError(f"{path}: no category 0 or 1 for any crystal of id_prop.csv")
    warning = (
        f"{path}: {unknown} of {len(ids)} crystals have no category 0 or 1; they are masked" if unknown else None
    )
    return category, warning


def read_auxiliary(path: Path, ids: Sequence[str]) -> np.ndarray:
    """The three auxiliary labels of each id from ax.csv (n, 3), by name or else columns 3–5 from 0; NaN missing.

    Raises DataError for a table that has fewer columns, and for a label that is no number.
    """
    rows = read_rows(path)
    header = rows[0][1]
    by_name = set(AUXILIARY_NAMES) <= set(header)
    columns = [header.index(name) for name in AUXILIARY_NAMES] if by_name else [3, 4, 5]
    found, faults = {}, []
    for line, cells in rows[1:]:
        if len(cells) <= max(columns):
            faults.append(f"{path}, row {line}: {len(cells)} columns, at least {max(columns) + 1} expected")
            continue
        numbers = [parse_number(cells[c]) for c in columns]
        if None in numbers:
            faults.append(f"{path}, row {line}: {cells[columns[numbers.index(None)]]!r} is not a finite number")
        found[cells[0]] = numbers
    raise_all(faults)
    return np.array([found.get(i, [math.nan] * 3) for i in ids], dtype=np.float64)


def raise_all(faults: Sequence[str], *, limit: int = MAX_REPORTED) -> None:
    """Raise DataError with the first faults, a line each, and how many more there are; nothing if none."""
    if faults:
        raise DataError("\n".join(first_of(faults, limit)))


def first_of(faults: Sequence[str], limit: int) -> list[str]:
    """The first faults, and how many more there are."""
    more = [f"… and {len(faults) - limit} more"] if len(faults) > limit else []
    return [*faults[:limit], *more]


def named_crystals(ids: Sequence[str]) -> str:
    """The first of these ids, and how many more there are."""
    more = f" and {len(ids) - 8} more" if len(ids) > 8 else ""
    return f"the crystals {', '.join(ids[:8])}{more}"


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, stripped cells) of every row of a CSV table that is not blank.

    Raises DataError for a file that cannot be read, is not CSV in UTF-8, has no such row, or separates its cells
    by something other than commas.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    try:
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{path}, row {reader.line_num}: {error}") from None
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if not rows:
        raise DataError(f"{path}: empty")
    line, first = rows[0]
    for mark, name in SEPARATORS.items():
        # Later rows may have commas, decimal ones.
        if len(first) == 1 and all(mark in cells[0] for _, cells in rows):
            raise DataError(f"{path}, row {line}: one column, {first[0]!r}; separated by {name}? commas are expected")
    return rows


def _default_names(count: int) -> list[str]:
    return ["target"] if count == 1 else [f"target_{k}" for k in range(1, count + 1)]


def _is_header(cells: Sequence[str], known_ids: Container[str]) -> bool:
    if cells[0] in known_ids:
        return False
    kinds = {cell_kind(cell) for cell in cells[1:]}
    return cells[0].lower() in ID_NAMES or ("word" in kinds and "number" not in kinds)


def cell_kind(cell: str) -> str:
    """Of a label cell: missing, a number (an infinite one, too) or a word."""
    if cell.lower() in MISSING:
        return "missing"
    try:
        float(cell)
    except ValueError:
        return "word"
    return "number"


def parse_number(cell: str) -> float | None:
    """The number in a cell, NaN for a blank one, None for what is neither, or larger than LARGEST."""
    if cell.lower() in MISSING:
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if abs(number) <= LARGEST else None
