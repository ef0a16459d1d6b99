"""main.py --compare: every combination a run of its own, and the table that says what came of each."""

import re
import shlex
import signal
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from helpers import Ran, finished, refused, result_file, root_folder, run
from sweep_helpers import worker

import cgcnn
from cgcnn.cli import train_command
from cgcnn.labels import DataError
from cgcnn.sweep.compare import parse_comparison
from cgcnn.sweep.comparison_table import Metric, Row, Table, as_csv, as_markdown, as_text, measured

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SETTING_COLUMNS = ["Model", "Edge features", "Atom features"]


@pytest.fixture
def data(data_folder) -> Path:
    return data_folder(count=8)


@pytest.fixture
def compare(data, stand_in_trials, tmp_path):
    """A function that runs main.py data --compare here, with the stand-in for each row's run."""

    def run_(*words: object) -> Ran:
        return run(train_command, data, "--out-dir", tmp_path / "out", "--threads", 1, "--compare", *words)

    return run_


def read(out: Path, name: str = "data") -> pd.DataFrame:
    return pd.read_csv(out / "result" / f"{name}_comparison.csv", keep_default_na=False, na_values=[""])


def calls(out: Path) -> list[str]:
    """What the stand-in was called with, all rows together."""
    return [line for path in out.glob("result/sweep_*/trial_*/calls.txt") for line in path.read_text().splitlines()]


def test_a_row_a_combination_in_the_order_asked_for(compare, tmp_path):
    words = ["csgann", "cgcnn", "--edge-features", "rbf", "gaussian", "--atom-features", "onehot", "json+bits"]
    ran = compare(*words, "--num-splits", 2, "--lr", 0.1, "--jobs", 2, "--loss", "weighted")
    assert ran.status == 0, ran
    table = read(tmp_path / "out")
    assert [tuple(row) for row in table[SETTING_COLUMNS].to_numpy()] == [
        (model, edges, atoms)
        for model in ("csgann", "cgcnn")
        for edges in ("rbf", "gaussian")
        for atoms in ("onehot", "json+bits")
    ]
    assert table["energy MAE"].tolist() == pytest.approx([0.15] * 8)
    assert table["energy MAE std"].tolist() == pytest.approx([0.05] * 8)
    assert (table["State"] == "complete").all() and table["Folder"].nunique() == 8
    assert table["energy MAE training mean"].nunique() == 1
    markdown = (tmp_path / "out" / "result" / "data_comparison.md").read_text()
    assert "| Model | Edge features | Atom features | energy MAE | Validation score |" in markdown
    assert markdown.count("`python main.py") == 8 and "0.1500 ± 0.0500" in markdown and "training mean" in markdown
    (page,) = (tmp_path / "out" / "result").glob("all_combinations_summary_*.html")
    assert f"({page.name})" in markdown
    printed = [line for line in ran.out.splitlines() if re.match(r" *\d+  (csgann|cgcnn) +(rbf|gaussian)", line)]
    assert len(printed) == 8 and "0.1500 ± 0.0500" in printed[0] and "mean ± deviation over 2 splits" in ran.out
    assert all(command in ran.out for command in table["Command"])


def test_further_axes_the_best_by_validation_and_stars(compare, tmp_path):
    ran = compare("cgcnn", "csgcnn", "--compare-also", "residual=on,off", "lr=0.2,0.1", "--learnable-atoms")
    assert ran.status == 0 and "2 more differ from these only in flags that mean nothing there" in ran.out
    table = read(tmp_path / "out")
    assert list(table)[:5] == [*SETTING_COLUMNS, "residual", "lr"]
    assert set(table["Atom features"]) == {"json*"} and set(table["Edge features"]) == {"gaussian"}
    assert [tuple(row) for row in table[["Model", "residual", "lr"]].to_numpy()] == [
        *(("cgcnn", "–", lr) for lr in (0.2, 0.1)),
        *(("csgcnn", switch, lr) for switch in ("on", "off") for lr in (0.2, 0.1)),
    ]
    assert table["Best on validation"].fillna("").tolist() == ["", "yes", "", "", "", ""]
    assert "* trainable features" in ran.out
    assert not any("--residual" in command for command in table["Command"][:2])
    assert "--residual" in table["Command"][2] and all("--learnable-atoms" in each for each in table["Command"])


def test_the_command_of_a_row_gives_the_same_numbers(tmp_path, monkeypatch):
    """The real thing, two networks and a class among the tasks."""
    root_folder(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    words = "--conditional-loss --epochs 1 --batch-size 4 --val-ratio 0.2 --test-ratio 0.2 --disable-cuda --threads 1"
    ran = run(train_command, "data", "--compare", "csgann", "csginn", "--edge-features", "rbf", *words.split())
    assert ran.status == 0, ran
    table = read(Path())
    assert {"work_function MAE", "band_gap MAE", "material_type ACC", "material_type AUC"} <= set(table)
    assert (table["Parameters"] > 10_000).all() and (table["Seconds an epoch"] > 0).all()
    for k, row in table[-1:].iterrows():
        python, script, *rest = shlex.split(row["Command"])
        assert (python, script, rest[-2:]) == ("python", "main.py", ["--threads", "1"])
        alone = run(train_command, *rest, "--out-dir", f"alone{k}")
        assert alone.status == 0, alone
        mine, theirs = (result_file(Path(folder), "metrics.csv") for folder in (f"alone{k}", row["Folder"]))
        assert mine.read_bytes() == theirs.read_bytes()
        assert f"training mean  {row['work_function MAE training mean']:.4f}" in alone.out
        assert re.search(f"largest class +{row['material_type ACC training mean']:.4f}", alone.out)
        numbers = pd.read_csv(mine)
        assert row["band_gap MAE"] == pytest.approx(numbers["BandGap_MAE"][0])
        assert row["Validation score"] == pytest.approx(numbers["Val_Score"][0])


def test_a_table_that_was_stopped_is_partial_and_goes_on(compare, tmp_path):
    words = ["cgcnn", "--compare-also", "lr=0.1,0.125"]
    ran = compare(*words, "--max-time", "4s")
    assert ran.status == 75 and "Go on with: python main.py" in ran.out and "--compare cgcnn" in ran.out
    assert "1 of 2 rows are missing: 1 waiting; the same command goes on" in ran.out
    assert read(tmp_path / "out")["State"].tolist() == ["complete", "waiting"]
    assert "1 of 2 rows are missing" in (tmp_path / "out" / "result" / "data_comparison.md").read_text()
    ran = compare(*words)
    assert ran.status == 0 and "missing" not in ran.out
    assert read(tmp_path / "out")["energy MAE"].tolist() == pytest.approx([0.1, 0.125])
    assert sorted("--resume" in call for call in calls(tmp_path / "out")) == [False, False, True]
    assert compare(*words).status == 0 and len(calls(tmp_path / "out")) == 3


def test_killed_at_once_it_keeps_the_rows_that_are_there(data, command, tmp_path):
    out = tmp_path / "out"
    words = [data, "--compare", "cgcnn", "csgcnn", "csgann", "--momentum", 1, "--out-dir", out, "--grace", "4s"]
    first = worker(command, tmp_path, *words, script="main.py")
    path, end = out / "result" / "data_comparison.csv", time.monotonic() + 120
    while not path.exists() or "complete" not in path.read_text():
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = read(out)
    assert before["State"].iloc[0] == "complete" and "complete" not in before["State"].tolist()[1:]
    ran = finished(worker(command, tmp_path, *words, script="main.py"), 120)
    assert ran.status == 0, ran
    assert read(out)["State"].tolist() == ["complete"] * 3
    assert sum("--resume" not in call for call in calls(out)) == 3
    assert sum("--model=csg" not in call for call in calls(out)) == 1


def test_a_run_that_fails_is_a_row_that_says_so(compare, tmp_path):
    words = ["cgcnn", "--compare-also", "lr=0.5,0.1"]
    ran = compare(*words)
    assert ran.status == 3 and "failed, row 1: error: the loss became nan" in ran.out
    assert "1 of 2 rows are missing: 1 failed; --retry-failed runs failed ones once more" in ran.out
    assert read(tmp_path / "out")["State"].tolist() == ["failed", "complete"]
    assert compare(*words).status == 3 and len(calls(tmp_path / "out")) == 2
    assert compare(*words, "--retry-failed").status == 3 and len(calls(tmp_path / "out")) == 3


def test_rows_of_an_earlier_command_stay_below(compare, tmp_path):
    compare("cgcnn", "csgcnn")
    ran = compare("csginn", "csgcnn", "--compare-also", "pooling=mean,sum")
    assert "row 5 is of earlier commands" in ran.out
    table = read(tmp_path / "out")
    assert table["Model"].tolist() == ["csginn", "csginn", "csgcnn", "csgcnn", "cgcnn"]
    assert table["pooling"].tolist() == ["mean", "sum", "mean", "sum", "mean"]
    assert len(calls(tmp_path / "out")) == 5
    assert compare("cgcnn", "--study", "other", "--epochs", 3).status == 0
    assert len(read(tmp_path / "out", "other")) == 1
    for other in (["--epochs", 3], ["--residual"], ["--num-rbf", 6]):
        told = compare("csgcnn", *other).err
        assert told.count("\n") == 1 and "use another --study" in told


def test_flags_of_a_preset_are_the_values_that_are_not_compared(data):
    flags = parse_comparison([str(data), "--compare", "csgcnn", "--preset", "accurate", "--jobs", "3"])
    assert {axis.name: axis.values for axis in flags.axes} == {
        "model": ("csgcnn",),
        "edge-features": ("gaussian",),
        "atom-features": ("json+properties",),
    }
    assert flags.jobs == 3 and flags.study == "data_comparison"
    assert parse_comparison([str(data), "--compare=csgcnn", "--study", "x_comparison"]).study == "x_comparison"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--compare csgxnn", "invalid choice: 'csgxnn'"),
        ("--compare", "expected at least one argument"),
        ("--compare cgcnn cgcnn", "--compare: cgcnn stands twice"),
        ("--compare cgcnn --edge-features rbf rbf", "--edge-features: rbf stands twice"),
        ("--compare cgcnn --edge-features rbf sinc", "invalid choice: 'sinc'"),
        ("--compare cgcnn --atom-features json spin", "spin"),
        ("--compare cgcnn --model csgcnn", "--model is a flag and an axis (model): leave out one"),
        ("--compare cgcnn --resume x.tar", "--resume: a sweep goes on when the same command is started again"),
        ("--compare cgcnn --learning-curve 0.5 1", "--learning-curve: is several runs, and a trial is one"),
        ("--compare cgcnn --transfer-study b1 b0", "--transfer-study: is several runs, and a trial is one"),
        ("--compare cgcnn --compare-also lr", "'lr' is not NAME=VALUE"),
        ("--compare cgcnn --compare-also lr=0.1 lr=0.2", "--compare-also: lr stands twice"),
        ("--compare cgcnn --compare-also model=csgcnn", "--compare, --edge-features and --atom-features say it"),
        ("--compare cgcnn --compare-also lr=0.1..0.2", "a table needs single values"),
        ("--compare cgcnn --grid lr=0.1", "unrecognized arguments: --grid"),
        ("--compare-also lr=0.1", "--compare-also needs --compare"),
        ("--edge-features gaussian rbf", "--edge-features gaussian rbf: several values need --compare"),
        ("--atom-features json bits", "--atom-features json bits: several values need --compare"),
        ("--compare csgann --num-heads 7", "--num-heads 7 cannot share"),
    ],
)
def test_what_cannot_be_compared_is_one_line(data, tmp_path, words, said):
    told = refused(train_command, data, "--out-dir", tmp_path / "out", *words.split())
    assert said in told and told.count("\n") == 1
    assert not list(tmp_path.glob("out/result/sweep_*/trial_*"))


def test_the_data_stands_first(data, tmp_path):
    place = "the data folder or file stands before --compare"
    (tmp_path / "data.json").write_text("[]")
    for path in (data, tmp_path / "data.json"):
        assert place in refused(train_command, "--compare", "cgcnn", path)
        assert place in refused(train_command, "--compare", "cgcnn", "--atom-features", "json", path)
    assert "invalid choice: 'xxx" in refused(train_command, data, "--compare", "x" * 300)


def test_python_calls_are_told(data):
    with pytest.raises(DataError, match="--compare is several runs"):
        cgcnn.fit(data, compare=["cgcnn"])


def settings(model: str, edges: str = "rbf", **more: str) -> dict[str, str]:
    return dict(zip(SETTING_COLUMNS, (model, edges, "json"), strict=True)) | more


@pytest.fixture
def table() -> Table:
    trivial = {"E_MAE": (1.5, 0.1), "M_ACC": (0.6, 0.0), "M_AUC": (0.5, 0.0)}
    metrics = {"E_MAE": (0.01234, 0.001), "M_ACC": (0.9, 0.02), "M_AUC": (0.95, 0.01)}
    facts = {"parameters": 91142, "epoch_seconds": 1.25}
    rows = [
        Row(settings("cgcnn"), "python main.py d", "complete", metrics, trivial, (0.7, 0.1), facts, "trial_a"),
        Row(settings("csgcnn"), "python main.py 'a|b'", "complete", metrics, trivial, (0.6, 0.1), facts, "trial_b"),
        Row(settings("csgann"), "python main.py e", "failed", trivial=trivial, lines=("exit status 2", "a nan")),
        Row(settings("csginn"), "python main.py f", "waiting", trivial=trivial),
    ]
    columns = [Metric("E_MAE", "E MAE", "eV"), Metric("M_ACC", "M ACC"), Metric("M_AUC", "M AUC")]
    return Table("x_comparison", rows, columns, asked=4, splits=(3,))


def test_the_text_is_aligned_and_says_what_is_missing(table):
    lines = as_text(table).splitlines()
    assert len({line.index("complete") for line in lines if "complete" in line and "missing" not in line}) <= 2
    assert [line.endswith("← best on validation") for line in lines[:6]] == [False, False, True, False, False, False]
    assert "0.01234 ± 0.00100" in lines[1] and "91,142" in lines[1] and lines[5].split()[:2] == ["training", "mean"]
    assert "1.500 ± 0.100" in lines[5] and "0.5000" in lines[5]
    assert "2 of 4 rows are missing: 1 failed, 1 waiting; the same command goes on; --retry-failed" in "\n".join(
        lines
    )
    assert lines[-1] == "failed, row 3: a nan"


def test_a_narrow_terminal_gets_a_block_a_row(table):
    text = as_text(table, 60)
    assert max(map(len, text.split("errors of the test part")[0].splitlines())) <= 60
    assert "2  csgcnn · rbf · json  ← best on validation\n   E MAE (eV)        0.01234 ± 0.00100" in text
    assert as_text(table, 300) == as_text(table)


def test_markdown_holds_any_command(table):
    rows = [line for line in as_markdown(table, "page.html").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4 + 1
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert r"`python main.py 'a\|b'`" in rows[3] and rows[3].startswith("| **csgcnn** |")


def test_baselines_that_differ_stand_in_brackets(table):
    rows = [*table.rows[:1], Row(settings("cgcnn"), "c", "complete", {}, {"E_MAE": (2.5, 0.1)})]
    other = Table("x", rows, table.metrics[:1], asked=2, splits=(1,))
    text = as_text(other)
    assert "0.01234 ± 0.00100 (1.500)" in text and "– (2.500)" in text and "training mean  " not in text
    assert as_csv(other)["E MAE training mean"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ((1,), "part"),
        ((3,), "part, mean ± deviation over 3 splits"),
        ((1, 2, 5), "part, mean ± deviation over 2 or 5 splits; without ±: of one split"),
    ],
)
def test_the_legend_names_the_splits_that_rows_have(table, splits, said):
    assert replace(table, splits=splits).legend()[0] == f"errors of the test {said}"


def test_numbers_have_four_digits():
    assert measured(0.30124, 0.00512) == "0.3012 ± 0.0051"
    assert measured(35.127) == "35.13" and measured(1234.5, 3.2) == "1234 ± 3" and measured(0.0) == "0.0000"
    assert measured(float("nan")) == "–"
