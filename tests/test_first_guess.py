"""The first guess of every target is the linear model of the training part, whatever scale it is learned on."""

import numpy as np
import pytest
import torch
from helpers import refused, result_file, run, same_weights, table, train, weights

from cgcnn import checkpoint
from cgcnn.arguments import parse_training
from cgcnn.batch import Collator
from cgcnn.cli import train_command
from cgcnn.composition import linear_model
from cgcnn.dataset import load_dataset
from cgcnn.model import MODELS
from cgcnn.prediction import predict_rows
from cgcnn.prepare import splits_of_run, untrained_model

TINY = ("--epochs", 1, "--val-size", 2, "--test-size", 6, "--batch-size", 8)
SMALL = ("--atom-fea-len", 8, "--h-fea-len", 8, "--n-conv", 1)


@pytest.fixture
def alloys(data_folder, crystals):
    """24 cells of one to four atoms: `energy` an atom, near −7 with little left over, and `moment`, of the cell."""
    from conftest import make_crystal

    rng = np.random.default_rng(0)
    worth = {"Fe": 2.2, "Ni": 0.6, "Co": 1.7}
    level = {"Fe": -8.2, "Ni": -5.5, "Co": -7.0}
    places = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    cells, rows = {}, ["cif_id,energy,moment,magnetic\n"]
    for k in range(24):
        symbols = rng.choice(list(worth), 1 + k % 4).tolist()
        cells[f"a{k:02}"] = make_crystal(3.5 + k / 50, symbols, places[: len(symbols)])
        energy = np.mean([level[s] for s in symbols]) + rng.normal(0, 0.02)
        moment = sum(worth[s] for s in symbols) * rng.normal(1, 0.05)
        rows.append(f"a{k:02},{energy:.6f},{moment:.6f},{int(moment > 4)}\n" if k else f"a{k:02},,{moment:.6f},0\n")
    return data_folder("".join(rows), crystals=cells)


def prepared(folder, *words):
    """What an untrained network whose heads are zeros predicts for all crystals; data, training rows, model."""
    args = parse_training([str(folder), *map(str, words)])
    data = load_dataset(args)
    (split,) = splits_of_run(args, data)
    model = untrained_model(args, data, split)
    network = model.build().eval()
    for parameter in network.heads.parameters():
        torch.nn.init.zeros_(parameter)
    collator = Collator(data.table, data.labels, data.global_features)
    rows = torch.arange(len(data.ids))
    return predict_rows([network], collator, rows, model.tasks, model.normalizers), data, split.train, model


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("transform", ["none", "scaling"])
def test_heads_of_zeros_leave_the_linear_model(alloys, model, transform):
    words = ("--reference", "composition", "--extensive", "moment", "--model", model)
    targets = ("--targets", "energy", "moment", "--transforms", f"moment={transform}", f"energy={transform}")
    found, data, train_rows, _ = prepared(alloys, *words, *targets, "--train-size", 14)
    for column, name in enumerate(("energy", "moment")):
        fitted = linear_model(data.atoms[train_rows], data.labels[train_rows, column], is_extensive=name == "moment")
        assert found[name] == pytest.approx(fitted(data.atoms), abs=2e-5)


@pytest.mark.parametrize("normalize", ["--normalize", "--no-normalize"])
def test_without_the_composition_what_is_extensive_is_the_same_for_every_atom(alloys, normalize):
    found, data, train_rows, model = prepared(
        alloys, "--targets", "energy", "moment", "--extensive", "moment", normalize
    )
    count = np.asarray(data.atoms.sum(axis=1)).ravel()
    labels = data.labels[:, 1]
    a_piece = (labels[train_rows] @ count[train_rows]) / (count[train_rows] @ count[train_rows])
    assert found["moment"] == pytest.approx(a_piece * count, abs=1e-5)
    mean = np.nanmean(data.labels[train_rows, 0]) if normalize == "--normalize" else 0
    assert found["energy"] == pytest.approx(np.full(24, mean), abs=1e-6)
    assert model.guesses["moment"].atoms == pytest.approx(count[train_rows].mean())


def test_losses_are_in_units_of_what_is_left_and_of_the_training_part_alone(alloys):
    words = ("--targets", "energy", "moment", "--reference", "composition")
    found, data, train_rows, model = prepared(alloys, *words)
    left = (data.labels[:, 0] - found["energy"])[train_rows]
    assert model.normalizers["energy"].std == pytest.approx(np.sqrt(np.nanmean(left**2)), rel=1e-3)
    assert model.normalizers["energy"].std < 0.1 * np.nanstd(data.labels[train_rows, 0])
    assert model.normalizers["energy"].mean == pytest.approx(np.nanmean(data.labels[train_rows, 0]))
    text = (alloys / "id_prop.csv").read_text().splitlines()
    others = [line for line in text[1:] if line.split(",")[0] not in {data.ids[k] for k in train_rows}]
    changed = "\n".join(line if line not in others else f"{line.split(',')[0]},99,99,0" for line in text)
    (alloys / "id_prop.csv").write_text(changed + "\n")
    _, _, _, again = prepared(alloys, *words)
    assert again.normalizers == model.normalizers
    assert torch.equal(again.guesses["energy"].coefficients, model.guesses["energy"].coefficients)


def test_auxiliary_tasks_and_classes_have_no_guess(alloys):
    words = ("--targets", "energy", "magnetic:class", "--reference", "composition", "--auxiliary-tasks")
    _, _, _, model = prepared(alloys, *words)
    assert set(model.guesses) == {"energy"}


# --- main.py ------------------------------------------------------------------------------------------


def test_a_run_shows_the_linear_model_beside_its_own_error_and_keeps_its_guess(alloys, tmp_path):
    words = ("--targets", "energy", "moment", "magnetic:class", "--extensive", "moment", "--reference", "composition")
    ran = train(alloys, tmp_path, *TINY, *SMALL, *words, "--lr", 0)
    lines = {line.split()[0]: line for line in ran.out.splitlines() if line.startswith(("energy ", "moment "))}
    parts = table(result_file(tmp_path, "split1_ids.csv"), index_col=0)["split"]
    labels = table(alloys / "id_prop.csv", index_col=0)
    args = parse_training([str(alloys), *map(str, (*TINY, *words))])
    data = load_dataset(args)
    rows = {part: np.flatnonzero((parts[data.ids] == part).to_numpy()) for part in ("train", "test")}
    kept = table(result_file(tmp_path, "baselines.csv"), index_col="task")
    for column, name in enumerate(("energy", "moment")):
        fitted = linear_model(
            data.atoms[rows["train"]], data.labels[rows["train"], column], is_extensive=name == "moment"
        )
        error = np.nanmean(np.abs(fitted(data.atoms[rows["test"]]) - data.labels[rows["test"], column]))
        assert f"composition  {error:.4f}" in " ".join(lines[name].split(" ")).replace(
            "composition   ", "composition  "
        )
        assert kept.composition[name] == pytest.approx(error)
        trivial = (labels[name][parts == "test"] - labels[name][parts == "train"].mean()).abs().mean()
        assert kept["training mean"][name] == pytest.approx(trivial)
    assert kept.loc["magnetic", ["training mean", "composition"]].isna().all()
    assert "largest class" in ran.out
    network = checkpoint.load(tmp_path / "model_best.pth.tar").networks[0]
    assert network.reference.read("energy").coefficients.any() and network.reference.read("moment").atoms > 1


def test_a_first_guess_helps_at_once(alloys, tmp_path):
    words = ("--targets", "energy", "--epochs", 2, "--val-size", 2, "--test-size", 6, *SMALL)
    without = train(alloys, tmp_path / "without", *words)
    with_guess = train(alloys, tmp_path / "with", *words, "--reference", "composition")
    errors = [table(result_file(tmp_path / name, "metrics.csv")).energy_MAE[0] for name in ("without", "with")]
    assert errors[1] < 0.3 * errors[0], (without.out, with_guess.out)


def test_a_stopped_run_goes_on_exactly_and_its_configuration_repeats_it(alloys, tmp_path):
    words = ("--targets", "energy", "moment", "--extensive", "moment", "--reference", "composition")
    settings = (*words, *SMALL, "--epochs", 3, "--val-size", 2, "--test-size", 6, "--ensemble", 2)
    train(alloys, tmp_path / "whole", *settings)
    stopped = run(train_command, alloys, "--out-dir", tmp_path / "part", *settings, "--max-time", "0s")
    assert stopped.status == 75
    train(alloys, tmp_path / "part", "--resume", tmp_path / "part" / "checkpoint.pth.tar")
    assert same_weights(tmp_path / "whole" / "model_best.pth.tar", tmp_path / "part" / "model_best.pth.tar")
    train(alloys, tmp_path / "again", "--config", result_file(tmp_path / "whole", "config.toml"))
    assert same_weights(tmp_path / "whole" / "model_best.pth.tar", tmp_path / "again" / "model_best.pth.tar")


def test_a_checkpoint_of_an_earlier_version_or_another_machine_is_resumed(alloys, tmp_path):
    words = ("--out-dir", tmp_path, *SMALL, "--targets", "energy", "--epochs", 3, "--val-size", 2, "--test-size", 6)
    assert run(train_command, alloys, *words, "--max-time", "0s").status == 75
    path = tmp_path / "checkpoint.pth.tar"
    saved = checkpoint.read(path)
    for name in ("reference", "extensive"):
        del saved["config"][name], saved["args"][name]
    saved["normalizers"]["energy"]["std"] *= 1 + 1e-12
    checkpoint.save(path, saved)
    train(alloys, tmp_path, "--resume", path)
    saved["normalizers"]["energy"]["std"] *= 1.01
    checkpoint.save(path, saved)
    assert "of other labels" in refused(train_command, alloys, "--out-dir", tmp_path, "--resume", path)


def test_a_checkpoint_of_another_reference_is_refused(alloys, tmp_path):
    train(alloys, tmp_path, *TINY, *SMALL, "--targets", "energy")
    words = ("--resume", tmp_path / "checkpoint.pth.tar", "--epochs", 2, "--reference", "composition")
    assert "another network" in refused(train_command, alloys, "--out-dir", tmp_path, *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--extensive", "mass"), "--extensive takes regression targets; 'mass' is none; there are energy, moment"),
        (("--extensive", "magnetic"), "'magnetic' is a class"),
        (("--extensive", "moment", "--transforms", "moment=log"), "--extensive moment: the logarithm"),
        (("--targets", "magnetic:class", "--reference", "composition"), "needs a regression target"),
        (("--extensive", "moment", "--augment", "supercell=2"), "--augment supercell cannot go with --extensive"),
        (("--extensive", "moment", "--pooling", "sum"), "--extensive cannot go with --pooling sum"),
    ],
)
def test_what_means_nothing_gets_one_line(alloys, tmp_path, words, said):
    targets = () if "--targets" in words else ("--targets", "energy", "moment", "magnetic:class")
    error = refused(train_command, alloys, "--out-dir", tmp_path, *targets, *words)
    assert said in error and len(error.splitlines()) == 1


def test_a_run_from_a_model_has_its_extensive_targets_among_its_own(alloys, tmp_path):
    words = ("--targets", "energy", "moment", "--extensive", "moment")
    train(alloys, tmp_path / "one", *TINY, *SMALL, *words)
    start = ("--init-from", tmp_path / "one" / "model_best.pth.tar", *TINY)
    train(alloys, tmp_path / "two", *start, "--targets", "energy")
    ran = train(alloys, tmp_path / "three", *start, "--targets", "energy", "moment")
    assert "new: nothing" in ran.out
    ran = train(alloys, tmp_path / "four", *start, "--targets", "energy", "moment", "--extensive")
    assert "the head of moment is new: that model's grows with the cell (--extensive)" in ran.out
    assert not any(name.startswith("reference.") for name in weights(tmp_path / "four" / "model_best.pth.tar")[0])
