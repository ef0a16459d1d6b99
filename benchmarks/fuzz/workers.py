"""A process that runs cases one after another: how long each took, how much memory; one that hangs is replaced."""

from __future__ import annotations

import codecs
import importlib
import multiprocessing
import os
import resource
import shutil
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

from benchmarks.fuzz.cases import FAULT, PEAK_MIB, Case, Outcome

ADDRESS_SPACE = 6 << 30  # bytes that the process may ask for beyond what it has when it starts

LOOK = 0.5  # seconds between two looks
PATIENCE = 4  # times the seconds of a case: a busy machine must not make a hang of it, and a wait is one


class Worker:
    """A process below `work` that takes cases. method: how multiprocessing starts it."""

    def __init__(self, good: Path, work: Path, *, method: str = "spawn") -> None:
        self.good, self.work, self.method = good, work, method
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context(self.method)
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self.good, self.work), daemon=True)
        self._process.start()
        other.close()
        self._pipe.recv()

    def run(self, case: Case) -> Outcome:
        """What became of a case; a process that does not answer in time is ended, and the next is started."""
        begun = time.monotonic()
        try:
            before = _processor_time(self._process.pid)
            self._pipe.send(case)
            while not self._pipe.poll(min(LOOK, case.seconds)):
                used = _processor_time(self._process.pid) - before
                if used >= case.seconds or time.monotonic() - begun > PATIENCE * case.seconds:
                    break
            else:
                return self._pipe.recv()
            said = f"hang: no answer after {used:.0f} s of processor time"
        except (EOFError, ConnectionError):
            self._process.join(5)
            said = f"died: exit status {self._process.exitcode}"
        self.end()
        self._start()
        return Outcome(FAULT, said, seconds=time.monotonic() - begun)

    def end(self) -> None:
        """End the process: kindly, where it answers."""
        with suppress(ConnectionError):
            self._pipe.send(None)
        self._process.join(1)
        self._process.kill()
        self._process.join()


def _serve(pipe, good: Path, work: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from benchmarks.fuzz.cases import run_mutated
    from benchmarks.fuzz.commands import COMMANDS, run_command
    from benchmarks.fuzz.named import NAMED, run_named

    torch.set_num_threads(1)
    for name in ("utf-8-sig", "utf-16", "cp1252", "latin-1"):  # who may not read a file may not read modules either
        codecs.lookup(name)
    importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    warnings.simplefilter("ignore")
    limit = _status("VmSize") * 1024 + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pipe.send("ready")
    while True:
        if (case := pipe.recv()) is None:
            return
        clear(work)
        work.mkdir(parents=True, exist_ok=True)
        run = run_named if case.kind in NAMED else run_command if case.kind in COMMANDS else run_mutated
        forget_peak()
        outcome = run(case, good, work)
        outcome.peak = max(outcome.peak, _status("VmHWM") / 1024)
        if outcome.peak > PEAK_MIB and outcome.verdict != FAULT:
            outcome.verdict, outcome.said = FAULT, f"memory: {outcome.peak:.0f} MiB; {outcome.said}"
        pipe.send(outcome)


def _processor_time(pid: int) -> float:
    """Seconds that a process has used; 0 for one that is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def clear(work: Path) -> None:
    """Remove what a case left, whatever its rights and names."""
    if work.exists():
        for folder, _, _ in os.walk(work):
            with suppress(OSError):
                os.chmod(folder, 0o700)
        shutil.rmtree(os.fsencode(work))


def forget_peak() -> None:
    """The peak of this process counts from here on (proc(5), clear_refs)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _status(name: str) -> int:
    """kB of a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
