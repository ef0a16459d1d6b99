"""Any number of structure files → graphs, a chunk at a time, in this process or in several; nothing else is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cgcnn.build import FILES_A_TASK, graphs_or_errors
from cgcnn.cluster import on_cluster
from cgcnn.crystal import Crystal
from cgcnn.graph import GraphSettings
from cgcnn.graph_table import GraphTable
from cgcnn.labels import DataError
from cgcnn.structures import StructureError, read_crystal
from cgcnn.workers import new_pool


@dataclass(frozen=True, eq=False)
class Chunk:
    """What became of some structures: the ids (n,) and graphs of those that can be used, id → reason of the others.

    tables: the n graphs under each of the graph settings; none where n is 0.
    """

    ids: list[str]
    tables: list[GraphTable]
    failed: dict[str, str]

    def __len__(self) -> int:
        return len(self.ids) + len(self.failed)


def read_chunk(items: Sequence[tuple[str, object]], settings: Sequence[GraphSettings]) -> Chunk:
    """Graphs of (id, structure) pairs, a structure being a path, a Crystal or a pymatgen Structure."""
    ids, crystals, failed = [], [], {}
    for crystal_id, structure in items:
        try:
            crystals.append(_as_crystal(structure))
            ids.append(crystal_id)
        except OSError as error:
            failed[crystal_id] = error.strerror or "cannot be read"
        except StructureError as error:
            failed[crystal_id] = str(error)
        except Exception as error:  # one odd file among a hundred thousand must not end them all
            failed[crystal_id] = " ".join(f"cannot be read ({type(error).__name__}: {error})".split())
    # in parts: before the neighbours are chosen, all pairs of atoms within reach are there
    parts = [crystals[k : k + FILES_A_TASK] for k in range(0, len(crystals), FILES_A_TASK)]
    graphs = [[graph for part in parts for graph in graphs_or_errors(part, each)] for each in settings]
    for crystal_id, of_one in zip(ids, zip(*graphs, strict=True), strict=True):
        if reason := next((str(graph) for graph in of_one if isinstance(graph, StructureError)), None):
            failed[crystal_id] = reason
    good = [k for k, crystal_id in enumerate(ids) if crystal_id not in failed]
    if not good:
        return Chunk([], [], failed)
    formulas = [crystals[k].reduced_formula for k in good]
    tables = [GraphTable.from_graphs([each[k] for k in good], formulas) for each in graphs]
    return Chunk([ids[k] for k in good], tables, failed)


def read_chunks(
    items: Iterable[tuple[str, object]],
    settings: Sequence[GraphSettings],
    *,
    size: int,
    workers: int = 0,
    cluster: str | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[Chunk]:
    """`read_chunk` of all items in their order, `size` at a time; at most workers + 2 chunks are there at once.

    workers: processes that read ahead, 0 = none. Raises DataError where one of them dies. cluster: the address of a
    Dask scheduler whose workers read instead, see `on_cluster`.
    """
    items = iter(items)
    parts = iter(lambda: list(islice(items, size)), [])
    if cluster:
        yield from on_cluster(read_chunk, parts, settings, address=cluster, check_stop=check_stop)
        return
    if not workers:
        yield from (read_chunk(part, settings) for part in parts)
        return
    pool = new_pool(workers)
    try:
        waiting = deque(pool.submit(read_chunk, part, settings) for part in islice(parts, workers + 1))
        while waiting:
            chunk = waiting.popleft().result()
            waiting.extend(pool.submit(read_chunk, part, settings) for part in islice(parts, 1))
            yield chunk
    except BrokenProcessPool:
        raise DataError(
            "a process that reads structures died (out of memory?); --resume-output goes on, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _as_crystal(structure) -> Crystal:
    if isinstance(structure, Crystal):
        return structure
    if isinstance(structure, str | Path):
        return read_crystal(structure)
    return Crystal.from_structure(structure)
