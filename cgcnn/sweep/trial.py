"""One trial of a sweep: a process of main.py in a folder of its own, and what came of it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cgcnn.flags import EXIT_STOPPED
from cgcnn.sweep.entry import DIED, FAILED, STOPPED

try:
    import fcntl
except ImportError:  # Windows: two processes in one folder are not kept apart there
    fcntl = None

COMPLETE = "complete"
_ROOT = Path(__file__).resolve().parents[2]
_POLL = 0.2  # seconds
_LINES = 5


class Killed(Exception):  # noqa: N818 - asked for
    """The user wants the trials ended at once."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: COMPLETE, FAILED, STOPPED or DIED.

    score: mean validation score over the splits. metrics: the rows of its metrics.csv. lines: its last words.
    facts: what else a table says of it, see `_facts`.
    """

    how: str
    seconds: float
    score: float | None = None
    metrics: list[dict] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)


def run_trial(words: Sequence[str], folder: Path, is_stopped: Callable[[], bool], *, worker: int = 0) -> Outcome:
    """Run main.py with these words in `folder`, from its checkpoint if there is one, and wait for its end.

    worker: the number of the one that runs it; of several GPUs each worker has its own, as far as they suffice.
    is_stopped: whether it should save and stop; it may raise Killed, which ends the process at once. A process of
    an earlier start that still trains in this folder, because only its worker was killed, is waited for.
    """
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "output.txt"
    with _alone_in(folder, is_stopped) as lock:
        if lock is None:
            return Outcome(STOPPED, time.monotonic() - begun)
        checkpoint = folder / "checkpoint.pth.tar"
        words = [*words, "--out-dir", str(folder)]
        words += ["--resume", str(checkpoint)] if checkpoint.exists() else []
        with open(output, "ab") as file:
            start = file.tell()
            process = subprocess.Popen(
                [*_main(), *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=_environment(worker),
                pass_fds=[lock] if lock else [],
            )
            if lock:
                os.ftruncate(lock, 0)
                os.write(lock, f"{socket.gethostname()} {process.pid}\n".encode())
            status, asked = _wait(process, is_stopped)
    seconds = time.monotonic() - begun
    if status == 0:
        return _complete(folder, seconds)
    return Outcome(_how(status, asked), seconds, lines=[_meaning(status), *_last_lines(output, start)])


def _main() -> list[str]:
    """main.py of this checkout, or the same of an installed package."""
    if (_ROOT / "pyproject.toml").exists():
        return [sys.executable, str(_ROOT / "main.py")]
    return [sys.executable, "-c", "import sys; from cgcnn.cli import train_command; sys.exit(train_command())"]


def _environment(worker: int) -> dict[str, str]:
    gpus = _gpus()
    own = {"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} if len(gpus) > 1 else {}
    return {**os.environ, "PYTHONUNBUFFERED": "1", **own}


@functools.cache
def _gpus() -> list[str]:
    """The GPUs that this process sees, as a process that it starts is told of them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(k) for k in range(torch.cuda.device_count())]


@contextlib.contextmanager
def _alone_in(folder: Path, is_stopped: Callable[[], bool]) -> Iterator[int | None]:
    """A lock on the folder, as a file descriptor that a child keeps though we are killed; None: stopped meanwhile."""
    if fcntl is None:
        yield 0
        return
    with open(folder / "lock", "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if is_stopped():
                    _pass_on_stop(folder / "lock")
                    yield None
                    return
                time.sleep(_POLL)
                continue
            yield file.fileno()
            return


def _pass_on_stop(lock: Path) -> None:
    """Ask the process that holds a folder to stop, where it is one of this machine."""
    host, _, pid = lock.read_text(encoding="utf-8").strip().partition(" ")
    if host == socket.gethostname() and pid.isdigit():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(int(pid), signal.SIGTERM)


def _wait(process: subprocess.Popen, is_stopped: Callable[[], bool]) -> tuple[int, bool]:
    """Exit status, and whether the process was asked to stop. Raises Killed, once the process is dead."""
    asked = False
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL), asked
            if is_stopped() and not asked:
                process.terminate()
                asked = True
    except BaseException:
        process.kill()
        process.wait()
        raise


def _how(status: int, asked: bool) -> str:
    if asked or status in (EXIT_STOPPED, 128 + signal.SIGINT, 128 + signal.SIGTERM):
        return STOPPED
    return DIED if status < 0 else FAILED


def _meaning(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"killed by signal {-status}"


def _last_lines(path: Path, start: int) -> list[str]:
    """The last lines that are not empty of what was written from byte `start` on."""
    with open(path, "rb") as file:
        file.seek(max(start, path.stat().st_size - 20_000))
        text = file.read().decode(errors="replace").replace("\r", "\n")
    return [line.rstrip()[:500] for line in text.splitlines() if line.strip()][-_LINES:]


def _complete(folder: Path, seconds: float) -> Outcome:
    files = sorted((folder / "result").glob("*_metrics.csv"), key=lambda path: path.stat().st_mtime)
    if not files:
        return Outcome(FAILED, seconds, lines=[f"no result/*_metrics.csv in {folder}"])
    table = pd.read_csv(files[-1])
    score = float(table["Val_Score"].mean())
    rows = [{name: value for name, value in row.items() if pd.notna(value)} for row in table.to_dict("records")]
    facts = _facts(files[-1].parent, files[-1].name.removesuffix("metrics.csv"))
    return Outcome(COMPLETE, seconds, score if np.isfinite(score) else np.inf, rows, facts=facts)


def _facts(result: Path, prefix: str) -> dict[str, float]:
    """Number of parameters, of all networks of an ensemble, and mean seconds an epoch, where they are known."""
    facts = {}
    if (timing := result / f"{prefix}overall_timing_summary.csv").exists():
        table = pd.read_csv(timing)
        facts["epoch_seconds"] = float(table["total"].sum() / table["epochs"].sum())
    if (model := result / f"{prefix}trained_model.pt").exists():
        from cgcnn import checkpoint

        networks = checkpoint.load(model).networks
        facts["parameters"] = sum(p.numel() for network in networks for p in network.parameters())
    return facts
