"""How fast predict.py screens a folder, and how much memory its processes take, for a thousand files and for more.

    python -m benchmarks.screening MODEL [MODEL ...] DIR [--counts 1000 7574] [--flags "--workers 2"]

The files of DIR are copied under as many names as it takes. Memory is the proportional set size of all processes
together, looked at 20 times a second: what they share counts once. Linux only.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PREDICT = Path(__file__).parents[1] / "predict.py"


def copies(source: Path, folder: Path, count: int) -> Path:
    """A folder of so many structure files: those of `source`, again and again under new names."""
    folder.mkdir()
    files = sorted(source.glob("*.cif"))
    for k in range(count):
        shutil.copy(files[k % len(files)], folder / f"copy{k // len(files)}_{files[k % len(files)].name}")
    return folder


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def memory(pids: list[int]) -> float:
    """MB of these processes; pages that several share count once."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        if match := re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE):
            total += int(match[1])
    return total / 1024


def measure(models: list[str], folder: Path, flags: list[str]) -> tuple[str, float, float, int]:
    """Structures per second (as it says itself), wall seconds, peak MB, most processes at a time."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, str(PREDICT), *models, str(folder), "--output", f"{out}/table.csv", *flags]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak, most = 0.0, 0
        while process.poll() is None:
            pids = tree(process.pid)
            peak, most = max(peak, memory(pids)), max(most, len(pids))
            time.sleep(0.05)
        wall, text = time.perf_counter() - begun, process.stdout.read()
    if process.returncode:
        sys.exit(f"{shlex.join(command)}: exit status {process.returncode}\n{text}")
    return re.search(r"\((\d+) structures/s\)", text)[1], wall, peak, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", nargs="+", type=int, default=[1000, 7574])
    parser.add_argument("--flags", type=shlex.split, default=[])
    args = parser.parse_args()
    print(f"{'files':>8s} {'structures/s':>13s} {'wall s':>8s} {'peak MB':>8s} {'processes':>10s} {'load':>6s}")
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in args.counts:
            folder = copies(args.folder, Path(tempfile.mkdtemp(dir=scratch)) / "files", count)
            rate, wall, peak, most = measure(args.models, folder, args.flags)
            peaks.append(peak)
            load = os.getloadavg()[0]
            print(f"{count:8d} {rate:>13s} {wall:8.1f} {peak:8.0f} {most:10d} {load:6.1f}", flush=True)
    print(f"memory of the last over that of the first: {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
