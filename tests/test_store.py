"""The graph store: builds what changed and nothing else, and survives whatever happens to it in between."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import cif_text, make_crystal
from filelock import FileLock
from store_helpers import (
    FILES,
    FILLED,
    FORK,
    HISTOGRAM,
    JOURNAL,
    LONG_AGO,
    SETTINGS,
    SHARD,
    assert_holds,
    assert_same_graph,
    change_marker,
    change_within_size,
    cut_marker,
    flip,
    in_child,
    opened,
    overwrite_marker,
    rewrite,
    truncate,
    update,
    write_crystals,
)

from cgcnn import build, files, store
from cgcnn.files import cache_folder
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.shard import MARKER
from cgcnn.structures import find_structure_files, read_crystal


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Names of the files that were read for their crystal since the list was last cleared."""
    names = []

    def noted(path):
        names.append(os.path.basename(path))
        return read_crystal(path)

    monkeypatch.setattr(build, "read_crystal", noted)
    return names


# --- what is built ------------------------------------------------------------------------------------


def test_a_store_gives_back_what_was_built(tmp_path):
    files = write_crystals(tmp_path, "abcdef")
    graph_store = opened(tmp_path)
    assert update(graph_store, files) == ({}, 6)
    assert_holds(graph_store, files)
    assert_holds(opened(tmp_path), files)


def test_disorder_and_no_edges(tmp_path):
    crystals = {
        "lonely": make_crystal(30.0, ["Ar"], [[0, 0, 0]]),
        "shared": make_crystal(4.0, [{"Ni": 0.5, "Co": 0.25}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    }
    files = {crystal_id: tmp_path / f"{crystal_id}.cif" for crystal_id in crystals}
    for crystal_id, crystal in crystals.items():
        files[crystal_id].write_text(cif_text(crystal))
        assert update(opened(tmp_path), {crystal_id: files[crystal_id]}) == ({}, 1)
    graph_store = opened(tmp_path)
    assert_holds(graph_store, files)
    assert graph_store.table(["lonely"]).graph(0).degree.tolist() == [0]
    np.testing.assert_allclose(graph_store.table(["shared"]).graph(0).occupancies, [0.5, 0.25, 1])


def test_the_table_in_memory_is_the_same(tmp_path):
    files = write_crystals(tmp_path, "abc")
    graph_store = opened(tmp_path)
    update(graph_store, files)
    crystals = [read_crystal(file) for file in files.values()]
    graphs = [build_graph(crystal, SETTINGS) for crystal in crystals]
    table = GraphTable.from_graphs(graphs, [crystal.reduced_formula for crystal in crystals])
    assert len(table) == 3
    assert table.formulas == graph_store.table("abc").formulas
    for row, graph in enumerate(graphs):
        assert_same_graph(table.graph(row), graph)


def test_an_unchanged_file_is_not_opened(tmp_path, monkeypatch):
    files = write_crystals(tmp_path, "abc")
    update(opened(tmp_path), files)
    for file in files.values():  # content gone, size and time the same: any look inside would be noticed
        status = file.stat()
        file.write_bytes(b"x" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    monkeypatch.setattr(build, "build_task", None)
    graph_store = opened(tmp_path)
    assert update(graph_store, files) == ({}, 0)
    assert len(graph_store.table("abc")) == 3


def test_verify_sees_a_change_that_size_and_time_hide(tmp_path, reads):
    files = write_crystals(tmp_path, "abc")
    update(opened(tmp_path), files)
    change_within_size(files["b"], LONG_AGO)
    reads.clear()
    graph_store = opened(tmp_path)
    assert update(graph_store, files) == ({}, 0)
    assert update(graph_store, files, verify=True) == ({}, 1)
    assert reads == ["b.cif"]
    assert_holds(graph_store, files)


def test_only_what_changed_is_built_again(tmp_path, reads):
    files = write_crystals(tmp_path, "abcd")
    update(opened(tmp_path), files)
    reads.clear()
    change_within_size(files["b"], LONG_AGO + 5)
    rewrite(files["c"], 11, mtime=LONG_AGO)
    files |= write_crystals(tmp_path, "e", seed=20)
    graph_store = opened(tmp_path)
    assert update(graph_store, files) == ({}, 3)
    assert sorted(reads) == ["b.cif", "c.cif", "e.cif"]
    assert_holds(graph_store, files)
    assert_holds(opened(tmp_path), files)


def test_a_touched_file_is_compared_and_not_built(tmp_path, reads, monkeypatch):
    files = write_crystals(tmp_path, "abc")
    update(opened(tmp_path), files)
    reads.clear()
    os.utime(files["b"], (LONG_AGO + 9, LONG_AGO + 9))
    assert update(opened(tmp_path), files) == ({}, 0)
    assert reads == []
    monkeypatch.setattr(build, "build_task", None)  # its new time is known: it is not compared again
    assert update(opened(tmp_path), files) == ({}, 0)
    assert_holds(opened(tmp_path), files)


def test_other_settings_are_another_store(tmp_path):
    files = write_crystals(tmp_path, "abc")
    other = GraphSettings(radius=3.0, max_num_nbr=4)
    for chosen in (SETTINGS, other):
        assert update(opened(tmp_path, chosen), files) == ({}, 3)
    for chosen in (SETTINGS, other):
        assert update(opened(tmp_path, chosen), files) == ({}, 0)
        assert_holds(opened(tmp_path, chosen), files, chosen)


def test_a_file_changed_just_before_it_was_read_is_compared_again(tmp_path, monkeypatch):
    files = write_crystals(tmp_path, "ab")
    now = time.time()
    rewrite(files["a"], 5, mtime=now)
    assert update(opened(tmp_path), files) == ({}, 2)
    change_within_size(files["a"], now)  # and once more within one step of the clock
    assert update(opened(tmp_path), files) == ({}, 1)
    assert_holds(opened(tmp_path), files)

    later = time.time_ns() + 10_000_000_000
    monkeypatch.setattr(store.time, "time_ns", lambda: later)
    assert update(opened(tmp_path), files) == ({}, 0)
    monkeypatch.setattr(build, "build_task", None)  # compared once after that time, it is settled
    assert update(opened(tmp_path), files) == ({}, 0)


def test_failures_have_a_reason_and_are_tried_again(tmp_path, reads):
    files = write_crystals(tmp_path, "abcd")
    files["b"].write_text("no crystal")
    files["gone"] = tmp_path / "gone.cif"
    files["dense"] = tmp_path / "dense.cif"
    grid = [[k % 10 / 10, k // 10 % 10 / 10, k // 100 / 10] for k in range(1000)]
    files["dense"].write_text(cif_text(make_crystal(0.9, ["H"] * 1000, grid)))
    graph_store = opened(tmp_path)
    failures, built = update(graph_store, files)
    assert built == 3
    assert failures.keys() == {"b", "gone", "dense"}
    assert "data_" in failures["b"]
    assert "No such file" in failures["gone"]
    assert "too small" in failures["dense"]
    assert all("\n" not in reason for reason in failures.values())
    assert graph_store.row_of.keys() == {"a", "c", "d"}
    with pytest.raises(KeyError):
        graph_store.table(["a", "b"])

    rewrite(files["b"], 8, mtime=LONG_AGO)
    files = {crystal_id: files[crystal_id] for crystal_id in "abcd"}
    reads.clear()
    assert update(graph_store, files) == ({}, 1)
    assert reads == ["b.cif"]
    assert_holds(opened(tmp_path), files)


def test_odd_ids(tmp_path):
    ids = ["tab\there", "two\nlines", "Zn²⁺ 中文", " a b ", "mp-1.2.3", '"quoted", 1', "-dash", "\udcff", "v1..2"]
    files = write_crystals(tmp_path, ids)
    assert find_structure_files(tmp_path).keys() >= {"Zn²⁺ 中文", "mp-1.2.3"}
    assert update(opened(tmp_path), files) == ({}, len(ids))
    graph_store = opened(tmp_path)
    assert list(graph_store.row_of) == ids
    assert update(graph_store, files) == ({}, 0)
    assert_holds(graph_store, files)


def test_several_tasks_and_processes_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FILES_A_TASK", 3)
    monkeypatch.setattr(build, "SECONDS_ALONE", 0.0)
    files = write_crystals(tmp_path, "abcdefgh")
    graph_store = opened(tmp_path)
    assert graph_store.update(files, jobs=2, quiet=True) == ({}, 8)
    assert_holds(graph_store, files)


def test_wasted_space_is_given_back(tmp_path):
    files = write_crystals(tmp_path, "abcdef")
    update(opened(tmp_path), files)
    mapped = opened(tmp_path).table("abcdef")  # another run goes on with what it has
    before = [mapped.graph(row).distances.copy() for row in range(6)]
    for turn in range(1, 8):
        for k, file in enumerate(files.values()):
            rewrite(file, 10 * turn + k, mtime=LONG_AGO + turn)
        assert update(opened(tmp_path), files) == ({}, 6)
        assert_holds(opened(tmp_path), files)
    folder = opened(tmp_path).folder / SHARD
    live = sum(build_graph(read_crystal(file), SETTINGS).distances.nbytes for file in files.values())
    assert sum(path.stat().st_size for path in folder.glob("distances.*")) <= 2 * live
    assert len(list(folder.glob("*.bin"))) == FILES
    for row, distances in enumerate(before):
        np.testing.assert_array_equal(mapped.graph(row).distances, distances)


# --- what goes wrong ----------------------------------------------------------------------------------


def build_and_die(folder: Path, files, call: str, number: int) -> None:
    """Build with a commit after every crystal, and end without warning at the n-th os.fsync or os.replace."""
    build.FILES_A_TASK, store.SECONDS_A_FLUSH = 1, -1.0
    real, count = getattr(os, call), 0

    def deadly(*arguments):
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    setattr(os, call, deadly)
    update(opened(folder), files)


SYNCS = FILES + 1  # of a commit: the columns and the journal, then the marker, which then takes the place of the old


@pytest.mark.parametrize("finished", [0, 1, 2])
@pytest.mark.parametrize(("call", "number"), [*(("fsync", number) for number in (1, 4, SYNCS)), ("replace", 1)])
def test_a_build_that_is_killed_is_taken_up_again(tmp_path, finished, call, number):
    files = write_crystals(tmp_path, "abcd")
    number += finished * (SYNCS if call == "fsync" else 1)
    assert in_child(build_and_die, tmp_path, files, call, number) == -signal.SIGKILL
    graph_store = opened(tmp_path)
    assert len(graph_store.row_of) == finished
    assert update(graph_store, files) == ({}, 4 - finished)
    assert_holds(graph_store, files)
    assert_holds(opened(tmp_path), files)


@pytest.mark.parametrize("number", range(1, 4 * SYNCS, 3))
def test_a_rebuild_that_is_killed_is_taken_up_again(tmp_path, number):
    """Also while the columns are being compacted."""
    files = write_crystals(tmp_path, "ab")
    update(opened(tmp_path), files)
    for turn in (1, 2):
        for k, file in enumerate(files.values()):
            rewrite(file, 10 * turn + k, mtime=LONG_AGO + turn)
        in_child(build_and_die, tmp_path, files, "fsync", number)
        graph_store = opened(tmp_path)
        update(graph_store, files)
        assert_holds(graph_store, files)
        assert_holds(opened(tmp_path), files)


DAMAGES = [
    *map(cut_marker, (0, 10, 100, -20, -1)),
    *map(overwrite_marker, (b"garbage", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000)),
    *(change_marker(**{name: value}) for name in ("version", "sizes", "sums") for value in (99, "x", None, {})),
    *map(truncate, [*FILLED, *JOURNAL]),
    *map(flip, JOURNAL),
    lambda shard: (shard / "distances.0.bin").unlink(),
    lambda shard: (shard / MARKER).unlink(),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_built_again(tmp_path, damage):
    files = write_crystals(tmp_path, "abc")
    graph_store = opened(tmp_path)
    update(graph_store, files)
    damage(graph_store.folder / SHARD)
    reopened = opened(tmp_path)
    assert not reopened.row_of
    assert update(reopened, files) == ({}, 3)
    assert_holds(reopened, files)
    assert_holds(opened(tmp_path), files)


@pytest.mark.parametrize("column", [*HISTOGRAM, "multiplicity"])
def test_damaged_histograms_and_images_are_built_again(tmp_path, column):
    chosen = GraphSettings(4.0, images=True) if column == "multiplicity" else GraphSettings(4.0, histogram=40)
    files = write_crystals(tmp_path, "abc")
    graph_store = opened(tmp_path, chosen)
    update(graph_store, files)
    assert_holds(opened(tmp_path, chosen), files, chosen)
    truncate(column)(graph_store.folder / SHARD)
    reopened = opened(tmp_path, chosen)
    assert not reopened.row_of
    assert update(reopened, files) == ({}, 3)
    assert_holds(reopened, files, chosen)


def test_a_store_that_vanishes_is_built_again(tmp_path):
    files = write_crystals(tmp_path, "abc")
    graph_store = opened(tmp_path)
    update(graph_store, files)
    shutil.rmtree(graph_store.folder)
    rewrite(files["a"], 9, mtime=LONG_AGO + 1)
    assert update(graph_store, files) == ({}, 3)
    assert_holds(graph_store, files)
    assert_holds(opened(tmp_path), files)


def test_two_runs_at_once(tmp_path):
    ids = [f"c{k}" for k in range(24)]
    files = write_crystals(tmp_path, ids)
    barrier = FORK.Barrier(2)

    def run(mine) -> None:
        build.FILES_A_TASK, store.SECONDS_A_FLUSH = 1, -1.0
        graph_store = opened(tmp_path)
        barrier.wait(30)
        failures, _ = update(graph_store, {crystal_id: files[crystal_id] for crystal_id in mine})
        assert not failures
        assert_holds(graph_store, {crystal_id: files[crystal_id] for crystal_id in mine})

    children = [FORK.Process(target=run, args=(part,)) for part in (ids[:16], ids[8:][::-1])]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    graph_store = opened(tmp_path)
    assert sorted(graph_store.row_of) == sorted(ids)
    assert update(graph_store, files) == ({}, 0)
    assert_holds(graph_store, files)
    live = sum(build_graph(read_crystal(file), SETTINGS).distances.nbytes for file in files.values())
    assert (graph_store.folder / SHARD / "distances.0.bin").stat().st_size == live  # none was built twice


class Stop(Exception):  # noqa: N818
    """What a user's wish to stop raises."""


def stop_after(count: int):
    looks = iter(range(count - 1))

    def check_stop() -> None:
        if next(looks, None) is None:
            raise Stop

    return check_stop


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_build_that_is_stopped_keeps_what_was_built(tmp_path, monkeypatch, jobs, parts):
    monkeypatch.setattr(build, "FILES_A_TASK", 2)
    monkeypatch.setattr(build, "SECONDS_ALONE", 0.0)
    files = write_crystals(tmp_path, "abcdefgh")
    with pytest.raises(Stop):
        opened(tmp_path).update(files, jobs=jobs, quiet=True, check_stop=stop_after(parts))
    graph_store = opened(tmp_path)
    assert list(graph_store.row_of) == list("abcdefgh")[: 2 * parts]
    assert update(graph_store, files) == ({}, 8 - 2 * parts)
    assert_holds(graph_store, files)


def test_a_build_that_has_nothing_left_to_do_is_not_stopped(tmp_path):
    files = write_crystals(tmp_path, "abc")
    assert update(opened(tmp_path), files, check_stop=stop_after(1)) == ({}, 3)
    assert update(opened(tmp_path), files, verify=True, check_stop=stop_after(1)) == ({}, 0)


def test_waiting_for_another_run_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SECONDS_A_LOOK", 0.01)
    files = write_crystals(tmp_path, "abc")
    graph_store = opened(tmp_path)
    graph_store.folder.mkdir(parents=True)
    with FileLock(graph_store.folder / "lock"):
        with pytest.raises(Stop):
            update(graph_store, files, check_stop=stop_after(3))
        assert not opened(tmp_path).row_of
    assert update(graph_store, files) == ({}, 3)


# --- where it lies ------------------------------------------------------------------------------------


def test_graphs_lie_in_the_data_folder(tmp_path):
    assert cache_folder(tmp_path, None) == tmp_path / ".cgcnn_cache"


def test_a_folder_that_cannot_be_written_leaves_them_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "is_writable", lambda folder: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one, two = tmp_path / "one" / "data", tmp_path / "two" / "data"
    places = [cache_folder(folder, None) for folder in (one, two)]
    assert all(tmp_path / "cache" in place.parents for place in places)
    assert places[0] != places[1]
    assert cache_folder(one / ".." / "data", None) == places[0]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert tmp_path / "home" / ".cache" in cache_folder(one, None).parents


def test_a_given_folder_holds_the_graphs_of_many(tmp_path):
    places = {cache_folder(tmp_path / name / "data", str(tmp_path / "given")) for name in "ab"}
    assert len(places) == 2
    assert all(place.parent == tmp_path / "given" for place in places)
