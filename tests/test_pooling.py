"""Atoms → crystals: each pooling is its formula, with its gradient, and its weights are what it gives the atoms."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional

from cgcnn.layers import segment_sum
from cgcnn.pooling import POOLINGS, AttentionPooling, MeanPooling

ATOM = 4
SIZES = torch.tensor([3, 1, 4])
CRYSTAL = torch.arange(3).repeat_interleave(SIZES)


@pytest.mark.parametrize("name", ["mean", "attention"])
def test_weights_sum_to_one_in_each_crystal_and_are_those_of_the_sum(name):
    torch.manual_seed(0)
    pooling, atoms = POOLINGS[name](ATOM), torch.randn(8, ATOM)
    weights = pooling.weights(atoms, CRYSTAL, SIZES)
    assert (weights > 0).all()
    torch.testing.assert_close(segment_sum(weights, CRYSTAL, 3), torch.ones(3))
    torch.testing.assert_close(pooling(atoms, CRYSTAL, SIZES), segment_sum(atoms * weights[:, None], CRYSTAL, 3))


def test_pooling_is_the_formula():
    torch.manual_seed(0)
    atoms = torch.randn(8, ATOM)
    mean = torch.stack([part.mean(0) for part in atoms.split(SIZES.tolist())])
    torch.testing.assert_close(MeanPooling(ATOM)(atoms, CRYSTAL, SIZES), mean)
    attention = AttentionPooling(ATOM)
    expected = [
        functional.softplus(attention.score(part)).softmax(0).mul(part).sum(0) for part in atoms.split(SIZES.tolist())
    ]
    torch.testing.assert_close(attention(atoms, CRYSTAL, SIZES), torch.stack(expected))
    assert not torch.allclose(mean, torch.stack(expected), atol=1e-3)


def test_sum_and_maximum_are_those_of_the_atoms():
    torch.manual_seed(0)
    atoms = torch.randn(8, ATOM)
    parts = atoms.split(SIZES.tolist())
    torch.testing.assert_close(POOLINGS["sum"](ATOM)(atoms, CRYSTAL, SIZES), torch.stack([p.sum(0) for p in parts]))
    largest = POOLINGS["max"](ATOM)
    torch.testing.assert_close(largest(atoms, CRYSTAL, SIZES), torch.stack([p.max(0).values for p in parts]))
    shares = largest.weights(atoms, CRYSTAL, SIZES)
    won = [(p == p.max(0).values).float().mean(1) for p in parts]
    torch.testing.assert_close(shares, torch.cat(won))


def test_set2set_asks_each_crystal_for_itself_and_in_no_order():
    torch.manual_seed(0)
    pooling, atoms = POOLINGS["set2set"](ATOM), torch.randn(8, ATOM)
    alone = [
        pooling(part, torch.zeros(len(part), dtype=torch.long), torch.tensor([len(part)]))
        for part in atoms.split(SIZES.tolist())
    ]
    together = pooling(atoms, CRYSTAL, SIZES)
    torch.testing.assert_close(together, torch.cat(alone))
    order = torch.cat([part.flip(0) for part in torch.arange(8).split(SIZES.tolist())])
    torch.testing.assert_close(pooling(atoms[order], CRYSTAL, SIZES), together)
    weights = pooling.weights(atoms, CRYSTAL, SIZES)
    torch.testing.assert_close(segment_sum(weights, CRYSTAL, 3), torch.ones(3))


@pytest.mark.parametrize("name", [name for name in POOLINGS if name != "set2set"])
def test_a_crystal_of_one_atom_is_that_atom(name):
    torch.manual_seed(0)
    atoms = torch.randn(8, ATOM)
    torch.testing.assert_close(POOLINGS[name](ATOM)(atoms, CRYSTAL, SIZES)[1], atoms[3])


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_gradients_are_those_of_differences(name):
    torch.manual_seed(0)
    pooling = POOLINGS[name](ATOM).double()
    atoms = torch.randn(8, ATOM, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda a, *_: pooling(a, CRYSTAL, SIZES), (atoms, *pooling.parameters()))
