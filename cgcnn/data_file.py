"""A JSON file or pickle of crystals and labels → a data folder in its cache: everything else reads folders alone.

The folder holds a structure file an entry and an id_prop.csv; a manifest beside it says which state of the data
file that is, and which entry became which file. An entry that has not changed keeps its file untouched, so that its
graph is not built again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cgcnn.data_entries import EntryError, Labels, entry_id, is_data, structure_file
from cgcnn.files import alone, naming, replacing, write_text
from cgcnn.json_stream import Hashed, JsonError, members, opened, opened_bytes
from cgcnn.labels import DataError
from cgcnn.pickled_entries import pickled_entries
from cgcnn.pickled_records import PickleError
from cgcnn.reading import read_bytes

SUFFIXES = (".json", ".jsonl", ".pkl", ".json.gz", ".jsonl.gz", ".pkl.gz")
VERSION = 2  # of the manifest and of how entries become files
_RACY = 2_000_000_000  # ns; a file that changed this shortly before it was read may change again unseen
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]{0,99}")


@dataclass(frozen=True)
class Unpacked:
    """What became of a data file: size, mtime (ns) and digest it had, when it was read (ns), and its entries.

    entries: number, id, name of the structure file and its size; or number, id, None and why there is none. faults: a
    line for each entry or label that is wrong; it is in no table.
    """

    size: int
    mtime: int
    seen: int
    digest: str
    entries: list[tuple[int, str, str | None, int | str]]
    faults: list[str]
    version: int = VERSION


def has_data_suffix(path: Path) -> bool:
    """Whether the name is that of a data file."""
    return _name(path).endswith((".json", ".jsonl", ".pkl"))


def _name(path: Path) -> str:
    return path.name.lower().removesuffix(".gz")


def is_data_file(path: Path) -> bool:
    """Whether a file holds entries; a .json may also be one structure."""
    if not has_data_suffix(path) or not path.is_file():
        return False
    if not path.name.lower().endswith(".json"):
        return True
    try:
        with opened(path) as (file, _):
            return is_data(*next(members(file), (None, None)))
    except (JsonError, DataError):
        return False


def unpack(
    path: Path, cache: Path, *, verify: bool = False, check_stop: Callable[[], None] = lambda: None
) -> tuple[Path, Unpacked]:
    """The data folder of a data file in its cache, written anew where the file has changed, and what is in it.

    verify: unpack anew even where nothing seems to have changed. What check_stop raises ends it; the next start
    goes on. Raises DataError for a file without a usable entry; single ones at fault are told in what is given back.
    """
    folder = cache / "crystals"
    if not verify and (known := _current(path, cache, folder)):
        return folder, known
    folder.mkdir(parents=True, exist_ok=True)
    with alone(cache / "unpack.lock", check_stop):
        known = _read_manifest(cache, folder)
        if known and not verify and (same := _same_content(path, known)):
            _write_manifest(cache, same)
            return folder, same
        unpacked = _Unpacking(path, cache, folder, check_stop).run()
        _write_manifest(cache, unpacked)
        return folder, unpacked


class _Unpacking:
    """One data file on its way into a folder."""

    def __init__(self, path: Path, cache: Path, folder: Path, check_stop: Callable[[], None]) -> None:
        self.path, self.cache, self.folder, self.check_stop = path, cache, folder, check_stop
        self.there = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        self.entries: list[tuple[int, str, str | None, int | str]] = []
        self.number_of: dict[str, int] = {}
        self.taken: set[str] = set()
        self.labels = Labels()
        self.faults: list[tuple[float, str]] = []

    def run(self) -> Unpacked:
        status, seen, number = os.stat(self.path), time.time_ns(), 0
        with _entries(self.path) as (found, raw):
            try:
                for number, (key, entry) in enumerate(found, start=1):
                    self._take(number, key, entry)
                    self.check_stop()
            except JsonError as error:
                raise DataError(f"{self.path}: not JSON, in entry {number + 1}: {error}") from None
            except PickleError as error:
                raise DataError(f"{self.path}: {error}") from None
            digest = raw.digest()
        if not number:
            raise DataError(f"{self.path}: no entries")
        if not self.entries:
            raise DataError(f"{self.path}: none of its {number} entries can be used; {self.faults[0][1]}")
        self._write_table()
        kept = {"id_prop.csv", *(name for _, _, name, _ in self.entries)}
        for name in self.there.keys() - kept:
            (self.folder / name).unlink(missing_ok=True)
        faults = sorted([*self.faults, *self.labels.faults()], key=lambda fault: fault[0])
        lines = [f"{self.path}, {line}" for _, line in faults]
        return Unpacked(status.st_size, status.st_mtime_ns, seen, digest, self.entries, lines)

    def _take(self, number: int, key: str | None, entry: object) -> None:
        """Label and structure of an entry; one without a structure can be left out later."""
        try:
            crystal_id = entry_id(key, entry)
        except EntryError as error:
            named = "" if key is None else f" ({key.strip()[:60]!r})"
            self.faults.append((number, f"entry {number}{named}: {error}"))
            return
        if (first := self.number_of.setdefault(crystal_id, number)) != number:
            line = f"entry {number} ({crystal_id}): its id stands in entry {first} already"
            self.faults.append((number, line))
            return
        self.labels.add(entry, number, crystal_id)
        try:
            suffix, content = structure_file(entry)
        except EntryError as error:
            self.entries.append((number, crystal_id, None, str(error)))
            return
        name = self._name(crystal_id, suffix)
        self._write(name, content)
        self.entries.append((number, crystal_id, name, len(content)))

    def _name(self, crystal_id: str, suffix: str) -> str:
        """The id, where it can be a file's name on any system and none differs in case alone; or one like it."""
        stem = crystal_id
        if not _SAFE.fullmatch(stem) or stem.lower() in self.taken or stem.lower() == "atom_init":
            digest = hashlib.blake2b(crystal_id.encode(), digest_size=8).hexdigest()
            stem = f"{re.sub(r'[^A-Za-z0-9]+', '_', crystal_id)[:60]}-{digest}"
        self.taken.add(stem.lower())
        return stem + suffix

    def _write(self, name: str, content: bytes) -> None:
        """Nothing where the file has this content already."""
        path = self.folder / name
        if self.there.get(name) == len(content) and path.read_bytes() == content:
            return
        (self.cache / "manifest.json").unlink(missing_ok=True)  # from here on the folder is what no manifest says
        temporary = self.folder / ".part"
        with naming(path, temporary):
            try:
                # not synced: the manifest knows the size, and a file cut short is seen
                temporary.write_bytes(content)
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def _write_table(self) -> None:
        columns = self.labels.columns()
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["cif_id", *columns])
        for (_, crystal_id, _, _), *values in zip(self.entries, *columns.values(), strict=True):
            cells = ["" if math.isnan(x) else repr(float(x)).removesuffix(".0") for x in values]
            writer.writerow([crystal_id, *cells])
        (self.cache / "manifest.json").unlink(missing_ok=True)
        write_text(self.folder / "id_prop.csv", text.getvalue())


@contextmanager
def _entries(path: Path) -> Iterator[tuple[Iterator[tuple[str | None, object]], Hashed]]:
    """The entries of a data file, each with the key that it stands under, and the bytes of the file."""
    if _name(path).endswith(".pkl"):
        with opened_bytes(path, bar=True) as (data, raw):
            yield pickled_entries(data, path), raw
        return
    with opened(path, bar=True) as (file, raw):
        yield members(file, lines=_name(path).endswith(".jsonl")), raw


def _current(path: Path, cache: Path, folder: Path) -> Unpacked | None:
    """What is unpacked, if it is of the file as it is now."""
    known, now = _read_manifest(cache, folder), os.stat(path)
    if known is None or (known.size, known.mtime) != (now.st_size, now.st_mtime_ns):
        return None
    return known if known.mtime <= known.seen - _RACY else None


def _same_content(path: Path, known: Unpacked) -> Unpacked | None:
    """What is unpacked, with the stamp of the file as it is now, if the content has not changed."""
    status, seen = os.stat(path), time.time_ns()
    if status.st_size != known.size:
        return None
    with open(path, "rb") as file:
        raw = Hashed(file)
        if raw.digest() != known.digest:
            return None
    return replace(known, mtime=status.st_mtime_ns, seen=seen)


def _read_manifest(cache: Path, folder: Path) -> Unpacked | None:
    """What is unpacked; None where there is no manifest, or the folder is not as it says."""
    try:
        known = Unpacked(**json.loads(read_bytes(cache / "manifest.json")))
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        whole = all(name is None or sizes.get(name) == size for _, _, name, size in known.entries)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return known if known.version == VERSION and whole and "id_prop.csv" in sizes else None


def _write_manifest(cache: Path, unpacked: Unpacked) -> None:
    with replacing(cache / "manifest.json") as temporary:
        temporary.write_text(json.dumps(asdict(unpacked)), encoding="utf-8")
