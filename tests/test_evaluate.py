"""main.py --evaluate: a model on its own test part again, or on another one; nothing of the training is touched."""

import re
import shutil

import pandas as pd
import pytest
from helpers import alloy_folder, predict, refused, result_file, run, same_weights, train

import cgcnn
from cgcnn.cli import sweep_command, train_command

SHORT = ("--n-conv", 1, "--atom-fea-len", 8, "--h-fea-len", 8, "--radius", 5, "--loss", "l1", "--threads", 1)


@pytest.fixture(scope="module")
def alloys(tmp_path_factory):
    return alloy_folder(tmp_path_factory.mktemp("alloys") / "data", {2: 8, 3: 8, 4: 6, 5: 6})


@pytest.fixture(scope="module")
def trained(alloys, tmp_path_factory):
    """A run of two tasks on a2, and what it printed."""
    out = tmp_path_factory.mktemp("trained")
    return out, train(alloys, out, *SHORT, "--split", "a2", "--targets", "etot", "emix", "--epochs", 3, "--lr", 1).out


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "out")
    return tmp_path / "out"


def evaluate(alloys, out, *words):
    """main.py DIR --out-dir OUT --evaluate …"""
    ran = run(train_command, alloys, "--out-dir", out, "--disable-cuda", *words)
    assert ran.status == 0, ran.err or ran.out
    return ran.out


def end_table(text: str) -> list[str]:
    return re.findall(r"^(?:task|etot|emix) .*$", text, re.MULTILINE)


BEST = "mtl_2_etot_emix_HEA_3_a2_best"


@pytest.mark.parametrize(
    "words",
    [
        ("--evaluate", "{out}/model_best.pth.tar"),
        ("--evaluate", "{out}/result/" + BEST + ".pt"),
        (
            "--evaluate",
            "--task",
            "etot",
            "emix",
            "--split_type",
            "2",
            "--processed_data",
            "True",
            "--is_validate",
            "True",
        ),
        ("--evaluate", "--epochs", "3"),
    ],
    ids=["plain name", "published name", "published command", "epochs"],
)
def test_a_model_on_its_own_test_part(alloys, trained, copied, words):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    out = evaluate(alloys, copied, *(word.format(out=copied) for word in words))
    assert end_table(out) == end_table(trained[1])
    assert len(end_table(out)) == 3
    assert all(path.read_bytes() == content for path, content in before.items())
    (new,) = copied.rglob("*_evaluation_predictions.csv")
    own = pd.read_csv(copied / "test_results.csv")
    pd.testing.assert_frame_equal(pd.read_csv(new)[own.columns], own)
    (measured,) = copied.rglob("*_evaluation_metrics.csv")
    training = pd.read_csv(result_file(copied, "a2_metrics.csv"))
    assert pd.read_csv(measured)["etot_MAE"][0] == pytest.approx(training["etot_MAE"][0])


def test_another_split_and_fewer_targets(alloys, trained, copied):
    out = evaluate(alloys, copied, "--evaluate", copied / "model_best.pth.tar", "--targets", "emix", "--split", "a3")
    assert "on 16 test crystals" in out
    assert [line.split()[0] for line in end_table(out)] == ["task", "emix"]
    assert "16 of the 16 test crystals are in the training or validation part of the model's own split" in out
    table = pd.read_csv(result_file(copied, "evaluation_predictions.csv"))
    assert {name[:2] for name in table["cif_id"]} == {"n2", "n3"}
    # what the model says of its own split has no such warning
    assert "own split" not in evaluate(alloys, copied, "--evaluate", copied / "model_best.pth.tar")


def test_an_earlier_evaluation_is_moved_aside(alloys, copied):
    words = ("--evaluate", copied / "model_best.pth.tar")
    evaluate(alloys, copied, *words)
    assert "2 files of an earlier run moved to" in evaluate(alloys, copied, *words)
    assert len(list(copied.rglob("*_evaluation_predictions.csv"))) == 2


def test_the_model_of_one_of_several_splits_is_tested_on_its_own(alloys, tmp_path):
    train(alloys, tmp_path, *SHORT, "--targets", "etot", "--num-splits", 3, "--epochs", 1, "--split", "b2")
    for k in (1, 2, 3):
        model = result_file(tmp_path, f"split{k}_trained_model.pt")
        evaluate(alloys, tmp_path, "--evaluate", model)
        table = pd.read_csv(result_file(tmp_path, f"split{k}_trained_model_evaluation_predictions.csv"))
        written = pd.read_csv(result_file(tmp_path, f"split{k}_ids.csv"))
        assert set(table["cif_id"]) == set(written["cif_id"][written["split"] == "test"])


def test_both_models_of_a_published_name_load_everywhere(alloys, copied, tmp_path):
    last = copied / "result" / "mtl_2_etot_emix_HEA_3_a2.pt"
    best = copied / "result" / f"{BEST}.pt"
    assert same_weights(best, copied / "model_best.pth.tar")
    assert same_weights(last, copied / "checkpoint.pth.tar")  # which holds the state after the last epoch
    assert not same_weights(last, best)
    for model in (last, best):
        output = tmp_path / f"{model.stem}.csv"
        assert predict(model, alloys, output).status == 0
        assert {"etot_pred", "emix_pred"} <= set(pd.read_csv(output))
        ran = train(
            alloys, tmp_path / model.stem, "--fine-tune", model, "--keep-towers", "--split", "a3", "--epochs", 1,
            "--targets", "etot",
        )  # fmt: skip
        assert "head of etot" in ran.out.partition("new:")[0]


def test_models_of_a_published_name_are_moved_aside(alloys, copied):
    words = (*SHORT, "--split", "a2", "--targets", "etot", "emix", "--epochs", 3, "--lr", 0.02)
    before = (copied / "result" / f"{BEST}.pt").read_bytes()
    assert "files of an earlier run moved" in train(alloys, copied, *words).out
    (moved,) = (copied / "result" / "previous").rglob(f"{BEST}.pt")
    assert moved.read_bytes() == before
    assert (copied / "result" / f"{BEST}.pt").read_bytes() != before


def test_from_python(alloys, copied):
    result = cgcnn.fit(alloys, evaluate=str(copied / "model_best.pth.tar"), out_dir=str(copied))
    assert set(result.predictions["cif_id"].str[:2]) == {"n4", "n5"}
    assert result.metrics["etot_MAE"][0] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{model}", "--targets", "magnetic"), "does not predict magnetic (regression), but etot (regression), emix"),
        (("{model}", "--radius", "6"), "--radius 6.0, but the network of"),
        (("{model}", "--model", "csgcnn"), "--model csgcnn, but the network of"),
        (("{model}", "--neighbors", "classic"), "reads other crystal graphs than these flags describe"),
        (("{model}", "--init-from", "m.pt"), "--evaluate trains nothing: leave out --init-from"),
        (("{model}", "--resume", "m.pt"), "--evaluate trains nothing: leave out --resume"),
        (("{model}", "--transfer-study", "b1", "b0"), "--evaluate trains nothing: leave out --transfer-study"),
        (("{out}/nowhere.pt",), "nowhere.pt: no such file"),
        (("{data}/id_prop.csv",), "not a checkpoint"),
        (("--split", "a1"), "no model mtl_*_*_HEA_*_a1.pt in"),
        (("{model}", "--split", "a0", "--folds", "3"), "leave out --folds"),
    ],
)
def test_what_cannot_be_evaluated(alloys, trained, words, said):
    out = trained[0]
    named = [word.format(model=out / "model_best.pth.tar", out=out, data=alloys) for word in words]
    line = refused(train_command, alloys, "--out-dir", out, "--evaluate", *named)
    assert said in line
    assert not list(out.rglob("*_evaluation_*"))


def test_a_sweep_evaluates_nothing(alloys):
    said = refused(sweep_command, alloys, "--evaluate", "m.pt", "--grid", "lr=0.1,0.2")
    assert said == "error: --evaluate: trains nothing, and a trial is a training\n"
