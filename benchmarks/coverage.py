"""How often calibrated intervals hold the truth for formulas that a model never saw, and how wide they are.

    python -m benchmarks.coverage DIR [--coverage 0.9] [--partitions 100] [--out-dir OUT]

Trains once, no formula in two parts, and predicts the test part. Its formulas are then dealt at random, again and
again, to a calibration half and a half that the intervals are tried on. With --out-dir the model is kept, and a
second run only counts. The last lines: intervals from the validation part, by which the epoch was chosen, and the
errors of crystals that are flagged as unlike the training set.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import cgcnn
from cgcnn.checkpoint import load
from cgcnn.labels import read_labels
from cgcnn.screening.calibration import conformal_interval, read_intervals
from cgcnn.splits import read_split
from cgcnn.structures import find_structure_files, read_crystal

FLAGS = {"epochs": 40, "batch_size": 64, "ensemble": 3, "group_by": "formula", "test_ratio": 0.3}


def trained(folder: Path, out: Path, threads: int | None) -> Path:
    """The model's file in `out`; trained if it is not there."""
    if not list(out.glob("result/*_trained_model.pt")):
        cgcnn.fit(folder, **FLAGS, out_dir=out, threads=threads)
    (path,) = out.glob("result/*_trained_model.pt")
    return path


def unseen(folder: Path, out: Path, model: Path) -> pd.DataFrame:
    """Labels, predictions and formulas of the test part."""
    labels, files = read_labels(folder / "id_prop.csv"), find_structure_files(folder)
    split, _ = read_split(next(out.glob("result/*_split1_ids.csv")), labels.ids)
    ids = [labels.ids[row] for row in split.test]
    crystals = [read_crystal(files[crystal_id]) for crystal_id in ids]
    table = cgcnn.load_model(model).predict(crystals, ids)
    for k, name in enumerate(labels.names):
        table[f"{name}_target"] = labels.values[split.test, k]
    return table.assign(formula=[crystal.reduced_formula for crystal in crystals])


def study(table: pd.DataFrame, name: str, coverage: float, partitions: int, *, normalised: bool) -> np.ndarray:
    """Coverage and mean width (eV, or the task's unit) in every partition (partitions, 2)."""
    known = table[table[f"{name}_target"].notna()]
    target, prediction, deviation = (known[f"{name}_{what}"].to_numpy() for what in ("target", "pred", "std"))
    formulas, of = np.unique(known.formula, return_inverse=True)
    found = []
    for seed in range(partitions):
        side = np.random.default_rng(seed).permutation(len(formulas)) < len(formulas) // 2
        cal, new = side[of], ~side[of]
        sigma = deviation if normalised else np.zeros(len(known))
        interval = conformal_interval(target[cal], prediction[cal], sigma[cal], coverage=coverage)
        low, high = interval(prediction[new], sigma[new])
        found.append((((low <= target[new]) & (target[new] <= high)).mean(), (high - low).mean()))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--partitions", type=int, default=100)
    parser.add_argument("--out-dir", type=Path)
    parser.add_argument("--threads", type=int, help="CPU threads")
    args = parser.parse_args()
    out = args.out_dir or Path(tempfile.mkdtemp())
    path = trained(args.folder, out, args.threads)
    table, model = unseen(args.folder, out, path), load(path)
    names = [task.name for task in model.tasks.targets if task.is_regression]
    print(f"\n{len(table)} unseen crystals, {table.formula.nunique()} formulas, {args.partitions} partitions")
    for name in names:
        error = (table[f"{name}_target"] - table[f"{name}_pred"]).abs()
        print(f"{name}: MAE {error.mean():.3f}")
        for normalised in (False, True):
            found = study(table, name, args.coverage, args.partitions, normalised=normalised)
            (held, width), spread = found.mean(axis=0), found[:, 0].std()
            kind = "by the deviation of the networks" if normalised else "the same for all"
            print(f"  width {kind}: coverage {held:.4f} ± {spread:.4f}, mean width {width:.3f}")
    validation = next(out.glob("result/predictions/*_validation.csv"))
    found = read_intervals(validation, model.tasks, coverage=args.coverage, with_deviations=True)
    for name, interval in found.items():
        low, high = interval(table[f"{name}_pred"], table[f"{name}_std"])
        held = table[f"{name}_target"].between(low, high)[table[f"{name}_target"].notna()]
        print(f"{name}, from {interval.count} of validation: {held.mean():.4f}, width {(high - low).mean():.3f}")
    flagged = table.unlike_training != ""
    for name in names:
        error = (table[f"{name}_target"] - table[f"{name}_pred"]).abs()
        far, near = error[flagged].mean(), error[~flagged].mean()
        print(f"{name}: MAE {far:.3f} of {flagged.sum()} flagged, {near:.3f} of the others")


if __name__ == "__main__":
    main()
