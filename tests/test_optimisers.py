"""Which weights the decay pulls at, and the constants of Adam."""

import pytest
import torch
from torch import nn

from cgcnn.features import element_table
from cgcnn.fitting import FitSettings
from cgcnn.model import build_model
from cgcnn.optimisers import OPTIMISERS, decay_groups, optimiser, restore
from cgcnn.schedules import Schedule
from cgcnn.tasks import Task, TaskSet


def settings(**options) -> FitSettings:
    return FitSettings(Schedule("const", 0.1), **options)


def body() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.LSTMCell(4, 2), nn.Bilinear(2, 2, 1))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_decay_is_of_all_weights_unless_biases_are_spared(name):
    model = body()
    (group,) = optimiser(model, settings(optimizer=name, weight_decay=0.1)).param_groups
    assert group["weight_decay"] == 0.1
    assert len(group["params"]) == len(list(model.parameters()))
    (group,) = optimiser(model, settings(optimizer=name, decay_biases=False)).param_groups  # no decay, no groups
    assert group["weight_decay"] == 0
    decayed, spared = optimiser(model, settings(optimizer=name, weight_decay=0.1, decay_biases=False)).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(p)] for p in decayed["params"]] == ["0.weight", "3.weight_ih", "3.weight_hh", "4.weight"]
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_a_step_of_adamw_without_gradients_shrinks_weights_alone():
    model = body()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser(model, settings(optimizer="AdamW", weight_decay=0.5, decay_biases=False)).step()
    for name, parameter in model.named_parameters():
        shrunk = name.split(".")[1].startswith("weight") and name[0] not in "12"
        torch.testing.assert_close(parameter.detach(), before[name] * (1 - 0.1 * 0.5 * shrunk), msg=name)


def test_frozen_weights_are_in_no_group():
    model = body()
    for parameter in model[0].parameters():
        parameter.requires_grad = False
    frozen = {id(parameter) for parameter in model[0].parameters()}
    for spares in (True, False):
        groups = decay_groups(model, settings(weight_decay=0.1, decay_biases=spares))
        assert not frozen.intersection(id(p) for group in groups for p in group["params"])


@pytest.mark.parametrize("name", ["cgcnn", "csgann", "ecnet"])
def test_the_networks_are_divided_without_rest(name):
    model = build_model(name, {}, TaskSet((Task("a"),)), element_table())
    decayed, spared = decay_groups(model, settings(weight_decay=0.1, decay_biases=False))
    spared, decayed = ({id(p) for p in group["params"]} for group in (spared, decayed))
    assert not spared & decayed
    assert spared | decayed == {id(p) for p in model.parameters()}
    assert all(id(p) in spared for name, p in model.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_betas(name):
    """Kingma and Ba, arXiv:1412.6980, by hand for two gradients."""
    lr, (b1, b2), gradients = 0.1, (0.8, 0.5), (1.0, 3.0)
    model = nn.Linear(1, 1, bias=False)
    expected = model.weight.item()
    moves = optimiser(model, settings(optimizer=name, betas=(b1, b2)))
    mean = square = 0.0
    for t, gradient in enumerate(gradients, start=1):
        model.weight.grad = torch.tensor([[gradient]])
        moves.step()
        mean, square = b1 * mean + (1 - b1) * gradient, b2 * square + (1 - b2) * gradient**2
        expected -= lr * mean / (1 - b1**t) / ((square / (1 - b2**t)) ** 0.5 + 1e-8)
    assert model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert optimiser(model, settings(optimizer=name)).defaults["betas"] == (0.9, 0.999)


def stepped(name, model, **options):
    one = optimiser(model, settings(optimizer=name, **options))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    one.step()
    return one


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_restored_state_goes_on_with_the_decay_of_the_flags(name):
    model = nn.Linear(2, 1)
    state = stepped(name, model).state_dict()
    again = optimiser(model, settings(optimizer=name, weight_decay=0.3))
    restore(again, state)
    assert again.param_groups[0]["weight_decay"] == 0.3
    kept, before = again.state[model.weight], state["state"][0]
    assert kept.keys() == before.keys() and all(torch.equal(kept[key], before[key]) for key in before)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.update({0: 5}),
        lambda state: state.update({7: state[0]}),
        lambda state: state[0].update(other=torch.ones(1)),
        lambda state: state[0].update({next(iter(state[0])): torch.ones(9)}),
        lambda state: state[0].update({next(iter(state[0])): "x"}),
    ],
    ids=["number", "of no weight", "more", "shape", "text"],
)
def test_what_is_no_state_of_the_optimiser_is_refused(name, spoil):
    model = nn.Linear(2, 1)
    state = stepped(name, model).state_dict()
    spoil(state["state"])
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)):
        restore(stepped(name, model), state)
