"""Where crystals and labels lie: a data folder, a data file that was made one, or a folder of pickled parts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cgcnn.data_file import SUFFIXES, has_data_suffix, unpack
from cgcnn.files import cache_folder
from cgcnn.labels import DataError, LabelTable, joined_labels, raise_all, read_labels
from cgcnn.pickled_splits import part_files
from cgcnn.structures import StructureError, find_structure_names

MAX_LISTED = 100


@dataclass(frozen=True, eq=False)
class DataSource:
    """What the user named as data.

    path: as it was named. folder: that of the structure files and tables. cache: that of the graphs. files: id → name
    of its structure file. lacking: id → why there is none. entries: id → its number in a data file; none in a folder.
    faults: lines of what is wrong in a data file; who uses the labels has to refuse them. parts: the data files of a
    folder of pickled parts, whose entries are all of theirs.
    """

    path: Path
    folder: Path
    cache: Path
    files: dict[str, str]
    lacking: dict[str, str] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    parts: dict[str, DataSource] = field(default_factory=dict)

    @property
    def folders(self) -> list[Path]:
        """Where the tables lie."""
        return [part.folder for part in self.parts.values()] or [self.folder]

    @property
    def is_file(self) -> bool:
        return bool(self.entries)

    @property
    def table(self) -> Path:
        """Where the labels stand, for messages."""
        return self.path if self.is_file else self.folder / "id_prop.csv"

    def where(self, crystal_id: str) -> str:
        """Where the crystal of this id stands, for messages."""
        for part in self.parts.values():
            if crystal_id in part.entries:
                return part.where(crystal_id)
        if self.is_file:
            return f"{self.path}, entry {self.entries[crystal_id]} ({crystal_id})"
        return self.files.get(crystal_id, str(self.folder / f"{crystal_id}.cif"))

    def labels(self, *, needed: bool = True) -> LabelTable | None:
        """The labels; None where they are not `needed` and there are none. Raises DataError as `read_labels`."""
        if not self.is_file:
            if not needed and not self.table.exists():
                return None
            return read_labels(self.table, known_ids=self.files if needed else (), labels_needed=needed)
        tables = [read_labels(folder / "id_prop.csv", labels_needed=False) for folder in self.folders]
        labels = joined_labels(tables) if len(tables) > 1 else tables[0]
        if labels.names:
            return replace(labels, path=self.path, lines={})
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
    if path.is_dir() and (files := part_files(path)):
        options = {"cache_dir": cache_dir, "verify": verify, "check_stop": check_stop}
        return _joined(path, cache_folder(path, cache_dir), {p: open_source(f, **options) for p, f in files.items()})
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


def _joined(path: Path, cache: Path, parts: dict[str, DataSource]) -> DataSource:
    """The parts as one; an id that stands in two is among the faults, and is that of the first."""
    files, lacking, entries, faults = {}, {}, {}, []
    first: dict[str, DataSource] = {}
    for part in parts.values():
        faults += part.faults
        for crystal_id, number in part.entries.items():
            if (other := first.setdefault(crystal_id, part)) is not part:
                faults.append(f"{part.where(crystal_id)}: its id stands in {other.where(crystal_id)}, too")
                continue
            entries[crystal_id] = number
            if crystal_id in part.files:
                files[crystal_id] = part.files[crystal_id]
            else:
                lacking[crystal_id] = part.lacking[crystal_id]
    return DataSource(path, path, cache, files, lacking, entries, faults, parts)


def beside(path: Path, name: str) -> Path | None:
    """A file that goes with some data: in the folder, or beside the file; None where it is not there."""
    found = (path if path.is_dir() else path.parent) / name
    return found if found.exists() else None
