"""Test errors of several settings over several seeds on one data folder and one fixed split.

    python -m benchmarks.accuracy DIR SPLIT.csv RESULTS.csv --seeds 0 1 2 --settings spec accurate

Each run is a line of RESULTS.csv as soon as it ends; a study that was stopped goes on with the runs that are
missing, the last of them from its checkpoint. At the end, and with --table alone, mean ± deviation over the seeds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

import cgcnn

MODULI = ["log10_bulk_modulus", "log10_shear_modulus"]
ENERGIES = ["formation_energy", "band_gap"]
SETTINGS = {
    "spec": {"pooling": "attention", "epochs": 120},
    "spec, mean pooling": {"epochs": 120},
    "accurate": {"preset": "accurate"},
    "accurate, first target 2 : 1": {"preset": "accurate", "task1_weight": 1},
    "accurate, one network": {"preset": "accurate", "ensemble": 1},
    "accurate, one network, no slab": {"preset": "accurate", "ensemble": 1, "global_features": "valence"},
    "accurate, no surroundings": {"preset": "accurate", "ensemble": 1, "environment": False},
    "accurate, CGCNN elements": {"preset": "accurate", "ensemble": 1, "atom_features": "json"},
    "accurate, no valence": {"preset": "accurate", "ensemble": 1, "global_features": ""},
    "accurate, no auxiliary": {"preset": "accurate", "ensemble": 1, "auxiliary_tasks": False},
    "accurate, MSE": {"preset": "accurate", "ensemble": 1, "loss": "mse"},
    "accurate, step schedule": {"preset": "accurate", "ensemble": 1, "scheduler": "step", "lr_milestones": [80, 105]},
    "accurate, attention": {"preset": "accurate", "ensemble": 1, "pooling": "attention"},
    # for mp_elastic
    "moduli, accurate": {"preset": "accurate", "targets": MODULI},
    "moduli, crystalformer": {"model": "crystalformer", "epochs": 150, "targets": MODULI},
    "formation energy and gap, crystalformer": {"model": "crystalformer", "epochs": 150, "targets": ENERGIES},
    "four targets, crystalformer": {"model": "crystalformer", "epochs": 150},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("split_file")
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=["spec", "accurate"], choices=list(SETTINGS))
    parser.add_argument("--scratch", type=Path, help="where runs are kept while they last (default: a temporary one)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--table", action="store_true", help="only print the table")
    args = parser.parse_args()
    if not args.table:
        for seed in args.seeds:
            for name in args.settings:
                _run(args, name, seed)
    _print_table(pd.read_csv(args.results))


def _run(args: argparse.Namespace, name: str, seed: int) -> None:
    done = pd.read_csv(args.results) if args.results.exists() else pd.DataFrame({"setting": [], "seed": []})
    if ((done["setting"] == name) & (done["seed"] == seed)).any():
        return
    scratch = args.scratch or Path(tempfile.gettempdir()) / "cgcnn-accuracy"
    folder = scratch / f"{name.replace(' ', '_')}-{seed}"
    flags = {
        **SETTINGS[name],
        "seed": seed,
        "split_file": args.split_file,
        "out_dir": folder,
        "threads": args.threads,
    }
    checkpoint = folder / "checkpoint.pth.tar"
    if checkpoint.exists():
        flags = {"resume": checkpoint, "out_dir": folder}
    begun = time.monotonic()
    result = cgcnn.fit(args.folder, **flags)
    if result.exit_status:
        sys.exit(result.exit_status)
    row = result.metrics.iloc[0].drop("Split").to_dict()
    line = pd.DataFrame([{"setting": name, "seed": seed, **row, "seconds": time.monotonic() - begun}])
    pd.concat([done, line]).to_csv(args.results, index=False, float_format="%.6g")


def _print_table(results: pd.DataFrame) -> None:
    columns = [column for column in results if column.endswith("_MAE")]
    for name, group in results.groupby("setting", sort=False):
        cells = [f"{c} {group[c].mean():.4f} ± {group[c].std(ddof=0):.4f}" for c in columns]
        print(f"{name:28s} {len(group)} seeds  " + "  ".join(cells) + f"  {group['seconds'].mean():.0f} s")


if __name__ == "__main__":
    main()
