"""Numbers from predictions: errors of each task, beside those of a predictor that knows no structure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from cgcnn.tasks import Task

SHORT_NAMES = {"work_function": "WorkFunc", "band_gap": "BandGap", "material_type": "MaterialType"}


def regression_metrics(target: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """MAE, RMSE (the target's unit) and R² of target, prediction (n,); unlabelled samples (NaN) do not count.

    R² is NaN for fewer than two labels, or labels that are all the same.
    """
    known = ~np.isnan(target)
    target, error = target[known], prediction[known] - target[known]
    if not len(target):
        return {"MAE": np.nan, "RMSE": np.nan, "R^2": np.nan}
    spread = float(((target - target.mean()) ** 2).sum())
    r2 = 1 - float((error**2).sum()) / spread if len(target) > 1 and spread > 0 else np.nan
    return {"MAE": float(np.abs(error).mean()), "RMSE": float(np.sqrt((error**2).mean())), "R^2": r2}


def classification_metrics(target: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Accuracy, F1 (of class 1, or the mean over classes), AUC and cross-entropy; target (n,), probability (n, C).

    AUC is NaN where only one class is present; for more than two it is the mean of one against the rest.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    known = ~np.isnan(target)
    label, probability = target[known].astype(int), probability[known]
    if not len(label):
        return {"ACC": np.nan, "F1": np.nan, "AUC": np.nan, "Loss": np.nan}
    guess = probability.argmax(axis=1)
    classes = probability.shape[1]
    one_against_rest = [
        roc_auc_score(label == c, probability[:, c])
        for c in (range(classes) if classes > 2 else [1])
        if 0 < (label == c).sum() < len(label)
    ]
    return {
        "ACC": float((guess == label).mean()),
        "F1": float(f1_score(label, guess, average="binary" if classes == 2 else "macro", zero_division=0)),
        "AUC": float(np.mean(one_against_rest)) if one_against_rest else np.nan,
        "Loss": float(-np.log(np.clip(probability[np.arange(len(label)), label], 1e-12, 1)).mean()),
    }


def task_metrics(task: Task, target: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Metrics of one task: prediction (n,) in its unit, or probabilities (n, C)."""
    if task.is_regression:
        return regression_metrics(target, prediction)
    return classification_metrics(target, prediction)


def trivial_metrics(task: Task, training: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """What a predictor without structure reaches: the training mean always, or the shares of the classes."""
    known = training[~np.isnan(training)]
    if task.is_regression:
        return regression_metrics(target, np.full(len(target), known.mean() if len(known) else np.nan))
    counts = np.bincount(known.astype(int), minlength=task.num_outputs)
    return classification_metrics(target, np.tile(counts / max(counts.sum(), 1), (len(target), 1)))


def validation_score(metrics: Mapping[str, Mapping[str, float]], scales: Mapping[str, float]) -> float:
    """Mean over the targets of MAE over the training standard deviation, or cross-entropy: lower is better.

    metrics: task → its metrics; scales: task → standard deviation (regressions only). Tasks without labels in
    the validation part do not count.
    """
    terms = [m["MAE"] / scales[name] if name in scales else m["Loss"] for name, m in metrics.items()]
    known = [term for term in terms if not math.isnan(term)]
    return float(np.mean(known)) if known else math.inf


def column_name(task: Task, metric: str) -> str:
    """Name of a metric's column, as the original tables have it: WorkFunc_MAE, BandGap_R^2, <task>_ACC."""
    return f"{SHORT_NAMES.get(task.name, task.name)}_{metric}"
