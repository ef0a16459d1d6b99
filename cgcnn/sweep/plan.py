"""Which combinations a sweep runs: all of a grid, so many drawn at random, or one after another by TPE."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cgcnn.sweep.axes import Axis
from cgcnn.sweep.combination import Combination, Settler
from cgcnn.sweep.flags import SweepFlags

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from cgcnn.sweep.entry import Entry

_TRIES = 50


class Listed:
    """Combinations that are known from the start."""

    def __init__(self, combinations: Sequence[Combination]) -> None:
        self.combinations = list({one.key: one for one in combinations}.values())

    def total(self, entries: Sequence[Entry]) -> int:
        """How many combinations the sweep has in the end."""
        return len(entries) + len(self.missing(entries))

    def missing(self, entries: Sequence[Entry]) -> list[Combination]:
        """Those that are not in the queue yet."""
        known = {entry.combination.key for entry in entries}
        return [one for one in self.combinations if one.key not in known]


class Suggested:
    """Combinations that TPE suggests, each from all that is known by then; it minimises the validation score.

    At most `trials`, those in the queue included. https://doi.org/10.1145/3292500.3330701
    """

    def __init__(self, axes: Sequence[Axis], trials: int, seed: int, settle: Settler) -> None:
        self.axes, self.trials, self.seed, self.settle = axes, trials, seed, settle

    def total(self, entries: Sequence[Entry]) -> int:
        """How many combinations the sweep has in the end."""
        return max(len(entries), self.trials)

    def missing(self, entries: Sequence[Entry]) -> list[Combination]:
        """The next one, unless one already waits, or there are enough."""
        if len(entries) >= self.trials or any(entry.state == "waiting" for entry in entries):
            return []
        known = {entry.combination.key for entry in entries}
        for k in range(2 * _TRIES):  # in a small space TPE repeats itself, chance does not
            seed = self.seed + 1000 * len(entries) + k
            found = self.settle(_draw(self.axes, seed, entries if k < _TRIES else None))
            if found.key not in known:
                return [found]
        return [one for one in map(self.settle, all_values(self.axes)) if one.key not in known][:1]


def make_plan(flags: SweepFlags, settle: Settler) -> Listed | Suggested:
    """What the flags ask for. Raises DataError for a combination that main.py refuses."""
    settle(_draw(flags.axes, 0, None))
    if flags.sampler == "tpe":
        return Suggested(flags.axes, flags.trials, flags.seed, settle)
    if flags.sampler == "grid":
        return Listed([settle(values) for values in all_values(flags.axes)])
    is_finite = not any(axis.range for axis in flags.axes)
    wanted = min(flags.trials, len(all_values(flags.axes))) if is_finite else flags.trials
    found: dict[str, Combination] = {}
    for seed in range(_TRIES * wanted):
        one = settle(_draw(flags.axes, flags.seed * 1_000_003 + seed, None))
        found.setdefault(one.key, one)
        if len(found) == wanted:
            break
    return Listed(list(found.values()))


def all_values(axes: Sequence[Axis]) -> list[dict]:
    """Every combination of the axes' values, the last axis changing fastest; none where an axis is a range."""
    names = [axis.name for axis in axes]
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*(axis.values for axis in axes))]


def _draw(axes: Sequence[Axis], seed: int, entries: Sequence[Entry] | None) -> dict:
    """One combination: by TPE from what the entries show, or at random."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spaces = {axis.name: _space(axis) for axis in axes}
    sampler = optuna.samplers.RandomSampler(seed=seed)
    if entries is not None:
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    study = optuna.create_study(sampler=sampler)
    for entry in entries or ():
        if trial := _as_trial(entry, axes, spaces):
            study.add_trial(trial)
    params = study.ask(spaces).params
    return {axis.name: _rounded(params[axis.name], axis) for axis in axes}


def _space(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not axis.range:
        return CategoricalDistribution(range(len(axis.values)))
    kind = IntDistribution if isinstance(axis.range.low, int) else FloatDistribution
    return kind(axis.range.low, axis.range.high, log=axis.range.is_log)


def _rounded(param: float, axis: Axis) -> object:
    """The value; numbers from a range to four digits, which is what a table can show."""
    if not axis.range:
        return axis.values[param]
    return param if isinstance(param, int) else min(max(float(f"{param:.4g}"), axis.range.low), axis.range.high)


def _as_trial(entry: Entry, axes: Sequence[Axis], spaces: Mapping[str, BaseDistribution]):
    """What TPE learns from an entry: one that is complete or under way, and lies in the space."""
    import optuna

    if entry.state not in ("complete", "running"):
        return None
    params = {}
    for axis in axes:
        value = entry.combination.values.get(axis.name)
        if axis.range and not (isinstance(value, int | float) and axis.range.low <= value <= axis.range.high):
            return None
        if not axis.range and value not in axis.values:
            return None
        params[axis.name] = value if axis.range else axis.values.index(value)
    state = optuna.trial.TrialState.COMPLETE if entry.state == "complete" else optuna.trial.TrialState.RUNNING
    return optuna.trial.create_trial(state=state, value=entry.score, params=params, distributions=dict(spaces))
