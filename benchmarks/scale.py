"""Time, disk and memory of up to 200,000 crystals: is each a straight line in their number?

    python -m benchmarks.scale SOURCE_DIR … --count 200000 --out-dir OUT --csv RESULTS.csv

The crystals are made from those of the source folders (benchmarks/made_crystals.py): a twentieth, a quarter, half and
all of --count, each size in one JSON-lines file, and one size as a folder of CIFs, too. Every step is a command in a
process of its own: unpack the file, build the graphs, open them again, train one epoch, predict them all. Each is a
line of RESULTS.csv as it ends; a study that was stopped goes on with the steps that are missing. Memory is the peak
of all processes of a step together: `anon_mb` is their own, `file_mb` pages of files (shared ones are counted in
each), which the system takes back when others need them; `largest_mb` the peak of the largest process with both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.made_crystals import made, read_sources, write_folder, write_json_lines
from benchmarks.screening import tree

ROOT = Path(__file__).parents[1]
SHARES = (0.05, 0.25, 0.5, 1.0)
SECONDS_A_LOOK = 0.1
MB = 1 << 20
UNPACK = (
    "import sys; from pathlib import Path; from cgcnn.data_source import open_source; open_source(Path(sys.argv[1]))"
)
GRAPHS = """
import sys
from pathlib import Path
from cgcnn.data_source import open_source
from cgcnn.graph import GraphSettings
from cgcnn.store import GraphStore
source = open_source(Path(sys.argv[1]))
store = GraphStore(source.cache, GraphSettings())
failures, _ = store.update(source.files, quiet=True)
table = store.table(list(source.files))
sys.exit(bool(failures) or len(table) != len(source.files))
"""
QUANTITIES = {"seconds": "s", "cpu_seconds": "s", "disk_mb": "MB", "anon_mb": "MB", "largest_mb": "MB"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, metavar="SOURCE_DIR")
    parser.add_argument("--count", type=int, default=200_000, help="crystals of the largest set (200000)")
    parser.add_argument("--up-to", type=int, help="leave out larger sets, for another day (default: --count)")
    parser.add_argument("--out-dir", type=Path, help="where the sets and their caches are kept")
    parser.add_argument("--csv", type=Path, required=True, help="a line a step")
    parser.add_argument("--threads", type=int, default=2, help="of training and prediction (2)")
    parser.add_argument("--table", action="store_true", help="only print what the table holds")
    args = parser.parse_args()
    if not args.table:
        if not args.sources or args.out_dir is None:
            parser.error("folders to make crystals from and --out-dir are needed")
        measure_all(args)
    if not args.csv.exists():
        sys.exit(f"{args.csv}: no such file")
    print_lines(pd.read_csv(args.csv))


def measure_all(args: argparse.Namespace) -> None:
    """Make the sets and take the steps that are not in the table yet, the small sets first."""
    sizes = [round(share * args.count) for share in SHARES]
    wanted = [(size, "jsonl") for size in sizes]
    wanted.insert(1, (sizes[0], "cifs"))
    sources = None
    for size, form in wanted:
        if size > (args.up_to or args.count):
            continue
        folder = args.out_dir / f"{size}-{form}"
        data = folder / ("data" if form == "cifs" else "data.jsonl")
        if not ((data / "id_prop.csv") if form == "cifs" else data).exists():
            try:
                sources = sources or read_sources(args.sources)
            except OSError as error:
                sys.exit(str(error))
            begun = time.perf_counter()
            (write_folder if form == "cifs" else write_json_lines)(data, made(sources, size))
            print(f"{data}: made in {time.perf_counter() - begun:.0f} s", flush=True)
        for step, command, disk in steps(data, folder / "run", args.threads):
            if not is_done(args.csv, size, form, step):
                load = os.getloadavg()[0]
                row = {"crystals": size, "form": form, "step": step, **measure(command, folder / f"{step}.log")}
                append(args.csv, row | {"disk_mb": disk() / MB, "load_before": load})


def steps(data: Path, out: Path, threads: int) -> Iterator[tuple[str, list[str], Callable[[], int]]]:
    """Name and command of each step, in their order, and what it leaves on disk (bytes)."""
    python, number = sys.executable, str(threads)
    cache = data / ".cgcnn_cache" if data.is_dir() else data.with_name(f"{data.name}.cgcnn_cache")
    graphs = [python, "-c", GRAPHS, str(data)]
    if not data.is_dir():
        yield "unpack", [python, "-c", UNPACK, str(data)], lambda: taken(cache / "crystals")
    yield "graphs", graphs, lambda: sum(taken(folder) for folder in cache.glob("graphs-*"))
    yield "open again", graphs, lambda: 0
    train = [python, str(ROOT / "main.py"), str(data), "--epochs", "1", "--num-splits", "1", "--threads", number]
    yield "train", [*train, "--out-dir", str(out)], lambda: taken(out)
    model, table = str(out / "model_best.pth.tar"), out / "predicted.csv"
    predict = [python, str(ROOT / "predict.py"), model, str(data), "--threads", number, "--output", str(table)]
    yield "predict", predict, lambda: taken(table)


def measure(command: list[str], log: Path) -> dict[str, float]:
    """Run a command; its seconds and peak memory. Ends this process where it fails."""
    begun, anon, file = time.perf_counter(), 0.0, 0.0
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            held = [resident(one) for one in tree(process.pid)]
            anon, file = max(anon, sum(a for a, _ in held)), max(file, sum(f for _, f in held))
            time.sleep(SECONDS_A_LOOK)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"exit status {process.returncode}, see {log}")
    return {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "anon_mb": anon,
        "file_mb": file,
        "largest_mb": usage.ru_maxrss / 1024,
    }


def resident(pid: int) -> tuple[float, float]:
    """MB of a process in memory: its own, and pages of files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    size = {
        name: int(value.split()[0]) / 1024
        for name, _, value in (line.partition(":") for line in lines if "kB" in line)
    }
    return size.get("RssAnon", 0.0) + size.get("RssShmem", 0.0), size.get("RssFile", 0.0)


def taken(path: Path) -> int:
    """Bytes that a file, or all files below a folder, take on disk."""
    files = [path] if path.is_file() else [Path(name, each) for name, _, names in os.walk(path) for each in names]
    return sum(os.stat(file).st_blocks * 512 for file in files)


def is_done(table: Path, size: int, form: str, step: str) -> bool:
    if not table.exists():
        return False
    done = pd.read_csv(table)
    return bool(((done["crystals"] == size) & (done["form"] == form) & (done["step"] == step)).any())


def append(table: Path, row: dict[str, object]) -> None:
    line = pd.DataFrame([row])
    table.parent.mkdir(parents=True, exist_ok=True)
    line.to_csv(table, mode="a", header=not table.exists(), index=False, float_format="%.4g")
    memory = f"{row['anon_mb']:.0f} MB + {row['file_mb']:.0f} MB of files"
    print(
        f"{row['crystals']:8} {row['form']:5} {row['step']:10} {row['seconds']:8.1f} s, "
        f"{row['cpu_seconds']:.1f} s of CPU, {memory}, {row['disk_mb']:.1f} MB on disk, "
        f"load {row['load_before']:.1f} before",
        flush=True,
    )


def print_lines(results: pd.DataFrame) -> None:
    """What was measured, and how well a line in the number of crystals fits it."""
    print(results.sort_values(["form", "step", "crystals"]).to_string(index=False, float_format="%.4g"))
    whole = results.drop(columns=["load_before"]).groupby(["form", "crystals"], sort=False)
    total = whole.agg(
        seconds=("seconds", "sum"),
        cpu_seconds=("cpu_seconds", "sum"),
        disk_mb=("disk_mb", "sum"),
        anon_mb=("anon_mb", "max"),
        largest_mb=("largest_mb", "max"),
        steps=("step", "size"),
    ).reset_index()
    total = total[total["steps"] == total.groupby("form")["steps"].transform("max")]
    results = pd.concat([results, total.assign(step="all")])
    print("\nstep         quantity      for 1,000 crystals   at none   farthest from the line")
    for (form, step), group in results.groupby(["form", "step"], sort=False):
        if form != "jsonl" or len(group) < 3:
            continue
        x = group["crystals"].to_numpy(dtype=float)
        for quantity, unit in QUANTITIES.items():
            y = group[quantity].to_numpy(dtype=float)
            if not y.any():
                continue
            slope, begin = np.polyfit(x, y, 1)
            off = y - (begin + slope * x)
            worst = int(np.abs(off).argmax())
            print(
                f"{step:12} {quantity:12} {1000 * slope:12.3f} {unit:2} {begin:15.1f} {unit:2} "
                f"{off[worst]:+9.1f} {unit:2} ({100 * off[worst] / y[worst]:+.1f} %) at {x[worst]:.0f}"
            )


if __name__ == "__main__":
    main()
