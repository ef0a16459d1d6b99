"""The table of a sweep, its sorted copies, its figure and its page."""

import re
import xml.etree.ElementTree

import numpy as np
import pandas as pd
import pytest

from cgcnn.files import replacing
from cgcnn.sweep.combination import Combination
from cgcnn.sweep.entry import Entry
from cgcnn.sweep.figure import axis_effects
from cgcnn.sweep.page import write_page
from cgcnn.sweep.summary import best_row, headline, new_stem, ranking, summary_table, write_summary

PUBLISHED_TEXT = (
    "Scheduler,Pooling,Adaptive Weights,Conditional Loss,Classification Weight,SC-Metal Ratio,Metal Threshold,"
    "Metal Weight,SC Weight,Task2 Weight,Aux Tasks,Aux Task1 Weight,Aux Task2 Weight,Aux Task3 Weight,Min Bandgap,"
    "Learning Rate,Epochs,Weight Decay,Avg WF-MAE,Avg WF-R^2,Avg BG-MAE,Avg BG-R^2,Material Type ACC,"
    "Material Type Loss"
)
PUBLISHED = PUBLISHED_TEXT.split(",")
SETTINGS = dict.fromkeys(PUBLISHED[:18], 0.5) | {"Scheduler": "step", "Aux Tasks": True, "Epochs": 8}


def combination(key: str, **values) -> Combination:
    values = {name.replace("_", "-"): value for name, value in values.items()}
    return Combination(values, key, {**SETTINGS, "Pooling": values.get("pooling", "mean")})


def done(one: Combination, score: float, *rows: dict, folder: str = "result/sweep_x/trial_a") -> Entry:
    result = {"metrics": list(rows), "folder": folder, "host": "here", "lines": []}
    return Entry(one, "complete", score, result, 12.34)


def both(wf: float, bg: float, **more: float) -> dict:
    return {"Split": 1, "WorkFunc_MAE": wf, "WorkFunc_R^2": 0.5, "BandGap_MAE": bg, "Val_Score": wf + bg, **more}


@pytest.fixture
def entries() -> list[Entry]:
    category = {"MaterialType_ACC": 0.9, "MaterialType_Loss": 0.2, "MaterialType_F1": 0.8, "Val_WorkFunc_MAE": 0.3}
    return [
        done(combination("a", pooling="mean", n_conv=2), 1.5, both(0.5, 1.0), {**both(0.7, 1.0), "Split": 2}),
        done(combination("b", pooling="attention", n_conv=2), 1.1, both(0.9, 0.2, **category)),
        Entry(combination("c", pooling="mean", n_conv=3), "failed", None, {"lines": ["exit status 2", "<nan>"]}, 3.0),
        Entry(combination("d", pooling="attention", n_conv=3), "waiting"),
    ]


def test_an_axis_that_has_no_effect_is_blank_in_the_table_and_not_in_the_figure():
    gaussian = Combination({"edge-features": "gaussian", "num-rbf": 6}, "a", SETTINGS, ["num-rbf"])
    rbf = Combination({"edge-features": "rbf", "num-rbf": 6}, "b", SETTINGS)
    entries = [done(gaussian, 1.0, both(0.5, 1.0)), done(rbf, 2.0, both(0.7, 1.0))]
    table = summary_table(entries)
    assert table["num-rbf"].isna().tolist() == [True, False] and table["num-rbf"][1] == 6
    assert {ax.get_xlabel() for ax in axis_effects(entries, table).axes} == {"edge-features"}


def test_the_columns_are_the_published_ones_and_then_ours(entries):
    table = summary_table(entries)
    assert list(table)[:24] == PUBLISHED
    assert list(table)[-6:] == ["Std Validation Score", "State", "Seconds", "Folder", "Host", "Last Lines"]
    assert set(list(table)[24:-6]) == {
        "Std WF-MAE",
        "Std WF-R^2",
        "Std BG-MAE",
        "Std Material Type ACC",
        "Std Material Type Loss",
        "Material Type F1",
        "Std Material Type F1",
        "Validation WF-MAE",
        "Std Validation WF-MAE",
        "n-conv",
        "Validation Score",
    }
    assert len(table) == 4


def test_metrics_are_mean_and_deviation_over_the_splits(entries):
    table = summary_table(entries)
    assert table["Avg WF-MAE"][0] == pytest.approx(0.6) and table["Std WF-MAE"][0] == pytest.approx(0.1)
    assert table["Validation Score"][0] == pytest.approx(1.6)
    assert table["Material Type ACC"][1] == 0.9 and np.isnan(table["Std Material Type ACC"][1])
    assert table[["Avg WF-MAE", "Avg BG-MAE"]].iloc[2:].isna().all(axis=None)
    assert list(table["State"]) == ["complete", "complete", "failed", "waiting"]
    assert table["Last Lines"][2] == "exit status 2 | <nan>"
    assert list(table["n-conv"]) == [2, 2, 3, 3]


def test_the_best_is_that_of_the_validation_part(entries):
    table = summary_table(entries)
    assert best_row(table) == 1 and table["Avg WF-MAE"].idxmin() == 0
    assert best_row(summary_table(entries[2:])) is None
    assert headline(entries[1]) == "score 1.1, WF-MAE 0.9, BG-MAE 0.2"


def test_sorted_copies_are_by_work_function_and_gap(entries, tmp_path):
    paths = write_summary(tmp_path / "s", summary_table(entries))
    assert [path.name for path in paths] == ["s.csv", "s_by_WF-MAE.csv", "s_by_BG-MAE.csv"]
    orders = [list(pd.read_csv(path)["Avg WF-MAE"].round(2).dropna()) for path in paths]
    assert orders == [[0.6, 0.9], [0.6, 0.9], [0.9, 0.6]]
    assert [len(pd.read_csv(path)) for path in paths] == [4, 4, 4]


def test_sorted_copies_are_by_the_first_tasks_that_there_are(tmp_path):
    rows = [{"Split": 1, "energy_MAE": x, "stable_ACC": x, "Val_Score": x} for x in (0.4, 0.8)]
    table = summary_table([done(combination(str(k), lr=0.1 * k), 1.0, row) for k, row in enumerate(rows)])
    assert ranking(table) == ["Avg energy-MAE", "Avg stable-ACC"]
    assert list(table)[:24] == PUBLISHED
    paths = write_summary(tmp_path / "s", table)
    assert [path.name for path in paths] == ["s.csv", "s_by_energy-MAE.csv", "s_by_stable-ACC.csv"]
    assert list(pd.read_csv(paths[2])["Avg stable-ACC"]) == [0.8, 0.4]


def test_every_start_has_a_summary_of_its_own(tmp_path):
    stems = [new_stem(tmp_path) for _ in range(3)]
    assert len(set(stems)) == 3
    assert all(re.fullmatch(r"all_combinations_summary_\d{8}_\d{6}", stem.name) for stem in stems)


def test_what_a_killed_sweep_left_half_written_is_cleared_away_but_not_what_another_writes(tmp_path):
    pytest.importorskip("fcntl", reason="on Windows what is left stays")
    left = tmp_path / ".all_combinations_summary_20260101_000000_axes.pdf.part"
    left.write_text("%PDF")
    other = tmp_path / ".table.csv.part"
    other.write_text("a,b")
    with replacing(tmp_path / "all_combinations_summary_20260102_000000.html") as written:
        new_stem(tmp_path)
        assert not left.exists() and other.exists() and written.exists()


def many(count: int, **axes) -> list[Entry]:
    """Entries whose axis n has the n-th value of each list, over and over."""
    return [
        done(
            combination(str(k), **{name: values[k % len(values)] for name, values in axes.items()}),
            k,
            both(1 + k, 2 + k),
        )
        for k in range(count)
    ]


def test_the_figure_has_a_row_an_axis_with_several_values(entries):
    found = many(8, pooling=["mean", "attention"], lr=[0.1, 0.1, 0.2, 0.2], n_conv=[3])
    figure = axis_effects(found, summary_table(found))
    labels = [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes]
    metrics = ["validation score", "WF-MAE, test (eV)", "BG-MAE, test (eV)"]
    assert labels == [(axis, metric) for axis in ("pooling", "lr") for metric in metrics]
    assert [tick.get_text() for tick in figure.axes[3].get_xticklabels()] == ["0.1", "0.2"]


def test_a_range_is_drawn_over_its_numbers():
    found = many(30, lr=list(np.geomspace(1e-4, 1e-1, 30)))
    figure = axis_effects(found, summary_table(found))
    assert figure.axes[0].get_xscale() == "log"


def test_no_figure_of_nothing(entries):
    assert axis_effects(entries[2:], summary_table(entries[2:])) is None
    one = many(3, pooling=["mean"])
    assert axis_effects(one, summary_table(one)) is None


def test_the_page_is_one_file_that_holds_every_combination_and_escapes_what_it_shows(entries, tmp_path):
    (tmp_path / "result" / "sweep_x" / "trial_a" / "result").mkdir(parents=True)
    (tmp_path / "result" / "sweep_x" / "trial_a" / "result" / "run_report.html").touch()
    table = summary_table(entries)
    path = tmp_path / "result" / "page.html"
    write_page(path, "Sweep <x>", "python grid_search.py 'a & b'", entries, table, "<svg></svg>")
    text = path.read_text()
    assert "Sweep &lt;x&gt;" in text and "&lt;nan&gt;" in text and "a &amp; b" in text
    assert "<x>" not in text and "<nan>" not in text
    assert not re.search(r"(src|href)=\"?https?:", text)
    body = re.search(r"<table id=\"combinations\">.*?</table>", text, re.DOTALL)[0]
    rows = xml.etree.ElementTree.fromstring(body).findall("tbody/tr")
    assert [row.get("class").split() for row in rows] == [["complete"], ["best", "complete"], ["failed"], ["waiting"]]
    assert 'href="../result/sweep_x/trial_a"' in body and "trial_a/result/run_report.html" in body
    head = [button.text for button in xml.etree.ElementTree.fromstring(body).findall("thead/tr/th/button")]
    assert head[:5] == ["Pooling", "n-conv", "Validation Score", "Std Validation Score", "WF-MAE"]
