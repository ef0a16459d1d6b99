"""Graphs and chunks from the workers of a Dask cluster: as from this machine, whatever happens to a worker."""

import os
import signal
import socket
import time
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cluster_work import broken, deadly, ids_of, slow, slow_build, slow_chunk
from helpers import copy_folder, predict, refused, root_folder, train
from screening_helpers import folder_of, model, salts, saved

from cgcnn import build, cluster, dask_client
from cgcnn.cli import predict_command, train_command
from cgcnn.graph import GraphSettings
from cgcnn.graph_table import COLUMNS
from cgcnn.labels import DataError
from cgcnn.screening import stream
from cgcnn.screening.stream import read_chunk, read_chunks
from cgcnn.store import GraphStore
from cgcnn.structures import find_structure_files

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
SETTINGS = GraphSettings()


@pytest.fixture(scope="module")
def workers():
    """A cluster of three processes, where two deaths are enough to suspect a task."""
    quiet = {"distributed.scheduler.allowed-failures": 1, "logging.distributed": "critical"}
    with (
        dask.config.set(quiet),
        distributed.LocalCluster(n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def address(workers) -> str:
    return workers.scheduler_address.removeprefix("tcp://")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """120 crystals of root_dir and a file that holds none."""
    folder = copy_folder("root_dir", tmp_path_factory.mktemp("crystals") / "data", take=slice(100, 220))
    (folder / "bad.cif").write_text("no crystal")
    return find_structure_files(folder)


def in_work(workers) -> str:
    """The address of a worker that has a task."""
    for _ in range(5000):
        for name, worker in workers.scheduler.workers.items():
            if worker.processing:
                return name
        time.sleep(0.001)
    raise AssertionError("no worker has a task")


def kill_one(workers) -> None:
    """-9 for a worker with a task."""
    name = in_work(workers)
    (nanny,) = [nanny for nanny in workers.workers.values() if nanny.worker_address == name]
    os.kill(nanny.pid, signal.SIGKILL)


def suspected(workers) -> int:
    """How often a task lost its worker so far."""
    return sum(prefix.suspicious for prefix in workers.scheduler.task_prefixes.values())


def items(count: int) -> list[tuple[str, str]]:
    return [(f"c{k}", f"/no/such/c{k}.cif") for k in range(count)]


def parts_of(some, size: int = 2) -> list:
    return [some[k : k + size] for k in range(0, len(some), size)]


# --- the same, also when a worker dies ----------------------------------------------------------------


def test_a_store_is_that_of_a_local_build_although_a_worker_is_killed(workers, address, files, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FILES_A_TASK", 4)
    local = GraphStore(tmp_path / "local", SETTINGS)
    failed, built = local.update(files, jobs=1, quiet=True)
    monkeypatch.setattr(build, "build_task", slow_build)  # so that a worker is killed in its work
    before, looks = suspected(workers), iter(range(1000))

    def kill_at_second() -> None:
        if next(looks) == 1:
            kill_one(workers)

    store = GraphStore(tmp_path / "cluster", SETTINGS)
    assert store.update(files, cluster=address, quiet=True, check_stop=kill_at_second) == (failed, built)
    assert suspected(workers) > before
    assert list(failed) == ["bad"] and built == 120
    assert list(store.row_of) == list(local.row_of)
    one, other = store.table(list(store.row_of)), local.table(list(local.row_of))
    assert one.formulas == other.formulas
    assert all(np.array_equal(one.columns[name], other.columns[name]) for name in COLUMNS)


def test_a_screening_is_that_of_this_machine(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere
    candidates = folder_of(salts(12), Path("candidates"))
    (candidates / "c005.cif").write_text("no crystal")
    made = saved(model(), tmp_path / "model.pt")
    cluster_flags = ["--parallel", "dask", "--scheduler-address", address]
    ran = predict(made, candidates, Path("cluster.csv"), *cluster_flags, "--batch-size", 3)
    assert ran.status == 3, ran.err
    assert predict(made, candidates, Path("local.csv"), "--batch-size", 3).status == 3
    for name in ("cluster.csv", "cluster_failed.csv"):
        assert Path(name).read_bytes() == Path(name.replace("cluster", "local")).read_bytes()


def test_chunks_come_in_order_although_a_worker_is_killed(workers, address, files, monkeypatch):
    some = [(i, str(path)) for i, path in files.items()]
    expected = [read_chunk(part, [SETTINGS]) for part in parts_of(some, 5)]
    monkeypatch.setattr(stream, "read_chunk", slow_chunk)
    before, found = suspected(workers), []
    for chunk in read_chunks(some, [SETTINGS], size=5, cluster=address):
        found.append(chunk)
        if len(found) == 2:
            kill_one(workers)
    assert suspected(workers) > before
    assert [(one.ids, one.failed) for one in found] == [(one.ids, one.failed) for one in expected]
    for one, other in zip(found, expected, strict=True):
        for table, same in zip(one.tables, other.tables, strict=True):
            assert all(np.array_equal(table.columns[name], same.columns[name]) for name in COLUMNS)


def test_a_run_trains_on_graphs_of_the_cluster(address, tmp_path):
    folder = root_folder(tmp_path / "data")
    train(folder, tmp_path, "--epochs", 1, "--parallel", "dask", "--scheduler-address", address)
    (config,) = (tmp_path / "result").glob("*_config.toml")
    assert "scheduler_address" not in config.read_text()  # a cluster of today is no setting of a run


# --- bounds, stops ------------------------------------------------------------------------------------


def test_no_more_is_read_ahead_than_the_threads_need(address):
    asked = []

    def counted():
        for part in parts_of(items(100), 1):
            asked.append(part)
            yield part

    with closing(cluster.on_cluster(ids_of, counted(), address=address)) as results:
        assert next(results) == ["c0"]
        time.sleep(0.5)
        assert len(asked) <= cluster.PARTS_A_THREAD * 3


def test_a_stop_does_not_wait_for_a_result(address, monkeypatch):
    monkeypatch.setattr(cluster, "SECONDS_A_LOOK", 0.1)

    def stop():
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(cluster.on_cluster(slow, [items(1)], address=address, check_stop=stop))
    assert time.monotonic() - begun < 2


# --- what kills workers -------------------------------------------------------------------------------


def test_a_file_that_kills_workers_again_and_again_is_named(address, tmp_path):
    for k in range(10):
        (tmp_path / str(k)).touch()
    with pytest.raises(DataError, match=r"^/no/such/c3.cif: 2 workers of .* died of it[^\n]*$"):
        list(cluster.on_cluster(deadly, parts_of(items(8)), str(tmp_path), address=address))


def test_a_part_that_lost_its_workers_by_chance_gets_another_try(address, tmp_path):
    for k in range(2):
        (tmp_path / str(k)).touch()
    found = list(cluster.on_cluster(deadly, parts_of(items(8)), str(tmp_path), address=address))
    assert [i for part in found for i in part] == [f"c{k}" for k in range(8)]
    assert not list(tmp_path.iterdir())


# --- one line for what is wrong -----------------------------------------------------------------------


def test_workers_without_the_package_or_with_another_version_are_told(address, monkeypatch):
    with pytest.raises(DataError, match=r"need cgcnn .* No module named 'cgcnn'$"):
        list(cluster.on_cluster(broken, [items(1)], address=address))
    monkeypatch.setattr(cluster, "_version", lambda: "9.9")
    with pytest.raises(DataError, match=r"need cgcnn 9.9 .*there is \d"):
        list(cluster.on_cluster(ids_of, [items(1)], address=address))


def test_a_file_that_only_the_workers_do_not_see_is_told_as_such(tmp_path):
    here, gone = tmp_path / "here.cif", tmp_path / "gone.cif"
    here.touch()
    for unseen, raised in ([str(gone), str(here)], True), ([str(gone)], False):
        future = Future()
        future.set_result((cluster._version(), unseen, "result"))
        if not raised:
            assert cluster._unpacked(future, [], "host:1") == "result"
            continue
        with pytest.raises(DataError, match=r"here.cif: is there, but not for a worker of host:1; .*same path"):
            cluster._unpacked(future, [], "host:1")


@pytest.fixture
def silent():
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_is_no_scheduler_is_told_in_time(silent, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_client, "SECONDS_TO_ANSWER", 1.0)
    folder = root_folder(tmp_path / "data")
    flags = ["--out-dir", tmp_path, "--parallel", "dask", "--scheduler-address"]
    begun = time.monotonic()
    worker = next(iter(workers.scheduler.workers)).rpartition(":")[2]
    for port, said in (silent, "no Dask scheduler"), (1, "no Dask scheduler"), (worker, "is a worker"):
        line = refused(train_command, folder, *flags, f"127.0.0.1:{port}")
        assert said in line and line.count("\n") == 1
    assert time.monotonic() - begun < 10


def test_a_scheduler_without_workers_is_told(monkeypatch):
    monkeypatch.setattr(cluster, "SECONDS_WITHOUT_WORKERS", 0.2)
    monkeypatch.setattr(cluster, "SECONDS_A_COUNT", 0.1)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None) as empty,
        pytest.raises(DataError, match=r"no worker for .* dask worker"),
    ):
        list(cluster.on_cluster(ids_of, [items(1)], address=empty.scheduler_address))


def test_a_scheduler_that_is_lost_is_told(monkeypatch):
    monkeypatch.setattr(dask_client, "SECONDS_TO_ANSWER", 1.0)
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as short:
        results = cluster.on_cluster(ids_of, parts_of(items(50)), address=short.scheduler_address)
        next(results)
    with pytest.raises(DataError, match="does not answer any more"):
        list(results)


def test_flags_that_do_not_go_together_are_refused(tmp_path, monkeypatch):
    folder = root_folder(tmp_path / "data")
    address = ["--scheduler-address", "host:8786"]
    dask_flags = ["--parallel", "dask", *address]
    for words, said in (
        (["--parallel", "dask"], "needs --scheduler-address"),
        (address, "only with dask"),
        (["--parallel", "dask", "--scheduler-address", "host"], "is not HOST:PORT"),
        ([*dask_flags, "--graph-jobs", "2"], "--graph-jobs means nothing"),
    ):
        assert said in refused(train_command, folder, *words)
    for words, said in (address, "only with dask"), ([*dask_flags, "--workers", "2"], "--workers means nothing"):
        assert said in refused(predict_command, "model", folder, *words)
    monkeypatch.setattr(dask_client, "is_installed", lambda: False)
    for command, first in (train_command, []), (predict_command, ["model"]):
        line = refused(command, *first, folder, *dask_flags)
        assert "pip install" in line and line.count("\n") == 1
