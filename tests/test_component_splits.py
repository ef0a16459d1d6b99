"""Splits by the number of components: the right alloys in every part, each in one, and faults in one line."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_crystal
from helpers import alloy_folder, refused, result_file, train, write_rows

from cgcnn.cli import train_command
from cgcnn.component_splits import BETWEEN, NAMES, WITHIN, component_splits, left_out, num_components, read_published
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.labels import DataError
from cgcnn.splits import PARTS, Split, SplitSettings

# as in the published data: 85, 127, 97 and 55 alloys of 2, 3, 4 and 5 components, and two of none of these
COMPONENTS = [1] + [2] * 85 + [3] * 127 + [4] * 97 + [5] * 55 + [6]


def split(name: str, components=COMPONENTS, **options) -> Split:
    return component_splits(name, components, SplitSettings(**options))[0]


def numbers(rows: list[int], components=COMPONENTS) -> set[int]:
    return {components[row] for row in rows}


def test_the_seven_splits_have_names():
    assert NAMES == ("a0", "a1", "a2", "a3", "b0", "b1", "b2")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("has_val", [True, False])
def test_every_split_is_disjoint_and_of_its_numbers_of_components(name, has_val):
    known, tested = BETWEEN[name] if name in BETWEEN else (WITHIN[name], WITHIN[name])
    for one in component_splits(name, COMPONENTS, SplitSettings(has_val=has_val), num_splits=3):
        together = [row for part in PARTS for row in one[part]]
        assert len(together) == len(set(together))
        assert numbers(one.train) == set(known)
        assert numbers(one.val) <= set(known)
        assert numbers(one.test) == set(tested)
        assert bool(one.val) == has_val
        # nothing of these numbers is lost
        assert len(together) == sum(number in {*known, *tested} for number in COMPONENTS)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [  # those of the published code, with its validation part taken out of the training part in the a family
        ("a0", (262, 29, 73)),
        ("a1", (279, 30, 55)),
        ("a2", (191, 21, 152)),
        ("a3", (137, 15, 212)),
        ("b0", (121, 15, 16)),
        ("b1", (169, 21, 22)),
        ("b2", (291, 36, 37)),
    ],
)
def test_sizes_of_the_parts(name, sizes):
    one = split(name)
    assert (len(one.train), len(one.val), len(one.test)) == sizes


def test_the_seed_draws_the_validation_part_and_no_more_where_components_decide():
    first, second = component_splits("a2", COMPONENTS, SplitSettings(), num_splits=2, seed=5)
    assert first.test == second.test
    assert set(first.train + first.val) == set(second.train + second.val)
    assert set(first.val) != set(second.val)
    assert component_splits("a2", COMPONENTS, SplitSettings(), num_splits=1, seed=6)[0] == second


@pytest.mark.parametrize("name", ["a0", "b0", "b1", "b2"])
def test_splits_within_are_reshuffled(name):
    first, second = component_splits(name, COMPONENTS, SplitSettings(), num_splits=2, seed=5)
    assert set(first.test) != set(second.test)


@pytest.mark.parametrize("name", NAMES)
def test_the_test_part_does_not_depend_on_validation(name):
    assert set(split(name).test) == set(split(name, has_val=False).test) == set(split(name, val_size=3).test)
    assert len(split(name, val_size=3).val) == 3


def test_published_parts_of_a0():
    is_test = [None, True, False, *[k % 5 == 0 for k in range(40)]]
    components = [2] * len(is_test)
    splits = component_splits("a0", components, SplitSettings(), num_splits=2, is_test=is_test)
    for one in splits:
        assert set(one.test) == {row for row, tests in enumerate(is_test) if tests}
        assert 0 not in one.train + one.val
    assert set(splits[0].val) != set(splits[1].val)
    assert left_out(splits[0], components) == ("1 crystal in no part and left out: 1 of 2 components")


def test_what_is_left_out_is_counted():
    line = left_out(split("a3"), COMPONENTS)
    assert line == "2 crystals in no part and left out: 1 of 1 component, 1 of 6 components"
    assert left_out(split("a3", [2, 3, 4, 5, 4]), [2, 3, 4, 5, 4]) is None


@pytest.mark.parametrize(
    ("name", "components", "said"),
    [
        ("a1", [2, 3, 4], "--split a1: the test part is empty; the crystals are 1 of 2 components, 1 of 3"),
        ("a2", [4, 5], "the train, val parts are empty"),
        ("a2", [3, 5], "the train part is empty"),
        ("b0", [1, 2], "the train, val, test parts are empty; the crystals are 1 of 1 component, 1 of 2 components"),
    ],
)
def test_an_empty_part_is_told(name, components, said):
    with pytest.raises(DataError) as caught:
        split(name, components)
    assert said in str(caught.value)


def test_components_are_elements_in_the_structure():
    crystals = [
        make_crystal(4, ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        make_crystal(4, [{"Fe": 0.5, "Ni": 0.5}, "Co"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        make_crystal(4, ["Ni", "Co", "Ni"], [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5]]),
    ]
    table = GraphTable.from_graphs([build_graph(crystal, GraphSettings()) for crystal in crystals], ["a", "b", "c"])
    assert num_components(table).tolist() == [1, 3, 2]


def test_published_column(tmp_path):
    path = tmp_path / "alloys.csv"
    write_rows(path, [("phase", "cif_id", "a0_test"), ("fcc", "a", 0), ("bcc", "b", 1), ("bcc", "unknown", 1)])
    assert read_published(path, ["b", "c", "a"]) == [True, None, False]
    write_rows(path, [("cif_id", "phase"), ("a", "fcc")])
    assert read_published(path, ["a"]) is None


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("cif_id", "a0_test"), ("a", "yes")], "row 2: a0_test of 'a' is 'yes', not 0 or 1"),
        ([("cif_id", "a0_test"), ("a", "1"), ("b", "")], "row 3: a0_test of 'b' is ''"),
        ([("cif_id", "a0_test"), ("a", "1"), ("a", "0")], "row 3: id 'a' stands twice"),
        ([("name", "a0_test"), ("a", "1")], "row 1: a column a0_test, but none that is called cif_id"),
    ],
)
def test_faults_of_the_published_column(tmp_path, rows, said):
    path = tmp_path / "alloys.csv"
    write_rows(path, rows)
    with pytest.raises(DataError, match=r"alloys\.csv") as caught:
        read_published(path, ["a", "b"])
    assert said in str(caught.value)


@pytest.fixture(scope="module")
def alloys(tmp_path_factory):
    return alloy_folder(tmp_path_factory.mktemp("alloys") / "data", {1: 1, 2: 8, 3: 8, 4: 6, 5: 6, 6: 2})


SHORT = ("--epochs", 1, "--n-conv", 1, "--atom-fea-len", 8, "--h-fea-len", 8, "--radius", 5, "--targets", "etot")


def parts(out) -> dict[str, set[str]]:
    written = pd.read_csv(result_file(out, "split1_ids.csv"))
    return {part: {name[:2] for name in written["cif_id"][written["split"] == part]} for part in PARTS}


@pytest.mark.parametrize(
    "words", [("--split", "a2"), ("--split_type", "2", "--processed_data", "True")], ids=["name", "type"]
)
def test_a_run_with_a_split(alloys, tmp_path, words):
    ran = train(alloys, tmp_path, *SHORT, *words)
    assert "--split a2: 3 crystals in no part and left out: 1 of 1 component, 2 of 6 components" in ran.out
    assert "15 train, 1 validation, 12 test" in ran.out
    found = parts(tmp_path)
    assert found["train"] == {"n2", "n3"}
    assert found["test"] == {"n4", "n5"}
    assert result_file(tmp_path, "metrics.csv").name.endswith("_a2_metrics.csv")
    # the split that is written is the split that is read
    again = tmp_path / "again"
    train(alloys, again, *SHORT, "--split-file", result_file(tmp_path, "split1_ids.csv"))
    assert parts(again) == found


def test_a_run_with_the_published_a0(alloys, tmp_path):
    data = tmp_path / "data"
    alloy_folder(data, {2: 8, 3: 4})
    tested = {"n2_0", "n3_3"}
    ids = np.array([f"n2_{k}" for k in range(8)] + [f"n3_{k}" for k in range(4)])
    write_rows(data / "alloys.csv", [("cif_id", "a0_test"), *((i, int(i in tested)) for i in ids)])
    ran = train(data, tmp_path / "out", *SHORT, "--split", "a0")
    assert "alloys.csv, column a0_test" in ran.out
    written = pd.read_csv(result_file(tmp_path / "out", "split1_ids.csv"))
    assert set(written["cif_id"][written["split"] == "test"]) == tested


def test_a_split_without_its_alloys_is_refused(alloys, tmp_path):
    data = alloy_folder(tmp_path / "data", {2: 4, 3: 4})
    said = refused(train_command, data, "--out-dir", tmp_path / "out", "--split", "a1")
    assert (
        said == "error: --split a1: the test part is empty; the crystals are 4 of 2 components, 4 of 3 components\n"
    )
    assert not list((tmp_path / "out").rglob("*.csv"))
