"""ECNet: its published size, its formula edge by edge, what must not matter to it and what must."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import make_crystal, random_crystal
from test_network import CHANGES, batch_of, outputs
from torch.nn import functional

from cgcnn.ecnet import ENVELOPES, ECNet, ECNetConfig
from cgcnn.features import learned_elements
from cgcnn.graph import GraphSettings
from cgcnn.radial import num_intervals
from cgcnn.tasks import CLASSIFICATION, Task, TaskSet

TASKS = TaskSet((Task("etot"), Task("phase", CLASSIFICATION, classes=("fcc", "bcc", "hcp"))))
CUTOFF = 6.0


def settings_of(cutoff: float = CUTOFF, **options) -> GraphSettings:
    return GraphSettings(cutoff, histogram=num_intervals(cutoff), **options)


def network(tasks: TaskSet = TASKS, *, seed: int = 0, **config) -> ECNet:
    torch.manual_seed(seed)
    return ECNet(ECNetConfig(**({"cutoff": CUTOFF} | config)), tasks, learned_elements()).eval()


@pytest.mark.parametrize(("count", "parameters"), [(1, 158_977), (3, 159_107), (6, 159_302)])
def test_the_published_network_has_the_published_number_of_parameters(count, parameters):
    tasks = TaskSet(tuple(Task(f"t{k}") for k in range(count)))
    published = network(tasks, cutoff=10.0, tower="shared", envelope="published")
    assert sum(p.numel() for p in published.parameters()) == parameters


def test_a_tower_a_task_has_its_own_layers():
    tasks = TaskSet(tuple(Task(f"t{k}") for k in range(6)))
    separate = network(tasks, cutoff=10.0, tower="separate")
    tower = 128 * 128 + 128 + 128 * 64 + 64 + 64 + 1
    assert sum(p.numel() for p in separate.parameters()) == 158_977 + 5 * tower


def test_envelopes():
    d = torch.tensor([1.0, math.sqrt(10.0), 10.0], dtype=torch.float64)
    assert ENVELOPES["published"](d, 10.0).tolist() == pytest.approx([9.0, 0.0, -0.9], abs=1e-8)
    assert ENVELOPES["cosine"](d, 10.0).tolist() == pytest.approx([0.975528, 0.772897, 0.0], abs=1e-6)


def edge_by_edge(model: ECNet, crystal, *, periodic: bool = True, exact: bool = True) -> list[torch.Tensor]:
    """The towers' sums for one ordered crystal as the formulas read; exact: W is not interpolated between points."""
    config = model.config
    shifts = np.array(list(itertools.product(range(-5, 6), repeat=3)) if periodic else [(0, 0, 0)]) @ crystal.lattice
    points = crystal.frac_coords @ crystal.lattice
    centres = torch.linspace(0, config.cutoff, config.n_gaussian)
    numbers = torch.from_numpy(crystal.numbers.astype(int))
    vectors = model.embedding(numbers)
    elements = numbers.unique()
    states = model.embedding(elements)
    for block in model.blocks:

        def weigh(d, block=block):
            gaussians = torch.exp(-((d[:, None] - centres) ** 2) / (2 * centres[1] ** 2))
            return block.filter.mlp(gaussians) * ENVELOPES[config.envelope](d, config.cutoff)[:, None]

        grid = torch.linspace(0, config.cutoff, num_intervals(config.cutoff) + 1)
        messages = torch.zeros(len(numbers), config.n_filters)
        for i, j in itertools.product(range(len(numbers)), repeat=2):
            distance = np.linalg.norm(points[j] + shifts - points[i], axis=1)
            d = torch.from_numpy(distance[(distance <= config.cutoff) & (distance > 1e-8)]).float()
            if not len(d):
                continue
            if exact:
                weights = weigh(d)
            else:
                place = d / grid[1]
                low = place.long().clamp(max=len(grid) - 2)
                share = (place - low)[:, None]
                weights = (1 - share) * weigh(grid[low]) + share * weigh(grid[low + 1])
            messages[i] += weights.sum(0) * block.send(vectors[j])
        gathered = torch.stack([messages[numbers == element].mean(0) for element in elements]) / model.neighbours
        states = states + block.out(block.activation(block.receive(gathered)))
    hidden = model.trunk(states)
    return [head(hidden).sum(0) for head in model.heads]


ALLOY = make_crystal(
    [[4.1, 0, 0], [0.4, 3.9, 0], [0.2, -0.3, 4.4]],
    ["Fe", "Ni", "Fe", "Co", "Ni"],
    [[0, 0, 0], [0.52, 0.5, 0.03], [0.5, 0, 0.47], [0.02, 0.5, 0.53], [0.26, 0.24, 0.77]],
)


@pytest.mark.parametrize("tower", ["separate", "shared"])
@pytest.mark.parametrize("envelope", ["cosine", "published"])
@pytest.mark.parametrize("periodic", [True, False])
def test_the_network_is_its_formula_edge_by_edge(periodic, envelope, tower):
    model = network(envelope=envelope, tower=tower)
    batch = batch_of([ALLOY], settings_of(periodic=periodic, max_num_nbr=1000))
    model.fit_statistics([batch])
    if envelope == "published":
        assert model.neighbours == 1
    found = outputs(model, batch)
    with torch.no_grad():
        interpolated = edge_by_edge(model, ALLOY, periodic=periodic, exact=False)
        exact = edge_by_edge(model, ALLOY, periodic=periodic)
    for value, same, near in zip(found.values(), interpolated, exact, strict=True):
        torch.testing.assert_close(value.flatten(), same, rtol=2e-5, atol=2e-5)
        torch.testing.assert_close(value.flatten(), near, rtol=0, atol=5e-3)


def test_elements_are_added_or_averaged():
    added, averaged = network(), network(aggregation="mean")
    batch = batch_of([ALLOY], settings_of())
    torch.testing.assert_close(outputs(added, batch)["etot"] / 3, outputs(averaged, batch)["etot"])


CRYSTALS = [random_crystal(k, 3 + k) for k in range(4)] + [ALLOY]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_how_a_crystal_is_written_down_does_not_matter(change):
    model, settings = network(), settings_of()
    batch = batch_of(CRYSTALS, settings)
    model.fit_statistics([batch])
    before = outputs(model, batch)["etot"]
    assert before.std() > 0.01
    rng = np.random.default_rng(0)
    after = outputs(model, batch_of([change(crystal, rng) for crystal in CRYSTALS], settings))["etot"]
    torch.testing.assert_close(after, before, rtol=0, atol=2e-5)


def test_a_batch_is_its_crystals_alone():
    model = network()
    together = outputs(model, batch_of(CRYSTALS, settings_of()))
    for k, crystal in enumerate(CRYSTALS):
        alone = outputs(model, batch_of([crystal], settings_of()))
        for name, value in together.items():
            torch.testing.assert_close(value[k], alone[name][0], rtol=1e-5, atol=1e-6)


def test_distances_matter():
    model = network()
    wider = make_crystal((ALLOY.lattice * 1.01).tolist(), ["Fe", "Ni", "Fe", "Co", "Ni"], ALLOY.frac_coords)
    before, after = (outputs(model, batch_of([c], settings_of()))["etot"] for c in (ALLOY, wider))
    assert (before - after).abs() > 1e-4


def test_gradients_are_those_of_differences():
    model = network(hidden_channels=4, n_filters=3, n_gaussian=5, tower_h1=4, tower_h2=3, n_interactions=2).double()
    batch = batch_of([ALLOY, CRYSTALS[0]], settings_of())
    object.__setattr__(batch.pairs, "counts", batch.pairs.counts.double())
    object.__setattr__(batch.pairs, "amounts", batch.pairs.amounts.double())
    object.__setattr__(batch, "occupancies", batch.occupancies.double())
    parameters = [p for p in model.parameters() if p.dim() and p is not model.embedding.weight]

    def total(*values):
        state = dict(
            zip([n for n, p in model.named_parameters() if p is not model.embedding.weight], values, strict=True)
        )
        out = torch.func.functional_call(model, state, (batch,))
        return functional.softplus(out["etot"]).sum() + out["phase"].square().sum()

    assert torch.autograd.gradcheck(total, [p.detach().clone().requires_grad_() for p in parameters], atol=1e-6)


def test_gradients_reach_every_parameter():
    model = network()
    sum(out.square().sum() for out in model(batch_of(CRYSTALS, settings_of())).values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_disordered_site_is_the_mean_of_ordered_ones_in_a_one_element_neighbourhood():
    """With the amounts of two elements exchanged, so are the states."""
    cell = [[3.6, 0, 0], [0, 3.6, 0], [0, 0, 3.6]]
    one = make_crystal(cell, [{"Ni": 0.75, "Co": 0.25}], [[0, 0, 0]])
    model, settings = network(), settings_of()
    pure = outputs(model, batch_of([make_crystal(cell, ["Ni"], [[0, 0, 0]])], settings))["etot"]
    nearly = make_crystal(cell, [{"Ni": 1.0 - 1e-6}], [[0, 0, 0]])
    torch.testing.assert_close(outputs(model, batch_of([nearly], settings))["etot"], pure, rtol=0, atol=1e-4)
    assert torch.isfinite(outputs(model, batch_of([one], settings))["etot"]).all()
