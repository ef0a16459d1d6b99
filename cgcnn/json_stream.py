"""The values of a large JSON file one after another, in memory that holds a few of them at a time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

from cgcnn.labels import DataError
from cgcnn.reading import open_file

CHUNK = 1 << 20  # characters that are read at a time
_LONGEST = 32  # characters; where a token but a text, or an escape in a text, is cut, the end is nearer than this
_SPACE = " \t\r\n"


class JsonError(ValueError):
    """What is wrong with the text, and the line and column where."""


class JsonText:
    """A JSON text of any length, of which only what has not been taken yet is kept."""

    def __init__(self, file: TextIO, *, chunk: int = CHUNK) -> None:
        self._file, self._chunk = file, chunk
        self._text, self._at = "", 0
        self._lines, self._column = 0, 0  # before the part that is kept
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space; nothing at the end."""
        while True:
            while self._at < len(self._text):
                if (letter := self._text[self._at]) not in _SPACE:
                    return letter
                self._at += 1
            if not self._read():
                return ""

    def take(self, letters: str) -> str:
        """The next character, one of these. Raises JsonError where it is another."""
        if (found := self.peek()) == "" or found not in letters:
            expected = " or ".join(repr(letter) for letter in letters)
            raise self._error(f"{expected} expected, found {repr(found) if found else 'the end'}", self._at)
        self._at += 1
        return found

    def value(self) -> object:
        """The next value. Raises JsonError where none can be read."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                fault = self._error(error.msg, error.pos)
                may_be_cut = "Unterminated string" in error.msg or len(self._text) - error.pos < _LONGEST
                if may_be_cut and self._read():
                    continue
                raise fault from None
            except RecursionError:
                raise self._error("too many brackets inside each other", self._at) from None
            except ValueError as error:  # a number of thousands of digits
                raise self._error(str(error).partition(";")[0], self._at) from None
            if end == len(self._text) and self._read():  # a number may go on
                continue
            self._at = end
            return value

    def end(self) -> None:
        """Raises JsonError where there is more."""
        if self.peek():
            raise self._error("more text behind the end", self._at)

    def _read(self) -> bool:
        """Drop what was taken, and read on: at least as much as is there, so that a long value costs no more."""
        taken = self._text[: self._at]
        if lines := taken.count("\n"):
            self._lines, self._column = self._lines + lines, len(taken) - taken.rindex("\n") - 1
        else:
            self._column += len(taken)
        more = self._file.read(max(self._chunk, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def _error(self, message: str, position: int) -> JsonError:
        before = self._text[:position]
        lines = before.count("\n")
        column = len(before) - before.rindex("\n") if lines else self._column + len(before) + 1
        return JsonError(f"line {self._lines + lines + 1}, column {column}: {message}")


def members(file: TextIO, *, lines: bool = False, chunk: int = CHUNK) -> Iterator[tuple[str | None, object]]:
    """(None, value) of each value of a list, (key, value) of an object; lines: of a file of values, one a line.

    Raises JsonError for a text that is neither, and for one that is cut or broken, after what stands before.
    """
    text = JsonText(file, chunk=chunk)
    if lines:
        while text.peek():
            yield None, text.value()
        return
    if not text.peek():
        return
    is_list = text.take("[{") == "["
    close = "]" if is_list else "}"
    mark = text.take(close) if text.peek() == close else ","
    while mark == ",":
        key = None
        if not is_list:
            if text.peek() != '"':
                text.take('"')
            key = str(text.value())
            text.take(":")
        yield key, text.value()
        mark = text.take("," + close)
    text.end()


@dataclass
class Hashed(io.RawIOBase):
    """A file that is read, and what was read as a digest; advance: told of every part."""

    file: BinaryIO
    advance: Callable[[int], object] = lambda count: None
    hash: object = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self.file.readinto(buffer)
        self.hash.update(memoryview(buffer)[:count])
        self.advance(count)
        return count

    def digest(self) -> str:
        """Of the whole file: what is left of it is read."""
        while self.read(1 << 20):
            pass
        return self.hash.hexdigest()


@contextmanager
def opened(path: Path, *, bar: bool = False) -> Iterator[tuple[TextIO, Hashed]]:
    """The text of a data file, unpacked if it is a gzip file, and its bytes. Raises DataError where it cannot be."""
    try:
        with opened_bytes(path, bar=bar) as (data, raw):
            yield io.TextIOWrapper(data, encoding="utf-8-sig"), raw
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8") from None


@contextmanager
def opened_bytes(path: Path, *, bar: bool = False) -> Iterator[tuple[BinaryIO, Hashed]]:
    """The same before it is text."""
    from tqdm import tqdm

    look = {"desc": path.name, "unit": "B", "unit_scale": True, "leave": False, "disable": None if bar else True}
    try:
        with open_file(path, buffering=0) as file, tqdm(total=os.stat(path).st_size, **look) as progress:
            is_packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            raw = Hashed(file, progress.update)
            buffered = io.BufferedReader(raw, 1 << 20)
            yield (gzip.GzipFile(fileobj=buffered) if is_packed else buffered), raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error})") from None
