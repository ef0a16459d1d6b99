"""Outputs that grow: whole or resumable after an end at any moment, and never mixed with something else."""

import json

import pytest

from cgcnn.labels import DataError
from cgcnn.screening import growing
from cgcnn.screening.growing import FINISHED, GROWING, GrowingFiles

CHUNKS = [{"table": b"a,1\n", "more": b"xy"}, {"table": b"b,2\n"}, {"table": b"c,3\n", "more": b"z"}]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def files(tmp_path):
    """A function that makes the files, as a process would."""

    def make(names=("table", "more", "empty"), **begun_with):
        paths = {name: tmp_path / f"{name}.csv" for name in names}
        return GrowingFiles(paths, begun_with or {"MODEL": "m"})

    return make


def work(files, kill_at=None, monkeypatch=None, finishers=None) -> list[bytes]:
    """Write all chunks, from where the files are; kill_at: the file operation at which the process dies."""
    calls = 0
    names = ("write_text", "move_aside")

    def counted(function):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise Killed
            return function(*arguments)

        return call

    if kill_at is not None:
        for name in names:
            monkeypatch.setattr(growing, name, counted(getattr(growing, name)))
        monkeypatch.setattr(growing.os, "replace", counted(growing.os.replace))
        monkeypatch.setattr(growing.os, "fsync", counted(growing.os.fsync))
    with files as out:
        if not out.resume():
            out.begin()
        done = out.size("table") // 4
        for chunk in CHUNKS[done:] if out.stage == GROWING else ():
            out.append(chunk)
        if out.stage != FINISHED:
            out.finish(finishers or {})
    return [path.read_bytes() for path in files.files.values() if path.exists()]


def test_files_are_parts_until_they_are_whole(files, tmp_path):
    with files() as out:
        assert not out.resume()
        out.begin()
        out.append(CHUNKS[0])
        here = {path.name for path in tmp_path.iterdir()}
        assert {"table.csv.part", "more.csv.part", "table.csv.progress"} <= here
        assert not {"table.csv", "more.csv"} & here
        out.append(CHUNKS[1])
        out.finish({})
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "more.csv"}
    assert (tmp_path / "table.csv").read_bytes() == b"a,1\nb,2\n"


def test_a_process_that_dies_at_any_file_operation_can_be_taken_up(tmp_path, monkeypatch):
    kill_at, died = 0, True
    while died:
        kill_at += 1
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        (folder / "table.csv").write_bytes(b"earlier\n")
        paths = {name: folder / f"{name}.csv" for name in ("table", "more", "empty")}
        with monkeypatch.context() as patch:
            try:
                work(GrowingFiles(paths, {}), kill_at, patch)
                died = False
            except Killed:
                part = folder / "table.csv.part"
                if part.exists() and (folder / "table.csv.progress").exists():
                    part.write_bytes(part.read_bytes() + b"half a li")  # what a kill leaves of a write
        if died:
            work(GrowingFiles(paths, {}))
        assert (folder / "table.csv").read_bytes() == b"a,1\nb,2\nc,3\n"
        assert (folder / "more.csv").read_bytes() == b"xyz"
        assert [path.read_bytes() for path in folder.glob("result/previous/*/table.csv")] == [b"earlier\n"]
        assert {path.name for path in folder.iterdir()} == {"table.csv", "more.csv", "result"}
    assert kill_at > 20


def test_a_finisher_makes_the_file_from_its_part(files, tmp_path):
    def finish(part, path):
        assert (tmp_path / "table.csv.part").exists()
        path.write_bytes(part.read_bytes().upper())

    work(files(), finishers={"more": finish})
    assert (tmp_path / "more.csv").read_bytes() == b"XYZ"


def test_work_that_was_begun_with_something_else_is_not_mixed_with_it(files, tmp_path):
    with files(MODEL="m", coverage=0.9) as out:
        out.begin()
        out.append(CHUNKS[0])
    for other in ({"MODEL": "n", "coverage": 0.9}, {"MODEL": "m", "coverage": 0.8}, {"MODEL": "m"}):
        with pytest.raises(DataError, match=r"table\.csv\.progress: begun with another"), files(**other) as out:
            out.resume()
    with files(MODEL="m", coverage=0.9) as out:
        assert out.resume() and out.size("table") == 4


@pytest.mark.parametrize("damage", ["gone", "short", "progress"])
def test_damage_is_told(damage, files, tmp_path):
    with files() as out:
        out.begin()
        out.append(CHUNKS[0])
    if damage == "progress":
        (tmp_path / "table.csv.progress").write_text("{")
    elif damage == "gone":
        (tmp_path / "more.csv.part").unlink()
    else:
        (tmp_path / "more.csv.part").write_bytes(b"x")
    with pytest.raises(DataError, match="without --resume-output all begins anew"), files() as out:
        out.resume()


def test_unfinished_work_is_moved_aside_when_all_begins_anew(files, tmp_path):
    with files() as out:
        assert out.begin() is None
        out.append(CHUNKS[0])
    with files() as out:
        assert "files of an earlier run moved to" in out.begin()
        assert out.size("table") == 0
    assert [path.read_bytes() for path in tmp_path.rglob("previous/*/table.csv.part")] == [b"a,1\n"]


def test_a_record_tells_that_nothing_is_left_to_do(files, tmp_path):
    with files() as out:
        out.begin()
        out.append(CHUNKS[0])
        out.finish({}, keep_record=True)
    assert json.loads((tmp_path / "table.csv.progress").read_text())["stage"] == FINISHED
    with files() as out:
        assert out.resume() and out.stage == FINISHED and out.is_whole()
        (tmp_path / "more.csv").unlink()
        assert not out.is_whole()
    with files() as out:  # nothing is unfinished that could be moved
        assert out.begin() is None


def test_two_processes_do_not_write_one_file(files):
    with files(), pytest.raises(DataError, match="another process is writing it"), files():
        pass
    with files():
        pass


def test_two_outputs_need_two_names(tmp_path):
    with pytest.raises(DataError, match="two outputs have this name"):
        GrowingFiles({"a": tmp_path / "x", "b": tmp_path / "y" / ".." / "x"}, {})
