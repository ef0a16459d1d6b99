"""From a data folder and flags to tasks, labels and graphs."""

import json
import math
import time

import numpy as np
import pytest
import torch
from conftest import cif_text, make_crystal

from cgcnn.arguments import parse_training
from cgcnn.dataset import load_dataset
from cgcnn.global_features import composition_averages
from cgcnn.labels import AUXILIARY_NAMES, DataError

NAN = math.nan
TWO = "NaCl,4.5,5\nCu,4.9,0\ndiamond,5.1,\nlow,4.0,1\n"
CLASSES = "NaCl,-1,1\nCu,-2,0\ndiamond,-3,2\nlow,-4,\n"
NAMED = "cif_id,a,b,c\nNaCl,1,0,5\nCu,2,1,6\ndiamond,3,1,7\nlow,4,0,8\n"


@pytest.fixture
def load(data_folder):
    """A function that writes a folder with this table and loads it with these flags."""

    def load(table: str | None = None, *flags: str, **folder):
        return load_dataset(parse_training([str(data_folder(table, **folder)), "--graph-jobs", "1", *flags]))

    return load


def summary(dataset) -> list[tuple]:
    """(name, kind's first letter, weight) of the tasks; a role other than target is put in front."""
    roles = {"target": "", "category": "category ", "auxiliary": "auxiliary "}
    return [(roles[task.role] + task.name, task.kind[0], task.weight) for task in dataset.tasks]


# --- targets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "flags", "tasks"),
    [
        ("NaCl,1\nCu,2\n", "", [("target", "r", 1.0)]),
        ("NaCl,0\nCu,1\n", "--task classification", [("target", "c", 1.0)]),
        (TWO, "", [("work_function", "r", 0.5), ("band_gap", "r", 0.5)]),
        (TWO, "--task1-weight 0.8 --task2-weight 0.2", [("work_function", "r", 0.8), ("band_gap", "r", 0.2)]),
        (TWO, "--targets band_gap --task1-weight 0.8", [("band_gap", "r", 1.0)]),
        (CLASSES, "--task multi", [("formation_energy", "r", 1.0), ("defect_label", "c", 0.5)]),
        (CLASSES, "--task multi --cls-weight 0.3", [("formation_energy", "r", 1.0), ("defect_label", "c", 0.3)]),
        (NAMED, "", [("a", "r", 0.5), ("b", "r", 0.5), ("c", "r", 0.5)]),
        (NAMED, "--task1-weight 0.9 --task2-weight 0.1", [("a", "r", 0.9), ("b", "r", 0.1), ("c", "r", 0.5)]),
        (NAMED, "--targets c a --task1-weight 0.9", [("c", "r", 0.9), ("a", "r", 0.5)]),
        (NAMED, "--targets a b:class", [("a", "r", 1.0), ("b", "c", 0.5)]),
        (NAMED, "--targets b:class", [("b", "c", 1.0)]),
        (NAMED, "--targets b:class a c --task1-weight 0.7", [("b", "c", 0.5), ("a", "r", 0.7), ("c", "r", 0.5)]),
        (NAMED, "--task multi", [("a", "r", 0.5), ("b", "r", 0.5), ("c", "c", 0.5)]),
        (NAMED, "--task multi --targets a b", [("a", "r", 1.0), ("b", "c", 0.5)]),
        (NAMED, "--task multi --targets b:class a", [("b", "c", 0.5), ("a", "r", 1.0)]),
        (NAMED, "--task classification", [("a", "c", 0.5), ("b", "c", 0.5), ("c", "c", 0.5)]),
        ("cif_id,gap\nNaCl,1\nCu,2\n", "", [("gap", "r", 1.0)]),
    ],
)
def test_which_columns_are_predicted_and_how(load, table, flags, tasks):
    assert summary(load(table, *flags.split())) == tasks


def test_zeros_and_ones_that_are_learned_as_numbers_are_told(load):
    table = "cif_id,gap,metal\nNaCl,1,0\nCu,0,1\ndiamond,5,\nlow,3,0\n"
    (note,) = load(table).notes
    assert note.startswith("metal: its labels are 0 and 1") and "--targets metal:class" in note
    assert load(table, "--targets", "gap", "metal:class").notes == []


def test_labels_stand_beside_their_crystals(load):
    dataset = load(NAMED, "--targets", "c", "a:class")
    assert dataset.ids == ["NaCl", "Cu", "diamond", "low"]
    assert dataset.labels.tolist() == [[5, 1], [6, 2], [7, 3], [8, 4]]
    assert dataset.tasks["a"].classes == ("0", "1", "2", "3", "4")
    assert dataset.table.formulas[:3] == ["NaCl", "Cu", "C"]
    np.testing.assert_array_equal(load(TWO).labels[:, 1], [5, 0, NAN, 1])


def test_units_and_transforms(load):
    dataset = load(TWO, "--units", "band_gap=meV", "--transforms", "work_function=log")
    tasks = list(dataset.tasks)
    assert [(task.unit, task.transform) for task in tasks] == [("eV", "log"), ("meV", "none")]


def test_whether_the_target_has_a_name(load):
    assert load("NaCl,1\nCu,2\n").unnamed
    assert not load("cif_id,target\nNaCl,1\nCu,2\n").unnamed
    assert not load(TWO).unnamed


@pytest.mark.parametrize(
    ("table", "flags", "message"),
    [
        (NAMED, "--targets d", "id_prop.csv: no column 'd'; there are a, b, c"),
        (NAMED, "--targets a a", "a stands twice"),
        (NAMED, "--task multi --targets a", "--task multi needs a regression and a class"),
        ("NaCl,1\nCu,0\n", "--task multi", "--task multi needs a regression and a class"),
        ("cif_id,a,b\nNaCl,1,\nCu,2,\n", "", "id_prop.csv: no label for b in any row"),
        ("NaCl,0.5\nCu,1\n", "--task classification", "column target: class 0.5 is not a whole number"),
        ("cif_id,a,b\nNaCl,1,-1\nCu,1,0\n", "--targets a b:class", "column b: class -1 is not a whole number"),
        (NAMED, "--transforms a=cube", "is not KIND or NAME=KIND, with one of none, log, scaling, n"),
        (NAMED, "--transforms z=log", "--transforms: no task 'z'; there are a, b, c"),
        (NAMED, "--units z=eV", "--units: no task 'z'"),
        (NAMED, "--task-weights z=1", "--task-weights: no task 'z'"),
        (NAMED, "--targets a --task-weights b=1", "--task-weights: no task 'b'"),
        (NAMED, "--task-weights a=0 b=0 c=0", "all targets have the weight 0"),
        ("NaCl,x\n", "", "id_prop.csv, row 1: target 'x' is not a finite number"),
        ("NaCl,4.5x\nCu,2\n", "", "id_prop.csv, row 1: target '4.5x' is not a finite number"),
    ],
)
def test_what_cannot_be_predicted(load, table, flags, message):
    with pytest.raises(DataError) as caught:
        load(table, *flags.split())
    assert message in str(caught.value)


def test_a_folder_that_is_none(tmp_path):
    for folder, message in ((tmp_path / "nowhere", "no such folder"), (tmp_path, r"id_prop\.csv: no such file")):
        with pytest.raises(DataError, match=message):
            load_dataset(parse_training([str(folder)]))


# --- category and auxiliary tables --------------------------------------------------------------------


def test_the_category(load):
    files = {"all.csv": "id,type\nNaCl,1\nCu,0\nlow,9\n"}
    dataset = load(TWO, "--conditional-loss", "--classification-weight", "0.2", files=files)
    assert summary(dataset)[2:] == [("category material_type", "c", 0.2)]
    assert dataset.tasks.category.classes == ("metal", "semiconductor")
    np.testing.assert_array_equal(dataset.labels[:, 2], [1, 0, NAN, NAN])
    assert ["2 of 4 crystals" in note for note in dataset.notes] == [True]


def test_a_category_needs_its_table_and_a_gap(load):
    with pytest.raises(DataError, match=r"all\.csv: no such file"):
        load(TWO, "--conditional-loss", name="without")
    files = {"all.csv": "id,type\nNaCl,1\nCu,0\n"}
    for columns, row in (("energy", "1"), ("work_function,bulk_modulus", "1,2")):
        with pytest.raises(DataError) as caught:
            load(f"cif_id,{columns}\nNaCl,{row}\nCu,{row}\n", "--conditional-loss", files=files)
        assert str(caught.value) == (
            "--conditional-loss needs a regression target that is the band gap, with gap in its name; "
            f"there are {columns.replace(',', ', ')}"
        )
    assert load("NaCl,1,2,3\nCu,1,2,3\n", "--conditional-loss", files=files).tasks.gap.name == "target_2"
    with pytest.raises(DataError, match="two tasks are named 'material_type'"):
        load("cif_id,material_type,band_gap\nNaCl,1,2\nCu,2,2\n", "--conditional-loss", files=files)


def test_auxiliary_labels_of_a_table(load):
    files = {"ax.csv": "id,x,y,p,q,r\nlow,,,1,2,3\nNaCl,,,4,,6\n"}
    dataset = load(TWO, "--auxiliary-tasks", "--aux-task2-weight", "0.7", files=files)
    weights = (0.1, 0.7, 0.1)
    assert summary(dataset)[2:] == [
        (f"auxiliary {name}", "r", w) for name, w in zip(AUXILIARY_NAMES, weights, strict=True)
    ]
    np.testing.assert_array_equal(dataset.labels[:, 2:], [[4, NAN, 6], [NAN] * 3, [NAN] * 3, [1, 2, 3]])
    assert dataset.notes == []
    assert len(dataset.tasks.targets) == 2


def test_auxiliary_labels_without_a_table(load):
    dataset = load(TWO, "--auxiliary-tasks")
    np.testing.assert_array_equal(dataset.labels[:, [2, 4]], composition_averages(dataset.table))
    assert np.isfinite(dataset.labels[:, [2, 4]]).all()
    assert np.isnan(dataset.labels[:, 3]).all()
    assert len(dataset.notes) == 1
    assert "ax.csv" in dataset.notes[0]
    assert "\n" not in dataset.notes[0]


def test_an_auxiliary_task_that_is_a_target_too(load):
    dataset = load(f"cif_id,{AUXILIARY_NAMES[1]}\nNaCl,1\nCu,2\n", "--auxiliary-tasks")
    names = [task.name for task in dataset.tasks]
    assert names == [AUXILIARY_NAMES[1], AUXILIARY_NAMES[0], f"aux_{AUXILIARY_NAMES[1]}", AUXILIARY_NAMES[2]]


# --- structures and elements --------------------------------------------------------------------------

SOME_BAD = "NaCl,1\nbroken,2\nCu,3\nabsent,4\n"
BROKEN = {"broken.cif": "not a crystal\n"}


def test_a_bad_structure_stops(load):
    with pytest.raises(DataError) as caught:
        load(SOME_BAD, files=BROKEN)
    lines = str(caught.value).splitlines()
    assert "2 of 4 crystals cannot be used" in lines[0]
    where = ["absent.cif (id_prop.csv, row 4)", "broken.cif (id_prop.csv, row 2)"]
    assert sorted(line.partition(": ")[0].rpartition("/")[2] for line in lines[1:3]) == where
    assert "--on-bad-structure skip" in lines[0]
    assert len(lines) == 3


def test_many_bad_structures_are_counted(load):
    rows = "".join(f"absent{k},1\n" for k in range(105))
    with pytest.raises(DataError) as caught:
        load(f"NaCl,1\n{rows}")
    head, *lines, last = str(caught.value).splitlines()
    assert "105 of 106 crystals cannot be used" in head
    assert len(lines) == 99
    assert last == "… and 6 more"


def test_a_bad_structure_is_skipped_if_so_told(load):
    dataset = load(SOME_BAD, "--on-bad-structure", "skip", files=BROKEN)
    assert dataset.ids == ["NaCl", "Cu"]
    assert dataset.labels.tolist() == [[1], [3]]
    assert dataset.table.formulas == ["NaCl", "Cu"]
    assert dataset.failed.keys() == {"broken", "absent"}
    assert any("2 of 4 crystals are left out" in note for note in dataset.notes)


def test_no_structure_at_all(load):
    with pytest.raises(DataError, match="none of the 2 crystals"):
        load("x,1\ny,2\n", "--on-bad-structure", "skip")


def test_two_files_for_one_crystal(load):
    with pytest.raises(DataError, match="two files for Cu"):
        load("NaCl,1\nCu,2\n", files={"POSCAR_Cu": ""})


def test_a_second_load_reads_no_structure(data_folder, monkeypatch):
    folder = data_folder(TWO)
    args = parse_training([str(folder), "--graph-jobs", "1"])
    later = time.time_ns() + 10_000_000_000  # the files are no longer new
    monkeypatch.setattr("cgcnn.store.time.time_ns", lambda: later)
    first = load_dataset(args)
    monkeypatch.setattr("cgcnn.build.build_task", None)
    second = load_dataset(args)
    assert second.table.graph(3).distances.tolist() == first.table.graph(3).distances.tolist()


def test_graph_flags(load):
    assert load(TWO).table.graph(0).degree.tolist() == [18, 18]
    assert load(TWO, "--neighbors", "classic").table.graph(0).degree.tolist() == [12, 12]
    assert load(TWO, "--max-num-nbr", "4").table.graph(0).degree.tolist() == [6, 6]
    assert load(TWO, "--radius", "2").table.graph(0).degree.tolist() == [0, 0]


def test_the_folders_own_element_table_wins(load):
    plain = load(TWO, name="plain")
    assert plain.elements.shape == (119, 92)
    own = {str(number): [number, 1, 2] for number in (3, 6, 8, 11, 16, 17, 22, 29, 56)}
    dataset = load(TWO, files={"atom_init.json": json.dumps(own)})
    assert dataset.elements.shape == (119, 3)
    assert dataset.elements[29].tolist() == [29, 1, 2]
    assert torch.isnan(dataset.elements[1]).all()


def test_an_element_without_a_vector(load):
    with pytest.raises(DataError, match=r"^Cu: no element vector for atomic number 29$"):
        load("NaCl,1\nCu,2\n", files={"atom_init.json": '{"11": [1], "17": [2]}'})
    lawrencium = cif_text(make_crystal(5.0, ["Lr"], [[0, 0, 0]]))
    with pytest.raises(DataError, match="heavy: no element vector for atomic number 103"):
        load("NaCl,1\nheavy,2\n", files={"heavy.cif": lawrencium}, name="other")


def test_a_bad_element_table(load):
    with pytest.raises(DataError, match=r"atom_init\.json: not a table of element vectors"):
        load(TWO, files={"atom_init.json": "[]"})
