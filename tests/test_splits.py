"""Splits: disjoint, of the sizes asked for, the same for a seed, and no formula on both sides of a group split."""

import time
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgcnn.labels import DataError
from cgcnn.splits import PARTS, Split, SplitSettings, make_splits, read_split


def sizes(split: Split) -> tuple[int, ...]:
    return tuple(len(split[part]) for part in PARTS)


def members(split: Split) -> list[int]:
    return [k for part in PARTS for k in split[part]]


def formulas(count: int) -> list[str]:
    return [f"X{k}" for k in range(count)]


def first(count: int, **options) -> Split:
    return make_splits(formulas(count), SplitSettings(**options))[0]


# --- sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [
        (100, {}, (80, 10, 10)),
        (105, {}, (85, 10, 10)),
        (3, {}, (1, 1, 1)),
        (19, {}, (17, 1, 1)),
        (100, {"val_ratio": 0.2, "test_ratio": 0.3}, (50, 20, 30)),
        (100, {"test_ratio": 0.0}, (90, 10, 0)),
        (100, {"train_ratio": 0.5}, (50, 10, 10)),
        (103, {"train_ratio": 0.8}, (83, 10, 10)),  # three ratios that make 1 leave none out
        (33, {"train_ratio": 0.6, "val_ratio": 0.2, "test_ratio": 0.2}, (21, 6, 6)),
        (100, {"train_size": 7, "val_size": 2, "test_size": 1}, (7, 2, 1)),
        (100, {"train_size": 7}, (7, 10, 10)),
        (100, {"val_size": 30, "test_size": 0}, (70, 30, 0)),
        (100, {"train_ratio": 0.5, "test_size": 5}, (50, 10, 5)),
        (100, {"train_ratio": 0.8, "test_size": 5}, (80, 10, 5)),
        (100, {"train_ratio": 0.8, "val_size": 5}, (80, 5, 10)),
        (100, {"train_ratio": 0.001}, (1, 10, 10)),
    ],
)
def test_sizes(count, options, expected):
    split = first(count, **options)
    assert sizes(split) == expected
    assert len(set(members(split))) == sum(expected)
    assert set(members(split)) <= set(range(count))


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (100, {"train_size": 90, "val_size": 10, "test_size": 1}, r"90 training \+ 10 validation \+ 1 test.*are 100"),
        (100, {"train_ratio": 0.9, "val_ratio": 0.2}, "but there are 100"),
        (2, {}, "0 training and 1 validation crystals of 2"),
        (0, {}, "each part needs at least one|but there are 0"),
        (100, {"val_ratio": 0.0}, "0 validation"),
        (100, {"val_size": 0}, "0 validation"),
        (100, {"train_size": 0}, "0 training"),
        (100, {"val_ratio": 1.5}, "--val-ratio 1.5 is not between 0 and 1"),
        (100, {"train_ratio": -0.1}, "--train-ratio -0.1 is not between 0 and 1"),
        (100, {"test_size": -1}, "-1 crystals is not possible"),
    ],
)
def test_sizes_that_cannot_be(count, options, message):
    with pytest.raises(DataError, match=message):
        first(count, **options)


@settings(deadline=None)
@given(
    count=st.integers(1, 400),
    train=st.none() | st.floats(0, 1),
    val=st.floats(0, 1),
    test=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_any_ratios_give_disjoint_parts_or_one_line(count, train, val, test, seed):
    chosen = SplitSettings(train_ratio=train, val_ratio=val, test_ratio=test)
    try:
        split = make_splits(formulas(count), chosen, seed=seed)[0]
    except DataError as error:
        assert "\n" not in str(error)
        return
    assert len(members(split)) == len(set(members(split)))
    assert set(members(split)) <= set(range(count))
    assert min(len(split.train), len(split.val)) > 0
    assert (len(split.test) > 0) == (test > 0)
    if train is None:
        assert len(members(split)) == count
    for part, ratio in (("val", val), ("test", test)):
        assert len(split[part]) <= max(1, ratio * count)


# --- seeds --------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_splits_and_another_others():
    names, chosen = formulas(60), SplitSettings()
    splits = make_splits(names, chosen, num_splits=4, seed=5)
    assert splits == make_splits(names, chosen, num_splits=4, seed=5)
    assert splits[:2] == make_splits(names, chosen, num_splits=2, seed=5)
    tests = {tuple(sorted(split.test)) for split in splits}
    assert len(tests) == 4
    assert make_splits(names, chosen, seed=99)[0] not in splits
    assert sorted(splits[0].test) != list(range(54, 60))  # shuffled, not cut


# --- folds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "folds"), [(10, 2), (23, 5), (7, 7)])
def test_folds_test_every_crystal_once(count, folds):
    splits = make_splits(formulas(count), SplitSettings(folds=folds), seed=1)
    assert len(splits) == folds
    assert sorted(k for split in splits for k in split.test) == list(range(count))
    assert {len(split.test) for split in splits} <= {count // folds, count // folds + 1}
    for split in splits:
        assert sorted(members(split)) == list(range(count))
        assert len(split.val) == max(1, count // 10)
    assert splits == make_splits(formulas(count), SplitSettings(folds=folds), seed=1)
    assert splits != make_splits(formulas(count), SplitSettings(folds=folds), seed=2)


def test_folds_with_a_validation_size():
    assert {sizes(split) for split in make_splits(formulas(20), SplitSettings(folds=4, val_size=3))} == {(12, 3, 5)}


@pytest.mark.parametrize("folds", [1, 8])
def test_folds_that_cannot_be(folds):
    with pytest.raises(DataError, match=rf"--folds {folds}: from 2 to the number of crystals \(7\)"):
        make_splits(formulas(7), SplitSettings(folds=folds))
    with pytest.raises(DataError, match=r"formulas \(2\)"):
        make_splits(["A", "B", "A", "B"], SplitSettings(folds=3, group_by_formula=True))


def test_many_crystals_are_dealt_to_folds_in_no_time():
    start = time.perf_counter()
    make_splits(formulas(50_000), SplitSettings(folds=10))
    assert time.perf_counter() - start < 10  # half a second on an idle machine


# --- by formula ---------------------------------------------------------------------------------------


def parts_of_formulas(split: Split, names: list[str]) -> Counter:
    return Counter(formula for part in PARTS for formula in {names[k] for k in split[part]})


@settings(deadline=None, max_examples=200)
@given(
    groups=st.lists(st.integers(1, 30), min_size=3, max_size=25),
    val=st.floats(0.01, 0.4),
    test=st.floats(0.0, 0.4),
    seed=st.integers(0, 1000),
)
def test_no_formula_is_in_two_parts_and_none_is_left_out(groups, val, test, seed):
    names = [f"X{g}" for g, size in enumerate(groups) for _ in range(size)]
    chosen = SplitSettings(val_ratio=val, test_ratio=test, group_by_formula=True)
    split = make_splits(names, chosen, seed=seed)[0]
    assert sorted(members(split)) == list(range(len(names)))
    assert set(parts_of_formulas(split, names).values()) == {1}
    assert split.train
    assert split.val
    assert bool(split.test) == (test > 0)


def test_groups_come_close_to_the_sizes():
    names = [f"X{k // 4}" for k in range(400)]
    for split in make_splits(names, SplitSettings(group_by_formula=True), num_splits=5):
        assert sizes(split) == (320, 40, 40)


def test_a_large_formula_stays_out_of_small_parts():
    names = ["common"] * 90 + [f"X{k // 2}" for k in range(60)]
    for split in make_splits(names, SplitSettings(group_by_formula=True), num_splits=20):
        assert {names.index("common")} <= set(split.train)
        assert len(split.test) <= 16
        assert len(split.val) <= 16


def test_where_every_formula_is_too_large_a_part_takes_the_smallest():
    names = ["A"] * 50 + ["B"] * 20 + ["C"] * 30
    for split in make_splits(names, SplitSettings(group_by_formula=True), num_splits=9):
        assert sizes(split) == (50, 30, 20)


def test_three_formulas_are_enough_and_two_are_not():
    for split in make_splits(["A"] * 5 + ["B"] * 5 + ["C"] * 90, SplitSettings(group_by_formula=True), num_splits=9):
        assert min(sizes(split)) > 0
    with pytest.raises(DataError, match="part of the split is empty"):
        make_splits(["A"] * 5 + ["B"] * 5, SplitSettings(group_by_formula=True))


@settings(deadline=None)
@given(groups=st.lists(st.integers(1, 20), min_size=5, max_size=20), folds=st.integers(3, 5), seed=st.integers(0, 99))
def test_folds_by_formula(groups, folds, seed):
    names = [f"X{g}" for g, size in enumerate(groups) for _ in range(size)]
    splits = make_splits(names, SplitSettings(folds=folds, group_by_formula=True), seed=seed)
    assert sorted(k for split in splits for k in split.test) == list(range(len(names)))
    for split in splits:
        assert set(parts_of_formulas(split, names).values()) == {1}
        assert min(sizes(split)) > 0


# --- written and read ---------------------------------------------------------------------------------


def test_a_written_split_is_read_again(tmp_path):
    ids = ["tab\there", "two\nlines", "a, b", '"quoted"', "Zn²⁺", "x\u2028y", "007", "7", "v\x0bw", "last"]
    split = make_splits(ids, SplitSettings(test_size=2, val_size=3))[0]
    split.write(tmp_path / "split.csv", ids)
    found, left_out = read_split(tmp_path / "split.csv", ids)
    assert found == split
    assert left_out == []


def test_a_split_of_other_crystals(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("\ufeffcif_id,split,note\r\n c , val \r\nunknown,test\r\n\r\na,train\r\n")
    split, left_out = read_split(path, ["a", "b", "c"])
    assert split == Split([0], [2], [])
    assert left_out == ["b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a,train\nb,val\n", "row 1: the header cif_id,split is expected"),
        ("cif_id\tsplit\na\ttrain\n", "row 1: one column, 'cif_id\\tsplit'; separated by tabs? commas are expected"),
        ("cif_id,split\na,train\nb,valid\n", "row 3: 'valid' is not train, val or test"),
        ("cif_id,split\na\n", "row 2: '' is not train"),
        ("cif_id,split\na,train\na,val\n", "row 3: id 'a' stands twice"),
        ("cif_id,split\na,train\n", "the val part of the split is empty"),
        ("cif_id,split\nx,train\nb,val\n", "the train part of the split is empty"),
        ("cif_id,split\n", "the train and val part of the split is empty"),
        (b"cif_id,split\n\xe9,train\n", "not a text file"),
        ("cif_id,split\na," + "x" * 200_000, "field larger"),
    ],
)
def test_faults_of_a_split_table(tmp_path, text, message):
    path = tmp_path / "split.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError) as caught:
        read_split(path, ["a", "b"])
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_split_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        read_split(tmp_path / "nowhere.csv", ["a"])


@pytest.mark.parametrize(
    "chosen",
    [
        SplitSettings(has_val=False),
        SplitSettings(train_ratio=0.9, has_val=False),
        SplitSettings(has_val=False, group_by_formula=True),
        SplitSettings(has_val=False, folds=10),
    ],
    ids=["rest", "ratios that make 1", "formulas", "folds"],
)
def test_without_a_validation_part_its_crystals_are_trained_on(chosen):
    split = make_splits(formulas(47), chosen)[0]
    with_val = make_splits(formulas(47), replace(chosen, has_val=True, train_ratio=None))[0]
    assert not split.val
    assert set(split.test) == set(with_val.test)
    assert set(split.train) == set(with_val.train + with_val.val)


def test_a_split_table_without_validation(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("cif_id,split\na,train\nb,test\n")
    assert read_split(path, ["a", "b"], needs_val=False)[0] == Split([0], [], [1])
