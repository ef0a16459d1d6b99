"""Files that are whole or not there: atomic writing, one process at a time, folders that can be written, caches."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place, synced to disk, once the block ends well.

    Its name is always the same, so that what a killed process leaves is overwritten by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, or leave what was there."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
            held.acquire(timeout=every)
        except Timeout:
            check_stop()
    try:
        yield
    finally:
        held.release()


def cache_folder(data: Path, given: str | None) -> Path:
    """Where the graphs of a data folder or file are kept: in or beside it, or else in the user's cache.

    given: another place, with a folder for each data.
    """
    whole = data.resolve()
    name = f"{whole.name}-{hashlib.sha256(str(whole).encode()).hexdigest()[:8]}"
    if given:
        return Path(given) / name
    inside = data.with_name(f"{data.name}.cgcnn_cache") if data.is_file() else data / ".cgcnn_cache"
    if is_writable(inside):
        return inside
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cgcnn" / name
