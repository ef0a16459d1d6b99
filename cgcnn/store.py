"""Many crystal graphs in one place: built once, kept as memory-mapped columns, rebuilt only where a file changed.

A store is a folder of shards (cgcnn/shard.py), each with column files that only grow and a marker that says how much
of them counts: a build that is killed leaves more than that, and the next one goes on from there. A crystal that is
built again goes into the last shard, and what was there of it in another counts no more. So a commit writes what is
new, and the space of what counts no more, or a file that is damaged, costs one shard and not the store.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from cgcnn import build
from cgcnn.files import alone
from cgcnn.graph import GraphSettings
from cgcnn.graph_table import COLUMNS, LENGTHS, GraphTable, JoinedColumn
from cgcnn.shard import MARKER, DamagedShardError, Shard

SECONDS_A_FLUSH = 10.0  # what a killed build loses at the most
CRYSTALS_A_FLUSH, EDGES_A_FLUSH = 8_192, 8_000_000  # that are held in memory before they are written
SECONDS_A_LOOK = 0.5  # between two looks whether to go on waiting for another run
# ns; a file that was changed this shortly before it was read may have changed again within the clock's step
_RACY = 2_000_000_000
_SHARDS = "shard-" + 6 * "[0-9]"  # names of their folders
_ATOMS = LENGTHS.index("atoms")


class GraphStore:
    """The graphs of one data folder under one set of graph settings, on disk."""

    def __init__(self, folder: Path, settings: GraphSettings) -> None:
        """Open the store in `folder`, or an empty one; a damaged shard counts as empty, and `was_damaged` says so."""
        self.folder = folder / f"graphs-{settings.key()}"
        self.settings = settings
        self._load()
        self.was_damaged = self._is_damaged

    def table(self, ids: Sequence[str]) -> GraphTable:
        """The graphs of these crystals, memory-mapped. Raises KeyError for an id that is not in the store."""
        try:
            parts = {name: [each.column(name) for each in self._shards] for name in COLUMNS}
        except FileNotFoundError:  # another run has compacted a shard since
            self._load()
            parts = {name: [each.column(name) for each in self._shards] for name in COLUMNS}
        columns = {name: _joined(arrays, COLUMNS[name][0]) for name, arrays in parts.items()}
        rows = np.array([self.row_of[i] for i in ids], dtype=np.int64)
        lengths = [each.lengths for each in self._shards] or [np.zeros((0, len(LENGTHS)), dtype=np.int32)]
        start, length = {}, {}
        for k, name in enumerate(LENGTHS):
            of_all = np.concatenate([each[:, k] for each in lengths]).astype(np.int64)
            start[name], length[name] = (np.cumsum(of_all) - of_all)[rows], of_all[rows]
        formulas = [formula for each in self._shards for formula in each.formulas]
        return GraphTable(columns, start, length, [formulas[row] for row in rows.tolist()])

    def update(
        self,
        files: Mapping[str, str | Path],
        *,
        jobs: int = -1,
        cluster: str | None = None,
        verify: bool = False,
        quiet: bool | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> tuple[dict[str, str], int]:
        """Build what is missing or stale among `files` (id → file); a file that has not changed is not read.

        jobs: worker processes, −1 = one a core; cluster: instead, the address of a Dask scheduler.
        verify: compare content hashes even where size and time agree.
        quiet: no progress bar (None: where the output is no terminal). check_stop is called as long as there is more
        to do, and what it raises ends the build: what was built by then is kept. Returns the reason for each crystal
        that failed (id → one line), and how many graphs were built.
        """
        if not self._stale(files, verify=verify):
            return {}, 0
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder / "lock", check_stop, every=SECONDS_A_LOOK):
            self._load()  # another run may have built them while this one waited
            self._tidy()
            return self._build(files, self._stale(files, verify=verify), jobs, cluster, quiet, check_stop)

    def _stale(self, files: Mapping[str, str | Path], *, verify: bool) -> dict[str, bytes]:
        """Files to be read: id → digest of the content that the store knows (empty: none)."""
        stale = {}
        for crystal_id, path in files.items():
            row = self.row_of.get(crystal_id)
            if row is None:
                stale[crystal_id] = b""
                continue
            k, row = self._place(row)
            _, size, mtime, seen, digest = self._shards[k].stamps[row].item()
            try:
                now = os.stat(path)
                same = now.st_size == size and now.st_mtime_ns == mtime
            except OSError:
                same = False
            if verify or not same or mtime > seen - _RACY:
                stale[crystal_id] = digest
        return stale

    def _build(
        self,
        files: Mapping[str, str | Path],
        stale: dict[str, bytes],
        jobs: int,
        cluster: str | None,
        quiet: bool | None,
        check_stop: Callable[[], None],
    ) -> tuple[dict[str, str], int]:
        from tqdm import tqdm

        items = [(i, str(files[i]), digest) for i, digest in stale.items()]
        failures: dict[str, str] = {}
        pending: list[build.Built] = []
        done, built, edges, flushed = 0, 0, 0, time.monotonic()
        bar = tqdm(total=len(items), desc="Crystal graphs", unit="file", disable=quiet, leave=False)
        try:
            built_by = build.build_all(items, self.settings, jobs, cluster=cluster, check_stop=check_stop)
            with bar, closing(built_by) as results:
                for result in results:
                    for one in result:
                        if one.error is not None:
                            failures[one.crystal_id] = one.error
                            continue
                        pending.append(one)
                        if one.graph is not None:
                            built, edges = built + 1, edges + len(one.graph.distances)
                    done += len(result)
                    bar.update(len(result))
                    is_much = len(pending) >= CRYSTALS_A_FLUSH or edges >= EDGES_A_FLUSH
                    if is_much or time.monotonic() - flushed > SECONDS_A_FLUSH:
                        self._commit(pending)
                        pending, edges, flushed = [], 0, time.monotonic()
                    if done < len(items):
                        check_stop()
        except BaseException:
            check_stop()  # a signal to all processes ends the workers too, and is the better reason
            raise
        finally:
            self._commit(pending)
        return failures, built

    def _commit(self, results: list[build.Built]) -> None:
        """New graphs to the last shard; stamps of files whose content is the same to the shards of their crystals."""
        touched: dict[int, list[tuple[int, tuple]]] = {}
        for one in results:
            if one.graph is None:
                k, row = self._place(self.row_of[one.crystal_id])
                touched.setdefault(k, []).append((row, one.stamp))
        for k, stamps in touched.items():
            self._shards[k].append([], stamps)
        if new := [one for one in results if one.graph is not None]:
            self._add(new)
        for k in reversed(range(len(self._shards))):
            if 2 * self._replaced[k] > self._shards[k].num_atoms or self._shards[k].has_old_stamps:
                with suppress(OSError):  # no room: all is committed, and only the waste stays
                    self._compact(k)

    def _add(self, new: Sequence[build.Built]) -> None:
        if not self._shards or self._shards[-1].is_full:
            self._shards.append(Shard(self._new_folder()))
            self._first.append(self._first[-1] + len(self._shards[-2]) if self._first else 0)
            self._replaced.append(0)
        last = self._shards[-1]
        begin = self._first[-1] + len(last)
        last.append(new)
        for row, one in enumerate(new, start=begin):
            if (before := self.row_of.get(one.crystal_id)) is not None:
                k, old = self._place(before)
                self._replaced[k] += int(self._shards[k].lengths[old, _ATOMS])
            self.row_of[one.crystal_id] = row

    def _compact(self, k: int) -> None:
        """Give back the space in a shard that graphs hold which were replaced."""
        rows = np.fromiter(self.row_of.values(), dtype=np.int64, count=len(self.row_of)) - self._first[k]
        live = np.zeros(len(self._shards[k]), dtype=bool)
        live[rows[(rows >= 0) & (rows < len(live))]] = True
        try:
            if live.any():
                self._shards[k].compact(live)
            else:
                self._shards.pop(k).remove()
        finally:
            self._index()

    def _place(self, row: int) -> tuple[int, int]:
        """The shard of a row of the store, and its row there."""
        k = bisect_right(self._first, row) - 1
        return k, row - self._first[k]

    def _new_folder(self) -> Path:
        numbers = [int(path.name.rpartition("-")[2]) for path in self.folder.glob(_SHARDS)]
        return self.folder / f"shard-{max(numbers, default=-1) + 1:06}"

    def _load(self) -> None:
        self._shards: list[Shard] = []
        self._is_damaged = False
        for folder in sorted(self.folder.glob(_SHARDS)):
            try:
                self._shards.append(Shard.read(folder))
            except DamagedShardError:
                self._is_damaged |= (folder / MARKER).exists()  # else it is of a build that was killed
        self._index()

    def _index(self) -> None:
        """Which crystal is where: of several rows of one the last counts."""
        sizes = [len(each) for each in self._shards]
        self._first = (np.cumsum(sizes, dtype=np.int64) - sizes).tolist()
        ids = [crystal_id for each in self._shards for crystal_id in each.ids]
        self.row_of: dict[str, int] = dict(zip(ids, range(len(ids)), strict=True))
        self._replaced = [0] * len(self._shards)  # atoms of each shard that count no more
        if len(self.row_of) < len(ids):
            for row, crystal_id in enumerate(ids):
                if self.row_of[crystal_id] != row:
                    k, old = self._place(row)
                    self._replaced[k] += int(self._shards[k].lengths[old, _ATOMS])

    def _tidy(self) -> None:
        """Remove what counts no more: damaged shards, what a compaction left, and files of an older version."""
        known = {each.folder for each in self._shards}
        for folder in set(self.folder.glob(_SHARDS)) - known:
            Shard(folder).remove()
        for each in self._shards:
            each.tidy()
        for path in (*self.folder.glob("*.bin"), self.folder / "manifest.npz"):
            path.unlink(missing_ok=True)


def _joined(parts: Sequence[np.ndarray], kind: str) -> np.ndarray | JoinedColumn:
    if len(parts) < 2:
        return parts[0] if parts else np.zeros(0, kind)
    return JoinedColumn(parts)
