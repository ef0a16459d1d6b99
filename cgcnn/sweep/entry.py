"""Where a combination of a sweep stands: what the trials that were made of it come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from cgcnn.sweep.combination import Combination

MAX_DEATHS = 3
# How a trial ended that is not complete. Without a word its worker died.
FAILED, STOPPED, DIED, DUPLICATE = "failed", "stopped", "died", "duplicate"
LOST = "lost"
LIVE = {TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}


@dataclass(frozen=True)
class Entry:
    """Where a combination stands: waiting, running, complete or failed, and what is known of it.

    score: mean validation score of a complete one. result: what its worker noted at the end. seconds: of all tries.
    """

    combination: Combination
    state: str
    score: float | None = None
    result: dict = field(default_factory=dict)
    seconds: float = 0.0


def combination_of(trial: FrozenTrial) -> Combination:
    """The combination that a trial stands for."""
    return Combination(**trial.user_attrs["combination"])


def entry_of(trials: Sequence[FrozenTrial]) -> Entry:
    """What the trials of one combination, oldest first, come to. LOST: it has to be queued again."""
    seconds = sum(t.user_attrs.get("result", {}).get("seconds", 0.0) for t in trials)
    one = combination_of(trials[-1])
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            return Entry(one, "complete", trial.value, trial.user_attrs["result"], seconds)
    for state, name in LIVE.items():
        if any(trial.state == state for trial in trials):
            return Entry(one, name, seconds=seconds)
    last = trials[-1].user_attrs
    result = last.get("result", {})
    if last.get("how") == FAILED:
        return Entry(one, "failed", None, result, seconds)
    first = max((k for k, trial in enumerate(trials) if trial.user_attrs["retry"]), default=0)
    deaths = sum(trial.user_attrs.get("how", DIED) == DIED for trial in trials[first:])
    if deaths < MAX_DEATHS:
        return Entry(one, LOST, seconds=seconds)
    lines = [f"died {deaths} times", *result.get("lines", ["its worker was silent"])]
    return Entry(one, "failed", None, {**result, "lines": lines}, seconds)
