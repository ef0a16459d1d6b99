"""The commands whose writes are hit, the state that each begins with, and what its files are called in the matrix."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pymatgen.core import Structure

from benchmarks.faults.checks import is_readable
from cgcnn.cli import predict_command, sweep_command, train_command
from cgcnn.merge.command import merge_command
from cgcnn.plot_runs import plot_command

SMALL = ("--atom-fea-len", "8", "--h-fea-len", "8", "--n-conv", "1", "--batch-size", "8", "--disable-cuda")
TRAIN = (*SMALL, "--threads", "1", "--graph-jobs", "1", "--epochs", "3", "--lr", "0.01")
# first the kinds that one command alone writes; then by the name of the file
PREVIOUS = ("old results moved aside", r"/previous(/|$)")
KINDS = (
    PREVIOUS,
    ("sweep: database", r"sweep_\w+\.db"),
    ("sweep: trial folders", r"/sweep_\w+(/|$)"),
    ("sweep: summary, figure, page", r"all_combinations_summary"),
    ("graph cache", r"/graphs-|^cache(/[^/]+)?$"),
    ("log", r"/log(/|$)"),
    ("checkpoint", r"checkpoint\.pth\.tar"),
    ("model_best.pth.tar", r"model_best\.pth\.tar"),
    ("page of the run", r"_report\.html"),
    ("tables and models in result/, test_results.csv", r"out(/|$)"),
)


@dataclass(frozen=True)
class Case:
    """A command; `words` without folder of its own are relative to the box, in which it runs.

    again: the words that go on after a fault. kinds: (name, pattern), before those of KINDS. over: whether results
    of the same command are there already. steps: how many amounts of free space, and moments, are tried at most.
    """

    name: str
    command: Callable[[Sequence[str]], int]
    words: tuple[str, ...]
    again: Callable[[Path, tuple[str, ...]], tuple[str, ...]] = lambda box, words: words
    kinds: tuple[tuple[str, str], ...] = ()
    has_graphs: bool = False
    over: bool = False
    steps: int = 24

    def kind(self, path: str) -> str:
        """What the matrix calls a file, by its path in the box."""
        for name, pattern in (*self.kinds, *KINDS):
            if re.search(pattern, path):
                return name
        return f"{self.name}: other"


@dataclass(frozen=True)
class Inputs:
    """What the commands work on, made once: data in three forms, a run with its model, two tables to be merged."""

    folder: Path
    json: Path
    pickles: Path
    run: Path
    work: Path
    gap: Path


def make_inputs(data: Path, scratch: Path, count: int) -> Inputs:
    """`count` crystals of a data folder with work functions and band gaps, or any two labels, and a run on them."""
    folder = scratch / "data"
    folder.mkdir()
    table = pd.read_csv(data / "id_prop.csv").iloc[:count, :3]
    table.to_csv(folder / "id_prop.csv", index=False)
    entries = []
    for crystal_id, *labels in table.itertuples(index=False):
        shutil.copy(data / f"{crystal_id}.cif", folder)
        structure = Structure.from_file(folder / f"{crystal_id}.cif")
        values = dict(zip(table.columns[1:], [None if pd.isna(x) else float(x) for x in labels], strict=True))
        entries.append({"material_id": crystal_id, "structure": structure.as_dict(), **values})
    (scratch / "data.json").write_text(json.dumps(entries, default=float))
    for part, some in (("train", entries[4:]), ("val", entries[:2]), ("test", entries[2:4])):
        path = scratch / "parts" / part / "raw" / "raw_data.pkl"
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps(some))
    for name, column in (("work", 1), ("gap", 2)):
        table.iloc[:, [0, column]].dropna().to_csv(scratch / f"{name}.csv", index=False)
    run = scratch / "run"
    status = train_command([str(folder), *TRAIN, "--cache-dir", str(scratch / "cache"), "--out-dir", str(run)])
    assert status == 0
    paths = (scratch / name for name in ("data.json", "parts", "run", "work.csv", "gap.csv"))
    return Inputs(folder, *paths)


def all_cases(inputs: Inputs) -> list[Case]:
    """Every write of the matrix stands in one of them."""
    here = ("--cache-dir", "cache", "--out-dir", "out")
    train = (str(inputs.folder), *TRAIN, *here)
    model, folder = str(inputs.run / "model_best.pth.tar"), str(inputs.folder)
    predict = (model, folder, "--output", "out/table.csv", "--batch-size", "4", "--disable-cuda", "--threads", "1")
    more = ("--embeddings", "out/vectors.npz", "--atom-contributions", "out/atoms.csv", "--resume-output")
    return [
        Case("train", train_command, (*train, "--ensemble", "2", "--swa", "1"), again=resumed, has_graphs=True),
        Case("train over an earlier run", train_command, train, has_graphs=True, over=True, steps=12),
        *(
            Case(
                f"train on {kind}",
                train_command,
                (str(path), *TRAIN, *here),
                kinds=((f"unpacked {kind}", r"^cache(?!.*graphs-)"),),
                has_graphs=True,
                steps=12,
            )
            for kind, path in (("JSON", inputs.json), ("pickles", inputs.pickles))
        ),
        Case("predict", predict_command, predict, kinds=(PREVIOUS, ("predict.py: table", r"^out")), over=True),
        Case(
            "predict --resume-output",
            predict_command,
            (*predict, *more),
            kinds=(
                ("predict.py --embeddings", r"vectors\.npz"),
                ("predict.py --atom-contributions", r"atoms\.csv"),
                ("predict.py --resume-output: growing table", r"^out"),
            ),
        ),
        Case(
            "plot",
            plot_command,
            (str(inputs.run), "--out", "out/figures"),
            kinds=(PREVIOUS, ("figures", r"^out")),
            over=True,
            steps=12,
        ),
        Case(
            "merge",
            merge_command,
            (str(inputs.work), str(inputs.gap), "--out", "out", "--structures", folder, "--force"),
            kinds=(PREVIOUS, ("merged tables", r"^out")),
            over=True,
        ),
        Case(
            "sweep",
            sweep_command,
            (folder, *SMALL, "--grid", "lr=0.01,0.02", "--epochs", "2", *here, "--study", "one", "--grace", "6s"),
            again=lambda box, words: (*words, "--retry-failed"),
            steps=6,
        ),
    ]


def resumed(box: Path, words: tuple[str, ...]) -> tuple[str, ...]:
    """The words that go on from the checkpoint, where there is one."""
    path = Path("out", "checkpoint.pth.tar")
    return (*words, "--resume", str(path)) if is_readable(box / path) else words
