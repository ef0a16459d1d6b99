"""Where crystals and labels lie: a data folder, or a data file that was made one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cgcnn.data_file import SUFFIXES, has_data_suffix, unpack
from cgcnn.files import cache_folder
from cgcnn.labels import DataError, LabelTable, raise_all, read_labels
from cgcnn.structures import StructureError, find_structure_names

MAX_LISTED = 100


@dataclass(frozen=True, eq=False)
class DataSource:
    """What the user named as data.

    path: as it was named. folder: that of the structure files and tables. cache: that of the graphs. files: id → name
    of its structure file. lacking: id → why there is none. entries: id → its number in a data file; none in a folder.
    faults: lines of what is wrong in a data file; who uses the labels has to refuse them.
    """

    path: Path
    folder: Path
    cache: Path
    files: dict[str, str]
    lacking: dict[str, str] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def is_file(self) -> bool:
        return bool(self.entries)

    @property
    def table(self) -> Path:
        """Where the labels stand, for messages."""
        return self.path if self.is_file else self.folder / "id_prop.csv"

    def where(self, crystal_id: str) -> str:
        """Where the crystal of this id stands, for messages."""
        if self.is_file:
            return f"{self.path}, entry {self.entries[crystal_id]} ({crystal_id})"
        return self.files.get(crystal_id, str(self.folder / f"{crystal_id}.cif"))

    def labels(self, *, needed: bool = True) -> LabelTable | None:
        """The labels; None where they are not `needed` and there are none. Raises DataError as `read_labels`."""
        if not self.is_file:
            if not needed and not self.table.exists():
                return None
            return read_labels(self.table, known_ids=self.files if needed else (), labels_needed=needed)
        labels = read_labels(self.folder / "id_prop.csv", labels_needed=False)
        if labels.names:
            return replace(labels, path=self.path)
        if needed:
            lacking = [f"{self.where(i)}: {reason}" for i, reason in self.lacking.items()]
            no_label = f"{self.path}: no entry has a number for a label"
            raise_all([*self.faults, no_label, *lacking], limit=MAX_LISTED)
        return None


def open_source(
    path: Path,
    *,
    cache_dir: str | None = None,
    verify: bool = False,
    check_stop: Callable[[], None] = lambda: None,
) -> DataSource:
    """The data that the user named. Raises DataError where there is none, or where it is at fault.

    cache_dir: see `cache_folder`. verify, check_stop: see `unpack`.
    """
    if path.is_dir():
        try:
            return DataSource(path, path, cache_folder(path, cache_dir), find_structure_names(path))
        except StructureError as error:
            raise DataError(f"{path}: {error}") from None
    if not path.exists():
        raise DataError(f"{path}: no such folder or data file")
    if not path.is_file() or not has_data_suffix(path):
        raise DataError(f"{path}: neither a data folder nor a data file ({', '.join(SUFFIXES)})")
    cache = cache_folder(path, cache_dir)
    folder, unpacked = unpack(path, cache, verify=verify, check_stop=check_stop)
    return DataSource(
        path,
        folder,
        cache,
        files={i: os.path.join(folder, name) for _, i, name, _ in unpacked.entries if name is not None},
        lacking={i: str(reason) for _, i, name, reason in unpacked.entries if name is None},
        entries={i: number for number, i, _, _ in unpacked.entries},
        faults=unpacked.faults,
    )


def beside(path: Path, name: str) -> Path | None:
    """A file that goes with some data: in the folder, or beside the file; None where it is not there."""
    found = (path if path.is_dir() else path.parent) / name
    return found if found.exists() else None
