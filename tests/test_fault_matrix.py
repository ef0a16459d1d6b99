"""Full disks, folders that cannot be written, two runs at once, a clock set back: one line, nothing lost, and go on.

`python -m benchmarks.faults` does the same to every write, with a small disk and kill -9.
"""

import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Ran, finished, refused, root_folder, run, same_weights, script, train, write_rows

from cgcnn import build, checkpoint, files, html_report, plots, report
from cgcnn.cli import predict_command, train_command
from cgcnn.files import replacing, write_text
from cgcnn.graph import GraphSettings
from cgcnn.labels import DataError
from cgcnn.logs import log_train_metrics, setup_logger
from cgcnn.merge.command import merge_command
from cgcnn.screening import command as screening
from cgcnn.store import GraphStore
from cgcnn.sweep import queue as sweep_queue

FULL = os.strerror(errno.ENOSPC)
WRITE_REPORT = html_report.write_report  # which is left out of these tests, but for one
SMALL = ["--epochs", 2, "--atom-fea-len", 8, "--h-fea-len", 8, "--n-conv", 1, "--batch-size", 8, "--disable-cuda"]
# from here on root obeys permissions, too
OBEY = """
import ctypes
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return root_folder(tmp_path_factory.mktemp("root") / "data")


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory) -> Path:
    """The output folder of a run without a fault."""
    out = tmp_path_factory.mktemp("whole")
    train(root, out, *SMALL)
    return out


@pytest.fixture
def full_at(monkeypatch) -> Callable[[str], None]:
    """A function after which files with this in their name do not take their place: the disk is full."""
    plain = os.replace

    def fail(part: str) -> None:
        def refuse(source, path):
            if part and part in Path(path).name:
                raise OSError(errno.ENOSPC, FULL)
            plain(source, path)

        monkeypatch.setattr(files.os, "replace", refuse)

    return fail


@contextlib.contextmanager
def largest(size: int) -> Iterator[None]:
    """Meanwhile no file grows beyond so many bytes: writes fail as they do on a full disk, within a file."""
    resource = pytest.importorskip("resource", reason="limits of a process's files are Unix's")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def one_line(ran: Ran, name: str) -> None:
    """The command failed with one line that names the file."""
    assert ran.status == 1, ran
    (line,) = ran.err.splitlines()
    assert line.startswith("error: ") and name in line, line


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*.part") if path.is_file()]


def assert_same_run(one: Path, other: Path) -> None:
    assert same_weights(one / "model_best.pth.tar", other / "model_best.pth.tar")
    assert (one / "test_results.csv").read_bytes() == (other / "test_results.csv").read_bytes()
    names = [{path.name for path in (out / "result").glob("*.*")} for out in (one, other)]
    assert names[0] == names[1]


# one file


def test_a_file_that_cannot_take_its_place_is_named_and_the_old_one_stays(tmp_path, full_at):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    full_at("table")
    with pytest.raises(OSError, match=FULL) as caught:
        write_text(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_of_two_writers_of_a_file_the_second_waits(tmp_path):
    pytest.importorskip("fcntl", reason="on Windows the system refuses the second writer")
    path, order = tmp_path / "table.csv", []

    def second() -> None:
        with replacing(path) as temporary:
            order.append("second")
            temporary.write_text("second")

    thread = threading.Thread(target=second)
    with replacing(path) as temporary:
        temporary.write_text("fir")
        thread.start()
        time.sleep(0.2)
        order.append("first")
        temporary.write_text("first")
    thread.join()
    assert order == ["first", "second"] and path.read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_a_writer_that_fails_does_not_take_away_what_another_writes(tmp_path):
    pytest.importorskip("fcntl", reason="on Windows the system refuses the second writer")
    path = tmp_path / "table.csv"

    def second() -> None:
        with replacing(path) as temporary:
            temporary.write_text("second")
            time.sleep(0.4)

    thread = threading.Thread(target=second)
    with pytest.raises(ZeroDivisionError), replacing(path):
        thread.start()
        time.sleep(0.2)
        raise ZeroDivisionError
    thread.join()
    assert path.read_text() == "second"


def draw(path: Path) -> None:
    plots.save(plots.figure(lambda ax: ax.plot(np.arange(9.0))), path.with_suffix(""))


def write_log(path: Path) -> None:
    logger = setup_logger("run", 1, path.parent)
    log_train_metrics(logger, 1, {f"task {k}": 0.5 for k in range(200)})


@pytest.mark.parametrize(
    ("write", "name", "size"),
    [
        (lambda path: checkpoint.save(path, {"state_dict": {"a": torch.zeros(9999)}}), "model.pt", 5000),
        (lambda path: report.write_table(path, pd.DataFrame({"a": range(2000)})), "table.csv", 1000),
        (draw, "figure.png", 1000),
        (draw, "figure.pdf", 4500),
        (write_log, "run_split1", 1000),
    ],
    ids=["checkpoint", "table", "PNG", "PDF", "log"],
)
def test_a_disk_that_is_full_within_a_file_is_told_with_its_name(write, name, size, tmp_path, monkeypatch):
    if name.endswith(".pdf"):
        monkeypatch.setattr(plots, "DPI", 5)  # so that the PNG before it fits
    with largest(size), pytest.raises(OSError) as caught:
        write(tmp_path / name)
    assert caught.value.errno == errno.EFBIG
    assert name in str(caught.value.filename)
    assert not unfinished(tmp_path) and not (tmp_path / name).exists()


# commands


@pytest.mark.parametrize(
    "name",
    [
        *("config.toml", "split1_ids.csv", "checkpoint.pth.tar", "model_best.pth.tar", "history.csv"),
        *("trained_model.pt", "metrics.csv", "predictions.csv", "test_results.csv", "validation.csv"),
    ],
)
def test_a_training_on_a_full_disk_says_so_and_goes_on(name, root, whole, tmp_path, full_at):
    words = [root, *SMALL, "--out-dir", tmp_path]
    full_at(name)
    one_line(run(train_command, *words), name)
    assert not unfinished(tmp_path)
    full_at("")
    saved = tmp_path / "checkpoint.pth.tar"
    train(root, tmp_path, *SMALL, *(["--resume", saved] if saved.exists() else []))
    shutil.rmtree(tmp_path / "result" / "previous", ignore_errors=True)
    assert_same_run(whole, tmp_path)


def test_a_page_that_does_not_fit_is_no_success(root, tmp_path, monkeypatch, full_at):
    monkeypatch.setattr(html_report, "write_report", WRITE_REPORT)
    full_at("report.html")
    one_line(run(train_command, root, *SMALL, "--out-dir", tmp_path), "report.html")
    assert (tmp_path / "test_results.csv").exists()


@pytest.mark.parametrize("size", [64, 1000])
def test_graphs_that_do_not_fit_are_told_and_built_afterwards(size, root, whole, tmp_path):
    words = [root, *SMALL, "--cache-dir", tmp_path / "cache", "--out-dir", tmp_path]
    with largest(size):
        one_line(run(train_command, *words), "graphs-")
    train(root, tmp_path, *SMALL, "--cache-dir", tmp_path / "cache")
    assert_same_run(whole, tmp_path)


def test_a_prediction_on_a_full_disk_goes_on_to_the_same_bytes(root, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(screening, "CHUNK", 4)
    words = [whole / "model_best.pth.tar", root, "--batch-size", 4, "--disable-cuda", "--resume-output"]
    names = ("table.csv", "vectors.npz")
    for folder in ("good", "bad"):
        (tmp_path / folder).mkdir()
    good, bad = (
        [*words, "--output", tmp_path / f / "table.csv", "--embeddings", tmp_path / f / "vectors.npz"]
        for f in ("good", "bad")
    )
    assert run(predict_command, *good).status == 0
    for size in (100, 400, 600, 1000):
        with largest(size):
            one_line(run(predict_command, *bad), str(tmp_path / "bad"))
    assert run(predict_command, *bad).status == 0
    for name in names:
        assert (tmp_path / "bad" / name).read_bytes() == (tmp_path / "good" / name).read_bytes()
    assert not unfinished(tmp_path)


def test_tables_that_are_merged_on_a_full_disk_lose_nothing(tmp_path, full_at):
    write_rows(tmp_path / "work.csv", [("id", "work function (eV)"), ("a", 4.5), ("b", 5.5)])
    write_rows(tmp_path / "gap.csv", [("id", "band gap (eV)"), ("a", 0.0), ("b", 1.5)])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "all.csv").write_text("mine\n")
    words = [tmp_path / "work.csv", tmp_path / "gap.csv", "--out", tmp_path / "out", "--force"]
    full_at("all.csv")
    one_line(run(merge_command, *words), "all.csv")
    full_at("")
    assert run(merge_command, *words).status == 0
    (kept,) = (tmp_path / "out" / "result" / "previous").rglob("all.csv")
    assert kept.read_text() == "mine\n"


@pytest.mark.parametrize("folder", [".", "result/predictions"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="root gives up its rights as Linux has it")
def test_a_folder_that_may_not_be_written_is_told(folder, root, tmp_path):
    (tmp_path / "out" / "result" / "predictions").mkdir(parents=True)
    place = tmp_path / "out" / folder
    place.chmod(0o555)
    words = [root, *SMALL, "--threads", 1, "--out-dir", "out"]
    ran = finished(script("main.py", *words, folder=tmp_path, code=OBEY))
    place.chmod(0o755)
    assert ran.status in (1, 2), ran
    (line,) = ran.err.splitlines()
    assert line.startswith("error: ") and "out" in line
    assert (folder == "result/predictions") == (ran.status == 1)  # what is known at once is told before the training


# two at once


def test_two_runs_in_one_folder_are_one_too_many(root, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "SECONDS_OF_ORPHANS", 0.1)
    out = shutil.copytree(whole, tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with report.Outputs(out, "run").alone():
        line = refused(train_command, root, *SMALL, "--out-dir", out)
    assert line == f"error: --out-dir {out}: another run is writing there\n"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    train(root, out, *SMALL)


def test_two_that_move_the_same_files_aside_lose_none(tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in paths:
        path.write_text(path.name)
    paths[0].rename(tmp_path / "moved")
    report.move_aside(paths, tmp_path / "previous")
    assert [path.name for path in (tmp_path / "previous").rglob("*.csv")] == ["b.csv"]


# processes that are killed


def test_a_killed_process_of_a_build_is_told_in_one_line(tmp_path, monkeypatch):
    def die(items, settings):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(build, "SECONDS_ALONE", -1.0)
    monkeypatch.setattr(build, "build_task", die)
    with pytest.raises(DataError, match=r"a process that builds graphs died .* the same command goes on"):
        list(build.build_all([("a", "a.cif", b"")], GraphSettings(), 2))


# the queue of a sweep


def test_a_sweep_whose_database_is_full_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_queue, "_WAITS", (0.01,))
    queue = sweep_queue.Queue(f"sqlite:///{tmp_path}/sweep.db", "test")
    with contextlib.closing(sqlite3.connect(tmp_path / "sweep.db")) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    with largest(4096 * pages), pytest.raises(DataError, match=r"sweep\.db: .*; start again to go on"):
        queue.join({"flags": "x" * 20_000}, lambda found: None)
    queue.join({"flags": "x" * 20_000}, lambda found: None)
    queue.close()


# a clock set back


def test_a_crystal_that_changes_after_the_clock_was_set_back_is_built_again(root, tmp_path, monkeypatch):
    folder = shutil.copytree(root, tmp_path / "data", ignore=shutil.ignore_patterns(".cgcnn_cache"))
    path, other = sorted(folder.glob("*.cif"))[:2]
    tomorrow = time.time_ns() + 86_400 * 10**9
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: tomorrow)
        for file in (path, other):
            os.utime(file, ns=(tomorrow, tomorrow))
        store = GraphStore(tmp_path / "cache", GraphSettings())
        assert store.update({"a": path, "b": other}, jobs=1)[1] == 2
    path.write_bytes(other.read_bytes())
    again = GraphStore(tmp_path / "cache", GraphSettings())
    assert again.update({"a": path, "b": other}, jobs=1)[1] == 1
    one, two = (again.table([i]).graph(0) for i in "ab")
    assert np.array_equal(one.distances, two.distances)
