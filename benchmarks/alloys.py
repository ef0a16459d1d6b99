"""ECNet on alloys: test errors by split, by what is learned together, and by setting, over several seeds.

    python -m benchmarks.alloys DIR RESULTS.csv --splits a0 a1 a2 a3 --jobs 2

DIR: the 364 alloys, with alloys.csv. Each run is some lines of RESULTS.csv, one a task, as soon as it ends; the same
command goes on with the runs that are missing. At the end, and with --table alone: mean ± deviation over the seeds
beside the training mean, the linear model of the composition, and the figures that were published for the split.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import pandas as pd

TASKS = ("etot", "emix", "eform", "ms", "mb", "rmsd")
GROUPS = {"six": TASKS, "energies": TASKS[:3], "moments": ("ms", "mb"), **{task: (task,) for task in TASKS}}
PHASE = "alloys.csv:phase"
SETTINGS = {
    # the published network and learning, as near as the seed's commands say
    "published": {
        "model": "ecnet",
        "tower": "shared",
        "envelope": "published",
        "use_pbc": False,
        "normalize": False,
        "weight_decay": 1e-4,
    },
    "ecnet": {"model": "ecnet"},
    "reference": {"model": "ecnet", "reference": "composition"},
    "alloys": {"preset": "alloys"},
    "alloys, lattice": {"preset": "alloys", "global_features": "lattice"},
    "alloys, phase": {"preset": "alloys", "crystal_features": PHASE},
}
EXTENSIVE = ("reference", "alloys", "alloys, lattice", "alloys, phase")
# spec 3: test MAE of one six-task network a split, and of single ones on a0
PUBLISHED = {
    "a0": (0.329, 0.0380, 0.0225, 0.167, 8.57, 0.165),
    "a1": (0.833, 0.0475, 0.0638, 0.354, 39.3, 0.288),
    "a2": (3.62, 0.0631, 0.0254, 0.939, 29.8, 0.217),
    "a3": (4.03, 0.112, 0.121, 0.544, 13.5, 0.458),
}
KEYS = ["setting", "split", "group", "seed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("results", type=Path)
    parser.add_argument("--splits", nargs="+", default=["a0"], choices=list(PUBLISHED))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--groups", nargs="+", default=["six"], choices=list(GROUPS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, a thread each (1)")
    parser.add_argument("--table", action="store_true", help="only print the table")
    args = parser.parse_args()
    if not args.table:
        _run_all(args)
    print_table(pd.read_csv(args.results))


def _run_all(args: argparse.Namespace) -> None:
    from joblib import Parallel, delayed

    wanted = itertools.product(args.settings, args.splits, args.groups, args.seeds)
    known = pd.read_csv(args.results) if args.results.exists() else pd.DataFrame(columns=KEYS)
    done = set(known[KEYS].itertuples(index=False, name=None))
    missing = [key for key in wanted if key not in done]
    runs = (delayed(_run)(args.folder, args.epochs, *key) for key in missing)
    for k, rows in enumerate(
        Parallel(n_jobs=args.jobs, return_as="generator_unordered", batch_size=1)(runs), start=1
    ):
        known = pd.concat([known, pd.DataFrame(rows)]) if len(known) else pd.DataFrame(rows)
        known.to_csv(args.results, index=False, float_format="%.6g")
        print(f"[{k}/{len(missing)}] " + ", ".join(str(rows[0][key]) for key in KEYS), flush=True)


def _run(folder: str, epochs: int, setting: str, split: str, group: str, seed: int) -> list[dict]:
    import cgcnn

    targets = list(GROUPS[group])
    flags = {**SETTINGS[setting], "targets": targets, "split": split, "seed": seed, "epochs": epochs, "threads": 1}
    if setting in EXTENSIVE and "mb" in targets:
        flags["extensive"] = ["mb"]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        result = cgcnn.fit(folder, **flags, out_dir=out)
    seconds = time.monotonic() - begun
    key = dict(zip(KEYS, (setting, split, group, seed), strict=True))
    metrics = result.metrics.iloc[0]
    baselines = result.baselines.set_index("task")[["training mean", "composition"]]
    rows = []
    for task in targets:
        mae = {"MAE": metrics[f"{task}_MAE"], "Val_MAE": metrics[f"Val_{task}_MAE"]}
        rows.append({**key, "task": task, **mae, **baselines.loc[task], "seconds": seconds})
    return rows


def print_table(results: pd.DataFrame) -> None:
    """A line a split, setting and group, a column a task."""
    for split, of_split in results.groupby("split"):
        print(f"\n{split}")
        line("", dict(zip(TASKS, TASKS, strict=True)))
        for name in ("training mean", "composition"):  # the linear model of mb counts atoms where it is extensive
            best = of_split.groupby(["setting", "task"])[name].mean().groupby("task").min()
            line(name, best.map("{:.4g}".format).to_dict())
        line("published", {t: f"{v:g}" for t, v in zip(TASKS, PUBLISHED[split], strict=True)})
        for (setting, group), rows in of_split.groupby(["setting", "group"], sort=False):
            mae = rows.groupby("task")["MAE"]
            cells = {task: f"{mean:.4g} ± {mae.std(ddof=0)[task]:.2g}" for task, mean in mae.mean().items()}
            line(f"{setting}: {group} ({rows['seed'].nunique()}, {rows['seconds'].mean():.0f} s)", cells)


def line(name: str, cells: dict[str, str]) -> None:
    print(f"{name:32}" + "".join(f"{cells.get(task, ''):>20}" for task in TASKS))


if __name__ == "__main__":
    main()
