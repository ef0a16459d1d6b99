"""Write × fault → outcome: every command of `cases` on a disk that is full, read-only, killed, shared, set back."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.faults import box as disks
from benchmarks.faults import checks, conditions
from benchmarks.faults.box import Ended, Operations, Running, run
from benchmarks.faults.cases import Case
from benchmarks.faults.cells import FAULTS, Matrix
from cgcnn.flags import EXIT_SOME_FAILED

NOBODY = 65534


class Trial:
    """One case on the small disk: its start, its operations and its result without a fault."""

    def __init__(self, case: Case, disk: Path, scratch: Path, matrix: Matrix) -> None:
        self.case, self.disk, self.matrix = case, disk, matrix
        self.start = scratch / case.name
        (self.start / "out").mkdir(parents=True)
        (self.start / "xdg").mkdir()
        if case.over:
            disks.begin(disk, self.start)
            self._whole()
            shutil.copytree(disk, self.start, dirs_exist_ok=True)
        disks.begin(disk, self.start)
        before = disks.free(disk)
        self.operations = self._whole().at.splitlines()
        self.used = before - disks.free(disk)
        self.expected = checks.result(disk, self._graph_words())
        folders = [path.relative_to(disk) for path in sorted(disk.rglob("*")) if path.is_dir()]
        self.folders = [path for path in folders if path.parts[0] != "xdg"]
        self.old = checks.contents(self.start)
        self.kept = set(checks.temporaries(disk))  # what a run leaves on purpose

    def _whole(self) -> Ended:
        ended = run(self.case.command, self.case.words, self.disk, self._with(Operations(self.disk)))
        if ended.status or checks.damaged(self.disk):
            sys.exit(f"{self.case.name}: fails without a fault\n{ended.err}\n{checks.damaged(self.disk)}")
        return ended

    def _with(self, *before: Callable) -> Callable:
        """What the process of a command does first."""

        def all_of_them() -> None:
            import cgcnn.screening.command
            import cgcnn.sweep.queue

            cgcnn.screening.command.CHUNK = 4  # several chunks of a few crystals
            cgcnn.sweep.queue._WAITS = (0.1,)  # seconds; four minutes are for databases
            os.environ["XDG_CACHE_HOME"] = str(self.disk / "xdg")
            for one in before:
                one()

        return all_of_them

    def _graph_words(self) -> Sequence[str]:
        return _absolute(self.case.words, self.disk) if self.case.has_graphs else ()

    def disk_full(self) -> None:
        """With every amount of free space from none to enough, in so many steps; then at writes that none has hit."""
        page = os.sysconf("SC_PAGE_SIZE")
        step = max(page, -(-self.used // self.case.steps // page) * page)
        left, status, hit = 0, 1, set()
        while status or left < self.used:
            disks.begin(self.disk, self.start)
            disks.fill(self.disk, left)
            ended = run(self.case.command, self.case.words, self.disk, self._with())
            if ended.status or self._state():
                self._judge("disk full", ended, f"{left >> 10} KB free", self._kind_of(ended))
            hit.add(self._kind_of(ended))
            left, status = left + step, ended.status
        kinds = [self.case.kind(path) for path in self.operations]
        for kind in dict.fromkeys(kind for kind in kinds if kind not in hit):
            disks.begin(self.disk, self.start)
            fault = Operations(self.disk, full_at=kinds.index(kind))
            ended = run(self.case.command, self.case.words, self.disk, self._with(fault))
            self._judge("disk full", ended, f"from operation {fault.full_at} on", self._kind_of(ended))

    def read_only(self) -> None:
        """The whole disk; then one folder after another, which belongs to another user."""
        disks.begin(self.disk, self.start)
        with disks.read_only(self.disk):
            ended = run(self.case.command, self.case.words, self.disk, self._with())
        self._judge("read-only", ended, "disk", self._kind_of(ended))
        alike = {
            (self.case.kind(str(one)), re.sub(r"\W.*|trial_\w+", "", one.name)): one for one in self.folders[::-1]
        }
        for folder in reversed(alike.values()):
            disks.begin(self.disk, self.start)
            for one in self.folders:
                (self.disk / one).mkdir(exist_ok=True, parents=True)
            os.chown(self.disk / folder, NOBODY, NOBODY)
            ended = run(self.case.command, self.case.words, self.disk, self._with(conditions.obey_permissions))
            os.chown(self.disk / folder, 0, 0)
            self._judge("read-only", ended, f"folder {folder}", self.case.kind(str(folder)))

    def kill(self) -> None:
        """Before operations on files: the first of every kind, and as many as there are steps."""
        kinds = [self.case.kind(path) for path in self.operations]
        chosen = {kinds.index(kind) for kind in kinds}
        chosen |= {k * len(kinds) // self.case.steps for k in range(self.case.steps)}
        for number in sorted(chosen):
            disks.begin(self.disk, self.start)
            fault = Operations(self.disk, kill_at=number)
            ended = run(self.case.command, self.case.words, self.disk, self._with(fault))
            self._judge("kill -9", ended, f"before operation {number} on {ended.at}", self.case.kind(ended.at))

    def two_at_once(self, times: int = 3) -> None:
        """The same command twice, the second a little later each time."""
        for k in range(times):
            disks.begin(self.disk, self.start)
            first = Running(self.case.command, self.case.words, self.disk, self._with())
            time.sleep(0.15 * k)
            both = [Running(self.case.command, self.case.words, self.disk, self._with()).end(), first.end()]
            lines = [line for ended in both if ended.status for line in _not_one_line(ended)]
            if all(ended.status for ended in both):
                lines.append(f"none of the two went on: {' '.join(both[0].lines + both[1].lines)}")
            lines += self._state()
            refused = sum(ended.status != 0 for ended in both)
            self._note_everywhere("two at once", lines, stopped=refused, went_on=2 - refused)

    def clock_set_back(self) -> None:
        """A run of tomorrow is killed half way, goes on today."""
        disks.begin(self.disk, self.start)
        fault = Operations(self.disk, kill_at=len(self.operations) * 2 // 3)
        run(self.case.command, self.case.words, self.disk, self._with(conditions.tomorrow, fault))
        conditions.age(self.disk)
        self._note_everywhere("clock set back", self._go_on() + self._state(), went_on=1)

    def _kind_of(self, ended: Ended) -> str:
        """The kind of write that an error line names."""
        line = next(iter(_errors(ended)), "")
        _, found, rest = line.partition(f"{self.disk}/")
        path = rest if found else re.sub(r"^error: (--[a-z-]+ )?", "", line)
        return self.case.kind(path.partition(": ")[0])

    def _judge(self, fault: str, ended: Ended, how: str, kind: str) -> None:
        """What must hold after a fault, then the command that goes on, and what must hold then."""
        lines = []
        if ended.status >= 0:
            lines += _not_one_line(ended) if ended.status else []
            lines += [f"left: {name}" for name in checks.temporaries(self.disk) if "/." in f"/{name}"]
        lines += checks.damaged(self.disk)
        if self.old - checks.contents(self.disk):
            lines.append("what was there is gone")
        if ended.status:
            lines += self._go_on()
        lines += self._state()
        cell = self.matrix.cell(kind, fault)
        if lines:
            cell.wrong.append(f"{self.case.name}, {how}: {'; '.join(lines)}")
        elif ended.status:
            cell.stopped += 1
        else:
            cell.went_on += 1

    def _go_on(self) -> list[str]:
        disks.empty(self.disk)
        words = self.case.again(self.disk, self.case.words)
        ended = run(self.case.command, words, self.disk, self._with())
        return [f"afterwards: exit status {ended.status}: {' '.join(ended.lines)}"] if ended.status else []

    def _state(self) -> list[str]:
        """What is not as after a run without a fault."""
        found = checks.result(self.disk, self._graph_words()) if self._has_all() else {}
        lines = [f"afterwards: {line}" for line in checks.differences(found, self.expected)]
        lines += [f"afterwards damaged: {line}" for line in checks.damaged(self.disk)]
        left = {name for name in checks.temporaries(self.disk) if not checks.TIME.search(name)} - self.kept
        return lines + [f"afterwards left: {name}" for name in sorted(left)]

    def _has_all(self) -> bool:
        return not checks.damaged(self.disk)

    def _note_everywhere(self, fault: str, lines: list[str], *, stopped: int = 0, went_on: int = 0) -> None:
        """In the cells of all kinds that the case writes."""
        for kind in dict.fromkeys(self.case.kind(path) for path in self.operations):
            cell = self.matrix.cell(kind, fault)
            if lines:
                cell.wrong.append(f"{self.case.name}: {'; '.join(lines)}")
            else:
                cell.stopped, cell.went_on = cell.stopped + stopped, cell.went_on + went_on


def make_matrix(cases: Sequence[Case], scratch: Path, faults: Sequence[str] = FAULTS) -> Matrix:
    """Every case under every fault; what is wrong is printed as it is found."""
    matrix = Matrix()
    with disks.small_disk() as disk:
        for case in cases:
            trial = Trial(case, disk, scratch, matrix)
            for fault in faults:
                begun, known = time.monotonic(), set(matrix.wrong())
                getattr(trial, fault.replace(" -9", "").replace("-", "_").replace(" ", "_"))()
                said = f"{case.name}: {fault}, {time.monotonic() - begun:.0f} s"
                new = [line for line in matrix.wrong() if line not in known]
                print("\n  ".join([said, *new]), file=sys.stderr, flush=True)
    return matrix


def _not_one_line(ended: Ended) -> list[str]:
    """What is wrong with how a command says that it failed."""
    errors = _errors(ended)
    is_recorded = ended.status == EXIT_SOME_FAILED and not ended.lines
    if (
        (len(errors) == len(ended.lines) == 1 or (errors and is_recorded))
        and ended.status > 0
        and re.search(r"\bout\b|cache|xdg", errors[0])
    ):
        return []
    return [f"exit status {ended.status}, said: {' / '.join(ended.lines[-3:])}"]


def _errors(ended: Ended) -> list[str]:
    """Its error lines; those of trials that a sweep recorded as failed stand in what it printed."""
    if ended.status == EXIT_SOME_FAILED and not ended.lines:
        return re.findall(r"error: [^|\n]*", ended.out)
    return [line for line in ended.lines if line.startswith("error: ")]


def _absolute(words: Sequence[str], box: Path) -> list[str]:
    """With the cache of a box, wherever the process is."""
    return [
        str(box / word) if before == "--cache-dir" else word
        for before, word in zip(["", *words], words, strict=False)
    ]
