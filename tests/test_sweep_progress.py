"""The lines that a sweep prints."""

import pytest

from cgcnn.sweep.combination import Combination
from cgcnn.sweep.entry import Entry
from cgcnn.sweep.progress import counts, progress_line


def entry(key: str, state: str, score: float | None = None, seconds: float = 60.0, **result) -> Entry:
    metrics = [] if score is None else [{"Split": 1, "WorkFunc_MAE": 2 * score, "BandGap_MAE": 3 * score}]
    return Entry(Combination({}, key, {}), state, score, {"metrics": metrics, **result}, seconds)


def line(entries: list[Entry], key: str, how: str = "complete", total: int = 12) -> str:
    return progress_line(entries, total, key, "lr=0.1", how, ["killed by SIGKILL", "last"])


def test_the_line_of_a_complete_trial_has_its_errors_the_best_and_the_time_left():
    entries = [entry("a", "complete", 0.5), entry("b", "complete", 0.25), entry("c", "running")]
    assert line(entries, "a") == (
        "[ 2/12]  lr=0.1: score 0.5, WF-MAE 1, BG-MAE 1.5 | best so far: score 0.25, WF-MAE 0.5, BG-MAE 0.75 | "
        "5 min left"
    )
    assert line(entries, "b") == "[ 2/12]  lr=0.1: score 0.25, WF-MAE 0.5, BG-MAE 0.75 | best so far | 5 min left"


def test_the_line_of_a_trial_that_is_not_complete_says_what_becomes_of_it():
    assert line([entry("a", "waiting")], "a", "stopped") == "[ 0/12]  lr=0.1: stopped, will go on"
    assert line([entry("a", "waiting")], "a", "died") == "[ 0/12]  lr=0.1: died, will go on: killed by SIGKILL | last"
    failed = entry("a", "failed", lines=["died 3 times", "killed by SIGKILL"])
    assert line([failed], "a", "died") == "[ 1/12]  lr=0.1: failed: died 3 times | killed by SIGKILL"


@pytest.mark.parametrize(("seconds", "said"), [(1, "11 s left"), (60, "11 min left"), (3600, "11.0 h left")])
def test_the_time_left_is_in_a_unit_that_can_be_read(seconds, said):
    assert line([entry("a", "complete", 1.0, seconds)], "a").endswith(said)


def test_counts():
    assert counts([]) == "nothing yet"
    assert (
        counts([entry("a", "complete", 1.0), entry("b", "running"), entry("c", "running")]) == "1 complete, 2 running"
    )
