"""A place where a command can be hit: a small disk that can be filled, and commands in processes of their own."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DISK = 64 << 20  # bytes of the small disk
BALLAST = ".ballast"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Ended:
    """How a command ended; at: see `Operations`."""

    status: int
    out: str
    err: str
    at: str = ""

    @property
    def lines(self) -> list[str]:
        """What it says on stderr."""
        return [line for line in self.err.splitlines() if line.strip()]


@contextmanager
def small_disk(size: int = DISK) -> Iterator[Path]:
    """A folder on a disk of `size` bytes in memory. Linux, and root, alone."""
    if not sys.platform.startswith("linux") or os.geteuid():
        sys.exit("a small disk can be mounted by root on Linux alone")
    folder = Path(tempfile.mkdtemp(prefix="cgcnn-disk-"))
    folder.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def free(disk: Path) -> int:
    """Bytes that are left."""
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def fill(disk: Path, left: int) -> None:
    """Take space until about `left` bytes are free."""
    with open(disk / BALLAST, "wb") as file:
        if (size := free(disk) - left) > 0:
            os.posix_fallocate(file.fileno(), 0, size)


def empty(disk: Path) -> None:
    """Give back what `fill` took."""
    (disk / BALLAST).unlink(missing_ok=True)


def begin(disk: Path, start: Path) -> None:
    """The disk as the folder `start` is."""
    empty(disk)
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(start, disk, dirs_exist_ok=True)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Nothing can be written to the disk, by root either."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


class Running:
    """A command in a forked process, which is the first of a group of its own."""

    def __init__(
        self, command: Callable, words: Sequence[str], folder: Path, before: Callable = lambda: None
    ) -> None:
        """before: is called in the new process first."""
        self._files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 - `end` closes them
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._child(command, words, folder, before)

    def end(self) -> Ended:
        """Wait for it."""
        _, state = os.waitpid(self.pid, 0)
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        return Ended(os.waitstatus_to_exitcode(state), *texts)

    def _child(self, command: Callable, words: Sequence[str], folder: Path, before: Callable) -> None:
        status = 1
        try:
            os.setsid()
            os.chdir(folder)
            os.dup2(self._files[0].fileno(), 1)
            os.dup2(self._files[1].fileno(), 2)
            Operations.notes = self._files[2].fileno()
            before()
            status = command(list(words))
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 2
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)


def run(command: Callable, words: Sequence[str], folder: Path, before: Callable = lambda: None) -> Ended:
    """A command in a process of its own, from its begin to its end."""
    return Running(command, words, folder, before).end()


class Operations:
    """What a process does to files below a folder, an operation after another; before the n-th it can be killed.

    For `before`. Which files they are is told in `Ended.at`, a line each; of a process that is killed the last alone.
    """

    notes = -1  # a descriptor that the parent reads

    def __init__(self, below: Path, kill_at: int | None = None, full_at: int | None = None) -> None:
        """kill_at: counted from 0. full_at: from this one on no file opens to be written: no space is left."""
        self.below, self.count = f"{below}{os.sep}", 0
        self.kill_at, self.full_at = kill_at, full_at

    def __call__(self) -> None:
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple) -> None:
        path = _changed(event, args)
        if path is None or not os.path.abspath(path).startswith(self.below):
            return
        line = os.path.abspath(path).removeprefix(self.below)
        if self.full_at is not None and self.count >= self.full_at and event == "open":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), line)
        if self.kill_at is None:
            os.write(self.notes, f"{line}\n".encode())
        elif self.kill_at == self.count:
            os.write(self.notes, line.encode())
            os.killpg(0, signal.SIGKILL)
        self.count += 1


def _changed(event: str, args: tuple) -> str | None:
    """The file that an audited event of Python changes; for a rename its new name."""
    if event == "open":
        is_written = isinstance(args[2], int) and args[2] & _WRITING
        return os.fsdecode(args[0]) if is_written and isinstance(args[0], str | bytes | os.PathLike) else None
    if event == "os.rename":
        return os.fsdecode(args[1])
    if event in ("os.remove", "os.mkdir", "os.truncate", "os.rmdir") and not isinstance(args[0], int):
        return os.fsdecode(args[0])
    return None
