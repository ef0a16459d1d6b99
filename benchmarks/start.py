"""How long a run takes to its first epoch, first with no graphs stored and then with them, and how much memory.

    python -m benchmarks.start DIR [DIR ...] [--epochs 1]

Every run is a process of its own; its peak memory is the operating system's. "start" is what main.py itself counts
from its first line to the first epoch, imports left out.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAIN = Path(__file__).parents[1] / "main.py"


def measure(folder: str, cache: str, *flags: str) -> tuple[float, float, float]:
    """Wall seconds, seconds from main's first line to the first epoch, and peak memory in MB of one run."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, str(MAIN), folder, "--cache-dir", cache, "--out-dir", out, *flags]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
    if status:
        sys.exit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    return wall, float(re.search(r"ready in ([\d.]+) s", text)[1]), usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--epochs", default="1")
    args = parser.parse_args()
    print(f"{'folder':24s} {'run':28s} {'wall s':>8s} {'start s':>8s} {'peak MB':>8s}")
    for folder in args.folders:
        with tempfile.TemporaryDirectory() as cache:
            runs = {
                "first": ["--epochs", args.epochs],
                "cached": ["--epochs", args.epochs],
                "cached, 10 x the epochs": ["--epochs", str(10 * int(args.epochs))],
                "cached, 2 workers": ["--epochs", args.epochs, "--workers", "2"],
            }
            for name, flags in runs.items():
                wall, start, memory = measure(folder, cache, *flags)
                print(f"{Path(folder).name:24s} {name:28s} {wall:8.2f} {start:8.2f} {memory:8.0f}", flush=True)


if __name__ == "__main__":
    main()
