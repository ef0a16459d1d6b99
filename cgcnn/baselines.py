"""What predictors without structure reach on the test part: the training mean, a linear model of the composition."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from cgcnn.composition import linear_model
from cgcnn.dataset import Dataset
from cgcnn.metrics import regression_metrics, trivial_metrics
from cgcnn.splits import Split
from cgcnn.tasks import CATEGORY, TARGET

MEAN, LARGEST, COMPOSITION = "training mean", "largest class", "composition"


def baselines(data: Dataset, split: Split, extensive: Collection[str] = ()) -> dict[str, dict[str, float]]:
    """Task → name of the predictor → MAE (the task's unit) or accuracy on the test part of a split.

    extensive: the tasks that grow with the cell: the linear model counts atoms for them, takes shares for the others.
    """
    found = {}
    for column, task in enumerate(data.tasks):
        if task.role not in (TARGET, CATEGORY):
            continue
        training, labels = data.labels[split.train, column], data.labels[split.test, column]
        trivial = trivial_metrics(task, training, labels)
        if not task.is_regression:
            found[task.name] = {LARGEST: trivial["ACC"]}
            continue
        guess = np.full(len(labels), np.nan)
        if not np.isnan(training).all():
            model = linear_model(data.atoms[split.train], training, is_extensive=task.name in extensive)
            guess = model(data.atoms[split.test])
        found[task.name] = {MEAN: trivial["MAE"], COMPOSITION: regression_metrics(labels, guess)["MAE"]}
    return found
