"""A sweep that is shared, hit and stopped: does its table have every combination once, and complete?

    python -m benchmarks.sweep_faults DIR [--epochs 8] [--out-dir OUT]

Three processes of grid_search.py share one storage. One of them is killed with -9, so that its main.py goes on alone;
a main.py of another is killed with -9; then all are stopped by SIGINT, and started again.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pandas as pd

ROOT = Path(__file__).parents[1]
GRID = ("pooling=mean,attention", "lr=0.005,0.011", "conditional-loss=on,off", "sc-metal-ratio=1.0,1.1")
AXES = ["Pooling", "Learning Rate", "Conditional Loss", "SC-Metal Ratio"]
WORKERS = 3


class Workers:
    """Processes of grid_search.py on one storage; what they print goes to OUT/worker_*.txt."""

    def __init__(self, folder: str, out: Path, epochs: str, name: str) -> None:
        words = [folder, "--grid", *GRID, "--epochs", epochs, "--out-dir", str(out), "--study", "faults"]
        words += ["--grace", "12s", "--threads", "1"]
        self.out = out
        self.processes = []
        for k in range(WORKERS):
            with open(out / f"worker_{name}{k}.txt", "w") as log:
                command = [sys.executable, "-u", str(ROOT / "grid_search.py"), *words]
                self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def wait_for(self, complete: int) -> None:
        """Until so many trials are complete."""
        while len(states(self.out).get("COMPLETE", [])) < complete:
            if all(process.poll() is not None for process in self.processes):
                sys.exit(f"the workers ended: see {self.out}/worker_*.txt")
            time.sleep(0.2)

    def end(self) -> list[int]:
        return [process.wait() for process in self.processes]


def states(out: Path) -> dict[str, list]:
    """state → trials of the study, by what Optuna knows."""
    path = out / "result" / "sweep_faults.db"
    found: dict[str, list] = {}
    if path.exists():
        try:
            study = optuna.load_study(study_name="faults", storage=f"sqlite:///{path}")
            for trial in study.get_trials(deepcopy=False):
                found.setdefault(trial.state.name, []).append(trial)
        except Exception:  # not there yet
            return {}
    return found


def training(worker: int) -> int:
    """The main.py that a worker started, once it has saved an epoch and has some to go."""
    while True:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(path.read_text().rpartition(")")[2].split()[1])
                words = path.with_name("cmdline").read_text().split("\0")
            except OSError:
                continue
            if parent != worker or "--out-dir" not in words:
                continue
            folder = Path(words[words.index("--out-dir") + 1])
            if (folder / "checkpoint.pth.tar").exists() and not list(folder.glob("result/*_metrics.csv")):
                return int(path.parent.name)
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--epochs", default="8")
    parser.add_argument("--out-dir", type=Path)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    out = args.out_dir or Path(tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()

    workers = Workers(args.folder, out, args.epochs, "a")
    workers.wait_for(2)
    first, second, _ = workers.processes
    alone = training(first.pid)
    os.kill(first.pid, signal.SIGKILL)
    print(f"{time.monotonic() - begun:5.0f} s  worker {first.pid} killed; its main.py {alone} goes on", flush=True)
    victim = training(second.pid)
    os.kill(victim, signal.SIGKILL)
    print(f"{time.monotonic() - begun:5.0f} s  main.py {victim} of worker {second.pid} killed", flush=True)
    workers.wait_for(6)
    for process in workers.processes[1:]:
        process.send_signal(signal.SIGINT)
    ended = workers.end()
    print(f"{time.monotonic() - begun:5.0f} s  stopped; exit status {ended}", flush=True)
    before = {trial.user_attrs["combination"]["key"] for trial in states(out)["COMPLETE"]}
    workers = Workers(args.folder, out, args.epochs, "b")
    ended = workers.end()
    print(f"{time.monotonic() - begun:5.0f} s  started again and ended; exit status {ended}", flush=True)
    sys.exit(report(out, before, int(args.epochs)))


def report(out: Path, before: set[str], epochs: int) -> int:
    """Print what the newest summary and the database say; 0 where all is as it should be."""
    table = pd.read_csv(max((out / "result").glob("all_combinations_summary_*[0-9].csv")))
    found = states(out)
    complete = [trial.user_attrs["combination"]["key"] for trial in found["COMPLETE"]]
    ends = [t.user_attrs.get("how", "worker silent") for t in found.get("FAIL", [])]
    lengths = [len(pd.read_csv(path)) for path in out.glob("result/sweep_faults/*/result/*_split1_history.csv")]
    metrics = [name for name in table if name.startswith("Avg ")] + ["Validation Score"]
    print(f"\nrows {len(table)}, distinct combinations {len(table.drop_duplicates(AXES))}, of 16")
    known = table[metrics].notna().all(axis=1)
    print(f"complete {(table.State == 'complete').sum()}, with every error known {known.sum()}")
    print(f"trials in the database: {len(complete)} complete, of {len(set(complete))} combinations;")
    print(f"  complete before the stop {len(before)}; ended otherwise { ({end: ends.count(end) for end in ends}) }")
    print(f"learning curves of {epochs} epochs: {lengths.count(epochs)} of {len(lengths)}")
    counts = (len(table), len(table.drop_duplicates(AXES)), (table.State == "complete").sum(), len(complete))
    whole = known.all() and lengths.count(epochs) == len(lengths) == 16
    return 0 if set(counts) == {16} and whole else 1


if __name__ == "__main__":
    main()
