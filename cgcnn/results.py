"""The end of a run: test every split, write the tables, save the models, say what came out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from cgcnn import checkpoint, html_report, report
from cgcnn.baselines import baselines
from cgcnn.checkpoint import TrainedModel
from cgcnn.held_out import write_validation
from cgcnn.inference import Model
from cgcnn.novelty import training_domain
from cgcnn.prepare import untrained_model, validation
from cgcnn.settings import flags_as_plain

if TYPE_CHECKING:
    from cgcnn.experiment import Experiment
    from cgcnn.resume import SplitResult


@dataclass
class RunResult:
    """What `cgcnn.fit` returns: metrics (a row a split), predictions of the test parts, the model, its files.

    baselines: a row a split and task, the errors of predictors that know no structure, as in baselines.csv.
    """

    metrics: pd.DataFrame
    predictions: pd.DataFrame
    model: Model | None
    model_path: Path
    exit_status: int = 0
    baselines: pd.DataFrame = field(default_factory=pd.DataFrame)


def finish(run: Experiment, graph_seconds: float) -> RunResult:
    """Everything that follows training, for all splits of the run."""
    rows, tables, models = [], [], []
    without_structure = [baselines(run.data, split, run.args.extensive) for split in run.splits]
    for k in range(len(run.splits)):
        model, row, table = _test_split(run, k, without_structure[k])
        models.append(model)
        rows.append(row)
        tables.append(table)
    best = int(np.argmin([result.score for result in run.done]))  # without a validation part: the first
    metrics, predictions = _write(run, rows, tables, models, best)
    compared = report.baseline_table(without_structure)
    report.write_table(run.out.file("baselines.csv"), compared)
    if run.args.is_validate:
        write_validation(run, best, models[best])
    if len(rows) > 1:
        means = (
            f"{c} {metrics[c].mean():.4f} ± {metrics[c].std(ddof=0):.4f}"
            for c in metrics.columns[1:]
            if not c.startswith("Val_")
        )
        run.say("\nmean over splits: " + ", ".join(means))
    training = sum(epoch.seconds for result in run.done for epoch in result.history)
    total = time.monotonic() - run.begun
    run.say(f"\ndata {graph_seconds:.1f} s, training {training:.1f} s, whole run {total:.1f} s")
    out = run.out
    run.say(
        f"predictions: {out.top('test_results.csv')}; model: {out.top('model_best.pth.tar')}; more in {out.result}"
    )
    html_report.write_report(run, metrics, compared, tables, graph_seconds)
    path = out.file("trained_model.pt")
    return RunResult(metrics, predictions, Model(models[best]), path, baselines=compared)


def _test_split(
    run: Experiment, k: int, without_structure: Mapping[str, Mapping[str, float]]
) -> tuple[TrainedModel, dict, pd.DataFrame]:
    """Predict the test part of split k with its best networks: the model, its row of metrics, its table."""
    data, split, result = run.data, run.splits[k], run.done[k]
    model = untrained_model(run.args, data, split, k + 1).with_states(result.states)
    networks = [network.to(run.device) for network in model.networks]
    predicted = run.predict(networks, model, torch.tensor(split.test, dtype=torch.int64), rule=model.rule)
    val = torch.tensor(split.val, dtype=torch.int64)
    unruled = run.predict(networks, model, val, rule=None)  # as when the epoch was chosen
    validated = unruled if model.rule is None else run.predict(networks, model, val, rule=model.rule)
    model.networks = [network.cpu() for network in networks]
    model.domain = training_domain(model.networks[0], run.collator, torch.tensor(split.train), seed=run.args.seed)
    labels = data.labels[split.test]
    title = f"split {k + 1} of {len(run.splits)}" if len(run.splits) > 1 else "result"
    run.say(f"\n{title}: test part, {_which(result)}")
    run.say(report.end_table(data.tasks, labels, predicted, without_structure))
    ids = [data.ids[i] for i in split.test]
    table = report.prediction_table(ids, data.tasks, predicted, labels, unnamed=data.unnamed)
    row = report.metric_row(data.tasks, labels, predicted)
    row |= {f"Val_{c}": v for c, v in report.metric_row(data.tasks, data.labels[split.val], validated).items()}
    row["Val_Score"], _ = validation(data, split, lambda _: unruled)(networks[0])
    return model, {"Split": k + 1, **row}, table


def _write(
    run: Experiment, rows: list[dict], tables: list[pd.DataFrame], models: list[TrainedModel], best: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All files of the run; `best` is the split whose model and table have the plain names."""
    out, several = run.out, len(tables) > 1
    for k, (result, model) in enumerate(zip(run.done, models, strict=True), start=1):
        report.write_timing(out.file(f"split{k}_timing.csv"), result.history)
        report.write_history(out.file(f"split{k}_history.csv"), result.history)
        if several:
            checkpoint.save(out.file(f"split{k}_trained_model.pt"), model.to_dict())
    checkpoint.save(out.file("trained_model.pt"), models[best].to_dict())
    checkpoint.save(out.top("model_best.pth.tar"), models[best].to_dict())
    _write_alloy_models(run, models[best], run.done[best])
    metrics = pd.DataFrame(rows)
    report.write_table(out.file("metrics.csv"), metrics)
    report.write_mae(out.file("mae.csv"), rows, flags_as_plain(run.args))
    predictions = tables[0]
    if several:
        predictions = pd.concat([t.assign(split=k) for k, t in enumerate(tables, start=1)], ignore_index=True)
    report.write_table(out.predictions, predictions)
    report.write_table(out.top("test_results.csv"), tables[best])
    histories = [result.history for result in run.done]
    timing = [
        {"split": k, "epochs": len(history), **report.timing_summary(history)}
        for k, history in enumerate(histories, start=1)
    ]
    report.write_table(out.file("overall_timing_summary.csv"), pd.DataFrame(timing))
    if run.args.adaptive_weights:
        names = [task.name for task in run.data.tasks.targets]
        report.write_adaptive(out.file("adaptive_weights_summary.csv"), histories, names)
    return metrics, predictions


def _write_alloy_models(run: Experiment, model: TrainedModel, result: SplitResult) -> None:
    """The two files of `alloy_models`: the last epoch's network and, where there is a validation part, the best."""
    for name, states in zip(run.out.models, (result.last, result.states), strict=False):
        content = replace(model, networks=[]).with_states(states).to_dict()
        checkpoint.save(run.out.result / name, content)
    if run.out.models:
        run.say(f"models as published: {', '.join(str(run.out.result / name) for name in run.out.models)}")


def _which(result: SplitResult) -> str:
    """The network that is tested, in words."""
    scores = np.array([epoch.score for epoch in result.history])
    chosen = "last epoch, no validation" if np.isnan(result.score) else "best on validation"
    if len(result.states) > 1:
        return f"mean of {len(result.states)} networks ({chosen})"
    if np.isnan(result.score):
        return f"network of epoch {len(scores)} ({chosen})"
    best = int(np.argmin(scores))
    name = f"network of epoch {best + 1}" if result.score >= scores[best] else "averaged network"
    return f"{name} ({chosen})"
