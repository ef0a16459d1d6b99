"""Broken input: a quick part of `python -m benchmarks.fuzz`, and what holds for any table that is written."""

import csv
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import mutations, named
from benchmarks.fuzz.__main__ import plan
from benchmarks.fuzz.cases import FAULT, REFUSED, USED, Case, complaint_about, judged, run_mutated
from benchmarks.fuzz.commands import LIST
from benchmarks.fuzz.entries import ENTRIES, WrongError
from benchmarks.fuzz.good_inputs import prepare
from benchmarks.fuzz.named import run_named
from benchmarks.fuzz.workers import Worker, clear
from cgcnn.labels import DataError, read_labels
from cgcnn.splits import PARTS, Split, read_split

MUTATIONS = 4  # of each entry
SLOW = ("10,000", "operations", "vacancies", "columns", "comments", "1e5", "wire", "1e9", "blocks")


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    prepare(folder)
    return folder


@pytest.mark.parametrize("kind", ENTRIES)
def test_broken_files_are_used_or_refused_in_a_line(kind, good, tmp_path):
    for number in range(MUTATIONS):
        outcome = run_mutated(Case(number, 7, kind), good, tmp_path / str(number))
        assert outcome.verdict != FAULT, (kind, number, outcome.source, outcome.changes, outcome.said)


@pytest.mark.parametrize("kind", ENTRIES)
def test_good_files_are_used(kind, good, tmp_path, monkeypatch):
    monkeypatch.setitem(ENTRIES, kind, replace(ENTRIES[kind], change=lambda data, rng: (data, "nothing")))
    for number in range(2):
        outcome = run_mutated(Case(number, 0, kind), good, tmp_path / str(number))
        # weights without a run cannot be resumed, and those of the original code know no split
        is_model = kind == "model" and any(word in outcome.said for word in ("no run to resume", "know no split"))
        assert outcome.verdict == USED or is_model, outcome.said


def test_structures_that_are_none(good, tmp_path):
    cases = [case for case in named.cases() if case[0] != "odd place" and not any(word in case[1] for word in SLOW)]
    assert len(cases) > 50
    for number, (kind, name, _) in enumerate(cases):
        outcome = run_named(Case(number, 0, kind, name), good, tmp_path / str(number))
        assert outcome.verdict != FAULT, (name, outcome.said)


@pytest.mark.parametrize("place", ["folder", "FIFO", "link to itself", "link to nothing", "link to /dev/zero"])
def test_what_is_no_file_is_refused(place, good, tmp_path):
    for number, kind in enumerate(ENTRIES):
        outcome = run_named(Case(number, 0, "odd place", f"{place}: {kind}"), good, tmp_path / str(number))
        assert outcome.verdict != FAULT, (kind, outcome.said)


def test_a_seed_repeats_its_cases(good, tmp_path):
    first, again = (run_mutated(Case(3, 5, "CIF"), good, tmp_path / name) for name in ("a", "b"))
    assert (first.source, first.changes, first.verdict) == (again.source, again.changes, again.verdict)
    files = [sorted((tmp_path / name / "beside").iterdir()) for name in ("a", "b")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_a_plan_has_every_kind():
    cases = plan(2000, 50, 0)
    assert len(cases) >= 2000 and len({case.number for case in cases}) == len(cases)
    assert {case.kind for case in cases} >= {
        *ENTRIES,
        "named structure",
        "odd name",
        "odd place",
        "command",
        "process",
    }
    assert sum(case.kind in ("command", "process") for case in cases) == 50
    assert {command.like for command in LIST} <= ENTRIES.keys()


# the fuzzer sees what must not be


def fail_with(error: BaseException):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "verdict", "said"),
    [
        (DataError("a.csv, row 3: no"), REFUSED, "row 3"),
        (DataError("row 3: no"), FAULT, "a.csv is not named"),
        (DataError("a.csv\n"), FAULT, "an empty line"),
        (DataError("a.csv: <class 'int'>"), FAULT, "words of a programmer"),
        (KeyError("x"), FAULT, "Traceback"),
        (MemoryError(), FAULT, "Traceback"),
        (WrongError("lost"), FAULT, "wrong: lost"),
        (FileNotFoundError(2, "No such file", "a.csv"), REFUSED, "a.csv: No such file"),
        (OSError("odd"), FAULT, "Traceback"),
    ],
    ids=str,
)
def test_what_may_be_raised(error, verdict, said):
    outcome = judged(fail_with(error), "a.csv")
    assert outcome.verdict == verdict
    assert said in outcome.said


def test_complaints_about_a_refusal():
    assert "701 characters" in complaint_about(["x" * 701], "")
    assert "cannot be printed" in complaint_about(["a\x1b"], "")
    assert "121 lines" in complaint_about(["a"] * 121, "")
    assert complaint_about(["a.csv, row 3: no"], "a.csv") == ""


def test_a_process_that_hangs_or_dies_is_replaced(good, tmp_path):
    worker = Worker(good, tmp_path / "work", method="fork")
    try:
        assert "hang" in worker.run(Case(0, 0, "CIF", seconds=0.0)).said
        worker._process.kill()
        worker._process.join()
        assert "died: exit status -9" in worker.run(Case(0, 0, "CIF")).said
        assert worker.run(Case(0, 0, "CIF")).verdict in (USED, REFUSED)
    finally:
        worker.end()


def test_what_a_case_leaves_is_removed(tmp_path):
    folder = tmp_path / "work" / "a"
    folder.mkdir(parents=True)
    (folder / "b\udce4d").write_text("x")
    (folder / "loop").symlink_to(folder)
    folder.chmod(0)
    clear(tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("change", sorted({*mutations.JSON}, key=lambda change: change.__name__))
def test_changes_take_any_bytes(change):
    for seed, data in enumerate((b"", b"\n", b"{}", b"a,b\n1,2\n", b'{"a": [1, {"b": null}]}', bytes(range(256)))):
        assert isinstance(change(data, random.Random(seed)), bytes)


# tables that are written are read again

IDS = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)
NUMBERS = st.none() | st.floats(-1e30, 1e30, allow_subnormal=True)


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(IDS, st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_labels_that_are_written_are_read_again(tmp_path_factory, labels, end, with_mark):
    path = tmp_path_factory.mktemp("labels") / "id_prop.csv"
    with open(path, "w", newline="", encoding="utf-8-sig" if with_mark else "utf-8") as file:
        writer = csv.writer(file, lineterminator=end)
        writer.writerow(["cif_id", "a", "b"])
        writer.writerows([i, *("" if x is None else repr(x) for x in row)] for i, row in labels.items())
    table = read_labels(path)
    assert table.ids == list(labels)
    expected = [[np.nan if x is None else x for x in row] for row in labels.values()]
    np.testing.assert_array_equal(table.values, expected)


@settings(deadline=None, max_examples=30)
@given(st.lists(IDS, min_size=3, max_size=12, unique=True), st.randoms(use_true_random=False))
def test_a_split_that_is_written_is_read_again(tmp_path_factory, ids, rng):
    rows = list(range(len(ids)))
    rng.shuffle(rows)
    split = Split(rows[:1], rows[1:2], rows[2 : rng.randrange(2, len(ids)) + 1])
    path = tmp_path_factory.mktemp("split") / "split.csv"
    split.write(path, ids)
    found, left_out = read_split(path, ids)
    assert [sorted(found[part]) for part in PARTS] == [sorted(split[part]) for part in PARTS]
    assert left_out == [ids[k] for k in sorted(set(range(len(ids))) - {*split.train, *split.val, *split.test})]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_labels_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "id_prop.csv"
    path.write_bytes(data)
    try:
        table = read_labels(path)
    except DataError as error:
        assert all("id_prop.csv" in line or line.startswith("…") for line in str(error).split("\n"))
        return
    assert len(table.ids) == len(set(table.ids)) == len(table.values)
    assert not np.isinf(table.values).any()
