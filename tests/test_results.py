"""The end of a run without a validation part: the last epoch's network, and nothing that would need one."""

import pandas as pd
import pytest
from helpers import alloy_folder, read_rows, refused, result_file, same_weights, train

from cgcnn.cli import sweep_command

SHORT = ("--n-conv", 1, "--atom-fea-len", 8, "--h-fea-len", 8, "--radius", 5, "--targets", "etot", "--epochs", 2)


@pytest.fixture(scope="module")
def alloys(tmp_path_factory):
    return alloy_folder(tmp_path_factory.mktemp("alloys") / "data", {2: 6, 3: 6, 4: 6})


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        (("--split", "b2"), "15 train, 0 validation, 3 test"),
        (("--test-ratio", 0.2), "15 train, 0 validation, 3 test"),
        (("--folds", 3), "12 train, 0 validation, 6 test, 3 splits"),
        (("--ensemble", 2), "17 train, 0 validation, 1 test"),
        (("--swa", 1), "17 train, 0 validation, 1 test"),
    ],
    ids=["components", "ratio", "folds", "ensemble", "swa"],
)
def test_the_network_of_the_last_epoch_is_kept(alloys, tmp_path, words, sizes):
    ran = train(alloys, tmp_path, *SHORT, "--no-is-validate", *words)
    assert sizes in ran.out
    assert "(last epoch, no validation)" in ran.out
    assert "best on validation" not in ran.out
    if "--folds" not in words and "--ensemble" not in words and "--swa" not in words:
        assert same_weights(tmp_path / "model_best.pth.tar", tmp_path / "checkpoint.pth.tar")
    metrics = pd.read_csv(result_file(tmp_path, "metrics.csv"))
    assert metrics["Val_Score"].isna().all()
    assert metrics["etot_MAE"].notna().all()
    assert not list(tmp_path.rglob("*_validation.csv"))
    assert not [row for row in read_rows(result_file(tmp_path, "split1_ids.csv")) if row[1] == "val"]


def test_with_validation_the_part_is_written(alloys, tmp_path):
    ran = train(alloys, tmp_path, *SHORT, "--is_validate", "True")
    assert "(best on validation)" in ran.out
    assert len(read_rows(result_file(tmp_path, "validation.csv"))) == 2


def test_the_validation_part_of_a_split_file_is_trained_on(alloys, tmp_path):
    ids = [row[0] for row in read_rows(alloys / "id_prop.csv")[1:]]
    path = tmp_path / "split.csv"
    parts = ["train"] * 8 + ["val"] * 3 + ["test"] * 7
    path.write_text("cif_id,split\n" + "".join(f"{i},{p}\n" for i, p in zip(ids, parts, strict=True)))
    ran = train(alloys, tmp_path / "out", *SHORT, "--no-is-validate", "--split-file", path)
    assert "its 3 validation crystals are trained on (--no-is-validate)" in ran.out
    assert "11 train, 0 validation, 7 test" in ran.out


def test_a_learning_curve_without_validation(alloys, tmp_path):
    ran = train(alloys, tmp_path, *SHORT, "--no-is-validate", "--split", "b2", "--learning-curve", 0.5, 1)
    assert "etot: error" in ran.out


def test_the_run_goes_on_where_it_was_stopped(alloys, tmp_path):
    words = (*SHORT, "--no-is-validate", "--split", "b2", "--num-splits", 2)
    train(alloys, tmp_path / "whole", *words)
    train(alloys, tmp_path / "part", *words, "--num-splits", 1)
    train(alloys, tmp_path / "part", "--resume", tmp_path / "part" / "checkpoint.pth.tar", "--epochs", 3)
    named = tmp_path / "part" / "result" / "mtl_1_etot_HEA_3_b2.pt"
    assert same_weights(named, tmp_path / "part" / "model_best.pth.tar")


def test_a_sweep_needs_validation(alloys):
    said = refused(sweep_command, alloys, "--no-is-validate", "--grid", "lr=0.1,0.2")
    assert said == "error: --no-is-validate: a sweep chooses by the validation score\n"
