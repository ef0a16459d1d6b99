"""One trial: a process in its own folder; how it ends, and how it goes on."""

import subprocess
import sys
import threading
import time

import pytest
from sweep_helpers import stand_in

from cgcnn.sweep import trial as sweep_trial
from cgcnn.sweep.entry import DIED, FAILED, STOPPED
from cgcnn.sweep.trial import COMPLETE, Killed, run_trial


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    command = stand_in(tmp_path)
    monkeypatch.setattr(sweep_trial, "_main", lambda: command)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "trial"


def calls(folder) -> list[str]:
    return (folder / "calls.txt").read_text().splitlines()


def test_a_trial_gives_the_rows_of_its_metrics_and_the_mean_score(folder):
    outcome = run_trial(["data", "--lr=0.5e-1", "--num-splits=2"], folder, lambda: False)
    assert outcome.how == COMPLETE
    assert outcome.score == pytest.approx(1.0)  # 0.5 and 1.5
    assert outcome.metrics == [
        {"Split": 1, "energy_MAE": 0.05, "Val_energy_MAE": 0.1, "Val_Score": 0.5},
        {"Split": 2, "energy_MAE": pytest.approx(0.15), "Val_energy_MAE": 0.1, "Val_Score": 1.5},
    ]
    assert outcome.seconds > 0
    assert calls(folder) == [f"data --lr=0.5e-1 --num-splits=2 --out-dir {folder}"]


def test_a_trial_that_fails_is_told_by_its_last_lines(folder):
    outcome = run_trial(["--lr=0.5"], folder, lambda: False)
    assert outcome.how == FAILED
    said = ["a line that says nothing", "progress 1", "progress 2", "error: the loss became nan"]
    assert outcome.lines == ["exit status 1", *said]


def test_last_lines_are_those_of_this_start(folder):
    folder.mkdir()
    (folder / "output.txt").write_text("of an earlier start\n" * 9)
    outcome = run_trial(["--lr=0.5"], folder, lambda: False)
    assert "of an earlier start" not in outcome.lines


def test_a_killed_trial_has_died_and_goes_on_from_its_checkpoint(folder):
    outcome = run_trial(["--lr=0.25"], folder, lambda: False)
    assert (outcome.how, outcome.lines[0]) == (DIED, "killed by SIGKILL (out of memory?)")
    outcome = run_trial(["--lr=0.25"], folder, lambda: False)
    assert outcome.how == COMPLETE
    assert calls(folder)[1].endswith(f"--resume {folder / 'checkpoint.pth.tar'}")


def test_a_stop_is_passed_on_and_waited_for(folder):
    begun = time.monotonic()
    outcome = run_trial(["--lr=0.125"], folder, lambda: "waiting" in (folder / "output.txt").read_text())
    assert outcome.how == STOPPED
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("status", [75, 130, 143])
def test_a_trial_that_stopped_itself_is_to_go_on(folder, monkeypatch, status):
    monkeypatch.setattr(sweep_trial, "_main", lambda: [sys.executable, "-c", f"raise SystemExit({status})"])
    assert run_trial([], folder, lambda: False).how == STOPPED


def test_no_metrics_is_a_failure(folder, monkeypatch):
    monkeypatch.setattr(sweep_trial, "_main", lambda: [sys.executable, "-c", "pass"])
    outcome = run_trial([], folder, lambda: False)
    assert (outcome.how, outcome.lines) == (FAILED, [f"no result/*_metrics.csv in {folder}"])


def test_a_score_that_is_no_number_is_the_worst(folder, monkeypatch):
    code = f"p={str(folder)!r}; import os; os.mkdir(p + '/result'); open(p + '/result/x_metrics.csv', 'w').write("
    monkeypatch.setattr(sweep_trial, "_main", lambda: [sys.executable, "-c", code + "'Split,Val_Score\\n1,\\n')"])
    assert run_trial([], folder, lambda: False).score == float("inf")


def test_the_second_stop_ends_the_process_at_once(folder):
    def kill() -> bool:
        raise Killed

    begun = time.monotonic()
    with pytest.raises(Killed):
        run_trial(["--lr=0.1", "--momentum=30"], folder, kill)
    assert time.monotonic() - begun < 20


def test_a_process_whose_worker_was_killed_is_waited_for(folder, tmp_path):
    """Two processes in one folder would write one checkpoint."""
    folder.mkdir()
    code = (
        "import sys, os, threading, cgcnn.sweep.trial as trial\nfrom pathlib import Path\n"
        f"trial._main = lambda: {stand_in(tmp_path)!r}\n"
        "def die():\n"
        f"    while not Path({str(folder / 'calls.txt')!r}).exists(): pass\n"
        "    os.kill(os.getpid(), 9)\n"
        "threading.Thread(target=die).start()\n"
        f"trial.run_trial(['--lr=0.1', '--momentum=3'], Path({str(folder)!r}), lambda: False)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=sweep_trial._ROOT).returncode == -9
    outcome = run_trial(["--lr=0.1"], folder, lambda: False)
    assert outcome.how == COMPLETE
    assert outcome.seconds > 1.5
    assert len(calls(folder)) == 2


def test_a_stop_while_waiting_for_such_a_process_reaches_it(folder, tmp_path):
    """It has no other worker that could pass the stop on."""
    stopped = threading.Event()
    outcomes = []
    first = threading.Thread(
        target=lambda: outcomes.append(run_trial(["--lr=0.125"], folder, lambda: False)), daemon=True
    )
    first.start()
    while "waiting" not in (folder / "output.txt").read_text() if (folder / "output.txt").exists() else True:
        time.sleep(0.05)
    stopped.set()
    assert run_trial(["--lr=0.125"], folder, stopped.is_set).how == STOPPED
    first.join(30)
    assert [outcome.how for outcome in outcomes] == [STOPPED]
    assert len(calls(folder)) == 1


def test_each_worker_has_a_gpu_of_its_own(monkeypatch):
    for seen, told in ((["2", "5"], ["2", "5", "2"]), (["0"], [None] * 3), ([], [None] * 3)):
        monkeypatch.setattr(sweep_trial, "_gpus", lambda seen=seen: seen)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert [sweep_trial._environment(k).get("CUDA_VISIBLE_DEVICES") for k in range(3)] == told
