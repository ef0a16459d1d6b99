"""Training with and without a GPU, in bfloat16, compiled, with the graphs in its memory or copied: main.py, whole.

    python -m benchmarks.gpu DIR [--models cgcnn crystalformer] [--epochs 5] [--batch-size 256]

Where there is no GPU only what does not need one is run. Seconds are those of the fastest epoch; the first one holds
what is compiled. MiB: the most of the GPU's memory that torch held, without one the most of the process. The score is
the best on validation: what is fast has to learn as much.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch

MEMORY = """
import atexit
import resource
import runpy
import sys
import torch
def tell():
    held = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    print("MiB", (held >> 20) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
atexit.register(tell)
sys.argv = sys.argv[1:]
runpy.run_path("main.py", run_name="__main__")
"""
ON_GPU = {
    "CPU": ["--disable-cuda"],
    "copied": ["--no-data-on-gpu"],
    "resident": ["--data-on-gpu"],
    "resident, bf16": ["--data-on-gpu", "--precision", "bf16"],
    "resident, compiled": ["--data-on-gpu", "--compile"],
    "resident, bf16, compiled": ["--data-on-gpu", "--precision", "bf16", "--compile"],
}
ON_CPU = {"CPU": [], "bf16": ["--precision", "bf16"], "compiled": ["--compile"]}
MODELS = {"cgcnn": ["--pooling", "attention"], "crystalformer": ["--swa", "0"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=256)
    args = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    print(torch.cuda.get_device_name() if has_gpu else f"no GPU, {torch.get_num_threads()} threads")
    print(f"{'network':14s} {'how':26s} first s  s/epoch  crystals/s  speed    MiB   score")
    for model in args.models:
        slowest = None
        for how, words in (ON_GPU if has_gpu else ON_CPU).items():
            first, fastest, count, held, score = _run(args, model, words)
            slowest = slowest or fastest
            speed = f"{count / fastest:11.0f}  {slowest / fastest:5.2f}"
            print(f"{model:14s} {how:26s} {first:7.2f}  {fastest:7.3f}  {speed}  {held:5d}  {score:6.4f}", flush=True)


def _run(args: argparse.Namespace, model: str, words: list[str]) -> tuple[float, float, int, int, float]:
    """Seconds of the first and of the fastest epoch, crystals of the training part, MiB, validation score."""
    with tempfile.TemporaryDirectory() as out:
        command = ["main.py", args.folder, "--model", model, *MODELS.get(model, []), "--epochs", str(args.epochs)]
        command += ["--batch-size", str(args.batch_size), "--out-dir", out, *words]
        ran = subprocess.run([sys.executable, "-c", MEMORY, *command], capture_output=True, text=True)
        if ran.returncode:
            sys.exit(ran.stdout + ran.stderr)
        result = Path(out) / "result"
        seconds = pd.read_csv(next(result.glob("*_split1_timing.csv")), index_col="epoch")["seconds"]
        score = pd.read_csv(next(result.glob("*_split1_history.csv")))["val_score"].min()
        count = int((pd.read_csv(next(result.glob("*_split1_ids.csv")))["split"] == "train").sum())
        held = int(ran.stdout.rsplit("MiB", 1)[1])
    return seconds["1"], seconds["fastest"], count, held, score


if __name__ == "__main__":
    main()
