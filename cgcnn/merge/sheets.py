"""Label tables that others wrote → rows and numbers: encoding, delimiter and header are found out."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cgcnn.labels import MISSING, DataError, raise_all
from cgcnn.merge.quantities import ID, is_name, means_metal
from cgcnn.reading import read_bytes

# Of two that fit equally well the first is taken: numbers like 4,26 stand in tables with semicolons.
_DELIMITERS = {"tabs": "\t", "semicolons": ";", "commas": ","}
_BLANK = (*MISSING, "--", "?", "#n/a", "#value!")
_METALS = ("metal", "metallic", "m")
_SEMICONDUCTORS = ("semiconductor", "insulator", "sc", "nonmetal", "non-metal")
_TRUTH = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


@dataclass(frozen=True, eq=False)
class Sheet:
    """A table as it stands: the name of its delimiter, its columns' names (`column 1` … without header), its rows.

    rows: (line number as an editor counts, stripped cells), all as wide as the names.
    """

    path: Path
    delimiter: str
    names: list[str]
    has_header: bool
    rows: list[tuple[int, list[str]]]

    def cells(self, column: int) -> list[str]:
        return [cells[column] for _, cells in self.rows]

    def number(self, cell: str) -> float | None:
        """The number in a cell, NaN for a blank one, None for what is neither. `4,26` counts beside ; and tabs."""
        if cell.lower() in _BLANK:
            return math.nan
        if "_" in cell:  # float would take 1_000
            return None
        cell = cell.replace("−", "-")
        if self.delimiter != "commas" and re.fullmatch(r"[-+]?\d+,\d+(e[-+]?\d+)?", cell, flags=re.IGNORECASE):
            cell = cell.replace(",", ".")
        try:
            number = float(cell)
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    def is_numeric(self, column: int) -> bool:
        """Whether most of the cells that are not blank are numbers."""
        numbers = [self.number(cell) for cell in self.cells(column) if cell.lower() not in _BLANK]
        return bool(numbers) and sum(number is not None for number in numbers) > len(numbers) / 2

    def numbers(self, column: int) -> list[float]:
        """The numbers of a column, NaN where it is blank. Raises DataError that names every row with another text."""
        return self._converted(column, self.number, "not a finite number")

    def categories(self, column: int) -> list[float]:
        """0 metal, 1 semiconductor, NaN blank, from 0 and 1, yes and no, or words. Raises DataError."""
        reverse = means_metal(self.names[column]) and self.has_header

        def category(cell: str) -> float | None:
            word = cell.lower()
            if word in _METALS or word in _SEMICONDUCTORS:
                return float(word in _SEMICONDUCTORS)
            number = _TRUTH.get(word, self.number(cell))
            if number is None or number not in (0.0, 1.0):
                return math.nan if number is not None and math.isnan(number) else None
            return 1.0 - number if reverse else number

        return self._converted(column, category, "neither 0 or metal nor 1 or semiconductor")

    def holds_categories(self, column: int) -> bool:
        """Whether every cell that is not blank is a category, and one is there."""
        try:
            return not all(math.isnan(value) for value in self.categories(column))
        except DataError:
            return False

    def _converted(self, column: int, convert: Callable[[str], float | None], what: str) -> list[float]:
        numbers = [convert(cell) for cell in self.cells(column)]
        raise_all(
            [
                f"{self.path}, row {line}: {self.names[column]} {cells[column]!r} is {what}"
                for (line, cells), number in zip(self.rows, numbers, strict=True)
                if number is None
            ]
        )
        return numbers


def read_sheet(path: Path) -> Sheet:
    """Read a table with commas, semicolons, tabs or aligned columns, with or without header.

    Lines that begin with # are comments, but for a header. Raises DataError for a file that cannot be read, has
    one column only or no rows, and for rows that are wider or narrower than the others.
    """
    delimiter, rows = _split(path, _decode(path))
    first = rows[0][1]
    has_header = _is_header(first)
    names = [name.strip() for name in first] if has_header else [f"column {k + 1}" for k in range(len(first))]
    body = rows[1:] if has_header else rows
    width = len(names)
    # A delimiter at the end of each row makes a column without name.
    cut = [(line, cells[:width] if not any(cells[width:]) else cells) for line, cells in body]
    raise_all([f"{path}, row {n}: {len(cells)} columns, {width} expected" for n, cells in cut if len(cells) != width])
    if not cut:
        raise DataError(f"{path}: no rows below the header")
    return Sheet(path, delimiter, names, has_header, cut)


def _decode(path: Path) -> str:
    try:
        data = read_bytes(path)
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise DataError(f"{path}: a workbook; save the sheet as CSV and give that file")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")  # what spreadsheets write on Windows
    if "\0" in text:
        raise DataError(f"{path}: not a text file")
    return text


def _split(path: Path, text: str) -> tuple[str, list[tuple[int, list[str]]]]:
    """The name of the delimiter that gives most rows one width above 1, and the rows that are not blank."""
    lines = re.split(r"\r\n|\r|\n", text)
    comments = {number for number, line in enumerate(lines, start=1) if line.lstrip().startswith("#")}
    text = re.sub(r"(?m)^[ \t]*#+[ \t]*", "", text) if comments else text
    found = {name: _parse(path, text, delimiter) for name, delimiter in _DELIMITERS.items()}
    spaced = [(number, line.lstrip("# \t").split()) for number, line in enumerate(lines, start=1)]
    found["spaces"] = [(number, cells) for number, cells in spaced if cells]
    rows_of = {name: [row for row in rows if row[0] not in comments] for name, rows in found.items()}
    scores = {name: _regular(rows) for name, rows in rows_of.items()}
    name = max(_DELIMITERS, key=scores.__getitem__)
    if not scores[name]:
        # Blanks are delimiters only where they are in every row.
        name = "spaces"
        if not scores[name] or scores[name] < len(rows_of[name]):
            what = "one column only; an id and a label are needed" if text.strip() else "empty"
            raise DataError(f"{path}: {what}")
    rows = rows_of[name]
    before = [row for row in found[name] if row[0] < rows[0][0]]
    if before and len(before[-1][1]) == len(rows[0][1]):
        rows.insert(0, before[-1])
    return name, rows


def _parse(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{path}, row {reader.line_num}: {error}") from None
    return [(line, cells) for line, cells in rows if any(cells)]


def _regular(rows: Sequence[tuple[int, list[str]]]) -> int:
    """How many rows have the commonest width, 0 where that is 1."""
    widths = Counter(len(cells) for _, cells in rows)
    width, count = max(widths.items(), key=lambda item: item[1], default=(1, 0))
    return count if width > 1 else 0


def _is_header(cells: Sequence[str]) -> bool:
    """Whether a first row names columns: it has a known name, or else no number, no category and no blank."""
    values = Sheet(Path(), "semicolons", [], False, [])
    if any(cell and values.number(cell) is not None for cell in cells[1:]):
        return False
    if any(ID.rank(cell) is not None for cell in cells):
        return True
    if any(cell.lower() in (*_SEMICONDUCTORS, *_TRUTH) for cell in cells[1:]):
        return False
    # Not the first cell: GaP is a crystal.
    return any(is_name(cell) for cell in cells[1:] if cell.lower() not in _METALS) or all(
        cell and cell.lower() not in _METALS for cell in cells[1:]
    )
