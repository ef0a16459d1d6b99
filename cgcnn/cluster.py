"""Work for the workers of a Dask scheduler: parts of files in, results out, in their order, few of them at once.

Not through joblib, whose backend for Dask waits for ever for a task that killed its workers, and takes in results
without limit. Imports nothing heavy: Dask is an extra.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, wait
from typing import TypeVar

from cgcnn import __version__
from cgcnn.dask_client import connected, one_line
from cgcnn.labels import DataError

SECONDS_WITHOUT_WORKERS = 30.0
SECONDS_SILENT = 20.0  # of a scheduler that answered before
SECONDS_A_LOOK = 0.5  # between two looks whether to stop
SECONDS_A_COUNT = 2.0  # between two looks who works
PARTS_A_THREAD = 2  # so that no worker waits for this process
Result = TypeVar("Result")


def on_cluster(
    work: Callable[..., Result],
    parts: Iterable[Sequence[tuple]],
    *arguments: object,
    address: str,
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """`work(part, *arguments)` of every part, in their order, by the workers of the scheduler at `address`.

    parts: lists of tuples whose second item is the path of a file, or else an object that is sent. At most
    PARTS_A_THREAD of them for a thread of the cluster are under way or wait as results. A task whose worker dies is
    repeated by another. check_stop is called while nothing comes; what it raises ends the work. Raises DataError if
    the scheduler does not answer, no worker is left, workers have another version or do not see the files, or a file
    kills its workers.
    """
    parts = iter(parts)
    waiting: deque = deque()
    with connected(address) as client:
        crew = _Crew(client, address, check_stop)
        try:
            while True:
                num_threads = crew.look()
                while len(waiting) < PARTS_A_THREAD * num_threads and (part := next(parts, None)) is not None:
                    waiting.append((part, crew.submit(work, part, arguments)))
                if not waiting:
                    return
                part, future = waiting.popleft()
                yield _result(crew, future, work, part, arguments, [other for _, other in waiting])
        finally:
            crew.dismiss()


class _Crew:
    """The workers of a scheduler, as this process sees them."""

    def __init__(self, client, address: str, check_stop: Callable[[], None]) -> None:
        self.client, self.address, self.check_stop = client, address, check_stop
        self._executor = client.get_executor(pure=False)
        self._num_threads = 0
        self._looked = self._seen = time.monotonic()
        self._count()

    def submit(self, work: Callable, part: Sequence[tuple], arguments: Sequence[object]):
        task = pickle.dumps((work, _absolute(part), arguments))
        return self._executor.submit(_carrier(), task, _version())

    def look(self) -> int:
        """Threads of all workers; waits where there are none. Raises DataError where none comes."""
        self._count_now_and_then()
        while not self._num_threads:
            self.check_stop()
            time.sleep(SECONDS_A_LOOK)
            self._count_now_and_then()
        return self._num_threads

    def wait_for(self, futures: Sequence) -> None:
        """Until all of these are done; what check_stop raises ends it, and so does the loss of all workers."""
        while wait(futures, SECONDS_A_LOOK).not_done:
            self.check_stop()
            self._count_now_and_then()

    def dismiss(self) -> None:
        with contextlib.suppress(Exception):  # a scheduler that is gone has forgotten them already
            self._executor.shutdown(wait=False)

    def _count_now_and_then(self) -> None:
        if time.monotonic() - self._looked > SECONDS_A_COUNT:
            self._count()

    def _count(self) -> None:
        try:
            threads = self.client.sync(self.client.scheduler.ncores, workers=None, callback_timeout=SECONDS_SILENT)
        except Exception:  # closed, lost, or silent: to the user it is one
            raise _lost(self.address) from None
        self._num_threads = sum(threads.values())
        self._looked = time.monotonic()
        if self._num_threads:
            self._seen = self._looked
        elif self._looked - self._seen > SECONDS_WITHOUT_WORKERS:
            raise DataError(
                f"--scheduler-address {self.address}: no worker for {SECONDS_WITHOUT_WORKERS:.0f} s; "
                f"start some with: dask worker {self.address}"
            )


def _result(crew: _Crew, future, work: Callable, part: Sequence[tuple], arguments: Sequence[object], others: list):
    """The result of a part; one that killed its workers gets another try, file by file, with no other beside it.

    Raises DataError, with the name of the file that kills again.
    """
    from distributed import KilledWorker

    crew.wait_for([future])
    try:
        return _unpacked(future, part, crew.address)
    except KilledWorker:
        crew.wait_for(others)  # Dask blames all tasks that a dead worker had, also those that had not begun
    for some in [[item] for item in part] + [part]:
        future = crew.submit(work, some, arguments)
        crew.wait_for([future])
        try:
            result = _unpacked(future, some, crew.address)
        except KilledWorker as error:
            raise DataError(
                f"{_named(some)}: {error.args[2] + 1} workers of {crew.address} died of it one after another "
                "(out of memory?); leave it out, or try --parallel loky"
            ) from None
    return result


def _unpacked(future, part: Sequence[tuple], address: str):
    """What `work` gave in a worker. Raises DataError, and KilledWorker."""
    from distributed import KilledWorker

    try:
        version, unseen, result = future.result()
    except KilledWorker:
        raise
    except CancelledError:
        raise _lost(address) from None
    except ImportError as error:
        raise _of_their_environment(address, one_line(error)) from None
    except Exception as error:
        raise DataError(f"a worker of {address} failed with {_named(part)}: {one_line(error)}") from None
    if version != _version():
        raise _of_their_environment(address, f"there is {version}")
    if here := [path for path in unseen if os.path.exists(path)]:
        raise DataError(
            f"{here[0]}: is there, but not for a worker of {address}; workers need the folder under the same path"
        )
    return result


def _carrier() -> Callable[[bytes, str], tuple]:
    """What carries a task to a worker: pickled by value, as a worker that cannot find a function by name closes."""

    def at_worker(task: bytes, version: str) -> tuple:
        from cgcnn.cluster import carry_out

        return carry_out(task, version)

    return at_worker


def carry_out(task: bytes, version: str) -> tuple[str, list[str], object]:
    """In a worker: its version, paths that it does not see, and, with the `version` asked for, `work(part, …)`."""
    if version != _version():
        return _version(), [], None
    work, part, arguments = pickle.loads(task)
    unseen = [item[1] for item in part if isinstance(item[1], str) and not os.path.exists(item[1])]
    return version, unseen, work(part, *arguments)


def _of_their_environment(address: str, found: str) -> DataError:
    return DataError(
        f"--scheduler-address {address}: its workers need cgcnn {_version()} in their environment (pip install, or "
        f"PYTHONPATH): {found}"
    )


def _lost(address: str) -> DataError:
    return DataError(
        f"--scheduler-address {address}: the scheduler does not answer any more; what was done is kept, and the same "
        "command goes on (predict.py: with --resume-output)"
    )


def _version() -> str:
    from cgcnn.graph import GRAPH_VERSION

    return f"{__version__} (graphs {GRAPH_VERSION})"


def _absolute(part: Sequence[tuple]) -> list[tuple]:
    """The same with paths that mean the same in a worker, whatever folder it was started in."""
    return [(i, os.path.abspath(x) if isinstance(x, str | os.PathLike) else x, *rest) for i, x, *rest in part]


def _named(part: Sequence[tuple]) -> str:
    names = [str(item[1]) if isinstance(item[1], str | os.PathLike) else str(item[0]) for item in part]
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
