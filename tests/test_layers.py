"""Convolution against the formula written edge by edge, its gradients against differences, pooling against sums."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional

from cgcnn import layers
from cgcnn.layers import (
    GatedConvolution,
    segment_mean,
    segment_softmax,
    segment_sum,
)

ATOM, EDGE = 4, 3


def per_edge(layer: GatedConvolution, atoms, edges, centres, neighbours):
    """The layer as Xie and Grossman write it, with torch's own parts and this layer's parameters."""
    z = torch.cat([atoms[centres], atoms[neighbours], edges], dim=1)
    gate, core = layer.bn1(layer.fc_full(z)).chunk(2, dim=1)
    messages = torch.sigmoid(gate) * functional.softplus(core)
    summed = torch.zeros_like(atoms).index_add(0, centres, messages)
    return functional.softplus(atoms + layer.bn2(summed))


def random_layer(dtype=torch.float64, *, seed: int = 0) -> GatedConvolution:
    """A layer whose batch norms have scales, shifts and running statistics of their own."""
    torch.manual_seed(seed)
    layer = GatedConvolution(ATOM, EDGE).to(dtype)
    for norm in (layer.bn1, layer.bn2):
        nn.init.normal_(norm.weight, 1.0, 0.3)
        nn.init.normal_(norm.bias, 0.0, 0.3)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return layer


def random_graph(num_atoms: int, num_edges: int, dtype=torch.float64, *, seed: int = 1):
    torch.manual_seed(seed)
    centres = torch.randint(num_atoms, (num_edges,)).sort().values
    neighbours = torch.randint(num_atoms, (num_edges,))
    return torch.randn(num_atoms, ATOM, dtype=dtype), torch.rand(num_edges, EDGE, dtype=dtype), centres, neighbours


def outcome(forward, layer, graph) -> dict[str, torch.Tensor]:
    """The output, the gradients of a weighted sum of it, and the state that the pass leaves behind."""
    atoms, edges, centres, neighbours = graph
    atoms, edges = atoms.clone().requires_grad_(), edges.clone().requires_grad_()
    out = forward(atoms, edges, centres, neighbours)
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    (out * weights).sum().backward()
    found = {"out": out.detach(), "d atoms": atoms.grad, "d edges": edges.grad}
    found |= {f"d {name}": p.grad for name, p in layer.named_parameters()}
    return found | dict(layer.state_dict())


def assert_same(one: dict, other: dict, **tolerance) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_convolution_is_the_formula(training, dtype):
    layer = random_layer(dtype).train(training)
    other = copy.deepcopy(layer)
    graph = random_graph(30, 301, dtype)
    tolerance = {"rtol": 1e-4, "atol": 2e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-10}
    for _ in range(2):  # the second pass starts from the running statistics of the first
        ours = outcome(layer, layer, graph)
        theirs = outcome(lambda *g: per_edge(other, *g), other, graph)
        assert_same(ours, theirs, **tolerance)
    assert int(layer.bn1.num_batches_tracked) == (2 if training else 0)


def test_convolution_with_original_sizes_in_float32():
    torch.manual_seed(0)
    layer = GatedConvolution(64, 41)
    other = copy.deepcopy(layer)
    centres = torch.arange(500).repeat_interleave(12)
    graph = torch.randn(500, 64), torch.rand(6000, 41), centres, torch.randint(500, (6000,))
    ours = outcome(layer, layer, graph)
    theirs = outcome(lambda *g: per_edge(other, *g), other, graph)
    assert_same(ours, theirs, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(ours["out"], theirs["out"], rtol=1e-5, atol=1e-5)


def assert_gradients_are_differences(layer: nn.Module) -> None:
    """Of what a layer makes of a small graph, by atoms, edges and every parameter; in double precision."""
    atoms, edges, centres, neighbours = random_graph(5, 14)
    names, values = zip(*layer.named_parameters(), strict=True)

    def function(atoms, edges, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, state, (atoms, edges, centres, neighbours))

    assert gradcheck(function, (atoms.requires_grad_(), edges.requires_grad_(), *values))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("block", [3, 2048])
def test_convolution_gradients_are_those_of_differences(training, block, monkeypatch):
    monkeypatch.setattr(layers, "_BLOCK", block)
    assert_gradients_are_differences(random_layer().train(training))


@pytest.mark.parametrize("block", [1, 7, 64, 299, 300, 301])
def test_the_block_size_does_not_matter(block, monkeypatch):
    graph = random_graph(20, 300)
    whole = random_layer()
    expected = outcome(whole, whole, graph)
    monkeypatch.setattr(layers, "_BLOCK", block)
    blocks = random_layer()
    assert_same(outcome(blocks, blocks, graph), expected, rtol=1e-10, atol=1e-11)


def test_edges_that_need_no_gradient_change_nothing_else():
    atoms, edges, centres, neighbours = random_graph(6, 40)
    layer = random_layer()
    expected = outcome(layer, layer, (atoms, edges, centres, neighbours))
    layer = random_layer()
    atoms.requires_grad_()
    out = layer(atoms, edges, centres, neighbours)
    (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    torch.testing.assert_close(atoms.grad, expected["d atoms"])
    torch.testing.assert_close(layer.fc_full.weight.grad, expected["d fc_full.weight"])


def test_a_second_backward_pass_gives_the_same_gradient():
    layer = random_layer()
    atoms, edges, centres, neighbours = random_graph(6, 40)
    loss = layer(atoms.requires_grad_(), edges, centres, neighbours).square().sum()
    first = torch.autograd.grad(loss, atoms, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, atoms)[0])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("num_atoms", "num_edges"), [(3, 0), (3, 1), (2, 2)])
def test_few_edges(num_atoms, num_edges, training):
    layer = random_layer().train(training)
    other = random_layer().train(training)
    graph = random_graph(num_atoms, num_edges)
    ours = outcome(layer, layer, graph)
    assert all(torch.isfinite(value).all() for value in ours.values() if value is not None)
    if num_edges > 1 or not training:
        assert_same(ours, outcome(lambda *g: per_edge(other, *g), other, graph))


def test_one_atom_that_is_its_own_neighbour():
    layer = random_layer().eval()
    atoms, edges, _, _ = random_graph(1, 12)
    itself = torch.zeros(12, dtype=torch.long)
    expected = per_edge(layer, atoms, edges, itself, itself)
    torch.testing.assert_close(layer(atoms, edges, itself, itself), expected)
    assert torch.isfinite(layer(atoms, edges[:0], itself[:0], itself[:0])).all()


def test_atoms_without_edges_receive_no_message():
    layer = random_layer().eval()
    atoms, edges, centres, neighbours = random_graph(4, 20)
    alone = torch.cat([atoms, atoms[:1]])
    out = layer(alone, edges, centres, neighbours)
    nothing = torch.zeros(1, ATOM, dtype=atoms.dtype)
    torch.testing.assert_close(out[4:], functional.softplus(atoms[:1] + layer.bn2(nothing)))
    torch.testing.assert_close(out[:4], layer(atoms, edges, centres, neighbours))


def test_segments():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    segment = torch.tensor([0, 2, 2])
    assert segment_sum(values, segment, 3).tolist() == [[1, 2], [0, 0], [8, 10]]
    assert segment_mean(values, torch.tensor([0, 1, 1]), torch.tensor([1, 2])).tolist() == [[1, 2], [4, 5]]


def test_softmax_of_large_scores():
    scores = torch.tensor([1e4, 1e4, -1e4, -1e4, 3e38, 0.0])
    weights = segment_softmax(scores, torch.tensor([0, 0, 1, 1, 2, 2]), 3)
    assert weights.tolist() == [0.5, 0.5, 0.5, 0.5, 1.0, 0.0]


def test_softmax_is_torchs_in_each_segment_with_its_gradient():
    torch.manual_seed(0)
    scores = torch.randn(9, dtype=torch.float64, requires_grad=True)
    segment = torch.tensor([0, 1, 0, 2, 1, 1, 0, 1, 0])  # members need not stand together
    weights = segment_softmax(scores, segment, 3)
    for k in range(3):
        torch.testing.assert_close(weights[segment == k], scores[segment == k].softmax(0))
    assert gradcheck(lambda s: segment_softmax(s, segment, 3), scores)
