"""Changed crystals: by how much they change, what stays, what no graph sees; and the words that ask for them."""

import numpy as np
import pytest
import torch
from conftest import fcc, make_crystal, random_crystal
from helpers import refused
from test_csgnn import model, settled
from test_network import batch_of, outputs

from cgcnn.arguments import parse_training
from cgcnn.augment import (
    KINDS,
    amounts,
    augmented,
    hermite_normal_forms,
    perturb,
    read_kind,
    rotate,
    strain,
    translate,
    without_effect,
)
from cgcnn.augment import supercell as random_supercell
from cgcnn.cli import train_command
from cgcnn.crystal import formula_unit
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.meaning import ATOM_NETWORKS

DRAWS = 4000
# A deviation estimated from n normal numbers deviates by 1/√(2n) of itself: this is seven times that for DRAWS.
NEAR = 7 / np.sqrt(2 * DRAWS)
LOW = random_crystal(3, 5, length=6.0)
MIXED = make_crystal(fcc(5.0), [{"Fe": 0.3, "Ni": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def many(change, crystal, *amount) -> list:
    rng = np.random.default_rng(0)
    return [change(crystal, *amount, rng) for _ in range(DRAWS)]


def supercells_of(crystal, most: int) -> list:
    rng = np.random.default_rng(0)
    return [random_supercell(crystal, most, rng) for _ in range(200)]


def places(crystal) -> np.ndarray:
    return crystal.frac_coords @ crystal.lattice


@pytest.mark.parametrize("amount", [0.01, 0.05])
def test_strain_moves_the_cell_by_its_amount_in_every_direction(amount):
    changed = many(strain, LOW, amount)
    strains = np.linalg.inv(LOW.lattice) @ np.array([c.lattice for c in changed]) - np.eye(3)
    np.testing.assert_allclose(strains, strains.transpose(0, 2, 1), atol=1e-12)
    for direction in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [2, -1, 0]):
        unit = np.array(direction) / np.linalg.norm(direction)
        along = np.einsum("i,nij,j->n", unit, strains, unit)
        assert along.std() == pytest.approx(amount, rel=NEAR)
        assert abs(along.mean()) < 5 * amount / np.sqrt(DRAWS)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert strains[:, i, j].std() == pytest.approx(amount / np.sqrt(2), rel=NEAR)
    assert all(c.frac_coords is LOW.frac_coords for c in changed[:5])


@pytest.mark.parametrize("amount", [0.03, 0.2])
def test_noise_displaces_every_coordinate_by_its_amount(amount):
    """The cell is skewed: displacements are normal in Å, not in fractions of its edges."""
    changed = many(perturb, LOW, amount)
    moves = np.array([places(c) for c in changed]) - places(LOW)
    flat = moves.reshape(DRAWS, -1)
    assert flat.std(axis=0) == pytest.approx(np.full(flat.shape[1], amount), rel=NEAR)
    assert (np.abs(flat.mean(axis=0)) < 5 * amount / np.sqrt(DRAWS)).all()
    off_diagonal = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(DRAWS)
    assert all(c.lattice is LOW.lattice for c in changed[:5])


@pytest.mark.parametrize("crystal", [LOW, MIXED], ids=["ordered", "disordered"])
@pytest.mark.parametrize("most", [2, 4])
def test_a_supercell_is_the_same_crystal_in_a_whole_number_of_its_cells(crystal, most):
    volume, met = abs(np.linalg.det(crystal.lattice)), set()
    for larger in supercells_of(crystal, most):
        count = abs(np.linalg.det(larger.lattice)) / volume
        assert count == pytest.approx(round(count)) and 1 <= round(count) <= most
        met.add(round(count))
        assert larger.num_sites == round(count) * crystal.num_sites
        assert formula_unit(larger.numbers, larger.occupancies) == formula_unit(crystal.numbers, crystal.occupancies)
        assert (np.diff(larger.site) >= 0).all() and larger.site.max() == larger.num_sites - 1
    assert met == set(range(1, most + 1))


@pytest.mark.parametrize("crystal", [LOW, MIXED], ids=["ordered", "disordered"])
def test_atoms_of_a_supercell_have_the_surroundings_of_their_original(crystal):
    settings = GraphSettings(environment=True)
    graph = build_graph(crystal, settings)
    for larger in supercells_of(crystal, 4)[:40]:
        other = build_graph(larger, settings)
        count = larger.num_sites // crystal.num_sites
        np.testing.assert_allclose(other.distances, np.tile(graph.distances, count), atol=1e-5)
        np.testing.assert_allclose(other.environment, np.tile(graph.environment, (count, 1)), atol=1e-4)
        original = other.neighbours % crystal.num_sites
        at_once = zip(other.distances.round(3), original, strict=True)
        expected = zip(np.tile(graph.distances, count).round(3), np.tile(graph.neighbours, count), strict=True)
        assert sorted(at_once) == sorted(expected)


def test_every_lattice_of_an_index_is_met_once():
    """So many lattices there are: Σ d·σ(d) over the divisors d of the index, σ the sum of the divisors of d."""
    assert [len(hermite_normal_forms(n)) for n in range(1, 7)] == [1, 7, 13, 35, 31, 91]
    for index in (2, 4, 6):
        forms = hermite_normal_forms(index)
        assert np.linalg.det(forms) == pytest.approx(np.full(len(forms), index))
        for k, one in enumerate(forms):
            for other in forms[:k]:  # one lattice in two bases: one is a whole-numbered combination of the other
                combination = one @ np.linalg.inv(other)
                assert np.abs(combination - combination.round()).max() > 1e-6


def test_every_orientation_is_as_likely():
    rotations = np.linalg.inv(LOW.lattice) @ np.array([c.lattice for c in many(rotate, LOW)])
    assert np.linalg.det(rotations) == pytest.approx(np.ones(DRAWS))
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (DRAWS, 1, 1)), atol=1e-9)
    elements = rotations.reshape(DRAWS, 9)
    assert np.abs(elements.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / DRAWS)
    # each is the cosine of an even distribution of directions, uniform in −1…1
    assert elements.std(axis=0) == pytest.approx(np.full(9, np.sqrt(1 / 3)), rel=NEAR)
    # the trace, 1 + 2 cos of the angle, has the mean 0 and the second moment 1 for rotations without preference
    traces = rotations.trace(axis1=1, axis2=2)
    assert np.square(traces).mean() == pytest.approx(1, abs=7 * np.sqrt(2 / DRAWS))


def test_the_origin_moves_all_over_the_cell():
    shifts = np.array([c.frac_coords - LOW.frac_coords for c in many(translate, LOW)])
    np.testing.assert_allclose(shifts, shifts[:, :1] + np.zeros((5, 1)), atol=1e-12)
    assert shifts.std(axis=0) == pytest.approx(np.full((5, 3), np.sqrt(1 / 12)), rel=NEAR)


@pytest.mark.parametrize("kind", ["rotate", "translate", "supercell"])
@pytest.mark.parametrize("name", ATOM_NETWORKS)
def test_what_no_graph_sees_changes_no_prediction(name, kind, types):
    few, settings = [*types[::3], MIXED], GraphSettings(environment=True)
    network = settled(model(name, pooling="attention", environment=True), batch_of(few, settings))
    before, rng = outputs(network, batch_of(few, settings))["gap"], np.random.default_rng(0)
    assert before.std() > 0.01
    for _ in range(3):
        changed = [augmented(crystal, amounts([read_kind(kind)]), rng)[0] for crystal in few]
        assert any(one is not other for one, other in zip(few, changed, strict=True))
        after = outputs(network, batch_of(changed, settings))["gap"]
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    assert not KINDS[kind].is_seen


@pytest.mark.parametrize("kind", ["perturb", "strain"])
def test_what_graphs_see_changes_predictions(kind, types):
    few = [crystal for crystal in types[::3] if crystal.num_sites > 1]
    network = settled(model("cgcnn"), batch_of(few))
    changed = [augmented(crystal, amounts([read_kind(kind)]), np.random.default_rng(0))[0] for crystal in few]
    moved = (outputs(network, batch_of(changed))["gap"] - outputs(network, batch_of(few))["gap"]).abs()
    assert (moved > 1e-4).all() and KINDS[kind].is_seen


def test_composition_and_size_stay(types):
    kinds = amounts(["strain=0.1", "perturb=0.3", "rotate", "translate"])
    for crystal in [*types, MIXED]:
        changed, before = augmented(crystal, kinds, np.random.default_rng(0))
        assert before is crystal and changed.num_sites == crystal.num_sites
        for name in ("numbers", "occupancies", "site"):
            np.testing.assert_array_equal(getattr(changed, name), getattr(crystal, name))


def test_copies_in_a_supercell_move_apart():
    """Applied in the order of the table, whatever the order of the words."""
    copper = make_crystal(fcc(3.61), ["Cu"], [[0, 0, 0]])
    kinds = amounts(["perturb=0.05", "supercell=2"])
    assert list(kinds) == ["supercell", "perturb"]
    sizes = set()
    for seed in range(20):
        changed, before = augmented(copper, kinds, np.random.default_rng(seed))
        assert before.num_sites == changed.num_sites
        assert np.ptp(build_graph(before).distances) < 1e-5
        sizes.add(changed.num_sites)
        spread = np.ptp(build_graph(changed).distances[:12])
        assert spread > 0.01 if changed.num_sites == 2 else spread < 1e-5
    assert sizes == {1, 2}


def test_words_become_amounts():
    assert [read_kind(word) for word in ("perturb", "strain=5e-3", "supercell=04", "rotate", "none")] == [
        "perturb=0.03",
        "strain=0.005",
        "supercell=4",
        "rotate",
        "none",
    ]
    assert amounts(["none"]) == {}
    assert amounts(["translate", "perturb=0.1", "strain=0.02"]) == {"strain": 0.02, "perturb": 0.1, "translate": None}
    args = parse_training(["d", "--augment", "perturb", "rotate"])
    assert args.augment == ["perturb=0.03", "rotate"]
    assert parse_training(["d"]).augment == ["none"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("wobble", "'wobble' is none of supercell, strain, perturb, rotate, translate (or none)"),
        ("perturb=0.5", "'perturb=0.5': the amount must be above 0, up to 0.3"),
        ("perturb=0", "'perturb=0': the amount must be above 0, up to 0.3"),
        ("perturb=nan", "'perturb=nan': the amount must be above 0, up to 0.3"),
        ("strain=-0.1", "'strain=-0.1': the amount must be above 0, up to 0.1"),
        ("strain=", "'strain=': not a number"),
        ("supercell=1", "'supercell=1': the amount must be 2 to 16"),
        ("supercell=2.5", "'supercell=2.5': not a whole number"),
        ("rotate=3", "'rotate=3': rotate takes no amount"),
        ("perturb strain perturb=0.1", "perturb stands twice"),
        ("none strain", "none stands alone"),
        ("strain supercell=3 --pooling sum", "--augment supercell cannot go with --pooling sum"),
    ],
)
def test_what_cannot_be_is_one_line(words, said):
    line = refused(train_command, "d", "--augment", *words.split())
    assert said in line and line.count("\n") == 1


CELLS = np.array([1, 2, 1, 5])


def test_kinds_that_no_graph_sees_are_told():
    cells = CELLS[CELLS > 1]
    for words in ([], ["perturb=0.1"], ["supercell=2", "perturb=0.1"], ["strain=0.1"]):
        assert without_effect(amounts(words), cells) == []
    for words in (["rotate", "translate"], ["translate", "strain=0.1", "rotate"]):
        (line,) = without_effect(amounts(words), cells)
        assert line == "--augment rotate translate: these graphs do not see it, no prediction changes"
    for words in (["supercell=2"], ["supercell=2", "strain=0.1"]):
        (line,) = without_effect(amounts(words), cells)
        assert line.startswith("--augment supercell: ") and line.endswith("; supercell acts together with perturb")


def test_crystals_that_displacements_leave_the_same_are_told():
    (line,) = without_effect(amounts(["perturb=0.1"]), CELLS)
    assert line.startswith("--augment perturb: 2 of 4 training crystals have one atom in their cell")
    assert len(without_effect(amounts(["perturb=0.1", "rotate"]), CELLS)) == 2
    for words in ([], ["strain=0.1"], ["perturb=0.1", "strain=0.1"], ["perturb=0.1", "supercell=2"]):
        assert without_effect(amounts(words), CELLS) == []
