"""Stores of several shards: read as one, and what happens to a crystal costs its shard and no other."""

import errno
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from store_helpers import (
    LONG_AGO,
    SETTINGS,
    SHARD,
    assert_holds,
    flip,
    in_child,
    opened,
    rewrite,
    truncate,
    update,
    write_crystals,
)

from cgcnn import build, shard, store
from cgcnn.batch import Collator
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import COLUMNS, GraphTable, JoinedColumn
from cgcnn.shard import MARKER, DamagedShardError, Shard
from cgcnn.structures import read_crystal

IDS = "abcdefgh"


def three_crystals_a_shard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shard, "MAX_CRYSTALS", 3)
    patch.setattr(build, "FILES_A_TASK", 1)
    patch.setattr(store, "SECONDS_A_FLUSH", -1.0)


@pytest.fixture
def small(monkeypatch) -> None:
    """Shards of three crystals, and a commit after each."""
    three_crystals_a_shard(monkeypatch)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Ids of the crystals that were read since the list was last cleared."""
    names = []

    def noted(path):
        names.append(Path(path).stem)
        return read_crystal(path)

    monkeypatch.setattr(build, "read_crystal", noted)
    return names


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder of eight crystals, which are in a store of three shards."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        three_crystals_a_shard(patch)
        update(opened(folder), write_crystals(folder, IDS))
    return folder


@pytest.fixture
def files(tmp_path, small, built) -> dict[str, Path]:
    """The files of a copy of it."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return {name: tmp_path / f"{name}.cif" for name in IDS}


def shards(folder: Path) -> dict[str, list[str]]:
    """The crystals that stand in each shard on disk."""
    return {each.name: Shard.read(each).ids for each in sorted(opened(folder).folder.glob("shard-*"))}


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Size, time and number of every file of a shard."""
    return {each.name: (s.st_size, s.st_mtime_ns, s.st_ino) for each in folder.iterdir() if (s := each.stat())}


def test_a_full_shard_is_closed(tmp_path, files):
    assert shards(tmp_path) == {"shard-000000": list("abc"), "shard-000001": list("def"), "shard-000002": list("gh")}
    assert_holds(opened(tmp_path), files)
    assert list(opened(tmp_path).row_of) == list(IDS)


def test_a_shard_of_many_bytes_is_closed(tmp_path, small, monkeypatch):
    monkeypatch.setattr(shard, "MAX_BYTES", 1)
    files = write_crystals(tmp_path, "ab")
    update(opened(tmp_path), files)
    assert list(shards(tmp_path).values()) == [["a"], ["b"]]


@pytest.mark.parametrize(
    "settings", [SETTINGS, GraphSettings(4.0), GraphSettings(4.0, histogram=40), GraphSettings(4.0, images=True)]
)
def test_batches_of_several_shards_are_those_of_one_table(tmp_path, small, settings):
    files = write_crystals(tmp_path, IDS)
    graph_store = opened(tmp_path, settings)
    update(graph_store, files)
    assert len(shards_of := list(graph_store.folder.glob("shard-*"))) == 3, shards_of
    graphs = [build_graph(read_crystal(path), settings) for path in files.values()]
    one = Collator(GraphTable.from_graphs(graphs, list(files)))
    several = Collator(graph_store.table(list(files)))
    for rows in ([7, 0, 3, 3, 1], [4], [0, 1], [6, 5, 2, 0]):
        expected, found = one[torch.tensor(rows)], several[torch.tensor(rows)]
        assert_same(found, expected)
    assert_same(Collator(graph_store.table("hda"))[torch.tensor([2, 0])], one[torch.tensor([0, 7])], but=("rows",))


def assert_same(found, expected, but: tuple[str, ...] = ()) -> None:
    for name, value in vars(expected).items():
        if torch.is_tensor(value) and name not in but:
            assert torch.equal(getattr(found, name), value), name
        elif value is not None and name == "pairs":
            assert_same(found.pairs, value)


def test_a_table_of_several_shards_is_read_like_one(tmp_path, files):
    graphs = [build_graph(read_crystal(path), SETTINGS) for path in files.values()]
    flat, joined = GraphTable.from_graphs(graphs, list(IDS)), opened(tmp_path).table(IDS)
    for name in COLUMNS:
        np.testing.assert_array_equal(joined.taken(name), flat.taken(name))
        np.testing.assert_array_equal(np.asarray(joined.columns[name]), flat.columns[name])
    column, expected = joined.columns["distances"], flat.columns["distances"]
    assert isinstance(column, JoinedColumn) and len(column) == len(expected)
    for start in range(0, len(expected), 7):
        for stop in (start, start + 1, start + 30, len(expected)):
            np.testing.assert_array_equal(column[start:stop], expected[start:stop])


def test_a_commit_writes_what_is_new(tmp_path, files):
    folder = opened(tmp_path).folder
    closed = [state(folder / name) for name in ("shard-000000", "shard-000001")]
    opened_before = {path.name: path.read_bytes() for path in (folder / "shard-000002").iterdir()}
    more = write_crystals(tmp_path, "i", seed=30)
    assert update(opened(tmp_path), files | more) == ({}, 1)
    assert [state(folder / name) for name in ("shard-000000", "shard-000001")] == closed
    for name, content in opened_before.items():
        if name != MARKER:
            assert (folder / "shard-000002" / name).read_bytes().startswith(content)
    assert_holds(opened(tmp_path), files | more)


@pytest.mark.parametrize("damage", [flip("records"), flip("distances"), truncate("distances"), truncate("stamps")])
@pytest.mark.parametrize(("number", "lost"), [(0, "abc"), (1, "def"), (2, "gh")])
def test_a_damaged_shard_alone_is_built_again(tmp_path, files, reads, damage, number, lost):
    folder = opened(tmp_path).folder
    damage(folder / f"shard-{number:06}")
    whole = {path: state(path) for path in folder.glob("shard-*") if path.name != f"shard-{number:06}"}
    with pytest.raises(DamagedShardError):
        Shard.read(folder / f"shard-{number:06}")
    reads.clear()
    graph_store = opened(tmp_path)
    assert sorted(graph_store.row_of) == sorted(set(IDS) - set(lost))
    assert update(graph_store, files) == ({}, len(lost))
    assert sorted(reads) == sorted(lost)
    assert_holds(graph_store, files)
    assert_holds(opened(tmp_path), files)
    if number < 2:
        del whole[folder / "shard-000002"]  # it took one of them
    assert {path: state(path) for path in whole} == whole
    assert sum(map(len, shards(tmp_path).values())) == len(IDS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
@pytest.mark.parametrize("name", ["distances.0.bin", "names.0.bin", MARKER])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, files, name):
    path = opened(tmp_path).folder / SHARD / name
    path.unlink()
    os.mkfifo(path)
    assert update(opened(tmp_path), files) == ({}, 3)
    assert_holds(opened(tmp_path), files)


def test_damage_is_told_and_a_build_that_was_killed_is_none(tmp_path, files):
    folder = opened(tmp_path).folder
    (folder / "shard-000007").mkdir()
    (folder / "shard-000007" / "names.0.bin").write_bytes(b"x")
    assert not opened(tmp_path).was_damaged
    flip("neighbours")(folder / "shard-000001")
    assert opened(tmp_path).was_damaged
    update(opened(tmp_path), files)
    assert not opened(tmp_path).was_damaged


def test_a_changed_crystal_goes_into_the_last_shard(tmp_path, files):
    folder = opened(tmp_path).folder
    before = state(folder / SHARD)
    rewrite(files["b"], 41, mtime=LONG_AGO + 1)
    assert update(opened(tmp_path), files) == ({}, 1)
    assert shards(tmp_path) == {SHARD: list("abc"), "shard-000001": list("def"), "shard-000002": list("ghb")}
    assert state(folder / SHARD) == before
    assert_holds(opened(tmp_path), files)
    assert len(opened(tmp_path).row_of) == len(IDS)


def test_a_compaction_is_of_one_shard(tmp_path, files):
    folder = opened(tmp_path).folder
    before = state(folder / "shard-000001")
    for k, name in enumerate("bc"):  # five of the six atoms of their shard
        rewrite(files[name], 40 + k, mtime=LONG_AGO + 1)
    assert update(opened(tmp_path), files) == ({}, 2)
    others = {"shard-000001": list("def"), "shard-000002": list("ghb"), "shard-000003": ["c"]}
    assert shards(tmp_path) == {SHARD: ["a"]} | others
    assert state(folder / "shard-000001") == before
    columns = {path.name for path in (folder / SHARD).glob("distances.*")}
    assert columns == {"distances.1.bin"}
    assert_holds(opened(tmp_path), files)


def test_a_shard_that_holds_nothing_any_more_is_removed(tmp_path, files):
    for k, name in enumerate("abc"):
        rewrite(files[name], 50 + k, mtime=LONG_AGO + 1)
    assert update(opened(tmp_path), files) == ({}, 3)
    assert SHARD not in shards(tmp_path)
    assert_holds(opened(tmp_path), files)
    assert update(opened(tmp_path), files) == ({}, 0)


def test_a_touched_file_costs_a_stamp(tmp_path, files, reads):
    folder = opened(tmp_path).folder
    before = state(folder / SHARD)
    os.utime(files["b"], (LONG_AGO + 9, LONG_AGO + 9))
    reads.clear()
    assert update(opened(tmp_path), files) == ({}, 0)
    after = state(folder / SHARD)
    assert {name for name in after if after[name] != before[name]} == {"stamps.0.bin", MARKER}
    assert after["stamps.0.bin"][0] == before["stamps.0.bin"][0] * 4 // 3
    assert reads == [] and update(opened(tmp_path), files) == ({}, 0)
    assert_holds(opened(tmp_path), files)


def test_stamps_do_not_grow_for_ever(tmp_path, files):
    for turn in range(1, 30):
        os.utime(files["b"], (LONG_AGO + turn, LONG_AGO + turn))
        assert update(opened(tmp_path), files) == ({}, 0)
    sizes = [path.stat().st_size for path in opened(tmp_path).folder.glob(f"{SHARD}/stamps.*")]
    assert len(sizes) == 1 and sizes[0] <= 3 * 8 * shard.STAMP.itemsize
    assert_holds(opened(tmp_path), files)


def build_and_die(folder: Path, files, number: int) -> None:
    """Build, and end without warning at the n-th os.fsync."""
    real, count = os.fsync, 0

    def deadly(descriptor):
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(descriptor)

    os.fsync = deadly
    update(opened(folder), files)


@pytest.mark.parametrize("number", range(1, 70, 4))
def test_a_kill_at_any_moment_costs_what_was_not_committed(tmp_path, files, number):
    """Also where a shard is opened, compacted or removed."""
    for k, name in enumerate("abcef"):
        rewrite(files[name], 60 + k, mtime=LONG_AGO + 1)
    assert in_child(build_and_die, tmp_path, files, number) == -signal.SIGKILL
    graph_store = opened(tmp_path)
    assert graph_store.row_of.keys() == files.keys()  # as they are now, or as they were
    update(graph_store, files)
    assert_holds(graph_store, files)
    assert_holds(opened(tmp_path), files)
    assert update(opened(tmp_path), files) == ({}, 0)


def test_what_was_left_behind_is_removed(tmp_path, files):
    folder = opened(tmp_path).folder
    left = [folder / "manifest.npz", folder / "distances.0.bin", folder / SHARD / "distances.3.bin"]
    left += [folder / "shard-000007" / "names.0.bin", folder / SHARD / f".{MARKER}.part"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    rewrite(files["a"], 70, mtime=LONG_AGO + 1)
    assert update(opened(tmp_path), files) == ({}, 1)
    assert not any(path.exists() for path in left)
    assert_holds(opened(tmp_path), files)


@pytest.mark.parametrize("number", range(1, 16, 2))
def test_a_disk_that_is_full_leaves_what_was_committed(tmp_path, files, monkeypatch, number):
    real, count = os.fsync, 0

    def full(descriptor):
        nonlocal count
        count += 1
        if count >= number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor)

    more = write_crystals(tmp_path, "xy", seed=30)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            update(opened(tmp_path), files | more)
    graph_store = opened(tmp_path)
    held = {name: path for name, path in (files | more).items() if name in graph_store.row_of}
    assert held.keys() >= files.keys()
    assert_holds(graph_store, held)
    assert update(graph_store, files | more) == ({}, len(files | more) - len(held))
    assert_holds(opened(tmp_path), files | more)


def test_no_room_for_a_compaction_is_no_fault(tmp_path, files, monkeypatch):
    def full(self, live):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Shard, "compact", full)
    for turn in (1, 2, 3):
        rewrite(files["h"], 23 + 4 * turn, mtime=LONG_AGO + turn)
        assert update(opened(tmp_path), files) == ({}, 1)
    assert_holds(opened(tmp_path), files)


def test_what_another_run_has_open_may_stay(tmp_path, files, monkeypatch):
    """Windows and NFS do not remove it; the store is right all the same, and goes on."""
    unlink = Path.unlink

    def kept(path, *, missing_ok=False):
        if path.suffix == ".bin":
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", kept)
    graph_store = opened(tmp_path)
    for turn in (1, 2):
        for k, name in enumerate("bc"):
            rewrite(files[name], 40 + 2 * turn + k, mtime=LONG_AGO + turn)
        assert update(graph_store, files) == ({}, 2)
        assert_holds(graph_store, files)
        assert_holds(opened(tmp_path), files)


def test_a_table_that_is_asked_for_after_another_run_has_compacted(tmp_path, files):
    early = opened(tmp_path)
    for turn in (1, 2, 3, 4):
        rewrite(files["h"], 23 + 4 * turn, mtime=LONG_AGO + turn)
        update(opened(tmp_path), files)
    assert_holds(early, files)


def test_what_is_mapped_stays_when_its_shard_is_compacted(tmp_path, files):
    table = opened(tmp_path).table(IDS)
    before = [table.graph(row).distances.copy() for row in range(len(IDS))]
    for turn in (1, 2, 3):
        for k, path in enumerate(files.values()):
            rewrite(path, 10 * turn + k, mtime=LONG_AGO + turn)
        update(opened(tmp_path), files)
    for row, distances in enumerate(before):
        np.testing.assert_array_equal(table.graph(row).distances, distances)


def test_much_that_waits_is_committed_before_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FILES_A_TASK", 1)
    files = write_crystals(tmp_path, IDS)
    for name, limit in (("CRYSTALS_A_FLUSH", 2), ("EDGES_A_FLUSH", 1)):
        sizes = []
        with monkeypatch.context() as patch:
            patch.setattr(store, name, limit)
            patch.setattr(Shard, "append", lambda self, new, touched=(), sizes=sizes: sizes.append(len(new)))
            update(opened(tmp_path), files)
        assert sum(sizes) == 8 and max(sizes) <= 2 and len(sizes) > 3
