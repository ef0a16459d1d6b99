"""Whole commands on broken input: in this process by their entry points, and some as processes of their own."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz import mutations
from benchmarks.fuzz.cases import FAULT, REFUSED, USED, Case, Outcome, complaint_about
from benchmarks.fuzz.entries import ENTRIES
from cgcnn.cli import predict_command, sweep_command, train_command
from cgcnn.merge.command import merge_command
from cgcnn.plot_runs import plot_command

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "main.py": train_command,
    "predict.py": predict_command,
    "grid_search.py": sweep_command,
    "plot_gap_predictions.py": plot_command,
    "merge_work_band.py": merge_command,
}
SMALL = "--epochs 1 --atom-fea-len 8 --h-fea-len 8 --n-conv 1 --disable-cuda --threads 1 --graph-jobs 1"
TRAIN = f"main.py folder --out-dir out {SMALL}"
PREDICT = "predict.py models/model_best.pth.tar folder --output out.csv --workers 0 --disable-cuda"


@dataclass(frozen=True)
class Command:
    """words: of the command, run where copies of the good folders lie. target: what is broken; like: the entry whose
    changes it gets. weight: how often of all. is_own: a process of its own always.
    """

    words: str
    target: str
    like: str
    weight: int = 1
    is_own: bool = False


LIST: tuple[Command, ...] = (
    Command(TRAIN, "folder/id_prop.csv", "id_prop.csv", 4),
    Command(TRAIN, "folder/*.cif", "CIF", 3),
    Command(f"{TRAIN} --on-bad-structure skip", "folder/*.cif", "CIF", 3),
    Command(f"{TRAIN} --auxiliary-tasks", "folder/ax.csv", "ax.csv", 2),
    Command(f"{TRAIN} --conditional-loss", "folder/all.csv", "all.csv", 2),
    Command(f"{TRAIN} --split-file folder/split.csv", "folder/split.csv", "split file", 2),
    Command(
        f"{TRAIN} --crystal-features features.csv:temperature+phase", "folder/features.csv", "crystal features", 2
    ),
    Command(f"{TRAIN} --config folder/flags.toml", "folder/flags.toml", "configuration", 2),
    Command(f"main.py folder --out-dir out {SMALL}", "folder/atom_init.json", "atom_init.json", 2),
    Command(f"main.py files/list.json --out-dir out {SMALL} --batch-size 2", "files/list.json", "data file", 2),
    Command(f"main.py parts --out-dir out {SMALL}", "parts/train/raw/raw_data.pkl", "pickled parts", 2),
    Command(
        "main.py folder --out-dir out --resume models/checkpoint.pth.tar --epochs 2", "models/ch*.tar", "model", 3
    ),
    Command("main.py folder --out-dir out --evaluate models/model_best.pth.tar", "models/model_*.tar", "model", 2),
    Command(f"{TRAIN} --init-from models/model_best.pth.tar", "models/model_*.tar", "model", 2),
    Command(PREDICT, "models/model_*.tar", "model", 3),
    Command(PREDICT, "folder/*.cif", "CIF", 3),
    Command(PREDICT, "folder/id_prop.csv", "id_prop.csv", 2),
    Command(
        f"{PREDICT} --calibrate folder/predictions.csv --coverage 0.5", "folder/predictions.csv", "calibration", 2
    ),
    Command(
        "plot_gap_predictions.py folder/predictions.csv --out figures", "folder/predictions.csv", "predictions", 3
    ),
    Command("plot_gap_predictions.py folder/classes.csv --out figures", "folder/classes.csv", "predictions", 2),
    Command("merge_work_band.py folder/work.csv folder/band.csv --out new", "folder/work.csv", "tables to merge", 2),
    Command("merge_work_band.py folder/work.csv folder/band.csv --out new", "folder/band.csv", "tables to merge", 2),
    Command(
        f"grid_search.py folder --grid-file folder/axes.toml --sampler random --trials 1 --out-dir out {SMALL}",
        "folder/axes.toml",
        "axes of a sweep",
    ),
    Command(
        f"grid_search.py folder --grid lr=0.01 --out-dir out {SMALL}",
        "folder/id_prop.csv",
        "id_prop.csv",
    ),
)
COMMANDS = {"command": LIST, "process": LIST}


def run_command(case: Case, good: Path, work: Path) -> Outcome:
    """One command on copies of the good inputs, a file of which is broken."""
    rng = case.rng
    command = rng.choices(LIST, [each.weight for each in LIST])[0]
    for name in ("folder", "files", "parts", "models"):
        shutil.copytree(good / name, work / name)
    elements = work / "folder" / "elements.json"
    if "atom_init" in command.target or rng.random() < 0.1:
        shutil.copy(elements, elements.with_name("atom_init.json"))
    for path in (elements, elements.with_name("flags.json")):  # each would be a structure file
        path.unlink()
    target = rng.choice(sorted(work.glob(command.target)))
    change = ENTRIES[command.like].change
    data, changes = change(target.read_bytes(), rng) if rng.random() < 0.9 else (b"", mutations.empty.__name__)
    target.write_bytes(data)
    script, *words = command.words.split()
    begun = time.monotonic()
    ran = _process if case.kind == "process" else _in_process
    status, out, err, peak = ran(script, words, work)
    seconds = time.monotonic() - begun
    outcome = _judged(status, out, err, target, work)
    outcome.source, outcome.changes, outcome.seconds, outcome.peak = command.words, changes, seconds, peak
    return outcome


def _in_process(script: str, words: Sequence[str], folder: Path) -> tuple[int, str, str, float]:
    out, err = io.StringIO(), io.StringIO()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = SCRIPTS[script](words)
    except BaseException:
        return -1, out.getvalue(), traceback.format_exc(limit=-6), 0.0
    finally:
        os.chdir(before)
    return status, out.getvalue(), err.getvalue(), 0.0


def _process(script: str, words: Sequence[str], folder: Path) -> tuple[int, str, str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
        command = [sys.executable, str(ROOT / script), *words]
        started = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)
        _, status, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
    said = [(folder / name).read_text(errors="backslashreplace") for name in ("stdout", "stderr")]
    return started.returncode, *said, used.ru_maxrss / 1024


def _judged(status: int, out: str, err: str, target: Path, folder: Path) -> Outcome:
    """Exit status 0: used; 3: some left out; 1 and 2: refused, a line a fault. Nothing else, and no traceback."""
    said = err.strip() or "\n".join(out.strip().splitlines()[-3:])
    if "Traceback" in out + err or status not in (0, 1, 2, 3):
        return Outcome(FAULT, f"exit status {status}: {said[-1500:]}")
    if lost := _lost(folder, target):
        return Outcome(FAULT, f"wrong: {lost}")
    if status in (1, 2):
        lines = err.splitlines()
        if not all(line.startswith("error: ") for line in lines) and status == 2:
            return Outcome(FAULT, f"message: not only errors: {said[:600]}")
        is_flags = target.suffix == ".toml"
        if complaint := complaint_about(lines or out.splitlines()[-1:], "" if is_flags else target.stem):
            return Outcome(FAULT, f"message: {complaint}: {said[:600]}")
        return Outcome(REFUSED, err)
    return Outcome(USED if status == 0 else REFUSED, "" if status == 0 else said)


def _lost(folder: Path, target: Path) -> str:
    """Which good crystal predict.py or main.py left out, if one."""
    for path in [*folder.glob("*_failed.csv"), *folder.glob("out/result/*_failed.csv")]:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        if target.suffix == ".cif" and (lost := [row[0] for row in rows if row[0] != target.stem]):
            return f"{lost[0]}, a good crystal, was left out: {rows[:2]}"
    return ""
