"""The rows of a table that meet a condition, and the best of them."""

import tracemalloc

import numpy as np
import pytest
from helpers import read_rows, write_rows

from cgcnn.labels import DataError
from cgcnn.screening import shortlist as module
from cgcnn.screening.shortlist import as_text, shortlist

HEADER = ["cif_id", "band_gap_target", "band_gap_pred", "band_gap_std", "unlike_training"]
ROWS = [
    ["a", "", "1.5", "0.2", ""],
    ["b", "2", "2.5", "0.1", "far"],
    ["c", "0", "0", "0.4", ""],
    ["1e5", "1", "2.5", "0.3", ""],
    ["d, e", "3", "", "0.0", "element Pu"],
]


@pytest.fixture
def written(tmp_path):
    """A function of the flags and rows → how many meet them, what is printed, the rows of the file."""

    def write(where=None, sort=None, top=None, rows=ROWS):
        write_rows(tmp_path / "t.csv", [HEADER, *rows])
        names = {"band_gap": "band_gap_pred"}
        wanted = shortlist(where, sort, top, columns=HEADER, short_names=names, texts=("cif_id", "unlike_training"))
        count, first = wanted.write(tmp_path / "t.csv", tmp_path / "s.csv")
        found = read_rows(tmp_path / "s.csv")
        assert found[0] == HEADER == first[0]
        assert first == found[: len(first)]
        return count, [row[0] for row in found[1:]]

    return write


def test_rows_keep_their_order_and_their_digits(written, tmp_path):
    assert written("band_gap > 1") == (3, ["a", "b", "1e5"])
    assert read_rows(tmp_path / "s.csv")[1:] == [ROWS[0], ROWS[1], ROWS[3]]


def test_the_best_of_them(written):
    assert written("band_gap >= 0", top=2) == (4, ["b", "1e5"])  # the first of equals comes first
    assert written("band_gap >= 0", sort="band_gap", top=2) == (4, ["c", "a"])
    assert written("band_gap >= 0", sort="-band_gap_std", top=9) == (4, ["c", "1e5", "a", "b"])
    assert written(None, sort="-band_gap/band_gap_std", top=1) == (5, ["b"])
    assert written("unlike_training == '' and band_gap > 1", top=1) == (2, ["1e5"])


def test_a_row_without_the_number_comes_last_and_meets_no_comparison(written):
    assert written(None, sort="band_gap", top=5)[1] == ["c", "a", "b", "1e5", "d, e"]
    assert written("band_gap > 100 or band_gap <= 100")[0] == 4


def test_nothing_meets_it(written):
    assert written("band_gap > 100", top=3) == (0, [])


def test_labels_can_be_asked_for_too(written):
    assert written("band_gap_target >= 2 and not band_gap > 2.6")[1] == ["b", "d, e"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"top": 3}, "--top: the best by what?"),
        ({"where": "not band_gap > 1", "top": 3}, "--top: the best by what?"),
        ({"where": "band_gap > 1", "sort": "band_gap"}, "--sort needs --top"),
        ({"where": "band_gap > 1", "sort": "unlike_training", "top": 3}, "--sort 'unlike_training': is a text"),
        ({"where": "band_gap > 1", "sort": "gap", "top": 3}, "--sort 'gap': no column 'gap'"),
        ({"where": "band_gap_low > 1"}, "--where 'band_gap_low > 1': no column 'band_gap_low'"),
    ],
)
def test_flags_that_do_not_fit(flags, said, written):
    with pytest.raises(DataError) as error:
        written(**flags)
    assert str(error.value).startswith(said)


def test_no_flags_no_shortlist():
    assert shortlist(None, None, None, columns=HEADER, short_names={}, texts=()) is None


def test_blocks_do_not_show(written, monkeypatch):
    rows = [[f"c{k}", "", f"{k * 37 % 101}", "0", ""] for k in range(101)]
    whole = written("band_gap > 20", top=30, rows=rows)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert written("band_gap > 20", top=30, rows=rows) == whole
    assert whole[1] == [f"c{k}" for k in sorted(range(101), key=lambda k: -(k * 37 % 101))[:30]]


def test_memory_does_not_grow_with_the_table(written, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 100)
    rng = np.random.default_rng(0)
    peaks = []
    for count in (1000, 20_000):
        rows = [[f"c{k}", "", f"{x:.6f}", "0", ""] for k, x in enumerate(rng.random(count))]
        written("band_gap > 0.2", top=10, rows=[])  # what is imported and cached once
        write = written
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        assert len(write("band_gap > 0.2", top=10, rows=rows)[1]) == 10
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 100_000


def test_as_text():
    text = as_text([HEADER, *ROWS], ["cif_id", "band_gap_pred", "unlike_training"], ("cif_id", "unlike_training"))
    lines = text.splitlines()
    assert lines[0].split() == ["cif_id", "band_gap_pred", "unlike_training"]
    assert lines[4].split() == ["1e5", "2.5"]
    assert lines[5].startswith("d, e")
    assert as_text([["a", "x"], ["k", "0.123456789"]], ["a", "x"], ("a",)).split() == ["a", "x", "k", "0.1235"]
