"""What is read may be anything: only regular files are opened, and what is quoted of them can be shown."""

from __future__ import annotations

import errno
import os
import stat
import textwrap
from typing import BinaryIO

LONGEST_LINE, _TAIL = 600, 200  # characters; the beginning of a longer line says where, its end what is wrong
# pipes of the shell, such as `predict.py … --calibrate <(…)`: somebody writes into them
_PIPES = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


def open_file(path: str | os.PathLike, *, buffering: int = -1) -> BinaryIO:
    """A file, to be read as bytes. Raises OSError, also for a FIFO or a device, which may never end."""
    if os.fspath(path).startswith(_PIPES):
        return open(path, "rb", buffering=buffering)
    return open(path, "rb", buffering=buffering, opener=_regular)


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of a file. Raises OSError as `open_file`."""
    with open_file(path) as file:
        return file.read()


def _regular(path: str, flags: int) -> int:
    # A FIFO that nobody writes to would be waited for here.
    file = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(file).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder Python itself says that it is one
        os.close(file)
        raise OSError(errno.EINVAL, "neither a file nor a folder, but a pipe, socket or device", str(path))
    return file


def one_line(text: str) -> str:
    """A line as it can be printed: other characters as their codes, and no longer than LONGEST_LINE."""
    text = printable(text)
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE - _TAIL - 3]} … {text[-_TAIL:]}"
    return text


def said(error: BaseException, most: int = 200) -> str:
    """What an error says, in one line of at most so many characters."""
    return one_line(textwrap.shorten(str(error), most, placeholder=" …"))


def printable(text: str) -> str:
    """A text, such as a file's name, as it can be printed and written into a table, whatever bytes it is made of."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
