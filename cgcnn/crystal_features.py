"""Numbers and words that are known of a crystal beside its structure, from a table: a temperature, a facet, a phase.

A column of numbers is one feature, `temperature`; one of words has a feature for each of them, `phase=bcc`.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgcnn.data_source import MAX_LISTED, beside
from cgcnn.labels import ID_NAMES, MISSING, DataError, LabelTable, cell_kind, raise_all, read_rows

if TYPE_CHECKING:
    import pandas as pd

FLAG = "--crystal-features"
MAX_WORDS = 50
# Words that stand for nothing among numbers, and may be something among words: sodium, no adsorbate.
_MAY_BE_WORDS = ("na", "none")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class CrystalTable:
    """A table of crystals: its name for messages, the names of its columns, id → (row, cells as text).

    row: a number, None where the table has none.
    """

    name: str
    columns: list[str]
    rows: Mapping[str, tuple[int | None, list[str]]]

    @classmethod
    def read(cls, path: Path) -> CrystalTable:
        """A CSV file with a header, and the ids in its first column. Raises DataError that names file and row."""
        (first_line, (_, *columns)), *body = read_rows(path)
        if not columns or len(set(columns)) < len(columns) or "" in columns:
            what = "a column name is blank or stands twice" if columns else "an id and at least one column expected"
            raise DataError(f"{path}, row {first_line}: {what}")
        faults: list[str] = []
        rows: dict[str, tuple[int, list[str]]] = {}
        for line, (crystal_id, *cells) in body:
            if len(cells) != len(columns):
                faults.append(f"{path}, row {line}: {len(cells) + 1} columns, {len(columns) + 1} expected")
            elif not crystal_id:
                faults.append(f"{path}, row {line}: no id")
            elif crystal_id in rows:
                faults.append(f"{path}, row {line}: id {crystal_id!r} stands in row {rows[crystal_id][0]} already")
            else:
                rows[crystal_id] = line, cells
        raise_all(faults)
        return cls(str(path), columns, rows)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> CrystalTable:
        """The ids are its column cif_id, id, material_id or name, if that comes first, and its index otherwise."""
        names = [str(name).strip() for name in frame.columns]
        if names and names[0].lower() in ID_NAMES:
            ids, frame, names = frame.iloc[:, 0], frame.iloc[:, 1:], names[1:]
        else:
            ids = frame.index
        found = [str(each).strip() for each in ids]
        if twice := [i for i, count in Counter(found).items() if count > 1]:
            raise DataError(f"crystal_features: id {twice[0]!r} stands twice")
        cells = [[_as_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
        return cls("crystal_features", names, {i: (None, row) for i, row in zip(found, cells, strict=True)})

    def learn(self, columns: Sequence[str], ids: Sequence[str]) -> tuple[str, ...]:
        """The names of the features that these columns give for the crystals `ids`, words in their order.

        Raises DataError for a column that is not there, or of more than MAX_WORDS different words.
        """
        self.check(columns)
        names: list[str] = []
        for column in columns:
            cells = {self.rows[i][1][self.columns.index(column)]: i for i in ids if i in self.rows}
            if all(cell_kind(cell) != "word" for cell in cells) and any(
                cell_kind(cell) == "number" for cell in cells
            ):
                names.append(column)
                continue
            words = sorted(cell for cell in cells if not _is_blank(cell, of_words=True))
            if len(words) > MAX_WORDS:
                odd = next(word for word in words if cell_kind(word) == "word")
                raise DataError(
                    f"{self._where(cells[odd])}: {column} {odd!r} is no number, and of {len(words)} different words "
                    f"in this column at most {MAX_WORDS} can be features"
                )
            names += [f"{column}={word}" for word in words]
        return tuple(names)

    def check(self, columns: Sequence[str]) -> None:
        """Raises DataError for a column that the table lacks."""
        for column in columns:
            if column not in self.columns:
                raise DataError(f"{self.name}: no column {column!r}; there are {', '.join(self.columns)}")

    def encode(self, names: Sequence[str], ids: Sequence[str]) -> tuple[np.ndarray, dict[str, str]]:
        """The features `names` of these crystals (n, K), float32; id → reason, of those that lack one (their row: 0).

        Raises DataError for a column that the table lacks.
        """
        self.check(columns := columns_of(names))
        values, failed = np.zeros((len(ids), len(names)), dtype=np.float32), {}
        place = {name: k for k, name in enumerate(names)}
        numbers = {column: self.columns.index(column) for column in columns if column in place}
        words = {column: self.columns.index(column) for column in columns if column not in place}
        for row, crystal_id in enumerate(ids):
            if crystal_id not in self.rows:
                failed[crystal_id] = f"{self.name}: no row for {crystal_id!r}"
                continue
            cells = self.rows[crystal_id][1]
            if reason := _fault(cells, numbers, words, place):
                failed[crystal_id] = f"{self._where(crystal_id)}: {reason}"
                continue
            for column, k in numbers.items():
                values[row, place[column]] = float(cells[k])
            for column, k in words.items():
                values[row, place[f"{column}={cells[k]}"]] = 1.0
        return values, failed

    def values(self, names: Sequence[str], ids: Sequence[str]) -> np.ndarray:
        """`encode` of crystals that lack nothing (n, K). Raises DataError that lists what they lack."""
        values, failed = self.encode(names, ids)
        raise_all(list(failed.values()))
        return values

    def _where(self, crystal_id: str) -> str:
        line = self.rows[crystal_id][0]
        return f"{self.name} of {crystal_id}" if line is None else f"{self.name}, row {line} ({crystal_id})"


def _fault(
    cells: Sequence[str], numbers: Mapping[str, int], words: Mapping[str, int], names: Mapping[str, int]
) -> str | None:
    """What is wrong with a row; numbers, words: column → its position; names: of the features."""
    for column, k in numbers.items():
        if _is_blank(cells[k]):
            return f"{column} is blank"
        if cell_kind(cells[k]) != "number" or not abs(float(cells[k])) < _LARGEST:
            return f"{column} {cells[k]!r} is not a finite number"
    for column, k in words.items():
        if _is_blank(cells[k], of_words=True):
            return f"{column} is blank"
        if f"{column}={cells[k]}" not in names:
            known = ", ".join(name.partition("=")[2] for name in names if name.startswith(f"{column}="))
            return f"{column} {cells[k]!r} is none of {known}, which the model knows"
    return None


def _is_blank(cell: str, *, of_words: bool = False) -> bool:
    return cell.lower() in MISSING and not (of_words and cell.lower() in _MAY_BE_WORDS)


def columns_of(names: Sequence[str]) -> list[str]:
    """Names of features → the columns that they come from."""
    return list(dict.fromkeys(name.partition("=")[0] for name in names))


def split_flag(text: str) -> tuple[str, list[str]]:
    """TABLE:COLUMN[+COLUMN…] → the table, the columns. Raises DataError for what is none."""
    table, colon, listed = text.rpartition(":")
    columns = [column.strip() for column in listed.split("+")]
    if not colon or not table or not all(columns):
        raise DataError(f"{FLAG} {text}: TABLE.csv:COLUMN is expected, columns joined with +")
    for k, column in enumerate(columns):
        if column in columns[:k]:
            raise DataError(f"{FLAG} {text}: {column} stands twice")
        if "=" in column:
            raise DataError(f"{FLAG} {text}: the name of a column with a = in it cannot be told from a feature's")
    return table, columns


def find_table(name: str, data: Path, advice: str = "") -> Path:
    """A table beside the data, or else in the working folder. Raises DataError, with `advice`, for one in neither."""
    found = beside(data, name) or Path(name)
    if not found.is_file():
        folder = data if data.is_dir() else data.parent
        raise DataError(f"{FLAG}: {name} is neither in {folder} nor in the working folder{advice}")
    return found


def features_of_run(
    path: Path, labels: LabelTable, args: Namespace, known: Sequence[str]
) -> tuple[CrystalTable | None, tuple[str, ...], dict[str, str]]:
    """The table that main.py's flags name, what is learned from it, and id → reason of crystals that lack something.

    path: of the data; known: names of features that stay as they are where the data has no others. Raises DataError.
    """
    if not args.crystal_features:
        return None, (), {}
    name, columns = split_flag(args.crystal_features)
    targets = [word.removesuffix(":class") for word in args.targets or labels.names]
    if learned := [column for column in columns if column in targets]:
        raise DataError(f"{FLAG} {args.crystal_features}: {learned[0]} is what is to be predicted")
    advice = f", which the model of --init-from takes; {FLAG} '' goes without" if args.init_from else ""
    table = CrystalTable.read(find_table(name, path, advice))
    names = table.learn(columns, labels.ids)
    if set(names) <= set(known) and columns_of(names) == columns_of(known):
        names = tuple(known)
    _, unknown = table.encode(names, labels.ids)
    if unknown and args.on_bad_structure == "stop":
        head = f"{table.name}: {len(unknown)} of {len(labels.ids)} crystals of {labels.path} lack a feature"
        raise_all([f"{head} (--on-bad-structure skip goes on without them)", *unknown.values()], limit=MAX_LISTED)
    return table, names, unknown


def joined(*parts: np.ndarray | None) -> np.ndarray | None:
    """Numbers of the same crystals (n, ·) beside each other; None where there are none."""
    there = [part for part in parts if part is not None]
    return np.concatenate(there, axis=1) if there else None


def described(names: Sequence[str]) -> str:
    """Names of features as a reader wants them: phase (bcc, fcc), temperature."""
    words = {c: [name.partition("=")[2] for name in names if name.startswith(f"{c}=")] for c in columns_of(names)}
    return ", ".join(f"{column} ({', '.join(known)})" if known else column for column, known in words.items())


def _as_cell(value: object) -> str:
    """A value of a DataFrame as the text that a CSV file would have."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "NaT"):
        return ""
    if isinstance(value, float) and value.is_integer():  # what pandas makes of whole numbers beside a blank
        value = int(value)
    return str(value).strip()
