"""Tables of a run: what is written to result/, and what the user reads at the end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cgcnn.files import held, is_writable, replacing
from cgcnn.fitting import Epoch
from cgcnn.labels import DataError
from cgcnn.metrics import column_name, task_metrics
from cgcnn.tasks import CATEGORY, TARGET, Task, TaskSet

_OWN_FILES = (
    r"(metrics|mae|baselines|swa|failed|near_duplicates|overall_timing_summary|adaptive_weights_summary)\.csv|config\.toml|report\.html"
    r"|split\d+_(ids|timing|history)\.csv|(split\d+_)?(trained|averaged|epoch)_model\.pt"
)
SECONDS_OF_ORPHANS = 8.0  # processes that read for a run that was killed keep its lock until they notice
_TOP_FILES = ("checkpoint.pth.tar", "model_best.pth.tar", "test_results.csv")


@dataclass(frozen=True)
class Outputs:
    """Where the files of one run go: result/ under the output folder, and the three beside it.

    models: names in result/ of its models that do not begin with the run's id.
    """

    folder: Path
    run_id: str
    models: tuple[str, ...] = ()

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
        models = [self.result / name for name in self.models]
        others = (*models, self.predictions, self.validation, *map(self.top, _TOP_FILES))
        return found + [path for path in others if path.exists()]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other run writes here. Raises DataError where one does, and where nothing can be written."""
        if not (is_writable(self.result) and is_writable(self.folder)):
            raise DataError(f"--out-dir {self.folder}: cannot be written")
        taken = f"--out-dir {self.folder}: another run is writing there"
        with held(self.result / ".lock", taken, patience=SECONDS_OF_ORPHANS):
            yield

    def move_old(self) -> str | None:
        """Files of an earlier run of these names to result/previous/<time>; the line that says so."""
        return move_aside(self.files(), self.result / "previous")


def move_aside(files: Sequence[Path], previous: Path) -> str | None:
    """Move files to a new folder previous/<time>; the line that says so, None where there is none."""
    if not files:
        return None
    stamp = time.strftime("%Y%m%d_%H%M%S")
    folder, k = previous / stamp, 1
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            folder, k = previous / f"{stamp}_{k}", k + 1
    for path in files:
        with suppress(FileNotFoundError):  # another run has moved it meanwhile
            path.rename(folder / path.name)
    return f"{len(files)} files of an earlier run moved to {folder}"


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


def baseline_table(without_structure: Sequence[Mapping[str, Mapping[str, float]]]) -> pd.DataFrame:
    """A row a split and task: MAE, or accuracy, of each predictor of `baselines`, one mapping a split."""
    rows = [
        {"split": k, "task": task, **errors}
        for k, split in enumerate(without_structure, start=1)
        for task, errors in split.items()
    ]
    return pd.DataFrame(rows)


def mae_columns(names: Iterable[str]) -> list[str]:
    """Those of the columns of metrics.csv that are the error of a regression on the test part."""
    return [name for name in names if name.endswith("_MAE") and not name.startswith("Val_")]


def write_mae(path: Path, rows: Sequence[Mapping[str, float]], configuration: Mapping[str, object]) -> None:
    """Configuration lines, the MAE of every split, their average and standard deviation."""
    table = pd.DataFrame([{name: row[name] for name in mae_columns(row)} for row in rows])
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


def end_table(
    tasks: TaskSet,
    labels: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    without_structure: Mapping[str, Mapping[str, float]],
) -> str:
    """The result as text: each task's number of test crystals, errors, and those of knowing no structure.

    labels (n, T) and predictions of the test part; without_structure: see `baselines`.
    """
    rows = []
    for k, task in enumerate(tasks):
        if task.role not in (TARGET, CATEGORY):
            continue
        metrics = task_metrics(task, labels[:, k], predictions[task.name])
        count = int((~np.isnan(labels[:, k])).sum())
        name = f"{task.name} ({task.unit})" if task.unit else task.name
        if task.is_regression:
            errors = ("MAE", metrics["MAE"], "R²", metrics["R^2"])
        else:
            errors = ("ACC", metrics["ACC"], "AUC", metrics["AUC"])
        baselines = [cell for baseline in without_structure[task.name].items() for cell in baseline]
        rows.append([name, count, *errors, *baselines])
    header = ["task", "test", "", "", "", "", "baseline"]
    length = max(map(len, rows))
    cells = [[_cell(value) for value in row] + [""] * (length - len(row)) for row in (header, *rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(length)]
    right = (1, 3, 5, 7, 9)
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
