"""One setting trained on growing shares of the training part: would more labels help, and how much?"""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cgcnn import report
from cgcnn.naming import run_id
from cgcnn.results import RunResult
from cgcnn.study import Study


def learning_curve(args: Namespace, say: Callable[[str], None] = print) -> RunResult:
    """main.py --learning-curve: a run a share, smallest first, each in a folder of its own under result/.

    The shares are nested, validation and test part are the same for all. A run that is there already, of the same
    flags, is not repeated, and one that was stopped goes on. Writes result/{run_id}_learning_curve.csv and a figure.
    Returns the run of the largest share, or the one that was stopped.
    """
    out = report.Outputs(Path(args.out_dir), run_id(args))
    folder = out.file("learning_curve")
    study, rows = Study(args, say), []
    for share in sorted(set(args.learning_curve)):
        part = copy.copy(args)
        part.learning_curve, part.train_fraction, part.out_dir = None, share, str(folder / f"{share:g}")
        inside, result = study.run(part, f"{share:g} of the training part")
        if result and result.exit_status:
            say("the same command goes on with the learning curve")
            return result
        rows.append(_row(share, inside))
    table = pd.DataFrame(rows)
    study.write(out.file("learning_curve.csv"), table)
    say(f"\nlearning curve, test part ({out.file('learning_curve.csv')}):")
    say(table.to_string(index=False, float_format="%.4g"))
    for column in report.mae_columns(table):
        say(verdict(column.removesuffix("_MAE"), table["train"].to_numpy(), table[column].to_numpy()))
    from cgcnn.plots import draw_learning_curve

    for path in draw_learning_curve(table, out.file("learning_curve")):
        say(f"figure: {path}")
    return study.last or RunResult(table, pd.DataFrame(), None, inside.file("trained_model.pt"))


def power_law(sizes: np.ndarray, errors: np.ndarray) -> tuple[float, float, float]:
    """Least squares of log error = log a − b·log n over n = sizes (k,): a, b and the standard error of b.

    Errors of networks fall as a power of the number of labels (Hestness et al., arXiv:1712.00409). The standard
    error is infinite for fewer than three points.
    """
    x, y = np.log(sizes), np.log(np.maximum(errors, 1e-12))
    slope, intercept = np.polyfit(x, y, 1)
    if len(x) < 3:
        return float(np.exp(intercept)), float(-slope), float("inf")
    residual = y - (slope * x + intercept)
    deviation = np.sqrt((residual**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    return float(np.exp(intercept)), float(-slope), float(deviation)


def verdict(name: str, sizes: np.ndarray, errors: np.ndarray) -> str:
    """One line: does the error of a task fall with the number of labels n, and what would twice as many give."""
    if len(sizes) < 2:
        return f"{name}: one share tells nothing; give several, such as --learning-curve 0.1 0.25 0.5 1"
    _, exponent, deviation = power_law(sizes, errors)
    doubled = errors[-1] * 2.0**-exponent
    law = f"{name}: error ∝ n^{-exponent:.2f}" + (f" (± {deviation:.2f})" if np.isfinite(deviation) else "")
    if np.isfinite(deviation) and exponent < 2 * deviation:
        return f"{law}: no fall beyond the scatter; more labels of this kind may not help"
    if exponent <= 0:
        return f"{law}: the error does not fall; more labels of this kind may not help"
    return f"{law}: twice the labels would give about {doubled:.3g} instead of {errors[-1]:.3g}"


def _row(share: float, inside: report.Outputs) -> dict:
    """Share, mean number of training crystals, mean and deviation over the splits of every error."""
    metrics = pd.read_csv(inside.file("metrics.csv"))
    splits = [pd.read_csv(path) for path in sorted(inside.result.glob(f"{inside.run_id}_split*_ids.csv"))]
    row = {"share": share, "train": float(np.mean([(split["split"] == "train").sum() for split in splits]))}
    for column in report.mae_columns(metrics):
        row[column] = metrics[column].mean()
        if len(metrics) > 1:
            row[f"{column}_std"] = metrics[column].std(ddof=0)
    return row
