"""Processes that work for this one: quick to start, deaf to Ctrl-C, gone when it is gone. Imports nothing heavy."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

MANY = 256  # files that are worth starting other processes for
PRELOADED = "cgcnn.screening.stream"


def workers_for(count: int, asked: int | None) -> int:
    """Processes for so many files: as many as asked for, or one a core, but none for a few files or on one core."""
    if asked is not None:
        return asked
    from joblib import cpu_count

    cores = cpu_count()
    return cores if count >= MANY and cores > 1 else 0


def threads_beside_workers() -> int:
    """For the process that uses what workers make: not so many that they take each other's cores."""
    from joblib import cpu_count

    return max(1, cpu_count() // 4)


def warm_up(path: Path, asked: int | None) -> None:
    """Where a folder will need workers, start the process that they fork from: it imports while this one does."""
    if path.is_dir() and workers_for(len(os.listdir(path)), asked):
        _context()


def new_pool(workers: int) -> ProcessPoolExecutor:
    """So many processes that end with this one, however it ends."""
    return ProcessPoolExecutor(workers, mp_context=_context(), initializer=_follow_parent)


@contextmanager
def sigint_ignored() -> Iterator[None]:
    """Processes that are started meanwhile inherit it: a terminal sends Ctrl-C to them too, but one decides."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _context() -> multiprocessing.context.BaseContext:
    """New processes fork from one that has imported what they need, and has no threads, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    with sigint_ignored(), _package_on_path():  # it looks for modules where a new python would
        forkserver.ensure_running()
    return context


@contextmanager
def _package_on_path() -> Iterator[None]:
    before = os.environ.get("PYTHONPATH")
    folder = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = folder if before is None else os.pathsep.join([folder, before])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _follow_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
