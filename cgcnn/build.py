"""Files → graphs, in this process or in several: what fills a store."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from cgcnn.cluster import on_cluster
from cgcnn.crystal import Crystal
from cgcnn.graph import CrystalGraph, GraphSettings, build_graphs
from cgcnn.labels import DataError
from cgcnn.reading import read_bytes
from cgcnn.structures import StructureError, read_crystal
from cgcnn.workers import sigint_ignored

FILES_A_TASK = 64
SECONDS_ALONE = 1.5  # before worker processes are worth starting
Item = tuple[str, str, bytes]  # id, path, digest of the content that the store knows (empty: none)


@dataclass(frozen=True)
class Built:
    """What became of one file: its graph and formula, nothing new, or the reason why it failed."""

    crystal_id: str
    stamp: tuple = ()  # size, mtime, when it was read (ns), digest of the content
    graph: CrystalGraph | None = None  # None without an error: the content is the one in the store
    formula: str = ""
    error: str | None = None


def build_all(
    items: Sequence[Item],
    settings: GraphSettings,
    jobs: int,
    *,
    cluster: str | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[list[Built]]:
    """What becomes of (id, path, known digest) items, in their order, FILES_A_TASK at a time.

    At first in this process, then, if it lasts, in `jobs` others (−1: one a core); with `cluster`, the address of a
    Dask scheduler, all of it by its workers, see `on_cluster`.
    """
    tasks = [items[k : k + FILES_A_TASK] for k in range(0, len(items), FILES_A_TASK)]
    if cluster:
        yield from on_cluster(build_task, tasks, settings, address=cluster, check_stop=check_stop)
        return
    begun = time.monotonic()
    done = 0
    while done < len(tasks) and (jobs == 1 or time.monotonic() - begun < SECONDS_ALONE):
        yield build_task(tasks[done], settings)
        done += 1
    if done < len(tasks):
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=jobs, return_as="generator", batch_size=1)
        with sigint_ignored():
            results = parallel(delayed(build_task)(task, settings) for task in tasks[done:])
        with warnings.catch_warnings():
            # whoever leaves the results early means to cancel what is left of the tasks
            warnings.filterwarnings("ignore", r"\d+ tasks (have been|which were)", UserWarning)
            try:
                yield from results
            except BrokenProcessPool:
                raise DataError(
                    "a process that builds graphs died (out of memory?); those built so far are kept: "
                    "the same command goes on, with --graph-jobs 1 in less memory"
                ) from None


def build_task(items: Sequence[Item], settings: GraphSettings) -> list[Built]:
    """Read and build (id, path, known digest) one after another; a failure is a result, not an exception."""
    results: list[Built] = []
    crystals, waiting = [], []
    for crystal_id, path, digest in items:
        try:
            seen = time.time_ns()
            status = os.stat(path)
            found = hashlib.blake2b(read_bytes(path), digest_size=8).hexdigest().encode()
            stamp = (status.st_size, status.st_mtime_ns, seen, found)
            if found == digest:
                results.append(Built(crystal_id, stamp))
                continue
            crystal = read_crystal(path)
        except (StructureError, OSError) as error:
            results.append(Built(crystal_id, error=_reason(error)))
            continue
        crystals.append(crystal)
        waiting.append((crystal_id, stamp))
    graphs = graphs_or_errors(crystals, settings)
    for (crystal_id, stamp), crystal, graph in zip(waiting, crystals, graphs, strict=True):
        if isinstance(graph, StructureError):
            results.append(Built(crystal_id, error=_reason(graph)))
        else:
            results.append(Built(crystal_id, stamp, graph, crystal.reduced_formula))
    return results


def graphs_or_errors(
    crystals: Sequence[Crystal], settings: GraphSettings, *, moved: Sequence[Crystal] | None = None
) -> list[CrystalGraph | StructureError]:
    """Graphs built together; where that fails, one by one, with the error in place of a graph.

    moved: see `build_graphs`.
    """
    try:
        return build_graphs(crystals, settings, moved=moved)
    except StructureError as error:
        if len(crystals) == 1:
            return [error]
        alone = [
            graphs_or_errors(crystals[k : k + 1], settings, moved=moved and moved[k : k + 1])
            for k in range(len(crystals))
        ]
        return [graph for (graph,) in alone]


def _reason(error: Exception) -> str:
    return error.strerror or "cannot be read" if isinstance(error, OSError) else str(error)
