"""What a network takes over from another, and that its first prediction is then the other's."""

import pytest
import torch
from conftest import random_crystal
from helpers import (
    REPOSITORY,
    copy_folder,
    refused,
    result_file,
    root_folder,
    run,
    same_weights,
    train,
    weights,
)
from torch import nn

from cgcnn.averaging import train_mode
from cgcnn.batch import Collator
from cgcnn.checkpoint import TrainedModel
from cgcnn.cli import train_command
from cgcnn.features import element_table, learned_elements, property_table
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.labels import DataError
from cgcnn.network import NetworkConfig
from cgcnn.prediction import predict_rows
from cgcnn.radial import num_intervals
from cgcnn.reference import FirstGuess
from cgcnn.tasks import CLASSIFICATION, Normalizer, Task, TaskSet
from cgcnn.transfer import freeze_body, take_over

ENERGY, GAP = Task("formation_energy"), Task("band_gap")
STABLE = Task("stable", CLASSIFICATION, classes=("0", "1"))


def model(*tasks, seed=0, elements=None, **config) -> TrainedModel:
    """A model of small networks whose weights and statistics are drawn at random."""
    regressions = [task for task in tasks if task.is_regression]
    normalizers = {t.name: Normalizer(1.0 + k + seed, 2.0 + seed) for k, t in enumerate(regressions)}
    small = NetworkConfig(**{"atom_fea_len": 8, "h_fea_len": 12, "n_conv": 2, **config}).to_dict()
    table = element_table() if elements is None else elements
    made = TrainedModel("cgcnn", small, TaskSet(tasks), table, normalizers, GraphSettings())
    torch.manual_seed(seed)
    return made.with_states([made.build().state_dict()])


ECNET = {"hidden_channels": 6, "n_filters": 5, "n_gaussian": 8, "cutoff": 4.0, "tower_h1": 7, "tower_h2": 5}


def elements_model(*tasks, seed=0, **config) -> TrainedModel:
    """The same of ECNet."""
    made = model(*tasks, seed=seed)
    made.name, made.config, made.elements = "ecnet", {**ECNET, **config}, learned_elements()
    made.graph = GraphSettings(4.0, histogram=num_intervals(4.0))
    torch.manual_seed(seed)
    return made.with_states([made.build().state_dict()])


def guessed(of: TrainedModel, *names: str, extensive: str = "") -> TrainedModel:
    """With first guesses drawn at random for these tasks in its network, and in those that it builds."""
    of.guesses = {n: FirstGuess(torch.randn(119), 0.7, 2.5 if n == extensive else 0.0) for n in names}
    of.networks[0].reference.write(of.guesses)
    return of


def predictions(network, of: TrainedModel) -> dict:
    crystals = [random_crystal(k, 3 + k) for k in range(3)]
    graphs = GraphTable.from_graphs(
        [build_graph(c, of.graph) for c in crystals], [c.reduced_formula for c in crystals]
    )
    return predict_rows([network.eval()], Collator(graphs), torch.arange(3), of.tasks, of.normalizers)


def taken(source: TrainedModel, target: TrainedModel, **options) -> tuple:
    network = target.build()
    return network, take_over(network, target.tasks, target.normalizers, source, **options)


def test_the_same_tasks_give_the_source_s_predictions_on_the_new_scale():
    source, target = model(ENERGY, GAP, STABLE), model(GAP, STABLE, ENERGY, seed=1)
    network, lines = taken(source, target)
    before, now = predictions(source.networks[0], source), predictions(network, target)
    for name in before:
        assert now[name] == pytest.approx(before[name], abs=1e-5)
    assert lines[1] == "new: nothing"


COMPOSED = {"reference": "composition", "extensive": ["band_gap"]}


@pytest.mark.parametrize(
    ("make", "source_config", "target_config"),
    [
        (model, {}, COMPOSED),
        (model, COMPOSED, COMPOSED),
        (model, {"extensive": ("band_gap",)}, COMPOSED),
        (elements_model, {}, {}),
        (elements_model, COMPOSED, COMPOSED),
        (elements_model, {"tower": "shared"}, {"tower": "shared", **COMPOSED}),
        (
            elements_model,
            {"tower": "shared", "aggregation": "mean", **COMPOSED},
            {"tower": "shared", "aggregation": "mean"},
        ),
    ],
)
def test_the_first_prediction_is_the_source_s_guess_and_size_of_the_cell_included(make, source_config, target_config):
    grows = "band_gap" if source_config.get("extensive") else ""
    source = make(ENERGY, GAP, STABLE, **source_config)
    target = make(GAP, STABLE, ENERGY, seed=1, **target_config)
    if source_config:
        guessed(source, "formation_energy", "band_gap", extensive=grows)
    if target_config:
        guessed(target, "formation_energy", "band_gap", extensive=grows)
    network, lines = taken(source, target)
    before, now = predictions(source.networks[0], source), predictions(network, target)
    for name in before:
        assert now[name] == pytest.approx(before[name], abs=2e-5)
    assert lines[1] == "new: nothing"
    assert ("not counted from the composition" in lines[-1]) == (target_config == COMPOSED and not source_config)


def test_a_head_that_cannot_give_the_source_s_predictions_is_new_and_says_why():
    source = guessed(model(ENERGY, **COMPOSED), "formation_energy")
    network, lines = taken(source, model(ENERGY, seed=1))
    assert lines[1] == "new: head of formation_energy" and not network.reference.is_used
    why = "that model's is counted from the composition, this one is not (--reference)"
    assert lines[2] == f"the head of formation_energy is new: {why}"
    source = model(GAP, **COMPOSED)
    for grows, said in (("", "does not grow"), ("band_gap", "grows")):
        guessed(source, "band_gap", extensive=grows)
        other = guessed(model(GAP, seed=1, **COMPOSED), "band_gap", extensive="" if grows else "band_gap")
        network, lines = taken(source, other)
        assert lines[2].endswith(f"that model's {said} with the cell (--extensive)")
        assert torch.equal(network.reference.coefficients[0], other.guesses["band_gap"].coefficients)
    _, lines = taken(model(ENERGY), model(ENERGY, h_fea_len=20))
    assert lines[2].endswith("is new: it has layers of other shapes") and "conv_to_fc" in lines[1]


def test_the_first_guess_of_a_new_head_is_the_new_run_s_own():
    source = guessed(model(ENERGY, **COMPOSED), "formation_energy")
    for options in ({"reset_heads": True}, {"layers": 1}):
        target = guessed(model(ENERGY, GAP, seed=1, **COMPOSED), "formation_energy", "band_gap")
        network, _ = taken(source, target, **options)
        assert network.reference.read("formation_energy").offset == pytest.approx(0.7)
        assert torch.equal(network.reference.coefficients[1], target.guesses["band_gap"].coefficients)


def test_what_towers_share_belongs_to_the_heads():
    source, target = (elements_model(ENERGY, seed=seed, tower="shared") for seed in (0, 1))
    network, lines = taken(source, target)
    assert torch.equal(network.trunk[0].weight, source.networks[0].trunk[0].weight) and "trunk" in lines[0]
    network, lines = taken(source, target, reset_heads=True)
    assert not torch.equal(network.trunk[0].weight, source.networks[0].trunk[0].weight)
    assert lines[1] == "new: trunk, head of formation_energy"
    freeze_body(network)
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {"heads", "trunk"}
    _, lines = taken(source, elements_model(ENERGY, seed=1, tower="shared", tower_h1=9))
    assert lines[2].endswith("the layers that heads share are new")


def test_the_first_layers_of_ecnet_are_the_elements_and_its_first_blocks():
    source, target = elements_model(ENERGY), elements_model(ENERGY, seed=1)
    for layers in range(4):
        network, lines = taken(source, target, layers=layers)
        same = [
            torch.equal(ours.send.weight, theirs.send.weight)
            for ours, theirs in zip(network.blocks, source.networks[0].blocks, strict=True)
        ]
        assert same == [k < layers for k in range(3)]
        assert torch.equal(network.embedding.weight, source.networks[0].embedding.weight)
        assert "head of formation_energy" in lines[1] and ("blocks.0" in lines[0]) == (layers > 0)
    with pytest.raises(DataError, match="--init-layers 4: that model has 3 convolutions"):
        taken(source, target, layers=4)


def test_other_tasks_get_new_heads_on_the_same_body():
    source, target = model(ENERGY), model(ENERGY, GAP, seed=1)
    network, lines = taken(source, target)
    assert torch.equal(network.body.convs[1].fc_full.weight, source.networks[0].body.convs[1].fc_full.weight)
    assert "head of formation_energy" in lines[0] and "embedding" in lines[0]
    assert lines[1] == "new: head of band_gap"
    _, lines = taken(source, target, reset_heads=True)
    assert lines[1] == "new: head of formation_energy, head of band_gap"


def test_the_first_layers_alone_and_never_a_head():
    source, target = model(ENERGY, environment=True, n_conv=3), model(ENERGY, environment=True, n_conv=3, seed=1)
    source.networks[0].environment_mean.fill_(3.0)
    for layers in range(4):
        network, lines = taken(source, target, layers=layers)
        same = [
            torch.equal(ours.fc_full.weight, theirs.fc_full.weight)
            for ours, theirs in zip(network.body.convs, source.networks[0].body.convs, strict=True)
        ]
        assert same == [k < layers for k in range(3)]
        assert torch.equal(network.body.embedding.weight, source.networks[0].body.embedding.weight)
        assert (network.environment_mean == 3.0).all()
        assert "conv_to_fc" in lines[1] and "head of formation_energy" in lines[1]
    with pytest.raises(DataError, match="--init-layers 4: that model has 3 convolutions"):
        taken(source, target, layers=4)


def test_a_class_with_other_classes_is_another_task():
    _, lines = taken(model(STABLE), model(Task("stable", CLASSIFICATION, classes=("0", "1", "2"))))
    assert lines[1] == "new: head of stable"


def test_other_element_vectors_and_more_convolutions_are_new():
    target = model(ENERGY, elements=torch.cat([element_table(), property_table()], dim=1), n_conv=3)
    _, lines = taken(model(ENERGY), target)
    assert lines[1] == "new: convs.2, embedding"
    other = element_table().flip(1)
    _, lines = taken(model(ENERGY), model(ENERGY, elements=other))
    assert lines[1] == "new: embedding"


def test_a_network_of_another_width_is_refused():
    with pytest.raises(DataError, match="shape"):
        taken(model(ENERGY), model(ENERGY, atom_fea_len=16, h_fea_len=20))


def test_members_of_an_ensemble_are_used_in_turn():
    source = model(ENERGY)
    torch.manual_seed(5)
    states = [source.build().state_dict() for _ in range(2)]
    source.with_states(states)
    for member in range(3):
        network, _ = taken(source, model(ENERGY), member=member)
        assert torch.equal(network.body.embedding.weight, states[member % 2]["body.embedding.weight"])


def test_a_frozen_body_learns_in_its_heads_only():
    network = model(ENERGY, GAP).build()
    freeze_body(network)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {f"heads.{k}.{what}" for k in (0, 1) for what in ("weight", "bias")}
    train_mode(network)
    assert not any(m.training for m in network.modules() if isinstance(m, nn.BatchNorm1d))


# --- main.py ------------------------------------------------------------------------------------------


def test_a_run_from_a_model_takes_its_network_and_says_what_is_new(tmp_path):
    data = copy_folder("data/sample-regression", tmp_path / "data")
    train(data, tmp_path / "one", "--epochs", 1, "--atom-fea-len", 16, "--n-conv", 2)
    model = tmp_path / "one" / "model_best.pth.tar"
    ran = train(data, tmp_path / "two", "--epochs", 1, "--init-from", model, "--lr", 0)
    assert "new: nothing" in ran.out
    one, two = weights(model)[0], weights(tmp_path / "two" / "model_best.pth.tar")[0]
    assert torch.equal(one["body.convs.1.fc_full.weight"], two["body.convs.1.fc_full.weight"])
    ran = train(data, tmp_path / "three", "--epochs", 1, "--init-from", model, "--reset-heads")
    assert "new: head of target" in ran.out


def test_a_frozen_body_is_the_model_s_after_training_statistics_included(tmp_path):
    data = copy_folder("data/sample-regression", tmp_path / "data")
    train(data, tmp_path / "one", "--epochs", 1)
    model = tmp_path / "one" / "model_best.pth.tar"
    for options in ((), ("--swa", 1)):
        out = tmp_path / f"frozen{len(options)}"
        train(data, out, "--epochs", 2, "--init-from", model, "--freeze-body", *options)
        before, after = weights(model)[0], weights(out / "model_best.pth.tar")[0]
        body = [name for name in before if name.startswith("body.")]
        assert body and all(torch.equal(before[name], after[name]) for name in body)
        assert not torch.equal(before["heads.0.weight"], after["heads.0.weight"])
    words = ("--init-from", model, "--freeze-body", "--init-layers", 1, "--out-dir", tmp_path / "no")
    assert "leave out --init-layers" in refused(train_command, data, *words)


def test_a_stopped_run_from_a_model_goes_on_exactly(tmp_path):
    data = copy_folder("data/sample-regression", tmp_path / "data")
    train(data, tmp_path / "one", "--epochs", 1)
    words = ("--init-from", tmp_path / "one" / "model_best.pth.tar", "--ensemble", 2, "--epochs", 2)
    train(data, tmp_path / "whole", *words)
    stopped = run(train_command, data, "--out-dir", tmp_path / "part", *words, "--max-time", "0s")
    assert stopped.status == 75
    while stopped.status == 75:
        checkpoint = tmp_path / "part" / "checkpoint.pth.tar"
        resume = ("--resume", checkpoint, "--max-time", "0.05s")
        stopped = run(train_command, data, "--out-dir", tmp_path / "part", *resume)
    assert stopped.status == 0, stopped.err
    assert same_weights(tmp_path / "whole" / "model_best.pth.tar", tmp_path / "part" / "model_best.pth.tar")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--freeze-body",), "--freeze-body needs --init-from"),
        (("--reset-heads",), "--reset-heads needs --init-from"),
        (("--init-layers", "0"), "--init-layers needs --init-from"),
        (("--init-from", "nothing.pth.tar"), "nothing.pth.tar: no such file"),
        (("--train-fraction", "0"), "leaves nothing"),
        (("--learning-curve", "0.5", "--train-fraction", "0.5"), "makes its own runs"),
    ],
)
def test_bad_starting_points_get_one_line(words, said, tmp_path):
    assert said in refused(train_command, REPOSITORY / "root_dir", "--out-dir", tmp_path, *words)


def test_original_weights_start_a_run_of_several_tasks(tmp_path, shared_data):
    original = shared_data / "cgcnn_original" / "pre-trained" / "band-gap.pth.tar"
    ran = train(root_folder(tmp_path / "data"), tmp_path / "out", "--epochs", 1, "--init-from", original)
    assert "taken over: conv_to_fc, convs.0" in ran.out
    assert "new: head of work_function, head of band_gap" in ran.out
    config = result_file(tmp_path / "out", "config.toml").read_text()
    assert 'readout = "classic"' in config and 'neighbors = "classic"' in config
