"""main.py under torchrun, two processes on CPUs: the same result as one, one writer, and what is told at the end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import REPOSITORY, Ran, result_file, root_folder, run, train, weights

from cgcnn.cli import train_command

FLAGS = ("--epochs", 4, "--batch-size", 4, "--lr", 0.005, "--threads", 1, "--val-size", 3, "--test-size", 3)
SMALL = ("--atom-fea-len", 8, "--h-fea-len", 8, "--n-conv", 2)


def torchrun(*words: object, count: int = 2) -> subprocess.Popen:
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", "--rdzv-backend=c10d"]
    start += ["--rdzv-endpoint=localhost:0", str(REPOSITORY / "main.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*start, *map(str, words)], env=environment, start_new_session=True, **pipes)


def finished(process: subprocess.Popen) -> Ran:
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Ran(process.returncode, out, err)


def wait_for(path: Path) -> None:
    """Until a checkpoint is there."""
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def processes_of(job: subprocess.Popen) -> dict[int, int]:
    """The number of each process of a job → its pid."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ranks = [int(entry.removeprefix(b"RANK=")) for entry in environment if entry.startswith(b"RANK=")]
        if ranks and int(words[1]) == job.pid:
            found[ranks[0]] = int(pid)
    return found


def close(one: Path, other: Path) -> None:
    """float32 sums in another order: 1e-6 a step, which a few dozen steps of SGD do not blow up."""
    for mine, theirs in zip(weights(one), weights(other), strict=True):
        for name, value in mine.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=2e-5, msg=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return root_folder(tmp_path_factory.mktemp("data") / "root")


def test_two_processes_give_what_one_gives_and_another_number_goes_on(folder, tmp_path):
    """The graphs are built by one of the two while the other waits."""
    words = (*FLAGS, *SMALL, "--conditional-loss", "--patience", 9)
    halves = torchrun(folder, *words, "--epochs", 2, "--out-dir", tmp_path / "parts")
    whole = torchrun(folder, *words, "--out-dir", tmp_path / "two")
    first, ran = finished(halves), finished(whole)
    train(folder, tmp_path / "one", *words)
    assert (first.status, ran.status) == (0, 0), ran.err
    assert ran.out.count("result: test part") == 1
    names = [sorted(path.name for path in (tmp_path / out / "result").glob("*")) for out in ("one", "two")]
    assert names[0] == names[1]
    close(tmp_path / "one" / "model_best.pth.tar", tmp_path / "two" / "model_best.pth.tar")
    mine, theirs = (pd.read_csv(result_file(tmp_path / out, "split1_history.csv")) for out in ("one", "two"))
    scores = [column for column in mine if column not in ("seconds", "time")]
    pd.testing.assert_frame_equal(mine[scores], theirs[scores], rtol=1e-3)
    resumed = ("--resume", tmp_path / "parts" / "checkpoint.pth.tar", "--epochs", 4, "--out-dir", tmp_path / "parts")
    train(folder, *resumed[-1:], *resumed[:-2])
    close(tmp_path / "one" / "model_best.pth.tar", tmp_path / "parts" / "model_best.pth.tar")


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a job in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_job_with_a_line_and_a_checkpoint(folder, tmp_path, rank):
    job = torchrun(folder, *FLAGS, *SMALL, "--epochs", 100_000, "--out-dir", tmp_path)
    wait_for(tmp_path / "checkpoint.pth.tar")
    os.kill(processes_of(job)[rank], signal.SIGKILL)
    ran = finished(job)
    lines = [line for line in ran.out.splitlines() if "another process of the job has ended" in line]
    assert ran.status != 0
    assert len(lines) == 1, ran.out
    assert f"--resume {tmp_path / 'checkpoint.pth.tar'}" in lines[0]
    again = run(
        train_command, folder, "--resume", tmp_path / "checkpoint.pth.tar", "--max-time", "1s", "--out-dir", tmp_path
    )
    assert (again.status, "saved. Go on with" in again.out) == (75, True)


@pytest.mark.parametrize("whom", ["torchrun", "all"])
def test_a_signal_stops_and_saves(whom, folder, tmp_path):
    """Queues send it to all processes, those that make batches, too; torchrun sends it again to those it started."""
    job = torchrun(folder, *FLAGS, *SMALL, "--workers", 1, "--epochs", 100_000, "--out-dir", tmp_path)
    wait_for(tmp_path / "checkpoint.pth.tar")
    if whom == "all":
        for pid in processes_of(job).values():
            os.kill(pid, signal.SIGTERM)
        os.killpg(job.pid, signal.SIGTERM)
    else:
        job.terminate()
    ran = finished(job)
    assert ran.out.count("saved. Go on with: torchrun --nproc-per-node=2 main.py") == 1, ran.out
    assert torch.load(tmp_path / "checkpoint.pth.tar", weights_only=True)["training"]["trainer"]["steps"] > 0


def test_what_is_wrong_is_told_once(folder, tmp_path):
    ran = finished(torchrun(folder, "--targets", "hardness", "--out-dir", tmp_path))
    assert ran.status != 0
    lines = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "hardness" in lines[0], ran.err
