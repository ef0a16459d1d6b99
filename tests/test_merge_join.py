"""Ids are matched without folder, suffix and case; what differs only in those is told, never merged silently."""

import math

import pytest

from cgcnn.merge.join import Keys, collect, joined_keys, plain_id


def labels(*rows: tuple[str, float], keys: Keys | None = None, duplicates: str | None = None):
    numbered = [(line, text, value) for line, (text, value) in enumerate(rows, start=2)]
    keys = keys or Keys.of_tables([[text for text, _ in rows]])
    return collect("w.csv", numbered, keys, label="work function", duplicates=duplicates)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("NaCl.cif", "NaCl"),
        ("cifs/new/NaCl.CIF", "NaCl"),
        ("C:\\data\\NaCl.cif", "NaCl"),
        ("POSCAR_NaCl", "NaCl"),
        ("runs/NaCl/CONTCAR", "NaCl"),
        ("NaCl.vasp.cif", "NaCl"),
        (" mp-22862 ", "mp-22862"),
        ("Fe0.5Co0.5", "Fe0.5Co0.5"),
        ("1AgBr2-1", "1AgBr2-1"),
    ],
)
def test_folder_and_suffix_are_left_out(text, plain):
    assert plain_id(text) == plain


def test_ids_match_without_case():
    work, gap = labels(("NACL.cif", 4.5)), labels(("dft/NaCl", 5.0))
    assert joined_keys(work, gap, "inner") == list(work.ids) == list(gap.ids)
    assert list(work.ids.values()) == ["NACL"]


def test_spellings_that_differ_in_one_table_only_are_a_clash():
    found = labels(("NaCl", 4.5), ("Si", 4.8), ("nacl.cif", 4.5))
    assert list(found.ids.values()) == ["Si"]
    (finding,) = found.findings
    assert (finding.kind, finding.rows) == ("clash", (2, 4))
    assert finding.detail == "NaCl (row 2) and nacl.cif (row 4)"
    assert found.clashes == {"nacl"}


def test_crystals_that_only_case_tells_apart_stay_apart():
    rows = (("2BiIN-1", 6.1), ("2BiIn-1", 3.9))
    for keys in (
        Keys.of_tables([["2BiIN-1"], ["2BiIn-1.cif"]], ["2BiIN-1", "2BiIn-1"]),
        Keys.of_tables([["2BiIN-1", "2BiIn-1"], ["a/2BiIn-1", "a/2BiIN-1"]]),
    ):
        found = labels(*rows, keys=keys)
        assert found.values == {"2BiIN-1": 6.1, "2BiIn-1": 3.9}
        assert not found.findings
        unclear = labels(("2biin-1", 5.0), keys=keys)
        assert not unclear.ids
        assert unclear.findings[0].detail == "could be 2BiIN-1 or 2BiIn-1"


def test_equal_rows_are_one_and_a_blank_gives_way():
    found = labels(("Si", 4.85), ("Si", 4.850000001), ("Ge", math.nan), ("Ge", 4.8), ("C", math.nan))
    assert found.values["si"] == 4.85 and found.values["ge"] == 4.8 and math.isnan(found.values["c"])
    assert [(f.kind, f.rows) for f in found.findings] == [("duplicate_equal", (2, 3)), ("duplicate_equal", (4, 5))]


@pytest.mark.parametrize(("duplicates", "expected"), [(None, math.nan), ("first", 4.6), ("mean", 4.7)])
def test_rows_that_differ(duplicates, expected):
    found = labels(("Si", 4.6), ("Ge", 4.8), ("Si", 4.8), duplicates=duplicates)
    assert found.values["si"] == pytest.approx(expected, nan_ok=True)
    (finding,) = found.findings
    assert finding.kind == ("duplicate_settled" if duplicates else "duplicate_differs")
    assert finding.rows == (2, 4) and "4.6, 4.8 →" in finding.detail


def test_inner_and_outer():
    work, gap = labels(("b", 1), ("a", 1), ("x", 1), ("X.cif", 1)), labels(("c", 1), ("a", 1), ("x", 1))
    assert joined_keys(work, gap, "inner") == ["a"]
    assert joined_keys(work, gap, "outer") == ["b", "a", "c"]
