"""--transfer-study: a parent and its children on one set of parts, side by side; what is there is not repeated."""

import shutil

import pandas as pd
import pytest
from helpers import alloy_folder, predict, refused, run, train

from cgcnn import checkpoint
from cgcnn.cli import train_command
from cgcnn.screening.ensemble import Ensemble
from cgcnn.screening.stream import read_chunk
from cgcnn.structures import find_structure_files

ECNET = (
    "--model",
    "ecnet",
    "--hidden-channels",
    8,
    "--n-filters",
    4,
    "--tower-h1",
    8,
    "--tower-h2",
    4,
    "--cutoff",
    4,
)
SHORT = (*ECNET, "--epochs", 2, "--threads", 1)


@pytest.fixture(scope="module")
def alloys(tmp_path_factory):
    return alloy_folder(tmp_path_factory.mktemp("alloys") / "data", {2: 12, 3: 12, 4: 12, 5: 12})


@pytest.fixture(scope="module")
def study(alloys, tmp_path_factory):
    """The study of two tasks over two seeds: its folder and what it printed."""
    out = tmp_path_factory.mktemp("study")
    words = ("--targets", "etot", "emix", "--transfer-study", "b1", "b0", "--num-splits", 2)
    return out, words, train(alloys, out, *SHORT, *words).out


def parts(folder, word):
    (path,) = folder.rglob("*split1_ids.csv") if not word else folder.joinpath(word).rglob("*split1_ids.csv")
    return pd.read_csv(path).set_index("cif_id")["split"]


def test_every_way_is_a_row_of_every_seed(study):
    out, _, said = study
    (path,) = (out / "result").glob("*_transfer.csv")
    table = pd.read_csv(path)
    assert (
        table.groupby("seed")["run"].apply(list).tolist()
        == [["parent", "direct", "keep towers", "drop towers", "freeze body"]] * 2
    )
    assert set(table.loc[table["run"] == "parent", "split"]) == {"b1"}
    assert table.filter(like="_MAE").notna().all(axis=None)
    lines = said.splitlines()[-7:]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        *("direct", "keep towers", "drop towers", "freeze body", "training mean", "composition")
    ]
    direct = table.loc[table["run"] == "direct", "etot_MAE"]
    assert f"{direct.mean():.4g} ±" in lines[1]


def test_children_share_their_parts_and_none_of_the_parents_crystals(study):
    (folder,) = (study[0] / "result").glob("*_transfer")
    seed = sorted(folder.iterdir())[0]
    direct = parts(seed, "direct")
    for way in ("keep_towers", "drop_towers", "freeze_body"):
        assert parts(seed, way).equals(direct)
    assert not set(parts(seed, "parent").index) & set(direct.index)


def test_the_ways_differ_in_what_is_taken_over(study):
    said = study[2]
    kept, dropped = said.split("keep towers, b0")[1], said.split("drop towers, b0")[1]
    assert "head of etot" in kept.split("new:")[0]
    assert "head of etot" in dropped.split("new:")[1].splitlines()[0]


def test_what_is_there_is_not_trained_again(study, alloys):
    out, words, said = study
    again = train(alloys, out, *SHORT, *words).out
    assert "===" not in again
    assert again.splitlines()[-6:] == said.splitlines()[-6:]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("b0", "a2"), "both are of some crystals"),
        (("b1", "b3"), "invalid choice"),
        (("b1", "b0", "--split", "a0"), "makes its own runs: leave out --split"),
    ],
)
def test_what_cannot_be_compared_is_refused(alloys, tmp_path, words, line):
    assert line in refused(train_command, alloys, "--out-dir", tmp_path, *SHORT, "--transfer-study", *words)


def test_states_of_elements_are_written(study, alloys, tmp_path):
    (model,) = (study[0] / "result").glob("*_transfer/seed*3/direct/model_best.pth.tar")
    table = tmp_path / "states.csv"
    ran = predict(model, alloys, tmp_path / "out.csv", "--element-features", table)
    assert ran.status == 0, ran.err
    states = pd.read_csv(table)
    assert list(states.columns) == ["cif_id", "element", "atoms", *(f"state_{k}" for k in range(8))]
    assert states.groupby("cif_id").size()["n5_0"] == 5
    assert states.loc[states["cif_id"] == "n3_1", "atoms"].sum() == 4
    assert states.filter(like="state_").std().gt(0).all()


def test_atoms_and_elements_are_not_mixed_up(study, alloys, tmp_path):
    (model,) = (study[0] / "result").glob("*_transfer/seed*3/direct/model_best.pth.tar")
    told = predict(model, alloys, tmp_path / "out.csv", "--atom-contributions", tmp_path / "a.csv")
    assert (told.status, "--element-features writes these" in told.err) == (2, True)


def test_states_are_not_kept_where_nobody_asks(study, alloys):
    (model,) = (study[0] / "result").glob("*_transfer/seed*3/direct/model_best.pth.tar")
    ensemble = Ensemble([checkpoint.load(model)])
    chunk = read_chunk(list(find_structure_files(alloys).items())[:3], ensemble.settings)
    assert ensemble.predict_chunk(chunk)[0].elements is None
    assert len(ensemble.predict_chunk(chunk, with_elements=True)[0].elements.states) == 6


def test_flags_of_atoms_are_refused(alloys, tmp_path):
    for words, line in (
        (("--pooling", "attention"), "--aggregation"),
        (("--radius", 6), "--cutoff"),
        (("--max-num-nbr", 32), "use-pbc on, only with off"),
        (("--environment",), "no edges with vectors of their own"),
    ):
        assert line in refused(train_command, alloys, "--out-dir", tmp_path, *SHORT, *words)
    assert "part of ECNet" in refused(train_command, alloys, "--out-dir", tmp_path, "--tower", "shared")


def test_an_element_beyond_the_table_is_named(tmp_path):
    folder = alloy_folder(tmp_path / "data", {2: 6})
    cif = folder / "n2_3.cif"
    text = cif.read_text()
    symbol = text.rstrip().splitlines()[-1].split()[0]
    cif.write_text(text.replace(f"{symbol} {symbol}", f"Md {symbol}"))
    ran = run(train_command, folder, "--out-dir", tmp_path, *SHORT)
    assert (ran.status, "n2_3: no element vector for atomic number 101" in ran.err) == (2, True)


def test_the_way_back_has_a_table_of_its_own(study, alloys, tmp_path):
    out = shutil.copytree(study[0], tmp_path / "out")
    (table,) = (out / "result").glob("*_transfer.csv")
    train(alloys, out, *SHORT, "--targets", "etot", "emix", "--transfer-study", "b0", "b1")
    assert {path.name.split("_")[-3] for path in (out / "result").glob("*_transfer.csv")} == {"b0", "b1"}
    assert table.read_bytes() == next((study[0] / "result").glob("*_transfer.csv")).read_bytes()
