"""Many crystal graphs in one place: built once, kept as memory-mapped columns, rebuilt only where a file changed.

A store is a folder of append-only column files and a manifest, which says for every crystal where its part of
the columns lies and which file it came from (size, modification time, content hash). What the manifest does not
name does not count: a build that is killed leaves the columns longer than the manifest says, and the next one
goes on from there.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from cgcnn import build
from cgcnn.files import alone, replacing
from cgcnn.graph import GraphSettings
from cgcnn.graph_table import COLUMNS, LENGTHS, GraphTable, lengths_of

_RECORD = np.dtype(
    [("size", "<i8"), ("mtime", "<i8"), ("seen", "<i8"), ("digest", "S16")]
    + [(f"{name}_start", "<i8") for name in LENGTHS]
    + [(name, "<i8") for name in LENGTHS]
)
SECONDS_A_FLUSH = 10.0  # what a killed build loses at the most
SECONDS_A_LOOK = 0.5  # between two looks whether to go on waiting for another run
# ns; a file that was changed this shortly before it was read may have changed again within the clock's step
_RACY = 2_000_000_000


class GraphStore:
    """The graphs of one data folder under one set of graph settings, on disk."""

    def __init__(self, folder: Path, settings: GraphSettings) -> None:
        """Open the store in `folder`, or an empty one; a damaged manifest counts as empty."""
        self.folder = folder / f"graphs-{settings.key()}"
        self.settings = settings
        self.row_of: dict[str, int] = {}
        self._records = np.zeros(0, dtype=_RECORD)
        self._formulas: list[str] = []
        self._committed = dict.fromkeys(LENGTHS, 0)
        self._generation = 0
        self._load()

    def table(self, ids: Sequence[str]) -> GraphTable:
        """The graphs of these crystals, memory-mapped. Raises KeyError for an id that is not in the store."""
        rows = np.array([self.row_of[i] for i in ids], dtype=np.int64)
        records = self._records[rows]
        columns = {}
        for name, (kind, of) in COLUMNS.items():
            size = self._committed[of]
            # "c": torch wants writable memory; nothing is ever written back
            columns[name] = (
                np.memmap(self._column_file(name), dtype=kind, mode="c", shape=(size,)) if size else np.zeros(0, kind)
            )
        start = {name: records[f"{name}_start"] for name in LENGTHS}
        length = {name: records[name] for name in LENGTHS}
        return GraphTable(columns, start, length, [self._formulas[row] for row in rows])

    def update(
        self,
        files: Mapping[str, Path],
        *,
        jobs: int = -1,
        verify: bool = False,
        quiet: bool | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> tuple[dict[str, str], int]:
        """Build what is missing or stale among `files` (id → file); a file that has not changed is not read.

        jobs: worker processes, −1 = one a core. verify: compare content hashes even where size and time agree.
        quiet: no progress bar (None: where the output is no terminal). check_stop is called as long as there is more
        to do, and what it raises ends the build: what was built by then is kept. Returns the reason for each crystal
        that failed (id → one line), and how many graphs were built.
        """
        if not self._stale(files, verify=verify):
            return {}, 0
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder / "lock", check_stop, every=SECONDS_A_LOOK):
            self._load()  # another run may have built them while this one waited
            return self._build(files, self._stale(files, verify=verify), jobs, quiet, check_stop)

    def _stale(self, files: Mapping[str, Path], *, verify: bool) -> dict[str, bytes]:
        """Files to be read: id → digest of the content that the store knows (empty: none)."""
        stale = {}
        for crystal_id, path in files.items():
            row = self.row_of.get(crystal_id)
            if row is None:
                stale[crystal_id] = b""
                continue
            known = self._records[row]
            try:
                now = os.stat(path)
                same = now.st_size == known["size"] and now.st_mtime_ns == known["mtime"]
            except OSError:
                same = False
            if verify or not same or known["mtime"] > known["seen"] - _RACY:
                stale[crystal_id] = known["digest"]
        return stale

    def _build(
        self,
        files: Mapping[str, Path],
        stale: dict[str, bytes],
        jobs: int,
        quiet: bool | None,
        check_stop: Callable[[], None],
    ) -> tuple[dict[str, str], int]:
        from tqdm import tqdm

        items = [(i, str(files[i]), digest) for i, digest in stale.items()]
        failures: dict[str, str] = {}
        pending: list[build.Built] = []
        done, built, flushed = 0, 0, time.monotonic()
        bar = tqdm(total=len(items), desc="Crystal graphs", unit="file", disable=quiet, leave=False)
        try:
            with bar, closing(build.build_all(items, self.settings, jobs)) as results:
                for result in results:
                    for one in result:
                        if one.error is not None:
                            failures[one.crystal_id] = one.error
                        else:
                            pending.append(one)
                            built += one.graph is not None
                    done += len(result)
                    bar.update(len(result))
                    if time.monotonic() - flushed > SECONDS_A_FLUSH:
                        self._commit(pending)
                        pending, flushed = [], time.monotonic()
                    if done < len(items):
                        check_stop()
        except BaseException:
            check_stop()  # a signal to all processes ends the workers too, and is the better reason
            raise
        finally:
            self._commit(pending)
        return failures, built

    def _commit(self, results: list[build.Built]) -> None:
        """Append the graphs to the columns, then name them in the manifest: in this order, each synced to disk."""
        if not results:
            return
        graphs = [one.graph for one in results if one.graph is not None]
        for name, (kind, of) in COLUMNS.items():
            with open(self._column_file(name), "ab") as file:
                file.truncate(self._committed[of] * np.dtype(kind).itemsize)
                for graph in graphs:
                    file.write(np.ascontiguousarray(getattr(graph, name), dtype=kind).tobytes())
                file.flush()
                os.fsync(file.fileno())
        new = sum(one.crystal_id not in self.row_of for one in results)
        records = np.concatenate([self._records, np.zeros(new, dtype=_RECORD)])
        for one in results:
            row = self.row_of.setdefault(one.crystal_id, len(self.row_of))
            record = records[row]
            record["size"], record["mtime"], record["seen"], record["digest"] = one.stamp
            if one.graph is None:
                continue
            for name, value in lengths_of(one.graph).items():
                record[f"{name}_start"], record[name] = self._committed[name], value
                self._committed[name] += value
            self._formulas[row : row + 1] = [one.formula]
        self._records = records
        self._compact_if_wasteful()
        self._save()

    def _compact_if_wasteful(self) -> None:
        """Rewrite the columns once more than half of them belongs to graphs that were replaced."""
        if self._committed["atoms"] <= 2 * self._records["atoms"].sum():
            return
        table = self.table(list(self.row_of))
        old = [self._column_file(name) for name in COLUMNS]
        self._generation += 1
        for name, (_, of) in COLUMNS.items():
            with open(self._column_file(name), "wb") as file:
                for start, length in zip(table.start[of], table.length[of], strict=True):
                    file.write(table.columns[name][start : start + length].tobytes())
                file.flush()
                os.fsync(file.fileno())
        for name in LENGTHS:
            self._records[f"{name}_start"] = np.cumsum(self._records[name]) - self._records[name]
            self._committed[name] = int(self._records[name].sum())
        self._save()
        for path in old:
            path.unlink(missing_ok=True)

    def _column_file(self, name: str) -> Path:
        return self.folder / f"{name}.{self._generation}.bin"

    def _save(self) -> None:
        text = json.dumps([list(self.row_of), self._formulas])
        with replacing(self.folder / "manifest.npz") as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                records=self._records,
                names=np.frombuffer(text.encode(), dtype=np.uint8),
                committed=np.array([self._committed[name] for name in LENGTHS]),
                generation=self._generation,
            )

    def _load(self) -> None:
        try:
            with np.load(self.folder / "manifest.npz") as manifest:
                records = manifest["records"]
                ids, formulas = json.loads(manifest["names"].tobytes().decode())
                committed = dict(zip(LENGTHS, manifest["committed"].tolist(), strict=True))
                self._generation = int(manifest["generation"])
            if records.dtype != _RECORD or not len(ids) == len(formulas) == len(records):
                raise ValueError("not a manifest of this version")
            for name, (kind, of) in COLUMNS.items():
                if self._column_file(name).stat().st_size < committed[of] * np.dtype(kind).itemsize:
                    raise ValueError(f"column {name} is shorter than the manifest says")
        except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
            self._records, self._committed = np.zeros(0, dtype=_RECORD), dict.fromkeys(LENGTHS, 0)
            self.row_of, self._formulas = {}, []
            return
        self._records, self._committed = records, committed
        self.row_of = {crystal_id: row for row, crystal_id in enumerate(ids)}
        self._formulas = formulas
