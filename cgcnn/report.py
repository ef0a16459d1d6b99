"""Tables of a run: what is written to result/, and what the user reads at the end."""

from __future__ import annotations

import re
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cgcnn.files import replacing
from cgcnn.labels import DataError
from cgcnn.metrics import column_name, task_metrics, trivial_metrics
from cgcnn.tasks import CATEGORY, TARGET, Task, TaskSet
from cgcnn.training import Epoch

_OWN_FILES = (
    r"(metrics|mae|failed|near_duplicates|overall_timing_summary|adaptive_weights_summary)\.csv|config\.toml|report\.html"
    r"|split\d+_(ids|timing|history)\.csv|(split\d+_)?trained_model\.pt"
)
_TOP_FILES = ("checkpoint.pth.tar", "model_best.pth.tar", "test_results.csv")


@dataclass(frozen=True)
class Outputs:
    """Where the files of one run go: result/ under the output folder, and the three beside it."""

    folder: Path
    run_id: str

    @property
    def result(self) -> Path:
        return self.folder / "result"

    def file(self, name: str) -> Path:
        """result/{run_id}_{name}."""
        return self.result / f"{self.run_id}_{name}"

    def top(self, name: str) -> Path:
        return self.folder / name

    @property
    def predictions(self) -> Path:
        return self.result / "predictions" / f"{self.run_id}_predictions.csv"

    @property
    def validation(self) -> Path:
        return self.result / "predictions" / f"{self.run_id}_validation.csv"

    def files(self) -> list[Path]:
        """The files of this run that are there, but for its logs."""
        mine = re.compile(re.escape(self.run_id) + f"_({_OWN_FILES})")
        found = [path for path in sorted(self.result.glob("*")) if mine.fullmatch(path.name)]
        others = (self.predictions, self.validation, *map(self.top, _TOP_FILES))
        return found + [path for path in others if path.exists()]

    def move_old(self) -> str | None:
        """Files of an earlier run of these names to result/previous/<time>; the line that says so."""
        return move_aside(self.files(), self.result / "previous")


def move_aside(files: Sequence[Path], previous: Path) -> str | None:
    """Move files to a new folder previous/<time>; the line that says so, None where there is none."""
    if not files:
        return None
    stamp = time.strftime("%Y%m%d_%H%M%S")
    folder, k = previous / stamp, 1
    while folder.exists():
        folder, k = previous / f"{stamp}_{k}", k + 1
    folder.mkdir(parents=True)
    for path in files:
        path.rename(folder / path.name)
    return f"{len(files)} files of an earlier run moved to {folder}"


def run_id(args: Namespace) -> str:
    """The name of a run, as the published scripts build it."""
    parts = [] if args.model == "cgcnn" else [args.model]
    parts += [args.scheduler, args.pooling, "adaptive" if args.adaptive_weights else "fixed"]
    if args.conditional_loss:
        ratio = args.semiconductor_weight / args.metal_weight if args.metal_weight else float("inf")
        parts.append(f"cond_cls{args.classification_weight:.2f}_ratio{ratio:.2f}_thresh{args.metal_threshold:.2f}")
    parts.append(f"task2w{args.task2_weight:.2f}_aux{'+' if args.auxiliary_tasks else '-'}")
    if args.auxiliary_tasks:
        parts += [f"aux{k}w{getattr(args, f'aux_task{k}_weight'):.2f}" for k in (1, 2, 3)]
    parts.append(f"minbg{args.min_bandgap}_lr{args.lr}_e{args.epochs}_wd{args.weight_decay}")
    if args.run_name:
        if not re.fullmatch(r"[\w.+-]+", args.run_name):
            raise DataError(f"--run-name {args.run_name!r}: letters, digits and . _ + - only")
        parts.append(args.run_name)
    return "_".join(parts)


def prediction_table(
    ids: Sequence[str],
    tasks: TaskSet,
    predictions: Mapping[str, np.ndarray],
    labels: np.ndarray | None = None,
    *,
    unnamed: bool = False,
) -> pd.DataFrame:
    """A row a crystal: labels (n, T; blank where unknown) beside predictions, of the targets and the category."""
    columns: dict[str, object] = {"cif_id": list(ids)}
    for k, task in enumerate(tasks):
        if task.role not in (TARGET, CATEGORY):
            continue
        predicted = predictions[task.name]
        label = np.full(len(ids), np.nan) if labels is None else labels[:, k]
        if task.is_regression:
            columns["target" if unnamed else f"{task.name}_target"] = label
            columns["prediction" if unnamed else f"{task.name}_pred"] = predicted
            continue
        columns["target" if unnamed else f"{task.name}_target"] = pd.array(label, dtype="Int64")
        if unnamed and len(task.classes) == 2:
            columns["prediction"] = predicted[:, 1]
            continue
        columns["prediction" if unnamed else f"{task.name}_pred"] = predicted.argmax(axis=1)
        columns |= _probabilities(task, predicted, "class" if unnamed else task.name)
    return pd.DataFrame(columns)


def _probabilities(task: Task, predicted: np.ndarray, name: str) -> dict[str, np.ndarray]:
    if task.role == CATEGORY:
        return {f"{c}_prob": predicted[:, k] for k, c in enumerate(task.classes)}
    if len(task.classes) == 2:
        return {f"{name}_prob": predicted[:, 1]}
    return {f"{name}_prob_{c}": predicted[:, k] for k, c in enumerate(task.classes)}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A CSV with nine significant digits, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.9g")


def write_failed(path: Path, failed: Mapping[str, str]) -> None:
    """The crystals that could not be used, id → reason."""
    write_table(path, pd.DataFrame(failed.items(), columns=["cif_id", "reason"]))


def metric_row(tasks: TaskSet, labels: np.ndarray, predictions: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The row of metrics.csv of one split: MAE and R² of each regression, ACC, F1, AUC and Loss of each class."""
    row = {}
    for k, task in enumerate(tasks):
        if task.role not in (TARGET, CATEGORY):
            continue
        metrics = task_metrics(task, labels[:, k], predictions[task.name])
        shown = ("MAE", "R^2") if task.is_regression else ("ACC", "F1", "AUC", "Loss")
        row |= {column_name(task, name): metrics[name] for name in shown}
    return row


def write_mae(path: Path, rows: Sequence[Mapping[str, float]], configuration: Mapping[str, object]) -> None:
    """Configuration lines, the MAE of every split, their average and standard deviation."""
    table = pd.DataFrame(
        [{k: v for k, v in row.items() if k.endswith("_MAE") and not k.startswith("Val_")} for row in rows]
    )
    table.insert(0, "Split", [str(k + 1) for k in range(len(rows))])
    numbers = table.drop(columns="Split")
    for name, line in (("Average", numbers.mean()), ("Std Dev", numbers.std(ddof=0))):
        table.loc[len(table)] = {"Split": name, **line.to_dict()}
    with replacing(path) as temporary:
        text = "".join(f"# {name} = {value}\n" for name, value in configuration.items())
        temporary.write_text(text + table.to_csv(index=False, float_format="%.9g"), encoding="utf-8")


def timing_summary(history: Sequence[Epoch]) -> dict[str, float]:
    """Total, mean, fastest and slowest epoch in seconds."""
    seconds = [epoch.seconds for epoch in history]
    if not seconds:
        return {"total": 0.0, "mean": np.nan, "fastest": np.nan, "slowest": np.nan}
    return {
        "total": sum(seconds),
        "mean": sum(seconds) / len(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
    }


def write_timing(path: Path, history: Sequence[Epoch]) -> None:
    """The summary of `timing_summary`, then a row an epoch."""
    rows = [*timing_summary(history).items(), *((k + 1, epoch.seconds) for k, epoch in enumerate(history))]
    write_table(path, pd.DataFrame(rows, columns=["epoch", "seconds"]))


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Learning curves: rate, training loss of every task, validation score and metrics of every epoch."""
    rows = [
        {
            "epoch": k + 1,
            "lr": epoch.lr,
            **{f"{name}_train_loss": loss for name, loss in epoch.losses.items()},
            "val_score": epoch.score,
            **{f"val_{name}": value for name, value in epoch.metrics.items()},
        }
        for k, epoch in enumerate(history)
    ]
    write_table(path, pd.DataFrame(rows))


def write_adaptive(path: Path, histories: Sequence[Sequence[Epoch]], names: Sequence[str]) -> None:
    """Weights of the targets in every epoch of every split."""
    rows = [
        {"split": k + 1, "epoch": n + 1, **{f"{name}_weight": epoch.weights[name] for name in names}}
        for k, history in enumerate(histories)
        for n, epoch in enumerate(history)
    ]
    write_table(path, pd.DataFrame(rows))


def end_table(tasks: TaskSet, labels: np.ndarray, predictions: Mapping[str, np.ndarray], training: np.ndarray) -> str:
    """The result as text: each task's number of test crystals, errors, and those of knowing no structure.

    labels (n, T) and predictions of the test part, training (m, T) labels of the training part.
    """
    rows = []
    for k, task in enumerate(tasks):
        if task.role not in (TARGET, CATEGORY):
            continue
        metrics = task_metrics(task, labels[:, k], predictions[task.name])
        trivial = trivial_metrics(task, training[:, k], labels[:, k])
        count = int((~np.isnan(labels[:, k])).sum())
        name = f"{task.name} ({task.unit})" if task.unit else task.name
        if task.is_regression:
            rows.append((name, count, "MAE", metrics["MAE"], "R²", metrics["R^2"], "training mean", trivial["MAE"]))
        else:
            rows.append((name, count, "ACC", metrics["ACC"], "AUC", metrics["AUC"], "largest class", trivial["ACC"]))
    header = ("task", "test", "", "", "", "", "baseline", "")
    cells = [header, *((_cell(value) for value in row) for row in rows)]
    cells = [list(row) for row in cells]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    right = (1, 3, 5, 7)
    return "\n".join(
        "  ".join(
            c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.4f}"
    return str(value)
