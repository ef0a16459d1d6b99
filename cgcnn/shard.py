"""A part of a store: the graphs of some tens of thousand crystals, in files that only grow, and one that counts.

Beside a file for each column of the graphs stand `records` (how long each crystal's part of the columns is, in their
order), `stamps` (which state of a file it is of; the last one of a crystal holds) and `names` (ids and formulas). The
marker says how much of every file is committed: what lies behind that does not count, and is overwritten by the next
commit. So a commit costs what is new, and one that is killed leaves what was there.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from cgcnn.build import Built
from cgcnn.files import naming, replacing
from cgcnn.graph_table import COLUMNS, LENGTHS, GraphTable
from cgcnn.reading import open_file, read_bytes

VERSION = 1  # of these files
MAX_CRYSTALS, MAX_BYTES = 65_536, 1 << 30  # of a shard that still takes new crystals
STAMP = np.dtype([("row", "<i4"), ("size", "<i8"), ("mtime", "<i8"), ("seen", "<i8"), ("digest", "S16")])
MARKER = "committed.json"
_JOURNAL = ("records", "stamps", "names")
_AT_ONCE, _BYTES_AT_ONCE = 4_096, 1 << 20  # crystals that are copied together, what is read at a time
_STAMPS_A_CRYSTAL = 8  # that are kept before they are written anew


class DamagedShardError(ValueError):
    """A shard whose files are not what its marker says."""


@dataclass(frozen=True)
class _Marker:
    """What is committed: bytes and checksum of each file, and the generation of the files."""

    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*COLUMNS, *_JOURNAL), 0))
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*COLUMNS, *_JOURNAL), 0))
    generation: int = 0
    version: int = VERSION


class Shard:
    """n crystals of a store: ids (n) and formulas (n), lengths (n, LENGTHS) int32, stamps (n,) STAMP."""

    def __init__(self, folder: Path) -> None:
        """One without crystals, or what `read` found."""
        self.folder = folder
        self.ids: list[str] = []
        self.formulas: list[str] = []
        self.lengths = np.zeros((0, len(LENGTHS)), dtype=np.int32)
        self.stamps = np.zeros(0, dtype=STAMP)
        self._marker = _Marker()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_atoms(self) -> int:
        return self._marker.sizes["degree"] // np.dtype(COLUMNS["degree"][0]).itemsize

    @property
    def is_full(self) -> bool:
        """Whether further crystals belong into another one."""
        return len(self) >= MAX_CRYSTALS or sum(self._marker.sizes.values()) >= MAX_BYTES

    @property
    def has_old_stamps(self) -> bool:
        """Whether most of what its stamps take is for those that hold no more."""
        return self._marker.sizes["stamps"] > _STAMPS_A_CRYSTAL * len(self) * STAMP.itemsize

    @classmethod
    def read(cls, folder: Path) -> Shard:
        """The shard in a folder. Raises DamagedShardError where there is none that is whole, to the byte."""
        shard = cls(folder)
        try:
            shard._read()
            for name in COLUMNS:  # a GB a second, and what is read is what is mapped next
                for _ in shard._parts(name):
                    pass
        except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise DamagedShardError(f"{folder}: {error}") from None
        return shard

    def _read(self) -> None:
        self._marker = _Marker(**json.loads(read_bytes(self.folder / MARKER)))
        if self._marker.version != VERSION:
            raise ValueError("another version")
        if not self._marker.sizes.keys() == self._marker.sums.keys() == {*COLUMNS, *_JOURNAL}:
            raise ValueError("other columns")
        for name, size in self._marker.sizes.items():
            if size and self._file(name).stat().st_size < size:
                raise ValueError(f"{name} is shorter than was committed")
        content = {name: b"".join(self._parts(name)) for name in _JOURNAL}
        for line in content["names"].splitlines():
            ids, formulas = json.loads(line)
            self.ids += ids
            self.formulas += formulas
        self.lengths = np.frombuffer(content["records"], dtype="<i4").reshape(-1, len(LENGTHS))
        self.stamps = _latest(np.frombuffer(content["stamps"], dtype=STAMP), len(self.ids))
        if not len(self.ids) == len(self.formulas) == len(self.lengths):
            raise ValueError("not a name for every record")
        counts = self.lengths.sum(axis=0, dtype=np.int64).tolist()
        held = {name: count * np.dtype(COLUMNS[name][0]).itemsize for name, count in _of_columns(counts)}
        if held != {name: self._marker.sizes[name] for name in COLUMNS}:
            raise ValueError("the records and the columns differ")

    def column(self, name: str) -> np.ndarray:
        """A column of all the crystals, memory-mapped. Raises OSError where it is there no more."""
        kind = np.dtype(COLUMNS[name][0])
        if not (count := self._marker.sizes[name] // kind.itemsize):
            return np.zeros(0, kind)
        # "c": torch wants writable memory; nothing is ever written back
        return np.memmap(self._file(name), dtype=kind, mode="c", shape=(count,))

    def append(self, built: Sequence[Built], touched: Sequence[tuple[int, tuple]] = ()) -> None:
        """Commit further graphs, and (row, stamp) of crystals whose files have not changed but in their stamp.

        Raises OSError, with nothing committed.
        """
        graphs, formulas = [one.graph for one in built], [one.formula for one in built]
        content: dict[str, Iterable[bytes]] = {}
        lengths = self.lengths[:0]
        if graphs:
            table = GraphTable.from_graphs(graphs, formulas)
            lengths = np.stack([table.length[name] for name in LENGTHS], axis=1).astype("<i4")
            content = {name: [column.tobytes()] for name, column in table.columns.items() if len(column)}
        ids, first = [one.crystal_id for one in built], len(self)
        stamps = [(row, *one.stamp) for row, one in enumerate(built, start=first)]
        stamps += [(row, *stamp) for row, stamp in touched]
        new = np.array(stamps, dtype=STAMP)
        content |= _journal(lengths, new, ids, formulas)
        self._commit(self._marker, content)
        self.ids += ids
        self.formulas += formulas
        self.lengths = np.concatenate([self.lengths, lengths])
        self.stamps = _latest(np.concatenate([self.stamps, new]), len(self.ids))

    def compact(self, live: np.ndarray) -> None:
        """Write the crystals that count, live (n,) bool, anew, and no others; then remove what was there."""
        rows = np.flatnonzero(live)
        end = np.cumsum(self.lengths, axis=0, dtype=np.int64)
        start = dict(zip(LENGTHS, (end - self.lengths).T, strict=True))
        length = dict(zip(LENGTHS, self.lengths.T, strict=True))

        def copied(name: str, of: str) -> Iterator[bytes]:
            column = {name: self.column(name)}
            for part in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
                table = GraphTable(column, {of: start[of][part]}, {of: length[of][part]}, [])
                yield table.taken(name).tobytes()

        ids, formulas = [self.ids[row] for row in rows], [self.formulas[row] for row in rows]
        stamps = self.stamps[rows]
        stamps["row"] = np.arange(len(rows))
        content = {name: copied(name, of) for name, (_, of) in COLUMNS.items() if self._marker.sizes[name]}
        content |= _journal(self.lengths[rows], stamps, ids, formulas)
        self._commit(_Marker(generation=self._marker.generation + 1), content)
        self.ids, self.formulas, self.lengths, self.stamps = ids, formulas, self.lengths[rows], stamps
        self.tidy()

    def tidy(self) -> None:
        """Remove what compactions have left behind."""
        kept = {MARKER, *(self._file(name).name for name in self._marker.sizes)}
        for path in self.folder.iterdir():
            if path.name not in kept:
                with suppress(OSError):  # Windows and NFS keep what another run has open
                    path.unlink()

    def remove(self) -> None:
        """Remove the folder, the marker first."""
        (self.folder / MARKER).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _commit(self, before: _Marker, content: dict[str, Iterable[bytes]]) -> None:
        """Write the content behind what `before` says, then a marker that counts it: in this order, each synced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sizes, sums = dict(before.sizes), dict(before.sums)
        for name, parts in content.items():
            path = self._file(name, before.generation)
            with naming(path), open(path, "ab") as file:
                file.truncate(sizes[name])
                for part in parts:
                    file.write(part)
                    sizes[name] += len(part)
                    sums[name] = zlib.crc32(part, sums[name])
                if sizes[name] > before.sizes[name]:
                    file.flush()
                    os.fsync(file.fileno())
        marker = replace(before, sizes=sizes, sums=sums)
        with replacing(self.folder / MARKER) as temporary:
            temporary.write_text(json.dumps(asdict(marker)), encoding="utf-8")
        self._marker = marker

    def _parts(self, name: str) -> Iterator[bytes]:
        """What counts of a file, part by part. Raises ValueError in the end where that is not what was written."""
        left, found = self._marker.sizes[name], 0
        if left:
            with open_file(self._file(name)) as file:
                while left and (part := file.read(min(left, _BYTES_AT_ONCE))):
                    left, found = left - len(part), zlib.crc32(part, found)
                    yield part
        if left or found != self._marker.sums[name]:
            raise ValueError(f"{name} has changed")

    def _file(self, name: str, generation: int | None = None) -> Path:
        return self.folder / f"{name}.{self._marker.generation if generation is None else generation}.bin"


def _journal(
    lengths: np.ndarray, stamps: np.ndarray, ids: Sequence[str], formulas: Sequence[str]
) -> dict[str, list[bytes]]:
    names = json.dumps([list(ids), list(formulas)]).encode() + b"\n" if ids else b""
    content = {"records": lengths.astype("<i4").tobytes(), "stamps": stamps.tobytes(), "names": names}
    return {name: [more] for name, more in content.items() if more}


def _latest(stamps: np.ndarray, count: int) -> np.ndarray:
    """The last stamp of each of so many rows. Raises ValueError where a row has none, IndexError for another row."""
    place = np.full(count, -1)
    place[stamps["row"]] = np.arange(len(stamps))  # of equal rows the last one stays
    if (place < 0).any():
        raise ValueError("a crystal without a stamp")
    return stamps[place]


def _of_columns(counts: Sequence[int]) -> list[tuple[str, int]]:
    """The count of the length that each column follows."""
    count = dict(zip(LENGTHS, counts, strict=True))
    return [(name, count[of]) for name, (_, of) in COLUMNS.items()]
