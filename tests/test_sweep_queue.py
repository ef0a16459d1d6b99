"""The queue of a sweep: each combination once, whoever takes it, whoever dies."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter

import optuna
import pytest
from helpers import REPOSITORY

from cgcnn.labels import DataError
from cgcnn.sweep.combination import Combination
from cgcnn.sweep.entry import DIED, FAILED, MAX_DEATHS, STOPPED
from cgcnn.sweep.plan import Listed
from cgcnn.sweep.queue import Queue
from cgcnn.sweep.storage import without_password

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
RESULT = {"seconds": 1.0, "metrics": [{"Split": 1, "energy_MAE": 0.5}], "lines": ["a", "b"]}
# a worker that takes all it can, at the moment it is given
WORKER = """
import sys, time
from cgcnn.sweep.queue import Queue
from cgcnn.sweep.plan import Listed
from cgcnn.sweep.combination import Combination
url, start, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
plan = Listed([Combination({"lr": k / 1000, "n-conv": k}, f"key{k:03}", {}) for k in range(count)])
time.sleep(max(0, start - time.time()))
queue = Queue(url, "race")
queue.join({}, lambda found: None)
while claim := queue.take(plan):
    print(claim.combination.key, flush=True)
    queue.complete(claim, 1.0, {"metrics": []})
"""


def combinations(count: int) -> list[Combination]:
    return [Combination({"lr": k / 1000, "environment": k % 2 == 0}, f"key{k}", {"Epochs": k}) for k in range(count)]


@pytest.fixture
def open_queue(tmp_path):
    """A function that opens the same queue once more, as another worker."""
    opened = []

    def open_(*, grace: float = 60.0, identity: dict | None = None, refuse=lambda found: None) -> Queue:
        queue = Queue(f"sqlite:///{tmp_path}/sweep.db", "test", grace=grace)
        opened.append(queue)
        queue.join(identity or {}, refuse)
        return queue

    yield open_
    for queue in opened:
        queue.close()


def states(queue: Queue) -> dict[str, str]:
    return {entry.combination.key: entry.state for entry in queue.entries()}


def test_each_combination_is_taken_once_in_order_and_no_more(open_queue):
    queue, plan = open_queue(), Listed(combinations(3))
    claims = [queue.take(plan) for _ in range(3)]
    assert [claim.combination for claim in claims] == combinations(3)
    assert queue.take(plan) is None
    assert all(queue.complete(claim, k, RESULT) for k, claim in enumerate(claims))
    assert queue.take(plan) is None
    entries = queue.entries()
    assert [(entry.state, entry.score, entry.result) for entry in entries] == [
        ("complete", k, RESULT) for k in range(3)
    ]


@pytest.mark.parametrize("workers", [4])
def test_workers_that_start_in_the_same_moment_share_the_combinations(tmp_path, workers):
    start = time.time() + 4
    words = [sys.executable, "-c", WORKER, f"sqlite:///{tmp_path}/sweep.db", str(start), "24"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen(words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(workers)
    ]
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * workers, ends
    taken = Counter(key for out, _ in ends for key in out.split())
    assert taken == dict.fromkeys((f"key{k:03}" for k in range(24)), 1)
    study = optuna.load_study(study_name="race", storage=f"sqlite:///{tmp_path}/sweep.db")
    assert len(study.trials) == 24


def test_threads_of_one_worker_share_the_combinations(open_queue):
    queue, plan = open_queue(), Listed(combinations(12))
    taken = []

    def work() -> None:
        while claim := queue.take(plan):
            taken.append(claim.combination.key)
            queue.complete(claim, 1.0, RESULT)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(one.key for one in combinations(12))


def test_of_two_trials_of_one_combination_the_earlier_counts(open_queue):
    """Two machines at a server without a common lock can queue the same combination in the same moment."""
    queue, plan = open_queue(), Listed(combinations(2))
    for one in [*combinations(2), *combinations(2)]:
        queue._add(one, retry=False)
    first, second = queue.take(plan), queue.take(plan)
    assert [claim.combination.key for claim in (first, second)] == ["key0", "key1"]
    assert queue.take(plan) is None
    queue.complete(first, 1.0, RESULT)
    queue.complete(second, 2.0, RESULT)
    assert [entry.score for entry in queue.entries()] == [1.0, 2.0]


def test_a_silent_worker_is_taken_for_dead_and_its_trial_goes_to_another(open_queue):
    dead, plan = open_queue(grace=2), Listed(combinations(1))
    lost = dead.take(plan)
    dead.close()
    other = open_queue(grace=2)
    assert other.take(plan) is None
    time.sleep(4)
    found = other.take(plan)
    assert found.combination == lost.combination
    assert not dead.complete(lost, 1.0, RESULT)  # it comes too late, and changes nothing
    assert other.complete(found, 2.0, RESULT)
    assert [entry.score for entry in other.entries()] == [2.0]


def test_a_worker_that_died_before_the_clock_was_set_back_is_missed_all_the_same(open_queue, tmp_path):
    dead, plan = open_queue(grace=2), Listed(combinations(1))
    lost = dead.take(plan)
    dead.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "sweep.db")) as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '+1 day')")
        connection.commit()
    other = open_queue(grace=2)
    assert other.take(plan) is None
    time.sleep(4)
    assert other.take(plan).combination == lost.combination


def test_a_worker_that_beats_keeps_its_trial(open_queue):
    slow, plan = open_queue(grace=2), Listed(combinations(1))
    claim = slow.take(plan)
    time.sleep(4)
    assert open_queue(grace=2).take(plan) is None
    assert slow.complete(claim, 1.0, RESULT)


def test_stopped_and_died_trials_wait_again_failed_ones_do_not(open_queue):
    queue, plan = open_queue(), Listed(combinations(3))
    for how in (STOPPED, DIED, FAILED):
        queue.drop(queue.take(plan), how, RESULT)
    assert states(queue) == {"key0": "waiting", "key1": "waiting", "key2": "failed"}
    assert [queue.take(plan).combination.key for _ in range(2)] == ["key0", "key1"]
    assert queue.take(plan) is None
    assert queue.entries()[2].result["lines"] == ["a", "b"]


def test_a_trial_that_dies_again_and_again_has_failed(open_queue):
    queue, plan = open_queue(), Listed(combinations(1))
    for _ in range(MAX_DEATHS):
        queue.drop(queue.take(plan), DIED, RESULT)
    assert queue.take(plan) is None
    (entry,) = queue.entries()
    assert entry.state == "failed"
    assert entry.result["lines"] == [f"died {MAX_DEATHS} times", "a", "b"]
    assert entry.seconds == MAX_DEATHS


def test_failed_trials_are_run_again_when_asked_and_deaths_count_anew(open_queue):
    queue, plan = open_queue(), Listed(combinations(2))
    for how in (DIED, DIED, FAILED):
        claim = queue.take(Listed(combinations(1)))
        queue.drop(claim, how, RESULT)
    queue.complete(queue.take(plan), 1.0, RESULT)
    assert queue.retry_failed() == 1
    assert queue.retry_failed() == 0
    for _ in range(MAX_DEATHS - 1):
        queue.drop(queue.take(plan), DIED, RESULT)
    queue.complete(queue.take(plan), 2.0, RESULT)
    assert states(queue) == {"key0": "complete", "key1": "complete"}


def test_a_further_grid_adds_what_is_new(open_queue):
    queue = open_queue()
    queue.complete(queue.take(Listed(combinations(1))), 1.0, RESULT)
    again = open_queue()
    claim = again.take(Listed(combinations(2)))
    assert claim.combination.key == "key1"
    assert again.take(Listed(combinations(2))) is None


def test_another_sweep_of_the_same_name_is_refused(open_queue):
    open_queue(identity={"data": 1})
    with pytest.raises(DataError, match=r"sweep\.db: data 1"):
        open_queue(identity={"data": 2}, refuse=lambda found: f"data {found['data']}")


def test_numbers_and_switches_are_parameters_of_the_study(open_queue, tmp_path):
    queue = open_queue()
    queue.complete(queue.take(Listed(combinations(1))), 1.0, RESULT)
    study = optuna.load_study(study_name="test", storage=f"sqlite:///{tmp_path}/sweep.db")
    assert study.best_params == {"lr": 0.0, "environment": True}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database URL"),
        ("sqlite://", "names no file"),
        ("oracle://host/name", "driver is not installed"),
    ],
)
def test_a_storage_that_is_none_is_one_line(url, said):
    with pytest.raises(DataError, match=said) as caught:
        Queue(url, "test")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "sweep.db").write_text("not a database, but long enough to be looked at" * 20)
    with pytest.raises(DataError, match=r"sweep\.db: file is not a database"):
        Queue(f"sqlite:///{tmp_path}/sweep.db", "test")


def test_passwords_are_not_shown():
    with pytest.raises(DataError) as caught:
        Queue("oracle://me:secret@host/name", "test")
    assert "secret" not in str(caught.value)
    assert without_password("mysql://me:secret@host/name") == "mysql://me:***@host/name"
    assert without_password("sqlite:///a b.db") == "sqlite:///a b.db"
