"""The networks of a split on its test part: those that are saved and, with --swa, what they were chosen from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cgcnn import report
from cgcnn.checkpoint import TrainedModel
from cgcnn.novelty import training_domain
from cgcnn.prepare import validation

if TYPE_CHECKING:
    from cgcnn.experiment import Experiment
    from cgcnn.resume import SplitResult

AVERAGED, EPOCH = "averaged", "epoch"
_State = Mapping[str, Tensor]


@dataclass
class Tested:
    """A model, its row of metrics.csv and its table of predictions.

    both: `averaged` and `epoch` → the model of averaged weights and that of single epochs; one of them is this one,
    unless some networks of an ensemble are averages and others are not. Empty without averaged weights.
    """

    model: TrainedModel
    row: dict
    table: pd.DataFrame
    both: dict[str, Tested] = field(default_factory=dict)

    @property
    def others(self) -> dict[str, Tested]:
        """Those of `both` that are not this one."""
        return {name: tested for name, tested in self.both.items() if tested is not self}


def test_networks(run: Experiment, k: int, without_structure: Mapping[str, Mapping[str, float]]) -> Tested:
    """Predict the test part of split k with its best networks, and say what came out."""
    result = run.done[k]
    title = f"split {k + 1} of {len(run.splits)}" if len(run.splits) > 1 else "result"
    best = _test(run, k, result.states, f"{title}: test part, {which(result)}", without_structure)
    for name, states in candidates(result).items():
        if all(one is other for one, other in zip(states, result.states, strict=True)):
            best.both[name] = best
            continue
        best.both[name] = _test(run, k, states, f"beside it: {which(result, name)}", without_structure)
    return best


def candidates(result: SplitResult) -> dict[str, list[_State]]:
    """`averaged`, `epoch` → the states of the split's networks; nothing where no network has an average.

    A network that patience ended before any step was averaged is that of its best epoch in both.
    """
    if all(other is None for other in result.others):
        return {}
    rows = list(zip(result.states, result.others, result.averaged, strict=True))
    return {
        AVERAGED: [state if is_averaged or other is None else other for state, other, is_averaged in rows],
        EPOCH: [other if is_averaged else state for state, other, is_averaged in rows],
    }


def which(result: SplitResult, name: str | None = None) -> str:
    """The networks of one of `candidates`, or those that are saved, in words."""
    several, validated = len(result.states), not np.isnan(result.score)
    is_averaged = any(result.averaged) if name is None else name == AVERAGED
    reason = ("last epochs" if is_averaged else "last epoch") + ", no validation"
    if validated:
        reason = "best on validation" if name is None else "for comparison"
    if several > 1:
        kind = {AVERAGED: "averaged ", EPOCH: "single-epoch "}.get(name, "averaged " * all(result.averaged))
        return f"mean of {several} {kind}networks ({reason})"
    if is_averaged:
        return f"averaged network ({reason})"
    scores = [epoch.score for epoch in result.history]
    return f"network of epoch {int(np.argmin(scores)) + 1 if validated else len(scores)} ({reason})"


def comparison_table(tested: Sequence[Tested]) -> pd.DataFrame:
    """A row a split and candidate, with the columns of metrics.csv; is_saved: whether it is the model of the run."""
    rows = [
        {"split": each.row["Split"], "network": name, "is_saved": one is each, **one.row}
        for each in tested
        for name, one in each.both.items()
    ]
    return pd.DataFrame(rows).drop(columns="Split", errors="ignore")


def _test(
    run: Experiment,
    k: int,
    states: Sequence[_State],
    title: str,
    without_structure: Mapping[str, Mapping[str, float]],
) -> Tested:
    data, split = run.data, run.splits[k]
    model = replace(run.templates[k], networks=[]).with_states(states)
    networks = [network.to(run.device) for network in model.networks]
    predicted = run.predict(networks, model, torch.tensor(split.test, dtype=torch.int64), rule=model.rule)
    val = torch.tensor(split.val, dtype=torch.int64)
    unruled = run.predict(networks, model, val, rule=None)  # as when the epoch was chosen
    validated = unruled if model.rule is None else run.predict(networks, model, val, rule=model.rule)
    model.networks = [network.cpu() for network in networks]
    model.domain = training_domain(model.networks[0], run.host, torch.tensor(split.train), seed=run.args.seed)
    labels = data.labels[split.test]
    run.say(f"\n{title}")
    run.say(report.end_table(data.tasks, labels, predicted, without_structure))
    ids = [data.ids[i] for i in split.test]
    table = report.prediction_table(ids, data.tasks, predicted, labels, unnamed=data.unnamed)
    row = report.metric_row(data.tasks, labels, predicted)
    row |= {f"Val_{c}": v for c, v in report.metric_row(data.tasks, data.labels[split.val], validated).items()}
    row["Val_Score"], _ = validation(data, split, lambda _: unruled)(networks[0])
    return Tested(model, {"Split": k + 1, **row}, table)
