"""Outputs that grow a chunk at a time, survive a kill at any moment, and take their names when they are whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from cgcnn.files import held, naming, write_text
from cgcnn.labels import DataError
from cgcnn.report import move_aside

Finisher = Callable[[Path, Path], None]
ANEW = "without --resume-output all begins anew"
GROWING, NAMING, FINISHED = "growing", "naming", "finished"


class GrowingFiles:
    """Files that belong together, by name; used in a `with` block, in which no other process may write them.

    While they grow, a file PATH is PATH.part. The progress file says how long each was when the last chunk was
    complete, on disk: what comes after that is cut off when the work is taken up again, so that the result is the
    same, byte for byte, as if it had never stopped. It also holds what the work was begun with, which may not change.
    """

    def __init__(self, files: Mapping[str, Path], begun_with: Mapping[str, object]) -> None:
        """files: name → path; the first names the progress file. begun_with: what decides the content, plain types.

        Raises DataError where two of the files are one.
        """
        self.files, self.begun_with = dict(files), dict(begun_with)
        paths = [path.resolve() for path in self.files.values()]
        if twice := [path for k, path in enumerate(paths) if path in paths[:k]]:
            raise DataError(f"{twice[0]}: two outputs have this name")
        first = next(iter(self.files.values()))
        self.progress = first.with_name(f"{first.name}.progress")
        self._state: dict = {}
        self._stack = ExitStack()

    def __enter__(self) -> GrowingFiles:
        lock = self.progress.with_suffix(".lock")
        self._stack.enter_context(held(lock, f"{self.part(next(iter(self.files)))}: another process is writing it"))
        return self

    def __exit__(self, *error: object) -> None:
        if self.stage == GROWING and self._state and not any(self._state["sizes"].values()):  # nothing to go on with
            for path in (*map(self.part, self.files), self.progress):
                path.unlink(missing_ok=True)
        self._stack.close()

    def part(self, name: str) -> Path:
        """Where a file grows."""
        path = self.files[name]
        return path.with_name(f"{path.name}.part")

    @property
    def stage(self) -> str:
        """GROWING; NAMING once all chunks are written; FINISHED once the files have their names."""
        return self._state.get("stage", GROWING)

    def begin(self) -> str | None:
        """Empty files; those of work that was not finished are moved aside: the line that says so."""
        line = _move_aside([path for path in map(self.part, self.files) if path.exists()])
        self._state = {"stage": GROWING, "begun_with": self.begun_with, "sizes": dict.fromkeys(self.files, 0)}
        for name in self.files:
            self.part(name).write_bytes(b"")
        self._save()
        return line

    def resume(self) -> bool:
        """Take up work that was begun, as it was after its last chunk; False where there is none.

        Raises DataError where it was begun with something else, or one of its files is gone.
        """
        if not self.progress.exists():
            return False
        try:
            self._state = json.loads(self.progress.read_text(encoding="utf-8"))
            before, sizes = self._state["begun_with"], self._state["sizes"]
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{self.progress}: cannot be read; {ANEW}") from None
        now = json.loads(json.dumps(self.begun_with))
        if other := [name for name in {**now, **before} if now.get(name) != before.get(name)]:
            raise DataError(f"{self.progress}: begun with another {other[0]}; {ANEW}")
        for name, size in sizes.items():
            part = self.part(name)
            length = part.stat().st_size if part.exists() else -1
            if length > size:
                os.truncate(part, size)
            if length < size and self.stage == GROWING:
                raise DataError(f"{part}: gone, or cut short; {ANEW}")
        return True

    def size(self, name: str) -> int:
        """Bytes of a file so far."""
        return self._state["sizes"][name]

    def append(self, chunk: Mapping[str, bytes]) -> None:
        """Add a chunk: bytes for some of the files, all of them or, if the process dies, none."""
        for name, data in chunk.items():
            if not data:
                continue
            with naming(self.part(name)), open(self.part(name), "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._state["sizes"][name] += len(data)
        self._save()

    def finish(self, finishers: Mapping[str, Finisher], *, keep_record: bool = False) -> str | None:
        """Give the files their names; an earlier file of a name is moved aside: the line that says so.

        finishers: name → function (part, path) that writes the file from the part, where it is not just renamed. What
        is empty is left out. keep_record: leave the progress file, so that `resume` knows what is there. Where it is
        interrupted, it can be done again.
        """
        line = None
        if self.stage == GROWING:
            # before they are named, so that none of them can be taken for an earlier one
            line = _move_aside([path for path in self.files.values() if path.exists()])
            self._state["stage"] = NAMING
            self._save()
        for name, path in reversed(self.files.items()):
            part = self.part(name)
            if not part.exists():
                continue
            if not self.size(name):
                part.unlink()
            elif name in finishers:
                finishers[name](part, path)
                part.unlink()
            else:
                os.replace(part, path)
        self._state["stage"] = FINISHED
        self._save() if keep_record else self.progress.unlink()
        return line

    def is_whole(self) -> bool:
        """Whether the files that were finished are there."""
        return all(path.exists() for name, path in self.files.items() if self.size(name))

    def _save(self) -> None:
        write_text(self.progress, json.dumps(self._state, indent=1))


def _move_aside(files: list[Path]) -> str | None:
    """Files, each to result/previous/<time> of its own folder."""
    folders = dict.fromkeys(path.parent for path in files)
    groups = [[path for path in files if path.parent == folder] for folder in folders]
    lines = [move_aside(group, group[0].parent / "result" / "previous") for group in groups]
    return "\n".join(line for line in lines if line) or None
