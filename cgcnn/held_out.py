"""The validation part as the finished model predicts it: what predict.py --calibrate takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cgcnn.checkpoint import TrainedModel
from cgcnn.report import write_table
from cgcnn.screening.columns import full_table
from cgcnn.screening.ensemble import Ensemble

if TYPE_CHECKING:
    from cgcnn.experiment import Experiment


def write_validation(run: Experiment, k: int, model: TrainedModel) -> None:
    """Targets and predictions of split k's validation part, as predict.py would write them, to `run.out.validation`.

    The epoch was chosen on them, so that their errors are a little smaller than those of new crystals.
    """
    data, rows = run.data, np.array(run.splits[k].val)
    model.networks = [network.to(run.device) for network in model.networks]
    ensemble = Ensemble([model], batch_size=run.args.batch_size).with_features(data.features)
    predicted = ensemble.predict([data.ids[row] for row in rows], [data.table], rows)
    model.networks = [network.cpu() for network in model.networks]
    shown = [data.tasks.column(task.name) for task in ensemble.tasks]
    table = full_table(ensemble.tasks, predicted, data.labels[rows][:, shown], unnamed=data.unnamed)
    write_table(run.out.validation, table)
