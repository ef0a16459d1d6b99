"""The queue that all workers of a sweep share: an Optuna study in a database, where each combination stands once.

Optuna's own loop starts a new trial where its queue is empty, and on SQLite two workers can take the same trial from
it. Here trials are only taken from the queue, under a lock; should a database not lock, of two that stand for one
combination the earlier counts. A worker shows that it lives by a heartbeat; a trial whose worker is silent, that was
stopped, or whose process died, is queued again as a new trial of the same combination.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol, TypeVar

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from cgcnn.labels import DataError
from cgcnn.sweep.combination import Combination
from cgcnn.sweep.entry import DUPLICATE, FAILED, LIVE, LOST, Entry, combination_of, entry_of
from cgcnn.sweep.storage import Database, first_line

_WAITS = (1, 2, 5, 10, 30, 60, 120)  # seconds between tries where the database does not answer
T = TypeVar("T")


class Plan(Protocol):
    """What should be in the queue, given what is."""

    def missing(self, entries: Sequence[Entry]) -> list[Combination]: ...


@dataclass(frozen=True)
class Claim:
    """A trial that this worker has taken, and no other can."""

    trial_id: int
    number: int
    combination: Combination


class Queue:
    """The queue of one sweep. Safe to use from several threads, processes and machines."""

    def __init__(self, url: str | URL, name: str, *, grace: float = 60.0) -> None:
        """Open the database, which is made if need be. grace: seconds. Raises DataError."""
        self.name = name
        self._interval = max(1, int(grace / 6))
        self._database = database = Database(url, name, beat=self._interval, grace=max(1, round(grace)))
        self.shown_url, self._lock, self._storage = database.shown_url, database.lock, database.storage
        self._held: set[int] = set()
        self._closed = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    def join(self, identity: Mapping[str, object], explain: Callable[[Mapping], str | None]) -> None:
        """Enter the sweep, as its first worker or a further one.

        identity: what all its trials have in common, in plain types. explain: identity of the first worker → the
        line that says why this one cannot join it. Raises DataError with that line.
        """

        def enter() -> Mapping:
            with self._lock:
                self._study = optuna.create_study(study_name=self.name, storage=self._storage, load_if_exists=True)
                first = self._study.user_attrs.get("sweep")
                if first is None:
                    first = dict(identity)
                    self._study.set_user_attr("sweep", first)
                return first

        if reason := explain(self._patiently(enter)):
            raise DataError(f"{self.shown_url}: {reason}")
        self._beats.start()

    def close(self) -> None:
        """No more heartbeats: what is still taken will be taken for dead."""
        self._closed.set()

    def entries(self) -> list[Entry]:
        """Every combination once, in the order in which they were queued; what will be queued again waits."""
        found = self._patiently(lambda: [entry_of(trials) for trials in self._by_key().values()])
        return [replace(entry, state="waiting") if entry.state == LOST else entry for entry in found]

    @property
    def num_held(self) -> int:
        """How many trials this worker has taken."""
        return len(self._held)

    def retry_failed(self) -> int:
        """Queue the failed combinations again, and say how many."""
        count = 0

        def queue_again() -> None:
            nonlocal count
            with self._lock:
                for trials in self._by_key().values():
                    if entry_of(trials).state == FAILED:
                        self._add(combination_of(trials[-1]), retry=True)
                        count += 1

        self._patiently(queue_again)
        return count

    def take(self, plan: Plan) -> Claim | None:
        """The next trial that waits, after all that should be in the queue was put there. None: nothing waits."""
        return self._patiently(lambda: self._take(plan))

    def complete(self, claim: Claim, score: float, result: Mapping[str, object]) -> bool:
        """Note the result. False where this worker had been taken for dead, and another has the trial now."""
        return self._end(claim, {"result": dict(result)}, score)

    def drop(self, claim: Claim, how: str, result: Mapping[str, object]) -> bool:
        """Note that a trial FAILED, was STOPPED, or DIED; the last two are queued again."""
        return self._end(claim, {"how": how, "result": dict(result)}, None)

    def _trials(self) -> list[FrozenTrial]:
        return [t for t in self._study.get_trials(deepcopy=False) if t.user_attrs.get("how") != DUPLICATE]

    def _by_key(self) -> dict[str, list[FrozenTrial]]:
        """key of a combination → its trials, oldest first."""
        found: dict[str, list[FrozenTrial]] = {}
        for trial in self._trials():
            found.setdefault(combination_of(trial).key, []).append(trial)
        return found

    def _take(self, plan: Plan) -> Claim | None:
        with self._lock:
            self._database.bring_back_beats()
            optuna.storages.fail_stale_trials(self._study)
            by_key = self._by_key()
            entries = {key: entry_of(trials) for key, trials in by_key.items()}
            for key, entry in entries.items():
                if entry.state == LOST:
                    self._add(entry.combination, retry=False)
                    entries[key] = Entry(entry.combination, "waiting")
            for one in plan.missing(list(entries.values())):
                self._add(one, retry=False)
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                claim = Claim(trial._trial_id, trial.number, combination_of(trial))
                if self._claim(claim) and not self._is_duplicate(claim):
                    return claim
        return None

    def _claim(self, claim: Claim) -> bool:
        """Whether the trial is ours now. The first heartbeat comes before, so that a worker killed here is missed."""
        self._storage.record_heartbeat(claim.trial_id)
        try:
            if not self._storage.set_trial_state_values(claim.trial_id, TrialState.RUNNING):
                return False
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        self._held.add(claim.trial_id)
        return True

    def _is_duplicate(self, claim: Claim) -> bool:
        """Whether another trial has this combination, because two machines queued it in the same moment."""
        others = [t for t in self._by_key()[claim.combination.key] if t.number != claim.number]
        if any(t.state == TrialState.COMPLETE or (t.state in LIVE and t.number < claim.number) for t in others):
            self._end(claim, {"how": DUPLICATE}, None)
            return True
        return False

    def _add(self, one: Combination, *, retry: bool) -> None:
        """Queue a combination. Its numbers and switches are Optuna parameters, for its dashboard and importances."""
        distributions = {name: space for name, value in one.values.items() if (space := _space(value))}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.WAITING,
                params={name: one.values[name] for name in distributions},
                distributions=distributions,
                user_attrs={"combination": asdict(one), "retry": retry},
            )
        )

    def _end(self, claim: Claim, notes: Mapping[str, object], score: float | None) -> bool:
        def end() -> bool:
            with self._lock:
                try:
                    for name, value in notes.items():
                        self._storage.set_trial_user_attr(claim.trial_id, name, value)
                    state = TrialState.FAIL if score is None else TrialState.COMPLETE
                    values = None if score is None else [score]
                    return self._storage.set_trial_state_values(claim.trial_id, state, values)
                except optuna.exceptions.UpdateFinishedTrialError:
                    return False

        try:
            return self._patiently(end)
        finally:
            self._held.discard(claim.trial_id)

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do it, again and again while the database does not answer. Raises DataError in the end."""
        for wait in (*_WAITS, None):
            try:
                return action()
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                if wait is None:
                    raise DataError(f"{self.shown_url}: {first_line(error)}; start again to go on") from None
                time.sleep(wait)
        raise AssertionError

    def _beat(self) -> None:
        while not self._closed.wait(self._interval):
            for trial_id in list(self._held):
                # a beat that fails is followed by the next; only a long silence counts
                with contextlib.suppress(SQLAlchemyError, optuna.exceptions.OptunaError):
                    self._storage.record_heartbeat(trial_id)


def _space(value: object) -> CategoricalDistribution | IntDistribution | FloatDistribution | None:
    if isinstance(value, bool):
        return CategoricalDistribution((False, True))
    if isinstance(value, int):
        return IntDistribution(value, value)
    return FloatDistribution(value, value) if isinstance(value, float) else None
