"""Networks × edge features × atom features on some crystals of a folder: the seed's table, and what it teaches.

    python -m benchmarks.csgnn_table DIR --crystals 1200 --out-dir OUT --jobs 2

The crystals are a seeded choice of the rows of id_prop.csv, the same for every row of the table; OUT holds a folder
that links to their files. Each row is written as it ends, and the same command goes on where it was stopped. First
learned edges beside fixed ones; then every combination of the four networks, two edge features and four atom
features, in whose table the others stand below. At the end, differences between rows that differ in one choice only.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cgcnn.arguments import to_argv
from cgcnn.cli import train_command
from cgcnn.files import replacing
from cgcnn.structures import find_structure_files

NETWORKS = ("csgcnn", "csgann", "csginn", "cgcnn")
EDGES = ("gaussian", "rbf")
ATOMS = ("json", "onehot", "bits", "properties")
# One setting for all rows, chosen on validation; benchmarks/README.md says from what.
LEARNING = {
    "optim": "AdamW",
    "lr": 0.01,
    "weight_decay": 0.01,
    "scheduler": "one-cycle",
    "batch_size": 64,
    "loss": "l1",
}
# question → column of the table, the value that is asked about, and the value beside which it stands
QUESTIONS = {
    "attention (csgann) beside csgcnn": ("Model", "csgann", "csgcnn"),
    "isomorphism (csginn) beside csgcnn": ("Model", "csginn", "csgcnn"),
    "csgcnn beside cgcnn": ("Model", "csgcnn", "cgcnn"),
    "rbf beside gaussian": ("Edge features", "rbf", "gaussian"),
    "learned edges beside fixed ones": ("learnable-edges", "on", "off"),
    "onehot beside json": ("Atom features", "onehot", "json"),
    "bits beside json": ("Atom features", "bits", "json"),
    "properties beside json": ("Atom features", "properties", "json"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crystals", type=int, default=1200, metavar="N")
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--num-splits", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of crystals")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--max-time", help="stop in time, as in main.py; of each of the two parts")
    args = parser.parse_args()
    data = chosen_crystals(args.folder, args.crystals, args.seed, args.out_dir)
    words = [data, "--compare", *args.networks, "--edge-features", *EDGES, *to_argv(LEARNING)]
    words += ["--epochs", args.epochs, "--num-splits", args.num_splits, "--out-dir", args.out_dir]
    words += ["--jobs", args.jobs, "--threads", args.threads, "--disable-cuda"]
    words += ["--max-time", args.max_time] if args.max_time else []
    learned = ["--atom-features", "json", "--compare-also", "learnable-edges=off,on"]
    status = 0
    for part in (learned, ["--atom-features", *ATOMS]):  # the last one's rows stand at the top
        status = train_command([str(word) for word in [*words, *part]]) or status
        if status not in (0, 3):  # stopped, or nothing to run
            return status
    table = pd.read_csv(args.out_dir / "result" / f"{data.name}_comparison.csv")
    print(
        "\nwhat one choice is worth: mean difference of rows that differ in nothing else, and how often it is better"
    )
    for question, (column, value, beside) in QUESTIONS.items():
        print(difference(table, question, column, value, beside))
    return status


def chosen_crystals(folder: Path, count: int, seed: int, out: Path) -> Path:
    """A folder with `count` rows of id_prop.csv, drawn at random, and links to their structure files."""
    files = find_structure_files(folder)
    with open(folder / "id_prop.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    header = [] if rows[0][0].strip() in files else [rows.pop(0)]
    if count > len(rows):
        sys.exit(f"{folder}: {len(rows)} crystals, fewer than {count}")
    chosen = random.Random(seed).sample(rows, count)
    data = out / f"{folder.resolve().name}_{count}_seed{seed}"
    data.mkdir(parents=True, exist_ok=True)
    for row in chosen:
        path = files[row[0].strip()].resolve()
        _link(path.parent if path.parent != folder.resolve() else path, data)
    if (folder / "atom_init.json").exists():
        _link((folder / "atom_init.json").resolve(), data)
    with replacing(data / "id_prop.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(header + chosen)
    return data


def _link(path: Path, folder: Path) -> None:
    if not (folder / path.name).exists():
        os.symlink(path, folder / path.name)


def difference(table: pd.DataFrame, question: str, column: str, value: str, beside: str) -> str:
    """One line: by how much rows with `value` in a column differ from their twins with `beside`.

    Rows are twins where all other settings are the same; below zero is better.
    """
    settings = [name for name in ("Model", "Edge features", "Atom features", "learnable-edges") if name in table]
    measured = [name for name in table if name.endswith(" MAE")] + ["Validation score"]
    if column not in table:
        return f"{question}: not there"
    table = table.assign(**{"Edge features": table["Edge features"].str.rstrip("*")})
    others = [name for name in settings if name != column]
    sides = [table[table[column] == each].set_index(others)[measured] for each in (value, beside)]
    pairs = (sides[0] - sides[1]).dropna()
    if pairs.empty:
        return f"{question}: no pairs yet"
    reference = sides[1].loc[pairs.index].mean()
    cells = [
        f"{name} {pairs[name].mean():+.4f} ({pairs[name].mean() / reference[name]:+.1%}), "
        f"better in {int((pairs[name] < 0).sum())} of {len(pairs)}, deviation {np.std(pairs[name]):.4f}"
        for name in reversed(measured)
    ]
    return f"{question}: " + "; ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
