"""The three convolutions of CSGNN: their formulas, their gradients, what must not matter to them and what must."""

import copy

import numpy as np
import pytest
import torch
from test_layers import ATOM, EDGE, assert_gradients_are_differences, assert_same, outcome, random_graph
from test_network import CHANGES, TASKS, batch_of, outputs
from torch import nn
from torch.nn import functional

from cgcnn.csgnn import CSGANNConfig, CSGConfig, EdgeAttention, EdgeIsomorphism, GatedSum
from cgcnn.features import element_table
from cgcnn.graph import GraphSettings
from cgcnn.layers import EdgeUpdate
from cgcnn.meaning import ATOM_NETWORKS
from cgcnn.model import MODELS

LAYERS = {
    "gated": lambda **c: GatedSum(CSGConfig(atom_fea_len=ATOM, **c), EDGE),
    "attention": lambda **c: EdgeAttention(CSGANNConfig(atom_fea_len=ATOM, num_heads=2, **c), EDGE),
    "isomorphism": lambda **c: EdgeIsomorphism(CSGConfig(atom_fea_len=ATOM, **c), EDGE),
    "edge update": lambda **c: EdgeUpdate(ATOM, EDGE),
}
CONVOLUTIONS = [name for name in LAYERS if name != "edge update"]
OPTIONS = {"edge_features": "rbf", "learnable_edges": True, "learnable_atoms": True}


def layer_of(name: str, **config) -> nn.Module:
    """A layer in double precision whose norms have scales and shifts of their own."""
    torch.manual_seed(0)
    layer = LAYERS[name](**config).double()
    for norm in layer.modules():
        if isinstance(norm, nn.BatchNorm1d):
            nn.init.normal_(norm.weight, 1.0, 0.3)
            nn.init.normal_(norm.bias, 0.0, 0.3)
    return layer


def by_atom(name: str, layer: nn.Module, atoms, edges, centres, neighbours):
    """What a layer gathers, atom by atom, as the formula reads."""
    rows = []
    for i in range(len(atoms)):
        mine = [k for k in range(len(centres)) if centres[k] == i]
        v, w, u = atoms[i], atoms[neighbours[mine]], edges[mine]
        if name == "gated":
            z = torch.cat([v.expand(len(mine), -1), w, u], dim=1)
            gate, core = layer.full(z).chunk(2, dim=1)
            rows.append(v + (gate.sigmoid() * functional.softplus(core)).sum(0))
        elif name == "isomorphism":
            rows.append((1 + layer.epsilon) * v + functional.relu(w + layer.on_edge(u)).sum(0))
        else:
            values = layer.on_neighbour(w) + layer.on_edge(u)
            hidden = functional.leaky_relu(values + layer.on_centre(v), 0.2)
            heads = []
            for head, score in enumerate(layer.score):
                part = slice(head * len(score), (head + 1) * len(score))
                attention = (hidden[:, part] @ score).softmax(0)
                heads.append(attention @ values[:, part])
            rows.append(layer.itself(v) + torch.cat(heads))
    gathered = torch.stack(rows)
    return layer.mlp(gathered) if name == "isomorphism" else gathered


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_is_its_formula(name, residual):
    layer = layer_of(name, residual=residual)
    other = copy.deepcopy(layer)

    def formula(atoms, *graph):
        out = other.norm(by_atom(name, other, atoms, *graph).relu())
        return atoms + out if residual else out

    graph = random_graph(6, 25)  # every atom has a neighbour
    assert len(set(graph[2].tolist())) == 6
    theirs = outcome(formula, other, graph)
    assert_same(outcome(layer, layer, graph), theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_differences(name, training):
    assert_gradients_are_differences(layer_of(name).train(training))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_an_atom_without_neighbours_has_a_vector(name):
    layer = layer_of(name)
    atoms, edges, _, _ = random_graph(3, 4)
    out = layer(atoms, edges[:0], torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    assert torch.isfinite(out).all()


def model(name: str, **config) -> nn.Module:
    torch.manual_seed(0)
    network, configuration = MODELS[name]
    return network(configuration(atom_fea_len=16, h_fea_len=16, **config), TASKS, element_table())


def settled(network: nn.Module, batch) -> nn.Module:
    """With the statistics of these crystals in every norm."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.momentum = 1.0
    outputs(network.train(), batch)
    return network.eval()


@pytest.mark.parametrize("pooling", ["mean", "set2set", "max"])
@pytest.mark.parametrize("name", ATOM_NETWORKS)
def test_how_a_crystal_is_written_down_does_not_matter(name, pooling, types):
    few, settings = types[::3], GraphSettings()
    network = settled(model(name, pooling=pooling, **OPTIONS), batch_of(few, settings))
    before = outputs(network, batch_of(few, settings))["gap"]
    assert before.std() > 0.01
    for change in CHANGES.values():
        rng = np.random.default_rng(0)
        after = outputs(network, batch_of([change(crystal, rng) for crystal in few], settings))["gap"]
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("edge_features", ["gaussian", "rbf"])
@pytest.mark.parametrize("name", ATOM_NETWORKS)
def test_distances_matter_to_every_network(name, edge_features, types):
    few = types[::3]
    batch = batch_of(few)
    network = settled(model(name, edge_features=edge_features), batch)
    before = outputs(network, batch)["gap"]
    # the same neighbours, 1 % farther away
    object.__setattr__(batch, "distances", batch.distances * 1.01)
    changed = (outputs(network, batch)["gap"] - before).abs()
    assert (changed > 1e-6).float().mean() > 0.9


@pytest.mark.parametrize("name", ATOM_NETWORKS)
def test_gradients_reach_every_parameter(name, types):
    residual = {"residual": True} if name != "cgcnn" else {}
    network = model(name, pooling="set2set", **OPTIONS, **residual)
    torch.stack([out.square().sum() for out in network(batch_of(types[::3])).values()]).sum().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_learned_elements_begin_with_their_features_and_edges_with_theirs():
    network = model("csgcnn", **OPTIONS)
    torch.testing.assert_close(network.elements, torch.nan_to_num(element_table()))
    names = dict(network.named_parameters())
    assert {"elements", "expansion.centres", "expansion.log_widths"} < names.keys()
    assert any(name.startswith("body.edge_updates.2.") for name in names)
    plain = dict(model("csgcnn").named_parameters())
    assert not any(name.startswith(("elements", "expansion", "body.edge_updates")) for name in plain)
