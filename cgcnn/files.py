"""Files that are whole or not there: atomic writing, one process at a time, folders that can be written, caches."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cgcnn.labels import DataError

if TYPE_CHECKING:
    from filelock import FileLock

try:
    import fcntl
except ImportError:  # Windows: there the second of two writers is refused by the system
    fcntl = None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place, synced to disk, once the block ends well.

    Its name is always the same, so that what a killed process leaves is overwritten by the next. Of two that write
    one path the second waits. Raises OSError with the name of `path`.
    """
    temporary = path.with_name(f".{path.name}.part")
    with naming(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_writer(temporary):
            try:
                yield temporary
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise


def remove_parts(folder: Path, pattern: str) -> None:
    """Remove what killed processes left half written of files whose names match the pattern and never come again."""
    if fcntl is None:
        return
    for temporary in folder.glob(f".{pattern}.part"):
        with suppress(OSError), open(temporary, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where it is being written
            temporary.unlink()


@contextmanager
def naming(path: Path, *aliases: Path) -> Iterator[None]:
    """What the system refuses in the block is told with the name of the file: of a full disk it says none.

    aliases: names that the user does not know the file by.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, *map(str, aliases)):
            error.filename = str(path)
        raise


@contextmanager
def _one_writer(temporary: Path) -> Iterator[None]:
    """Make the file, and keep others out until it has another name or is gone."""
    if fcntl is None:
        yield
        return
    while True:
        file = open(temporary, "ab")  # noqa: SIM115 - it is closed below
        with suppress(OSError):  # file systems without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(temporary)):
                break
        file.close()
    try:
        yield
    finally:
        file.close()


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, or leave what was there."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may be no text


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which is created if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@contextmanager
def alone(lock: Path, check_stop: Callable[[], None], *, every: float = 0.5) -> Iterator[None]:
    """With this lock file, once no other process has it; what check_stop raises meanwhile ends the waiting.

    every: seconds between two looks.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    while not held.is_locked:
        try:
            _acquire(held, every)
        except Timeout:
            check_stop()
    try:
        yield
    finally:
        held.release()


@contextmanager
def held(lock: Path, taken: str, *, patience: float = 0.0) -> Iterator[None]:
    """With this lock file, which no other process has meanwhile. Raises DataError, `taken`, where one does.

    patience: seconds to wait for it.
    """
    from filelock import FileLock, Timeout

    own = FileLock(lock)
    try:
        _acquire(own, patience)
    except Timeout:
        raise DataError(taken) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            lock.unlink()
        own.release()


def _acquire(lock: FileLock, seconds: float) -> None:
    try:
        lock.acquire(timeout=seconds)
    except NotImplementedError:
        raise DataError(f"{lock.lock_file}: this file system has no locks; see --out-dir and --cache-dir") from None


def cache_folder(data: Path, given: str | None) -> Path:
    """Where the graphs of a data folder or file are kept: in or beside it, or else in the user's cache.

    given: another place, with a folder for each data.
    """
    whole = data.resolve()
    name = f"{whole.name}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]}"
    if given:
        return Path(given) / name
    inside = data.with_name(f"{data.name}.cgcnn_cache") if data.is_file() else data / ".cgcnn_cache"
    if is_writable(inside):
        return inside
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cgcnn" / name
