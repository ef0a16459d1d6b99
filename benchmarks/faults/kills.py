"""kill -9 of whole process groups at random moments; then the same work again, and whether its result is the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from benchmarks import sweep_faults
from benchmarks.faults import checks
from benchmarks.faults.cases import SMALL, Inputs, resumed

ROOT = Path(__file__).parents[2]
_LOOK = 0.002  # seconds


@dataclass(frozen=True)
class Job:
    """A command that is killed, in a folder of its own. again: see `Case`. saving: whether only within a write."""

    name: str
    script: str
    words: tuple[str, ...]
    again: Callable[[Path, tuple[str, ...]], tuple[str, ...]] = lambda box, words: words
    has_graphs: bool = False
    saving: bool = False
    num_trials: int = 0


@dataclass
class Kill:
    """A line of the table. moment: seconds after the first file. damaged, differences: what is wrong, if anything."""

    job: str
    moment: float
    files: int
    half_written: int
    damaged: str
    status: int
    differences: str
    seconds: float


def jobs(folder: Path, inputs: Inputs) -> list[Job]:
    """Commands that last some seconds each; `folder` is the whole data folder, inputs.folder a part of it."""
    here = ("--cache-dir", "cache", "--out-dir", "out", "--threads", "1")
    small = (*SMALL, *here)
    train = (str(inputs.folder), *small, "--epochs", "30", "--ensemble", "3", "--swa", "6", "--optim", "Adam")
    predict = (str(inputs.run / "model_best.pth.tar"), str(folder), "--output", "out/table.csv", "--resume-output")
    sweep = ("--grid", "lr=0.01,0.02", "pooling=mean,attention", "--epochs", "12", "--study", "faults", "--jobs", "2")
    return [
        Job("build", "main.py", (str(folder), *SMALL[:-3], *here, "--epochs", "1"), has_graphs=True),
        Job("train", "main.py", train, again=resumed),
        Job("save", "main.py", train, again=resumed, saving=True),
        Job("sweep", "grid_search.py", (str(inputs.folder), *small, *sweep, "--grace", "6s"), num_trials=4),
        Job(
            "predict",
            "predict.py",
            (*predict, "--embeddings", "out/vectors.npz", "--atom-contributions", "out/atoms.csv"),
        ),
    ]


class Target:
    """A job, how long it writes when nothing happens, and what it writes then."""

    def __init__(self, job: Job, scratch: Path) -> None:
        self.job, self.box = job, scratch / job.name
        process = self._start(job.words)
        first = self._first_file(process)
        self.num_saves = self._wait_for_saves(process, 10**9) if job.saving else 0
        if process.wait():
            sys.exit(f"{job.name} fails without a fault: see {self.box}.txt")
        self.duration = time.monotonic() - first
        self.expected = self._result()

    def kill(self, rng: random.Random) -> Kill:
        """Kill it once, look at what is there, let it go on, and compare."""
        while True:
            process = self._start(self.job.words)
            first = self._first_file(process)
            if self.job.saving:
                self._wait_for_saves(process, rng.randint(1, self.num_saves))
            else:
                time.sleep(rng.uniform(0, self.duration))
            if process.poll() is None:
                break
        moment = time.monotonic() - first
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        there, half = checks.files(self.box), checks.temporaries(self.box)
        damaged = checks.damaged(self.box)
        begun = time.monotonic()
        status = self._start(self.job.again(self.box, self.job.words), anew=False).wait()
        differing = [] if status else checks.differences(self._result(), self.expected)
        differing += checks.damaged(self.box) + self._trials()
        seconds = time.monotonic() - begun
        return Kill(
            self.job.name,
            round(moment, 3),
            len(there),
            len(half),
            "; ".join(damaged),
            status,
            "; ".join(differing),
            round(seconds, 1),
        )

    def _start(self, words: Sequence[str], *, anew: bool = True) -> subprocess.Popen:
        if anew:
            shutil.rmtree(self.box, ignore_errors=True)
            (self.box / "out").mkdir(parents=True)
        with open(f"{self.box}.txt", "ab") as log:
            return subprocess.Popen(
                [sys.executable, str(ROOT / self.job.script), *words],
                cwd=self.box,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _first_file(self, process: subprocess.Popen) -> float:
        while process.poll() is None and not any(path.is_file() for path in self.box.rglob("*")):
            time.sleep(_LOOK)
        return time.monotonic()

    def _wait_for_saves(self, process: subprocess.Popen, number: int) -> int:
        """Until so many files have been seen half written; how many were."""
        count, before = 0, set()
        while process.poll() is None:
            now = set(self.box.glob("out/**/.*.part"))
            count += len(now - before)
            if count >= number:
                return count
            before = now
        return count

    def _result(self) -> dict[str, str]:
        words = [f"{self.box}/{word}" if word == "cache" else word for word in self.job.words]
        return checks.result(self.box, words if self.job.has_graphs else ())

    def _trials(self) -> list[str]:
        """What is wrong with the trials of a sweep: every combination is to be complete once."""
        if not self.job.num_trials:
            return []
        complete = sweep_faults.states(self.box / "out").get("COMPLETE", [])
        keys = {trial.user_attrs["combination"]["key"] for trial in complete}
        if len(complete) == len(keys) == self.job.num_trials:
            return []
        return [f"{len(complete)} trials complete, of {len(keys)} combinations; {self.job.num_trials} expected"]


def make_kills(folder: Path, inputs: Inputs, scratch: Path, count: int, out: Path, *, seed: int = 0) -> pd.DataFrame:
    """So many kills, in turn over the jobs, of the sweep half as many; each is a row of `out` once it is judged."""
    rng = random.Random(seed)
    targets = [Target(job, scratch) for job in jobs(folder, inputs)]
    for target in targets:
        print(f"{target.job.name}: writes for {target.duration:.1f} s", flush=True)
    targets += [target for target in targets if not target.job.num_trials]
    rows = []
    for k in range(count):
        row = targets[k % len(targets)].kill(rng)
        rows.append(asdict(row))
        pd.DataFrame(rows).to_csv(out, index=False)
        wrong = " ".join(filter(None, (row.damaged, row.differences))) or "same result"
        print(f"{k + 1:3d}  {row.job:8s} after {row.moment:6.2f} s: status {row.status}, {wrong}", flush=True)
    return pd.DataFrame(rows)


def summary(kills: pd.DataFrame) -> str:
    """A row a job: kills, those within a write, and after how many of them all was as it should be."""
    header = ["killed", "times", "within a write", "files damaged", "went on to the same result"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for job, some in kills.fillna("").groupby("job", sort=False):
        is_good = (some["status"] == 0) & (some["differences"] == "")
        cells = [len(some), (some["half_written"] > 0).sum(), (some["damaged"] != "").sum(), is_good.sum()]
        lines.append(f"| {job} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
