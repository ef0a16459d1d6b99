"""plot_gap_predictions.py: which run is meant, which figures are written, what is said about them."""

import os
import time
from pathlib import Path

import pytest
from helpers import refused, run

from cgcnn.plot_runs import find_table, names, plot_command

BOTH = "cif_id,work_function_target,work_function_pred,band_gap_target,band_gap_pred\n" + "".join(
    f"c{k},{4 + k % 3},{4.5 + k % 3},{k % 4},{k % 5}\n" for k in range(12)
)
ONE = "cif_id,target,prediction\na,1,1.5\nb,2,2\nc,4,3\n"


def written(path: Path, text: str, *, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)
    return path


def a_run(folder: Path, run_id: str, text: str = ONE, **more) -> Path:
    return written(folder / "result" / "predictions" / f"{run_id}_predictions.csv", text, **more)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plot(*words: object):
    ran = run(plot_command, *words)
    assert ran.status == 0, ran.err
    return ran


def stems(folder: Path) -> set[str]:
    assert {f.suffix for f in folder.glob("*.*")} <= {".png", ".pdf"}
    assert {f.stem for f in folder.glob("*.png")} == {f.stem for f in folder.glob("*.pdf")}
    return {f.stem for f in folder.glob("*.png")}


def test_without_argument_the_newest_run_is_meant(here):
    a_run(here, "old", age=100)
    a_run(here, "new")
    a_run(here, "middle", age=50)
    assert "new_predictions.csv" in plot().out
    assert stems(here / "result" / "figures") == {f"new_target_{kind}" for kind in ("parity", "residuals", "error")}


def test_a_run_is_named_by_id_part_of_it_folder_or_table(here):
    first, second = a_run(here, "step_mean"), a_run(here, "step_mean_try2", age=9)
    other = a_run(here / "elsewhere", "cosine")
    alone = written(here / "alone" / "test_results.csv", ONE)
    assert find_table("step_mean") == first.relative_to(here)  # an id, though it is a part of the other
    assert find_table("try2") == second.relative_to(here)
    assert find_table("elsewhere") == find_table("elsewhere/result") == other.relative_to(here)
    assert find_table("alone") == find_table("alone/test_results.csv") == alone.relative_to(here)


def test_every_regression_and_class_has_its_figures(here):
    written(here / "t.csv", BOTH)
    out = plot("t.csv", "--out", "figures").out
    kinds = ("parity", "residuals", "error")
    expected = {f"t_{task}_{kind}" for task in ("band_gap", "work_function") for kind in kinds}
    expected |= {"t_parity", "t_band_gap_class_confusion", "t_band_gap_class_roc"}
    assert stems(here / "figures") == expected
    assert all(f"    {stem}\n" in out for stem in expected)
    assert "  work_function (eV): n 12  MAE 0.5000  R² 0.6250\n" in out
    assert "  band_gap (eV): n 12  MAE " in out and "  band_gap_class: n 12  ACC " in out


def test_one_task_can_be_chosen(here):
    written(here / "t.csv", BOTH)
    plot("t.csv", "--out", "figures", "--task", "work_function")
    assert stems(here / "figures") == {f"t_work_function_{kind}" for kind in ("parity", "residuals", "error")}


def test_older_figures_move_aside(here):
    written(here / "t.csv", ONE)
    plot("t.csv")
    (here / "result/figures/t_target_parity.png").write_text("mine")
    assert "6 files of an earlier run moved to result/figures/previous/" in plot("t.csv").out
    (folder,) = (here / "result/figures/previous").iterdir()
    assert (folder / "t_target_parity.png").read_text() == "mine"
    assert len(list(folder.iterdir())) == 6


def test_several_runs_are_compared_and_keep_their_figures_apart(here):
    a_run(here / "one", "same")
    a_run(here / "two", "same", ONE.replace("1.5", "3"))
    out = plot("one", "two").out
    assert out.endswith(
        "task    n     MAE       R²  run\n"
        "target  3  0.5000   0.7321  one_same\n"
        "target  3  1.0000  -0.0714  two_same\n"
    )
    assert len(stems(here / "result" / "figures")) == 6


def test_names_of_tables_never_meet():
    paths = [Path(p) for p in ("a/t.csv", "b/t.csv", "b/u.csv", "x/a/t.csv")]
    assert len(set(names(paths))) == 4
    assert names([Path("a/t.csv")]) == ["t"]


def test_the_units_are_those_of_the_run(here):
    a_run(here, "mine", "cif_id,strain_target,strain_pred\na,1,2\nb,2,2\n")
    written(here / "result" / "mine_config.toml", 'units = { strain = "GPa" }\n')
    assert "strain (GPa): n 2" in plot().out


def test_a_run_that_learned_a_class_is_one(here):
    a_run(here, "mine", "cif_id,target,prediction\na,0,0.2\nb,0,0.9\n")
    written(here / "result" / "mine_config.toml", 'task = "classification"\n')
    out = plot().out
    assert "target: n 2  ACC 0.5000  AUC –\n" in out
    assert "target: one class only, so no ROC" in out
    assert stems(here / "result" / "figures") == {"mine_target_confusion"}


def test_a_task_without_labels_is_left_out(here):
    written(here / "t.csv", "cif_id,a_target,a_pred,b_target,b_pred\nx,1,2,,3\ny,2,2,,3\n")
    assert "  b: n 0\n" in plot("t.csv").out
    assert all("_a_" in stem for stem in stems(here / "result" / "figures"))


def test_what_cannot_be_plotted_is_told_in_a_line(here):
    assert "no run here" in refused(plot_command)
    assert "no such file or folder, and no run of this id" in refused(plot_command, "nowhere")
    (here / "empty").mkdir()
    assert "no run in this folder" in refused(plot_command, "empty")
    a_run(here, "step_a")
    a_run(here, "step_b")
    assert "2 runs in result have this in their id: step_a, step_b" in refused(plot_command, "step")
    assert "--task gap: no such task" in refused(plot_command, "step_a", "--task", "gap")
    written(here / "e.csv", "")
    assert refused(plot_command, "step_a", "e.csv") == "error: e.csv: empty\n"
    assert not (here / "result" / "figures").exists()
