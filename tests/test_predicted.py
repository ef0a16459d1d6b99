"""Tables of predictions: what main.py, predict.py and the original code wrote is read back as it was predicted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cgcnn import report
from cgcnn.labels import DataError
from cgcnn.metrics import column_name
from cgcnn.predicted import METAL_BELOW, classes_of, from_table, guesses_by_gap, read_predictions
from cgcnn.tasks import CATEGORY, CLASSIFICATION, Task, TaskSet

CATEGORY_TASK = Task("material_type", CLASSIFICATION, CATEGORY, classes=("metal", "semiconductor"))
KINDS = {
    "regression and category": (Task("band_gap", unit="eV"), CATEGORY_TASK),
    "a named class": (Task("formation_energy", unit="eV/atom"), Task("defect", CLASSIFICATION, classes=("0", "1"))),
    "three classes": (Task("phase", CLASSIFICATION, classes=("0", "1", "2")),),
    "a name that ends another": (Task("gap"), Task("my_gap")),
}


def written(path: Path, tasks: tuple[Task, ...], *, unnamed: bool = False, splits: int = 1) -> pd.DataFrame:
    """A table of report.prediction_table in a file, and the rows of metrics.csv that belong to it."""
    rng = np.random.default_rng(5)
    task_set, tables, rows = TaskSet(tasks), [], []
    for k in range(splits):
        labels = np.stack(
            [rng.normal(2, 1, 40) if t.is_regression else rng.integers(0, t.num_outputs, 40) for t in tasks], axis=1
        ).astype(float)
        labels[rng.random(labels.shape) < 0.2] = np.nan
        predictions = {
            t.name: rng.normal(2, 1, 40) if t.is_regression else rng.dirichlet(np.ones(t.num_outputs), 40)
            for t in tasks
        }
        ids = [f"{k}-{n}" for n in range(40)]
        table = report.prediction_table(ids, task_set, predictions, labels, unnamed=unnamed)
        tables.append(table.assign(split=k + 1) if splits > 1 else table)
        rows.append(report.metric_row(task_set, labels, predictions))
    report.write_table(path, pd.concat(tables))
    return pd.DataFrame(rows)


@pytest.mark.parametrize("tasks", KINDS.values(), ids=KINDS.keys())
def test_what_a_run_wrote_has_the_metrics_of_metrics_csv(tmp_path, tasks):
    rows = written(tmp_path / "t.csv", tasks)
    found = read_predictions(tmp_path / "t.csv")
    assert [one.task.name for one in found] == [task.name for task in tasks]
    for one, task in zip(found, tasks, strict=True):
        assert (one.task.kind, one.task.classes, one.task.role) == (task.kind, task.classes, task.role)
        metrics = one.metrics()
        for name in ("MAE", "R^2") if task.is_regression else ("ACC", "F1", "AUC", "Loss"):
            assert metrics[name] == pytest.approx(rows[column_name(task, name)][0], rel=1e-6), (task.name, name)


@pytest.mark.parametrize("classes", [(), ("0", "1"), ("0", "1", "2")])
def test_an_unnamed_target_is_told_by_its_columns(tmp_path, classes):
    task = Task("target", CLASSIFICATION, classes=classes) if classes else Task("target")
    rows = written(tmp_path / "t.csv", (task,), unnamed=True)
    (one,) = read_predictions(tmp_path / "t.csv")
    assert one.task.classes == classes
    name = "ACC" if classes else "MAE"
    assert one.metrics()[name] == pytest.approx(rows[f"target_{name}"][0], rel=1e-6)


def test_splits_are_kept_apart(tmp_path):
    rows = written(tmp_path / "t.csv", KINDS["regression and category"], splits=3)
    gap = read_predictions(tmp_path / "t.csv")[0]
    assert gap.num_splits == 3
    for k in (1, 2, 3):
        here = gap.split == k
        assert np.abs(gap.error[here]).mean() == pytest.approx(rows["BandGap_MAE"][k - 1], rel=1e-6)


def test_labels_of_one_class_alone_are_a_class_only_if_that_is_known(tmp_path):
    (tmp_path / "t.csv").write_text("cif_id,target,prediction\na,0,0.2\nb,0,0.9\n")
    assert read_predictions(tmp_path / "t.csv")[0].task.is_regression
    (one,) = read_predictions(tmp_path / "t.csv", classes=True)
    assert one.metrics()["ACC"] == 0.5


def test_the_original_code_writes_no_header(tmp_path):
    (tmp_path / "t.csv").write_text("1000041,-1.5,-1.25\n1000050,2.0,2.5\n")
    (one,) = read_predictions(tmp_path / "t.csv")
    assert one.ids.tolist() == ["1000041", "1000050"]
    assert one.metrics()["MAE"] == pytest.approx(0.375)


def test_units_come_from_the_name_or_are_given(tmp_path):
    written(tmp_path / "t.csv", (Task("band_gap"), Task("bulk_modulus")))
    assert [one.task.unit for one in read_predictions(tmp_path / "t.csv")] == ["eV", ""]
    given = read_predictions(tmp_path / "t.csv", units={"bulk_modulus": "GPa", "band_gap": "meV"})
    assert [one.task.unit for one in given] == ["meV", "GPa"]


def test_columns_of_other_kinds_do_not_matter(tmp_path):
    text = "cif_id,e_target,e_pred,e_std,unlike,note\na,1,1.5,0.1,yes,far away\nb,2,2,0.2,no,\n"
    (tmp_path / "t.csv").write_text(text)
    (one,) = read_predictions(tmp_path / "t.csv")
    assert one.metrics()["MAE"] == pytest.approx(0.25)


def test_a_label_without_prediction_is_counted(tmp_path):
    (tmp_path / "t.csv").write_text("cif_id,e_target,e_pred\na,1,1.5\nb,2,\nc,3,inf\nd,,4\n")
    (one,) = read_predictions(tmp_path / "t.csv")
    assert (len(one), one.num_lost) == (1, 2)


def test_a_gap_alone_tells_metals():
    table = pd.DataFrame(
        {
            "cif_id": list("abcd"),
            "band_gap_target": [0.0, 0.0, 0.5, 2.0],
            "band_gap_pred": [0.0, 0.3, METAL_BELOW / 2, 1.9],
        }
    )
    (guessed,) = classes_of(from_table(table))
    assert guessed.target.tolist() == [0, 0, 1, 1]
    assert guessed.guess.tolist() == [0, 1, 0, 1]
    assert guessed.accuracy == 0.5
    assert guessed.auc == pytest.approx(0.75)
    assert str(METAL_BELOW) in guessed.rule


def test_with_a_category_the_gap_is_not_asked():
    table = pd.DataFrame(
        {
            "cif_id": list("ab"),
            "band_gap_target": [0.0, 1.0],
            "band_gap_pred": [0.0, 1.0],
            "material_type_target": [0, 1],
            "material_type_pred": [0, 1],
            "metal_prob": [0.9, 0.2],
            "semiconductor_prob": [0.1, 0.8],
        }
    )
    assert [guessed.name for guessed in classes_of(from_table(table))] == ["material_type"]


@pytest.mark.parametrize("name, unit, target", [("e", "eV", [0, 1]), ("gap", "meV", [0, 1]), ("gap", "eV", [1, 2])])
def test_what_is_no_gap_or_has_no_metal_tells_nothing(name, unit, target):
    table = pd.DataFrame({"cif_id": list("ab"), f"{name}_target": target, f"{name}_pred": [0.0, 1.0]})
    assert guesses_by_gap(from_table(table, units={name: unit})[0]) is None


FAULTS = {
    "": "t.csv: empty",
    "cif_id,target,prediction\n": "t.csv: no rows below the header",
    "cif_id,band_gap\na,1\n": "t.csv: no predictions",
    "cif_id,band_gap_pred\na,1\n": "t.csv: no labels beside the predictions",
    "cif_id,band_gap_target,band_gap_pred\na,,1\n": "t.csv: no labels beside the predictions",
    "cif_id,band_gap_target,band_gap_pred\na,1,1\nb,1,x\n": "t.csv, row 3: band_gap_pred 'x' is not a number",
    "cif_id,target,prediction\na,1,1\nb,1,-1e308\n": "t.csv, row 3: prediction '-1e308' is not a number, or beyond",
    "cif_id,band_gap_target,band_gap_pred\na,1\n": "t.csv, row 2: 2 columns, 3 expected",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_file_without_predictions_is_told_in_a_line(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError) as fault:
        read_predictions(tmp_path / "t.csv")
    assert FAULTS[text] in str(fault.value)
    assert len(str(fault.value).splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "t.csv")
