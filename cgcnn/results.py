"""The end of a run: test every split, write the tables, save the models, say what came out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cgcnn import checkpoint, html_report, report
from cgcnn.baselines import baselines
from cgcnn.checkpoint import TrainedModel
from cgcnn.held_out import write_validation
from cgcnn.inference import Model
from cgcnn.settings import flags_as_plain
from cgcnn.tested import Tested, comparison_table, test_networks

if TYPE_CHECKING:
    from cgcnn.experiment import Experiment
    from cgcnn.resume import SplitResult


@dataclass
class RunResult:
    """What `cgcnn.fit` returns: metrics (a row a split), predictions of the test parts, the model, its files.

    baselines: a row a split and task, the errors of predictors that know no structure, as in baselines.csv. swa: a
    row a split for the averaged network and for that of one epoch, as in swa.csv.
    """

    metrics: pd.DataFrame
    predictions: pd.DataFrame
    model: Model | None
    model_path: Path
    exit_status: int = 0
    baselines: pd.DataFrame = field(default_factory=pd.DataFrame)
    swa: pd.DataFrame = field(default_factory=pd.DataFrame)


def finish(run: Experiment, graph_seconds: float) -> RunResult:
    """Everything that follows training, for all splits of the run."""
    without_structure = [baselines(run.data, split, run.args.extensive) for split in run.splits]
    tested = [test_networks(run, k, without_structure[k]) for k in range(len(run.splits))]
    tables = [each.table for each in tested]
    best = int(np.argmin([result.score for result in run.done]))  # without a validation part: the first
    metrics, predictions = _write(run, tested, best)
    compared = report.baseline_table(without_structure)
    report.write_table(run.out.file("baselines.csv"), compared)
    if run.args.is_validate:
        write_validation(run, best, tested[best].model)
    if len(tested) > 1:
        means = (
            f"{c} {metrics[c].mean():.4f} ± {metrics[c].std(ddof=0):.4f}"
            for c in metrics.columns[1:]
            if not c.startswith("Val_")
        )
        run.say("\nmean over splits: " + ", ".join(means))
    training = sum(epoch.seconds for result in run.done for epoch in result.history)
    total = time.monotonic() - run.begun
    before = " (in all), this start" if run.args.resume else ", whole run"
    run.say(f"\ndata {graph_seconds:.1f} s, training {training:.1f} s{before} {total:.1f} s")
    out = run.out
    run.say(
        f"predictions: {out.top('test_results.csv')}; model: {out.top('model_best.pth.tar')}; more in {out.result}"
    )
    averaged = comparison_table(tested)
    html_report.write_report(run, metrics, compared, tables, graph_seconds, averaged)
    path = out.file("trained_model.pt")
    model = Model(tested[best].model)
    return RunResult(metrics, predictions, model, path, baselines=compared, swa=averaged)


def _write(run: Experiment, tested: Sequence[Tested], best: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All files of the run; `best` is the split whose model and table have the plain names."""
    out, several = run.out, len(tested) > 1
    rows, tables = [each.row for each in tested], [each.table for each in tested]
    for k, (result, each) in enumerate(zip(run.done, tested, strict=True), start=1):
        report.write_timing(out.file(f"split{k}_timing.csv"), result.history)
        report.write_history(out.file(f"split{k}_history.csv"), result.history)
        if several:
            _write_models(run, f"split{k}_", each)
    _write_models(run, "", tested[best])
    checkpoint.save(out.top("model_best.pth.tar"), tested[best].model.to_dict())
    _write_alloy_models(run, tested[best].model, run.done[best])
    if any(each.both for each in tested):
        report.write_table(out.file("swa.csv"), comparison_table(tested))
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


def _write_models(run: Experiment, prefix: str, tested: Tested) -> None:
    """The model of a split and, with averaged weights, those beside which it was chosen."""
    checkpoint.save(run.out.file(f"{prefix}trained_model.pt"), tested.model.to_dict())
    for name, other in tested.others.items():
        checkpoint.save(run.out.file(f"{prefix}{name}_model.pt"), other.model.to_dict())


def _write_alloy_models(run: Experiment, model: TrainedModel, result: SplitResult) -> None:
    """The two files of `alloy_models`: the last epoch's network and, where there is a validation part, the best."""
    for name, states in zip(run.out.models, (result.last, result.states), strict=False):
        content = replace(model, networks=[]).with_states(states).to_dict()
        checkpoint.save(run.out.result / name, content)
    if run.out.models:
        run.say(f"models as published: {', '.join(str(run.out.result / name) for name in run.out.models)}")
