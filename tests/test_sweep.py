"""grid_search.py from the command line: the whole sweep, faults, stops and a further start."""

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers import Ran, finished, refused, root_folder, run, script
from sweep_helpers import worker
from test_sweep_summary import PUBLISHED

from cgcnn.cli import sweep_command

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
LINE = re.compile(r"\[ *(\d+)/(\d+)\]  (.*)")


@pytest.fixture
def data(data_folder) -> Path:
    return data_folder(count=8)


@pytest.fixture
def sweep(data, stand_in_trials, tmp_path):
    """A function that runs grid_search.py here, with the stand-in for main.py; what it gave back."""

    def run_(*words: object) -> Ran:
        return run(sweep_command, data, "--out-dir", tmp_path / "out", *words)

    return run_


def summary(out: Path) -> pd.DataFrame:
    """The newest summary."""
    return pd.read_csv(max((out / "result").glob("all_combinations_summary_*[0-9].csv")))


def calls(out: Path) -> list[str]:
    """What the stand-in was called with, all trials together."""
    return [line for path in out.glob("result/sweep_*/trial_*/calls.txt") for line in path.read_text().splitlines()]


def lines(ran: Ran) -> list[str]:
    return [match[3] for match in map(LINE.match, ran.out.splitlines()) if match]


def test_a_sweep_runs_every_combination_once_and_a_further_start_nothing(sweep, tmp_path):
    words = ["--grid", "pooling=mean,attention", "lr=0.1,0.2", "--num-splits", 2, "--jobs", 2]
    ran = sweep(*words)
    assert ran.status == 0, ran
    assert len(lines(ran)) == 4 and "| best so far" in ran.out and "left" in ran.out
    assert "best on validation: pooling=mean lr=0.1" in ran.out
    table = summary(tmp_path / "out")
    assert list(table)[:24] == PUBLISHED and list(table["State"]) == ["complete"] * 4
    assert table["Avg energy-MAE"].tolist() == pytest.approx([0.15, 0.25, 0.15, 0.25])
    assert table["Std energy-MAE"].tolist() == pytest.approx([0.05] * 4)
    assert table["Validation Score"].tolist() == pytest.approx([1.5, 2.5, 1.5, 2.5])
    assert len(set(table["Folder"])) == 4 and all((tmp_path / "out" / folder).is_dir() for folder in table["Folder"])
    assert all("--threads" in call and "--num-splits=2" in call for call in calls(tmp_path / "out"))
    ran = sweep(*words)
    assert ran.status == 0 and "already there: 4 complete" in ran.out
    assert len(calls(tmp_path / "out")) == 4
    assert len(summary(tmp_path / "out")) == 4
    names = {path.name.partition("summary_")[2][15:] for path in (tmp_path / "out" / "result").glob("all_*")}
    assert names == {".csv", "_by_energy-MAE.csv", ".html", "_axes.png", "_axes.pdf"}


def test_a_further_grid_adds_its_combinations(sweep, tmp_path):
    sweep("--grid", "lr=0.1")
    ran = sweep("--grid", "lr=0.1,0.2", "n-conv=3")
    assert "2 combinations" in ran.out and len(lines(ran)) == 1
    assert summary(tmp_path / "out")["Learning Rate"].tolist() == [0.1, 0.2]


def test_a_failed_trial_is_recorded_and_does_not_stop_the_night(sweep, tmp_path):
    words = ["--grid", "lr=0.5,0.1"]
    ran = sweep(*words)
    assert ran.status == 3
    assert "lr=0.5: failed: exit status 1 | " in ran.out and "error: the loss became nan" in ran.out
    table = summary(tmp_path / "out")
    assert table["State"].tolist() == ["failed", "complete"]
    assert table["Last Lines"][0].endswith("| error: the loss became nan")
    assert len(calls(tmp_path / "out")) == 2
    assert sweep(*words).status == 3 and len(calls(tmp_path / "out")) == 2
    ran = sweep(*words, "--retry-failed")
    assert "queued again: 1 failed" in ran.out and len(calls(tmp_path / "out")) == 3


def test_a_killed_trial_is_run_again_from_its_checkpoint_but_not_for_ever(sweep, tmp_path):
    ran = sweep("--grid", "lr=0.25,0.0625")
    assert ran.status == 3
    table = summary(tmp_path / "out")
    assert table["State"].tolist() == ["complete", "failed"]
    assert table["Last Lines"][1].startswith("died 3 times | killed by SIGKILL")
    assert [call.count("--resume") for call in sorted(calls(tmp_path / "out"))] == [0, 1, 1, 0, 1]


def test_tpe_runs_as_many_as_asked(sweep, tmp_path):
    ran = sweep("--grid", "lr=0.11..0.2", "--sampler", "tpe", "--trials", 4, "--jobs", 2)
    assert ran.status == 0 and "4 combinations of lr (0.11..0.2)" in ran.out
    table = summary(tmp_path / "out")
    assert table["Learning Rate"].nunique() == 4 and table["Learning Rate"].between(0.11, 0.2).all()


def test_another_sweep_needs_another_name(sweep, data, tmp_path):
    sweep("--grid", "lr=0.1", "--epochs", 8)
    ran = sweep("--grid", "lr=0.2", "--epochs", 9)
    assert ran.status == 2
    assert ran.err.count("\n") == 1 and "sweep data has --epochs 8, this command 9; use another --study" in ran.err
    assert sweep("--grid", "lr=0.2", "--epochs", 9, "--study", "other").status == 0
    (data / "id_prop.csv").write_text((data / "id_prop.csv").read_text().replace(".", ".1"))
    assert "is of another data folder, or its tables have changed" in sweep("--grid", "lr=0.1", "--epochs", 8).err
    assert len(calls(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--grid", "colour=red"], "no such axis"),
        (["--grid", "lr=fast"], "'fast' is not a number"),
        (["--grid", "lr=0.1", "--colour", "red"], "unrecognized arguments: --colour red"),
        (["--grid", "targets=energy,mass"], "no column 'mass'"),
        (["--grid", "lr=0.1", "--storage", "nonsense"], "not a database URL"),
        ([], "(this is the published sweep; --grid makes another)"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(data, tmp_path, words, said):
    told = refused(sweep_command, data, "--out-dir", tmp_path / "out", *words)
    assert said in told and told.count("\n") == 1
    assert not list(tmp_path.glob("out/result/sweep_*"))


def test_graphs_are_built_before_the_first_trial(sweep, data, tmp_path):
    sweep("--grid", "radius=6,8", "lr=0.1")
    assert len(list((data / ".cgcnn_cache").glob("graphs-*"))) == 2


def test_max_time_stops_the_sweep_and_is_not_passed_on(sweep, tmp_path):
    ran = sweep("--grid", "lr=0.125", "--max-time", "3s")
    assert ran.status == 75 and "lr=0.125: stopped, will go on" in ran.out and "Go on with: python grid" in ran.out
    assert not any("--max-time" in call for call in calls(tmp_path / "out"))
    assert summary(tmp_path / "out")["State"].tolist() == ["waiting"]
    assert sweep("--grid", "lr=0.125").status == 0
    assert len(calls(tmp_path / "out")) == 2


def wait_until(condition, timeout: float = 300) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)


def is_a_trial_killed(out: Path) -> bool:
    """Kill a trial that is under way, if there is one now."""
    for lock in out.glob("result/sweep_data/trial_*/lock"):
        if not (lock.parent / "result").exists():
            with contextlib.suppress(OSError, IndexError, ValueError):  # it has just begun, or just ended
                os.kill(int(lock.read_text().split()[1]), signal.SIGKILL)
                return True
    return False


def test_workers_share_a_storage_though_one_is_killed_a_trial_is_killed_and_all_are_stopped(data, command, tmp_path):
    out = tmp_path / "out"
    rates = ",".join(f"0.0{k}" for k in range(1, 7))
    words = [data, "--grid", f"lr={rates}", "--momentum", 1.5, "--out-dir", out, "--grace", "4s"]
    first, second = (worker(command, tmp_path, *words) for _ in range(2))
    wait_until(lambda: len(list(out.glob("result/sweep_data/trial_*/result"))) >= 2)
    first.kill()  # what it trains goes on, and belongs to nobody
    wait_until(lambda: first.poll() is not None)
    wait_until(lambda: is_a_trial_killed(out))
    wait_until(lambda: len(list(out.glob("result/sweep_data/trial_*/result"))) >= 3)
    second.send_signal(signal.SIGINT)
    ran = finished(second, 300)
    assert ran.status == 130 and "Go on with: python grid_search.py" in ran.out, ran
    ran = finished(worker(command, tmp_path, *words), 300)
    assert ran.status == 0, ran
    table = summary(out)
    assert table["State"].tolist() == ["complete"] * 6
    assert sorted(table["Learning Rate"]) == pytest.approx([0.01 * k for k in range(1, 7)])
    assert table["Avg energy-MAE"].tolist() == pytest.approx(table["Learning Rate"].tolist())
    assert sum("--resume" not in call for call in calls(out)) == 6


def test_trials_are_main_py_and_the_page_shows_them(tmp_path):
    """The real thing on crystals with work functions and gaps: the summary that the seed names."""
    data = root_folder(tmp_path / "data")
    words = ["--grid", "pooling=mean,attention", "conditional-loss=on", "--epochs", 1, "--batch-size", 4]
    words += ["--val-ratio", 0.2, "--test-ratio", 0.2, "--disable-cuda", "--num-splits", 2, "--jobs", 2]
    ran = finished(script("grid_search.py", data, *words, folder=tmp_path), 500)
    assert ran.status == 0, ran
    table = summary(tmp_path)
    assert table["Pooling"].tolist() == ["mean", "attention"] and table["Conditional Loss"].all()
    assert table[[*PUBLISHED[:18], "Avg WF-MAE", "Avg BG-MAE", "Material Type ACC"]].notna().all(axis=None)
    stem = max((tmp_path / "result").glob("all_combinations_summary_*.html")).with_suffix("")
    assert all(Path(f"{stem}_by_{name}-MAE.csv").exists() for name in ("WF", "BG"))
    for _, row in table.iterrows():
        (path,) = (tmp_path / row["Folder"] / "result").glob("*_metrics.csv")
        metrics = pd.read_csv(path)
        assert row["Avg WF-MAE"] == pytest.approx(metrics["WorkFunc_MAE"].mean())
        assert row["Std BG-MAE"] == pytest.approx(metrics["BandGap_MAE"].std(ddof=0))
        assert row["Validation Score"] == pytest.approx(metrics["Val_Score"].mean())
    text = Path(f"{stem}.html").read_text()
    assert "<svg" in text and all(folder.rpartition("/")[2] in text for folder in table["Folder"])
