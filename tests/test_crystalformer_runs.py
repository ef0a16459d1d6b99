"""Crystalformer from the command line: training, prediction, other domains, another model's weights, refusals."""

import pandas as pd
import pytest
import torch
from helpers import predict, refused, root_folder, run, same_weights, train

from cgcnn import checkpoint
from cgcnn.cli import sweep_command, train_command

SMALL = ("--model-dim", 16, "--head-num", 2, "--num-layers", 2, "--ff-dim", 16, "--embedding-dim", 12)
SHORT = ("--model", "crystalformer", *SMALL, "--epochs", 2, "--swa", 1, "--threads", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return root_folder(tmp_path_factory.mktemp("data") / "root")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, train(folder, out, *SHORT).out


def test_a_run_predicts_what_it_tested(folder, trained, tmp_path):
    out, _ = trained
    ran = predict(out / "model_best.pth.tar", folder, tmp_path / "new.csv")
    assert ran.status == 0, ran.err
    tested = pd.read_csv(out / "test_results.csv").set_index("cif_id")
    again = pd.read_csv(tmp_path / "new.csv").set_index("cif_id").loc[tested.index]
    for task in ("work_function", "band_gap"):
        assert again[f"{task}_pred"].tolist() == pytest.approx(tested[f"{task}_pred"].tolist(), abs=1e-5)


def test_atoms_have_equal_shares_and_scores(folder, trained, tmp_path):
    ran = predict(
        trained[0] / "model_best.pth.tar", folder, tmp_path / "new.csv", "--atom-contributions", tmp_path / "a.csv"
    )
    assert (ran.status, "do not add up" in ran.out) == (0, True)
    atoms = pd.read_csv(tmp_path / "a.csv")
    assert atoms.groupby("cif_id")["attention"].sum().tolist() == pytest.approx([1.0] * atoms["cif_id"].nunique())
    assert atoms.filter(like="_score").notna().all(axis=None)


def test_the_scores_of_a_linear_model_add_up(folder, tmp_path):
    train(folder, tmp_path, *SHORT, "--embedding-dim")
    model = tmp_path / "model_best.pth.tar"
    ran = predict(model, folder, tmp_path / "new.csv", "--atom-contributions", tmp_path / "a.csv")
    assert (ran.status, "do not add up" in ran.out) == (0, False)
    atoms, table = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "new.csv").set_index("cif_id")
    summed = (atoms["attention"] * atoms["work_function_score"]).groupby(atoms["cif_id"]).sum()
    assert summed.tolist() == pytest.approx(table.loc[summed.index, "work_function_pred"].tolist(), abs=1e-5)


def test_its_own_learning_is_the_default(trained):
    saved = checkpoint.read(trained[0] / "model_best.pth.tar")
    args = saved["args"]
    assert (args["optim"], args["lr"], args["weight_decay"], args["clip_grad"]) == ("AdamW", 5e-4, 1e-5, 1.0)
    assert (args["scheduler"], args["batch_size"], args["loss"]) == ("inverse_sqrt_nowarmup", 128, "l1")
    assert (list(args["adam_betas"]), args["decay_biases"]) == ([0.9, 0.98], False)
    reach = saved["state_dict"]["blocks.1.attention.reach_std"]
    assert reach > 0 and reach != 1


def test_the_graphs_are_images(trained):
    model = checkpoint.load(trained[0] / "model_best.pth.tar")
    assert (model.graph.images, model.graph.radius) == (True, 6.93)


@pytest.mark.parametrize("words", [("--domain", "multihead"), ("--domain", "real-reci", "--value-pe-dist-real", 0)])
def test_other_domains_learn_too(folder, tmp_path, words):
    train(folder, tmp_path, *SHORT, *words, "--converged", "--norm-type", "bn", "--global-features", "valence")
    model = checkpoint.load(tmp_path / "model_best.pth.tar")
    assert (model.config["domain"], model.graph.radius) == (words[1], 8.0)
    assert predict(tmp_path / "model_best.pth.tar", folder, tmp_path / "new.csv").status == 0


def test_spellings_of_the_published_scripts(folder, tmp_path):
    words = ("--model_dim", 16, "--head_num", 2, "--num_layers", 1, "--ff_dim", 8, "--embedding_dim", 8, 8)
    learning = ("--n_epochs", 2, "--swa_epochs", 1, "--lr_sch", "const", "--loss_func", "Smooth_L1")
    train(folder, tmp_path, "--model", "crystalformer", *words, *learning, "--optimizer", "adamw", "--threads", 1)
    saved = checkpoint.read(tmp_path / "model_best.pth.tar")
    assert saved["config"]["embedding_dim"] == [8, 8]
    assert (saved["args"]["epochs"], saved["args"]["scheduler"], saved["args"]["loss"]) == (2, "const", "huber")


def test_another_model_is_where_it_starts(folder, trained, tmp_path):
    words = ("--init-from", trained[0] / "model_best.pth.tar", "--epochs", 1, "--swa", 0, "--lr", 0, "--threads", 1)
    train(folder, tmp_path, *words)
    old, new = (checkpoint.load(out / "model_best.pth.tar").networks[0] for out in (trained[0], tmp_path))
    for name, value in old.state_dict().items():
        torch.testing.assert_close(new.state_dict()[name], value, msg=name)


def test_the_first_blocks_are_taken_over(folder, trained, tmp_path):
    words = ("--init-from", trained[0] / "model_best.pth.tar", "--init-layers", 1, "--epochs", 1, "--swa", 0)
    said = train(folder, tmp_path, *words, "--threads", 1).out
    assert "taken over: blocks.0, embedding" in said
    assert "blocks.1" in said.split("new:")[1].splitlines()[0]


def test_a_sweep_over_its_flags(folder, tmp_path):
    words = ("--grid", "norm-type=no,bn", "domain=real,multihead", "--num-splits", 1, "--out-dir", tmp_path)
    ran = run(sweep_command, folder, *SHORT, *words)
    assert ran.status == 0, ran.err
    (table,) = (path for path in (tmp_path / "result").glob("all_*.csv") if "_by_" not in path.name)
    assert len(pd.read_csv(table, comment="#")) == 4


def test_a_stopped_run_goes_on_as_if_it_had_not(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(folder, whole, *SHORT[:-6], "--epochs", 3, "--swa", 2, "--threads", 1)
    train(folder, parts, *SHORT[:-6], "--epochs", 2, "--swa", 1, "--threads", 1)
    assert (parts / "checkpoint.pth.tar").exists()
    train(folder, whole / "again", *SHORT[:-6], "--epochs", 3, "--swa", 2, "--threads", 1)
    same_weights(whole / "model_best.pth.tar", whole / "again" / "model_best.pth.tar")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--pooling", "attention"), "crystalformer the mean"),
        (("--radius", 6), "--image-cutoff"),
        (("--max-num-nbr", 20), "takes all images"),
        (("--scale-reci", 2), "--domain real"),
        (("--head-num", 3), "3 heads cannot share"),
        (("--scale-real", 1, 2, 3), "one number, or one for each of 2 blocks"),
    ],
)
def test_what_means_nothing_is_refused(folder, tmp_path, words, line):
    assert line in refused(train_command, folder, "--out-dir", tmp_path, *SHORT, *words)


def test_its_flags_are_refused_elsewhere(folder, tmp_path):
    assert "part of Crystalformer" in refused(train_command, folder, "--out-dir", tmp_path, "--num-layers", 2)
