"""main.py in several processes against one: seconds an epoch, and how far the results are apart.

    python -m benchmarks.processes DIR --processes 1 2 --epochs 4

Every process has one thread. Weights are compared in units of the largest of their tensor, predictions in units of
the deviation of the labels. Biases in front of a normalisation or softmax have a gradient of 0, but for rounding, and
Adam makes steps of full length of it, in any direction: weights are compared without these. The line "reversed" tells
rounding from faults: one process, the same batches, the crystals of each in the opposite order.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch

SETTINGS = {
    "cgcnn, SGD": ["--optim", "SGD", "--lr", "0.01"],
    "cgcnn, AdamW": ["--optim", "AdamW", "--lr", "0.002", "--weight-decay", "1e-4"],
    "crystalformer": ["--model", "crystalformer", "--swa", "0"],
}
REVERSED = """
import runpy
import sys
from cgcnn import training
divided = training.divided
training.divided = lambda *args: [rows.flip(0) for rows in divided(*args)]
sys.argv = sys.argv[1:]
runpy.run_path("main.py", run_name="__main__")
"""
# biases before a normalisation, the mean that holds them, biases of keys before a softmax
IDLE = ("fc_full.bias", "bn1.running_mean", "key.bias")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=512, help="of all processes together (512)")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    args = parser.parse_args()
    print(f"{'setting':16s} processes  s/epoch  speed  weights   predictions")
    for name in args.settings:
        with tempfile.TemporaryDirectory() as scratch:
            kinds = [args.processes[0], "reversed", *args.processes[1:]]
            runs = {kind: _run(args, name, kind, Path(scratch) / str(kind)) for kind in kinds}
            for kind, (seconds, states, table) in runs.items():
                first, states_of_first, table_of_first = runs[kinds[0]]
                apart = f"{_apart(states_of_first, states):8.1e}  {_predictions(table_of_first, table):8.1e}"
                print(f"{name:16s} {kind!s:>9s}  {seconds:7.2f}  {first / seconds:5.2f}  {apart}", flush=True)


def _run(args: argparse.Namespace, name: str, kind: int | str, out: Path) -> tuple[float, dict, pd.DataFrame]:
    words = ["main.py", args.folder, *SETTINGS[name], "--epochs", str(args.epochs), "--threads", "1"]
    words += ["--no-is-validate", "--batch-size", str(args.batch_size), "--disable-cuda", "--out-dir", str(out)]
    launch = []
    if kind == "reversed":
        launch = ["-c", REVERSED]
    elif kind > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={kind}"]
    ran = subprocess.run([sys.executable, *launch, *words], capture_output=True, text=True)
    if ran.returncode:
        sys.exit(ran.stdout + ran.stderr)
    timing = pd.read_csv(next((out / "result").glob("*_split1_timing.csv")), index_col="epoch")["seconds"]
    states = torch.load(out / "model_best.pth.tar", weights_only=True)["state_dict"]
    return timing["fastest"], states, pd.read_csv(out / "test_results.csv")


def _apart(one: dict, other: dict) -> float:
    found = 0.0
    for name, value in one.items():
        if value.is_floating_point() and value.numel() and not name.endswith(IDLE):
            found = max(found, ((value - other[name]).abs().max() / value.abs().max().clamp(min=1e-8)).item())
    return found


def _predictions(one: pd.DataFrame, other: pd.DataFrame) -> float:
    columns = [column for column in one if column.endswith("_pred") or column == "prediction"]
    spread = [one[column.replace("_pred", "_target").replace("prediction", "target")].std() for column in columns]
    return max((one[c] - other[c]).abs().max() / s for c, s in zip(columns, spread, strict=True))


if __name__ == "__main__":
    main()
