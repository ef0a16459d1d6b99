"""Crystalformer: its published size, both forms of its attention, what must not matter to it and what must."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import make_crystal, random_crystal
from test_network import CHANGES, batch_of, outputs
from torch.nn import functional

from cgcnn.crystal import Crystal
from cgcnn.crystalformer import Crystalformer, CrystalformerConfig
from cgcnn.features import learned_elements
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.precision import autocast
from cgcnn.tasks import CLASSIFICATION, Task, TaskSet

TASKS = TaskSet((Task("bulk"), Task("kind", CLASSIFICATION, classes=("a", "b", "c"))))
SMALL = {"model_dim": 16, "head_num": 2, "num_layers": 2, "ff_dim": 24, "embedding_dim": (12,)}


def settings_of(cutoff: float = 6.93) -> GraphSettings:
    return GraphSettings(cutoff, images=True)


def network(tasks: TaskSet = TASKS, *, seed: int = 0, **config) -> Crystalformer:
    torch.manual_seed(seed)
    return Crystalformer(CrystalformerConfig(**(SMALL | config)), tasks, learned_elements(98)).eval()


@pytest.mark.parametrize(("functions", "parameters", "block"), [(64, 853_505, 206_080), (0, 820_737, 197_888)])
def test_the_published_network_has_the_published_number_of_parameters(functions, parameters, block):
    """Published as 853,517 and 206,083, with three frozen scalars a block."""
    model = Crystalformer(
        CrystalformerConfig(value_pe_dist_real=functions), TaskSet((Task("t"),)), learned_elements(98)
    )
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(p.numel() for p in model.blocks[0].parameters()) == block


def shifts_within(crystal: Crystal, reach: int) -> np.ndarray:
    return np.array(list(itertools.product(range(-reach, reach + 1), repeat=3))) @ crystal.lattice


def factorised(model: Crystalformer, crystal: Crystal, cutoff: float, reach: int = 6) -> torch.Tensor:
    """The vectors of the atoms of an ordered crystal in the paper's form: a sum over images for every pair of atoms.

    y_i = Σ_j softmax_j(q·k/√d + α_ij)·(v_j + β_ij), exp α_ij = Σ_n exp(−r²/2σ²), β_ij the mean of ψ by these weights.
    """
    x = model.embedding(torch.from_numpy(crystal.numbers.astype(int)) - 1)
    points = crystal.frac_coords @ crystal.lattice
    shifts = shifts_within(crystal, reach)
    r = torch.from_numpy(np.linalg.norm(points[None, :, None] + shifts - points[:, None, None], axis=3)).to(x)
    inside = r <= cutoff
    for block in model.blocks:
        a = block.attention
        q, k, v = (layer(x).view(len(x), a.heads, a.size) for layer in (a.query, a.key, a.value))
        z = ((q * a.reach).sum(2) - a.reach_mean) / a.reach_std
        b = model.config.gauss_lb_real
        inverse = ((1 - b) * functional.elu(0.1 * z / (1 - b)) + 1) / model.config.scale_real[0] ** 2  # (N, H)
        phi = (-0.5 * r[:, :, :, None].square() * inverse[:, None, None, :]).masked_fill(
            ~inside[..., None], -torch.inf
        )
        alpha = phi.logsumexp(dim=2)  # (N, N, H)
        weights = torch.einsum("ihd,jhd->ijh", q, k) / math.sqrt(a.size) + alpha
        values = v[None].expand(len(x), -1, -1, -1)
        if a.position is not None:
            functions = model.functions(r)
            share = (phi - alpha[:, :, None]).exp()
            mean = torch.einsum("ijnh,ijnk->ijhk", share, functions)
            values = values + torch.einsum("ijhk,hdk->ijhd", mean, a.position[:, :, : functions.shape[-1]])
        y = torch.einsum("ijh,ijhd->ihd", weights.softmax(dim=1), values)
        x = x + a.out(y.flatten(1))
        x = x + block.back(functional.relu(block.wider(x)))
    return x


ALLOY = random_crystal(3, 4, length=4.5)


def in_double(batch):
    for name in ("distances", "occupancies", "multiplicity", "lattice", "frac_coords"):
        object.__setattr__(batch, name, getattr(batch, name).double())
    return batch


def exact_batch(crystals, settings):
    """In double precision, with the distances as they are found: a store keeps them in single precision."""
    batch = in_double(batch_of(crystals, settings))
    found = [exact_distances(crystal, settings) for crystal in crystals]
    object.__setattr__(batch, "distances", torch.from_numpy(np.concatenate(found)))
    return batch


def exact_distances(crystal, settings):
    from cgcnn import graph

    return graph._images(crystal, settings).distances


@pytest.mark.parametrize("functions", [64, 0])
def test_the_joint_form_is_the_factorised_one(functions):
    model = network(value_pe_dist_real=functions).double()
    batch = exact_batch([ALLOY], settings_of())
    model.fit_statistics([batch])
    with torch.no_grad():
        joint = model.embed(batch)[0]
        theirs = factorised(model, ALLOY, 6.93)
    assert (joint - theirs).abs().max() < 1e-12
    assert joint.std() > 0.01


def test_functions_beyond_the_cutoff_change_nothing():
    config = CrystalformerConfig()
    model = Crystalformer(config, TASKS, learned_elements(98))
    assert len(model.functions.centres) == 36
    r = torch.linspace(0, config.image_cutoff, 200, dtype=torch.float64)
    width = 14 / 64
    beyond = torch.exp(-((r - 37 * width) ** 2) / (2 * width**2))
    assert beyond.max() < 1e-5


CRYSTALS = [random_crystal(k, 1 + k, length=4.0) for k in range(5)] + [ALLOY]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_how_a_crystal_is_written_down_does_not_matter(change):
    model, settings = network(), settings_of()
    batch = batch_of(CRYSTALS, settings)
    model.fit_statistics([batch])
    before, rng = outputs(model, batch)["bulk"], np.random.default_rng(0)
    assert before.std() > 0.005
    after = outputs(model, batch_of([change(crystal, rng) for crystal in CRYSTALS], settings))["bulk"]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("domain", ["real", "multihead", "real-reci"])
def test_a_batch_is_its_crystals_alone(domain):
    model = network(domain=domain)
    together = outputs(model, batch_of(CRYSTALS, settings_of()))
    for k, crystal in enumerate(CRYSTALS):
        alone = outputs(model, batch_of([crystal], settings_of()))
        for name, value in together.items():
            torch.testing.assert_close(value[k], alone[name][0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("domain", ["real", "multihead"])
def test_a_large_cell_is_done_in_parts(domain, monkeypatch):
    from cgcnn import infinite_attention

    model, batch = network(domain=domain), batch_of(CRYSTALS, settings_of())
    whole = model(batch)["bulk"]
    (whole_gradient,) = torch.autograd.grad(whole.sum(), [model.embedding.weight])
    monkeypatch.setattr(infinite_attention, "MOST_SCORES", 16)
    parts = model(batch)["bulk"]
    (gradient,) = torch.autograd.grad(parts.sum(), [model.embedding.weight])
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, whole_gradient, rtol=1e-4, atol=1e-6)
    assert max(len(list(group.parts(2))) for group in model.groups(batch)) > 1


def test_one_atom_alone_shows_its_lattice_through_the_values_only():
    cells = [make_crystal(a, ["Cu"], [[0, 0, 0]]) for a in (3.0, 3.5)]
    for functions, same in ((0, True), (64, False)):
        model = network(value_pe_dist_real=functions)
        one, other = outputs(model, batch_of(cells, settings_of()))["bulk"]
        assert ((one - other).abs() < 1e-6) == same


def test_real_and_reciprocal_sums_agree():
    """α at σ = 1.7 Å with |m| ≤ 4 in cells up to 6 Å."""
    crystal, sigma = random_crystal(5, 3, length=5.0), 1.7
    points = crystal.frac_coords @ crystal.lattice
    r = np.linalg.norm(points[None, :, None] + shifts_within(crystal, 5) - points[:, None, None], axis=3)
    real = np.log(np.exp(-(r**2) / (2 * sigma**2)).sum(axis=2))
    m = np.array(list(itertools.product(range(-4, 5), repeat=3)))
    omega = 2 * np.pi * m @ np.linalg.inv(crystal.lattice).T
    phase = np.einsum("mk,ijk->ijm", omega, points[None] - points[:, None])
    series = (np.exp(-(sigma**2) * (omega**2).sum(1) / 2) * np.cos(phase)).sum(axis=2)
    volume = abs(np.linalg.det(crystal.lattice))
    np.testing.assert_allclose(np.log((2 * np.pi * sigma**2) ** 1.5 / volume * series), real, atol=1e-6)


def test_the_reciprocal_heads_are_their_formula(monkeypatch):
    from cgcnn import crystalformer

    monkeypatch.setattr(crystalformer, "FREQUENCIES", 4)
    crystal = random_crystal(5, 3, length=5.0)
    real = network(value_pe_dist_real=0, scale_real=(1.7,), num_layers=1).double()
    reciprocal = network(value_pe_dist_real=0, domain="real-reci", scale_reci=(1.7,), num_layers=1).double()
    reciprocal.load_state_dict(real.state_dict())
    reciprocal.blocks[0].attention.num_reciprocal = 2
    batch = exact_batch([crystal], settings_of(14.0))
    with torch.no_grad():
        one, other = real.embed(batch)[0], reciprocal.embed(batch)[0]
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert not torch.equal(one, other)


def test_statistics_are_of_the_first_batch_and_stay(tmp_path):
    model, settings = network(), settings_of()
    first, second = batch_of(CRYSTALS[:3], settings), batch_of(CRYSTALS[3:], settings)
    model.fit_statistics([first, second])
    attention = model.blocks[1].attention
    with torch.no_grad():
        atoms = model.blocks[0](model.species(first), model.groups(first))
        reach = (attention.query(atoms).view(-1, 2, 8) * attention.reach).sum(2)
    torch.testing.assert_close(attention.reach_mean, reach.mean())
    torch.testing.assert_close(attention.reach_std, reach.std(correction=0))
    loaded = network(seed=1)
    loaded.load_state_dict(model.state_dict())
    torch.testing.assert_close(outputs(loaded, second)["bulk"], outputs(model, second)["bulk"], rtol=0, atol=0)


def test_a_disordered_site_is_the_sum_of_its_shares():
    cell = make_crystal(3.6, [{"Ni": 0.75, "Co": 0.25}], [[0, 0, 0]])
    model = network()
    atoms = model.species(batch_of([cell], settings_of()))
    torch.testing.assert_close(atoms[0], 0.75 * model.embedding.weight[27] + 0.25 * model.embedding.weight[26])


@pytest.mark.parametrize("domain", ["real", "multihead"])
def test_gradients_are_those_of_differences(domain):
    model = network(domain=domain, model_dim=4, ff_dim=3, embedding_dim=(3,), value_pe_dist_real=4, num_layers=1)
    model, batch = model.double(), in_double(batch_of([ALLOY, CRYSTALS[0]], settings_of(4.0)))
    names = [name for name, _ in model.named_parameters() if name != "embedding.weight"]

    def total(*values):
        out = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (batch,))
        return out["bulk"].square().sum() + out["kind"].square().sum()

    start = [dict(model.named_parameters())[name].detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(total, start, atol=1e-6)


@pytest.mark.parametrize("domain", ["real", "multihead", "real-reci"])
def test_gradients_reach_every_parameter(domain):
    model = network(domain=domain)
    sum(out.square().sum() for out in model(batch_of(CRYSTALS, settings_of())).values()).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert without == ({"blocks.1.attention.position"} if domain == "real-reci" else set())


def test_images_are_merged_with_their_number():
    """fcc copper: 12 neighbours at a/√2, 6 at a, 24 at a√(3/2)."""
    a = 3.6
    crystal = make_crystal(a / 2 * (np.ones((3, 3)) - np.eye(3)), ["Cu"], [[0, 0, 0]])
    graph = build_graph(crystal, settings_of(4.5))
    assert graph.distances.tolist() == pytest.approx([0, a / 2**0.5, a, a * 1.5**0.5])
    assert graph.multiplicity.tolist() == [1, 12, 6, 24]


def test_images_are_those_of_a_brute_force_sum():
    graph = build_graph(ALLOY, settings_of(5.0))
    points = ALLOY.frac_coords @ ALLOY.lattice
    r = np.linalg.norm(points[None, :, None] + shifts_within(ALLOY, 5) - points[:, None, None], axis=3)
    assert graph.multiplicity.sum() == (r <= 5.0).sum()
    centre = np.repeat(np.arange(4), graph.degree)
    for i, j in itertools.product(range(4), repeat=2):
        mine = (centre == i) & (graph.neighbours == j)
        found = (graph.distances[mine] * graph.multiplicity[mine]).sum()
        assert found == pytest.approx(r[i, j][r[i, j] <= 5.0].sum(), rel=1e-6)


def test_distances_and_phases_are_never_bfloat16():
    model = network(domain="real-reci")
    batch = batch_of([random_crystal(1, 5), random_crystal(2, 3)], settings_of())
    with autocast("cpu", "bf16"):
        rounded = model.groups(batch)
    for group, exact in zip(rounded, model.groups(batch), strict=True):
        for name in ("squared", "basis", "waves", "lengths"):
            assert torch.equal(getattr(group, name), getattr(exact, name)), name
