"""Does what a network learned of some alloys help with others? Trained directly, and from a parent, side by side."""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cgcnn import report
from cgcnn.component_splits import components_of
from cgcnn.labels import DataError
from cgcnn.naming import run_id
from cgcnn.results import RunResult
from cgcnn.study import Study

# what a child takes over: name → (from the parent, heads anew, body frozen)
WAYS = {
    "direct": (False, False, False),
    "keep towers": (True, False, False),
    "drop towers": (True, True, False),
    "freeze body": (True, False, True),
}


def transfer_study(args: Namespace, say: Callable[[str], None] = print) -> RunResult:
    """main.py --transfer-study PARENT CHILD: for each seed a parent, and a child in each of WAYS, on the same parts.

    Every run has a folder of its own under result/; one that is there already is not repeated, and one that was
    stopped goes on. Writes result/{run_id}_{PARENT}_{CHILD}_transfer.csv, and says mean ± deviation over the seeds.
    Returns the last run, or the one that was stopped. Raises DataError where the two splits share crystals.
    """
    parent_split, child_split = args.transfer_study
    if components_of(parent_split) & components_of(child_split):
        raise DataError(f"--transfer-study {parent_split} {child_split}: both are of some crystals; b1 b0 is usual")
    out = report.Outputs(Path(args.out_dir), f"{run_id(args)}_{parent_split}_{child_split}")
    study, rows = Study(args, say), []
    for k in range(args.num_splits):
        seed, parent_model = args.seed + k, None
        for name in ("parent", *WAYS):
            takes, anew, frozen = WAYS.get(name, (False, False, False))
            part = copy.copy(args)
            part.transfer_study, part.num_splits, part.seed = None, 1, seed
            part.split = parent_split if name == "parent" else child_split
            part.init_from = str(parent_model) if takes else None
            part.reset_heads, part.freeze_body = anew, frozen
            part.out_dir = str(out.file("transfer") / f"seed{seed}" / name.replace(" ", "_"))
            inside, result = study.run(part, f"seed {seed}: {name}, {part.split}")
            if result and result.exit_status:
                say("the same command goes on with the transfer study")
                return result
            parent_model = inside.file("trained_model.pt") if name == "parent" else parent_model
            rows.append({"seed": seed, "run": name, "split": part.split, **_errors(inside)})
    table = pd.DataFrame(rows)
    study.write(out.file("transfer.csv"), table)
    say(f"\n{parent_split} to {child_split}, test part, {args.num_splits} seeds ({out.file('transfer.csv')}):")
    say(summary(table))
    return study.last or RunResult(table, pd.DataFrame(), None, inside.file("trained_model.pt"))


def summary(table: pd.DataFrame) -> str:
    """Mean ± deviation over the seeds of every error, a row a way, those without structure below."""
    children = table[table["run"] != "parent"]
    tasks = [name.removesuffix("_MAE") for name in report.mae_columns(table)]
    cells = {}
    for name in WAYS:
        mae = children.loc[children["run"] == name, [f"{task}_MAE" for task in tasks]]
        cells[name] = [f"{mean:.4g} ± {spread:.2g}" for mean, spread in zip(mae.mean(), mae.std(ddof=0), strict=True)]
    for name in ("training mean", "composition"):
        columns = [f"{task} {name}" for task in tasks]
        cells[name] = [f"{value:.4g}" for value in children[columns].mean()]
    return pd.DataFrame(cells, index=tasks).T.to_string()


def _errors(inside: report.Outputs) -> dict[str, float]:
    """MAE of every regression of a run of one split, and those of predictors that know no structure."""
    metrics = pd.read_csv(inside.file("metrics.csv")).iloc[0]
    found = {name: metrics[name] for name in report.mae_columns(metrics.index)}
    for row in pd.read_csv(inside.file("baselines.csv")).to_dict("records"):
        found |= {f"{row['task']} {name}": row[name] for name in ("training mean", "composition") if name in row}
    return found
