"""How fast graphs are built by processes of this machine and by workers of a Dask cluster on it; are they the same?

    python -m benchmarks.cluster DIR [--limit N] [--times N]

Every line builds all graphs of the folder anew. The workers of the cluster are up, but have imported nothing; one of
three is killed with -9 at its work after a third of the results, and started again by its nanny.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
from distributed import LocalCluster

from cgcnn.build import FILES_A_TASK
from cgcnn.graph import GraphSettings
from cgcnn.graph_table import COLUMNS
from cgcnn.store import GraphStore
from cgcnn.structures import find_structure_files


def timed(folder: Path, files: dict[str, Path], **who: object) -> tuple[GraphStore, float, dict[str, str]]:
    """A new store of these files, seconds, and what failed."""
    store = GraphStore(folder, GraphSettings())
    begun = time.perf_counter()
    failed, _ = store.update(files, quiet=True, **who)
    return store, time.perf_counter() - begun, failed


def killer(cluster: LocalCluster, after: int) -> tuple[Callable[[], None], list[str]]:
    """A function that at its call number `after` kills a worker that has a task; whom it killed."""
    calls, killed = itertools.count(1), []

    def kill() -> None:
        if next(calls) < after or killed:
            return
        for nanny in cluster.workers.values():
            worker = cluster.scheduler.workers.get(nanny.worker_address)
            if worker is not None and worker.processing:
                killed.append(nanny.worker_address)
                os.kill(nanny.pid, signal.SIGKILL)
                return

    return kill, killed


def same(one: GraphStore, other: GraphStore) -> bool:
    """Whether two stores hold the same crystals, in the same order, with the same graphs, bit for bit."""
    if list(one.row_of) != list(other.row_of):
        return False
    tables = [store.table(list(store.row_of)) for store in (one, other)]
    return tables[0].formulas == tables[1].formulas and all(
        np.array_equal(tables[0].columns[name], tables[1].columns[name]) for name in COLUMNS
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--limit", type=int, help="the first N files (default: all)")
    parser.add_argument("--times", type=int, default=1, help="each file under so many names (1)")
    args = parser.parse_args()
    found = list(itertools.islice(find_structure_files(args.folder).items(), args.limit))
    files = {f"{crystal_id}_{k}": path for k in range(args.times) for crystal_id, path in found}
    if not files:
        print(f"{args.folder}: no crystal", file=sys.stderr)
        return 2
    cores = len(os.sched_getaffinity(0))
    print(f"{len(files)} crystals, {cores} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    print(f"{'who':34s} {'seconds':>8s} {'crystals/s':>11s}  result")
    with tempfile.TemporaryDirectory() as scratch, dask.config.set({"logging.distributed": "critical"}):
        first, is_same = None, True
        for jobs in (1, 2):
            store, seconds, failed = timed(Path(scratch) / f"loky{jobs}", files, jobs=jobs)
            first = first or (store, failed)
            is_same &= tell(f"loky, {jobs} process{'es' * (jobs > 1)}", seconds, len(files), first, (store, failed))
        for workers in (2, 3):
            with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
                who = {"cluster": cluster.scheduler_address}
                name, killed = f"dask, {workers} workers", []
                if workers == 3:
                    who["check_stop"], killed = killer(cluster, after=len(files) // FILES_A_TASK // 3)
                store, seconds, failed = timed(Path(scratch) / f"dask{workers}", files, **who)
                name += ", one of them killed" * bool(killed)
            is_same &= tell(name, seconds, len(files), first, (store, failed))
    return 0 if is_same and killed else 1


def tell(name: str, seconds: float, count: int, first: tuple, found: tuple) -> bool:
    """Print a line; whether the store and its failures are the first's."""
    is_same = same(first[0], found[0]) and first[1] == found[1]
    result = "" if first[0] is found[0] else "identical" if is_same else "DIFFERENT"
    print(f"{name:34s} {seconds:8.1f} {count / seconds:11.0f}  {result}", flush=True)
    return is_same


if __name__ == "__main__":
    sys.exit(main())
