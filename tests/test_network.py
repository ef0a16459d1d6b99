"""The network: sizes, heads, batches, disorder; and what must not matter, how a crystal is written down."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cgcnn.batch import Batch, Collator
from cgcnn.crystal import Crystal
from cgcnn.features import element_table, missing_elements
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.layers import GatedConvolution
from cgcnn.network import (
    CrystalGraphNetwork,
    NetworkConfig,
    classic_dropout,
)
from cgcnn.tasks import AUXILIARY, CATEGORY, CLASSIFICATION, Task, TaskSet

TASKS = TaskSet(
    (Task("gap"), Task("kind", CLASSIFICATION, CATEGORY, classes=("a", "b", "c")), Task("e", role=AUXILIARY))
)


def collator(crystals, settings: GraphSettings | None = None) -> Collator:
    graphs = [build_graph(crystal, settings) for crystal in crystals]
    return Collator(GraphTable.from_graphs(graphs, [""] * len(graphs)))


def batch_of(crystals, settings: GraphSettings | None = None) -> Batch:
    return collator(crystals, settings)[torch.arange(len(crystals))]


def network(tasks: TaskSet = TASKS, *, seed: int = 0, **config) -> CrystalGraphNetwork:
    torch.manual_seed(seed)
    return CrystalGraphNetwork(NetworkConfig(**config), tasks, element_table()).eval()


@torch.no_grad()
def outputs(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    return model(batch)


def with_statistics(model: CrystalGraphNetwork, batch: Batch) -> CrystalGraphNetwork:
    """Batch norms that know the crystals, so that outputs spread as those of a trained network."""
    for layer in model.modules():
        if isinstance(layer, GatedConvolution):
            layer.bn1.momentum = layer.bn2.momentum = 1.0
    outputs(model.train(), batch)
    return model.eval()


def assert_same(one: dict, other: dict, *, atol: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=atol)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize(("readout", "pooled"), [("per-atom", 48), ("classic", 32)])
def test_the_number_of_parameters(readout, pooled, pooling):
    F, H, K, n_conv, n_h = 32, 48, 41, 2, 3
    convolution = (2 * F + K) * 2 * F + 2 * F + 2 * 2 * F + 2 * F
    body = (92 * F + F) + n_conv * convolution + (F * H + H) + (n_h - 1) * (H * H + H)
    score = pooled + 1 if pooling == "attention" else 0
    heads = (H + 1) + (3 * H + 3) + (H + 1)
    model = network(atom_fea_len=F, h_fea_len=H, n_conv=n_conv, n_h=n_h, readout=readout, pooling=pooling)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == body + score + heads


def test_the_shape_of_every_head(types):
    out = outputs(network(), batch_of(types[:4]))
    assert {name: tuple(value.shape) for name, value in out.items()} == {"gap": (4,), "kind": (4, 3), "e": (4,)}
    assert outputs(network(), batch_of(types[:1]))["gap"].shape == (1,)


def test_readouts_are_their_formulas(types):
    batch = batch_of(types[:3])
    for readout in ("per-atom", "classic"):
        model = network(readout=readout, n_h=2)
        body = model.body
        with torch.no_grad():
            atoms = body.embedding(model.atom_features(batch))
            for convolution in body.convs:
                atoms = convolution(atoms, model.expansion(batch.distances), batch.centres, batch.neighbours)
            parts = atoms.split(batch.num_atoms.tolist())
            if readout == "per-atom":
                pooled = torch.stack([functional.softplus(body.conv_to_fc(part)).mean(0) for part in parts])
            else:
                means = torch.stack([part.mean(0) for part in parts])
                pooled = functional.softplus(body.conv_to_fc(functional.softplus(means)))
            expected = model.heads[0](functional.softplus(body.fcs[0](pooled))).squeeze(1)
        torch.testing.assert_close(outputs(model, batch)["gap"], expected)


def test_an_unknown_readout_is_refused():
    with pytest.raises(ValueError, match="per-atom, classic"):
        NetworkConfig(readout="other")


def test_gradients_reach_every_parameter(types):
    model = network(pooling="attention", n_h=2).train()
    out = model(batch_of(types[:6]))
    sum(value.square().sum() for value in out.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    # the bias before a batch norm is taken out by it, and a score's bias by the softmax in part
    assert all(p.grad.abs().max() > 0 for name, p in model.named_parameters() if name.endswith("weight"))


def test_the_company_in_a_batch_and_its_order_do_not_matter(types):
    together = collator(types)
    everything = together[torch.arange(len(types))]
    model = with_statistics(network(pooling="attention"), everything)
    whole = outputs(model, everything)
    order = torch.randperm(len(types), generator=torch.Generator().manual_seed(0))
    assert_same(outputs(model, together[order]), {name: value[order] for name, value in whole.items()}, atol=1e-6)
    for k in (0, 5, len(types) - 1):
        alone = outputs(model, together[torch.tensor([k])])
        assert_same(alone, {name: value[k : k + 1] for name, value in whole.items()}, atol=1e-6)


def test_a_disordered_site_has_the_weighted_mean_of_its_elements(types):
    iron, nickel = 26, 28
    lattice, frac_coords = 3.6 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    mixed = Crystal(
        lattice,
        frac_coords,
        np.array([iron, nickel, iron], dtype=np.uint8),
        np.array([0.3, 0.5, 1.0]),
        np.array([0, 0, 1], dtype=np.int32),
    )
    model, table = network(), element_table()
    features = model.atom_features(batch_of([mixed]))
    torch.testing.assert_close(features, torch.stack([0.3 * table[iron] + 0.5 * table[nickel], table[iron]]))
    ordered = replace(mixed, numbers=mixed.numbers[[0, 2]], occupancies=np.ones(2), site=np.arange(2, dtype=np.int32))
    halves = replace(mixed, numbers=np.full(3, iron, np.uint8), occupancies=np.array([0.5, 0.5, 1.0]))
    assert_same(outputs(model, batch_of([halves])), outputs(model, batch_of([ordered])), atol=1e-6)
    both = batch_of([types[0], mixed, types[1]])
    assert_same({"x": model.atom_features(both)[types[0].num_sites :][:2]}, {"x": features})


@pytest.mark.parametrize("name", ["type", "a.b", "", "training", "0", "Bandlücke (eV)"])
def test_a_task_may_have_any_name(name, types):
    model = network(TaskSet((Task(name), Task("other"))))
    out = outputs(model, batch_of(types[:2]))
    assert set(out) == {name, "other"}
    again = network(TaskSet((Task(name), Task("other"))), seed=1)
    again.load_state_dict(model.state_dict())
    assert_same(outputs(again, batch_of(types[:2])), out, atol=0)


def test_auxiliary_heads_begin_small():
    torch.manual_seed(0)
    auxiliary = [Task(f"aux{k}", role=AUXILIARY) for k in range(20)]
    model = network(TaskSet((Task("target"), *auxiliary)))
    weights = torch.cat([head.weight.flatten() for head in model.heads[1:]])
    assert 0.0009 < weights.std().item() < 0.0011 and abs(weights.mean().item()) < 1e-4
    assert all(head.bias.item() == 0 for head in model.heads[1:])
    assert model.heads[0].weight.std() > 0.01


def test_dropout_is_classic_for_classification_only():
    assert classic_dropout(TaskSet((Task("c", CLASSIFICATION, classes=("0", "1")),))) == 0.5
    assert classic_dropout(TASKS) == 0.0
    assert classic_dropout(TaskSet((Task("y"), Task("c", CLASSIFICATION, classes=("0", "1"))))) == 0.0


def test_elements_without_a_vector_are_named():
    assert missing_elements(network().elements, torch.tensor([118, 1, 110, 1, 118])) == [110, 118]


def reordered(crystal: Crystal, rng) -> Crystal:
    order = rng.permutation(crystal.num_sites)
    return replace(crystal, frac_coords=crystal.frac_coords[order], numbers=crystal.numbers[order])


def shifted(crystal: Crystal, rng) -> Crystal:
    return replace(crystal, frac_coords=(crystal.frac_coords + rng.random(3)) % 1)


def rotated(crystal: Crystal, rng) -> Crystal:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return replace(crystal, lattice=crystal.lattice @ (rotation * np.sign(np.linalg.det(rotation))))


def supercell(matrix):
    return lambda crystal, rng: Crystal.from_structure(crystal.to_structure().make_supercell(matrix, in_place=False))


CHANGES = {
    "order": reordered,
    "origin": shifted,
    "rotation": rotated,
    "2 x 1 x 1": supercell([2, 1, 1]),
    "skewed": supercell([[1, 1, 0], [-1, 1, 0], [0, 1, 1]]),
}


def largest_change(crystals, model, change, settings) -> float:
    rng = np.random.default_rng(0)
    changed = [change(crystal, rng) for crystal in crystals]
    before, after = (outputs(model, batch_of(group, settings))["gap"] for group in (crystals, changed))
    return (before - after).abs().max().item()


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_how_a_crystal_is_written_down_does_not_matter(change, pooling, types):
    settings = GraphSettings()
    model = with_statistics(network(pooling=pooling), batch_of(types, settings))
    assert outputs(model, batch_of(types, settings))["gap"].std() > 0.05
    assert largest_change(types, model, change, settings) < 1e-5


def test_in_classic_graphs_it_does_matter(types):
    settings = GraphSettings(neighbours="classic")
    cut = [len(build_graph(c).distances) > len(build_graph(c, settings).distances) for c in types]
    assert sum(cut) >= 10
    model = with_statistics(network(), batch_of(types, settings))
    assert max(largest_change(types, model, change, settings) for change in CHANGES.values()) > 1e-4


def test_statistics_are_those_of_all_batches_of_both_kinds_of_input(types):
    settings = GraphSettings(environment=True)
    graphs = [build_graph(crystal, settings) for crystal in types]
    rows, values = torch.arange(len(graphs)), torch.randn(len(graphs), 6) * 3 + 1
    batches = Collator(GraphTable.from_graphs(graphs, [""] * len(graphs)), global_features=values)
    model = network(environment=True, global_features="valence")
    model.fit_statistics(batches[part] for part in rows.split(5))
    environment = batches[rows].environment
    torch.testing.assert_close(model.environment_mean, environment.mean(dim=0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        model.environment_std, environment.std(dim=0, correction=0).clamp(min=1e-3), atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(model.global_mean, values.mean(dim=0))
    torch.testing.assert_close(model.global_std, values.std(dim=0, correction=0))
