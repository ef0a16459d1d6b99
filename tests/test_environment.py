"""The surroundings of atoms: what they are, and what they must not depend on."""

import numpy as np
import pytest
from conftest import make_crystal, random_crystal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import eval_legendre

from cgcnn import environment
from cgcnn.crystal import Crystal
from cgcnn.element_properties import element_properties
from cgcnn.graph import GraphSettings, build_graph, build_graphs

WITH = GraphSettings(environment=True)


def surroundings(crystal):
    return build_graph(crystal, WITH).environment


def test_harmonics_obey_the_addition_theorem():
    directions = np.random.default_rng(0).normal(size=(9, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    harmonics = environment.spherical_harmonics(directions, 6)
    for degree in range(7):
        part = harmonics[:, degree**2 : (degree + 1) ** 2]
        assert part @ part.T == pytest.approx(eval_legendre(degree, directions @ directions.T), abs=1e-12)


def test_features_are_the_sums_over_pairs_of_neighbours():
    """A brute-force double sum over the images of a small cell."""
    crystal = make_crystal([[3.1, 0, 0], [0.4, 3.3, 0], [0.2, -0.5, 3.6]], ["Na", "Cl"], [[0, 0, 0], [0.4, 0.5, 0.6]])
    images = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    points = crystal.frac_coords @ crystal.lattice
    everywhere = (points[None] + (images @ crystal.lattice)[:, None]).reshape(-1, 3)
    kind = np.tile([0, 1], len(images))
    names, units = zip(*environment.PROPERTIES.items(), strict=True)
    properties = element_properties(names)[crystal.numbers] / units
    (radius,) = element_properties([environment.SIZE])[crystal.numbers[0]]
    vectors = everywhere - points[0]
    distance = np.linalg.norm(vectors, axis=1)
    near = (distance > 1e-8) & (distance <= environment.RADIUS)
    vectors, distance, kind = vectors[near], distance[near], kind[near]
    cosines = vectors @ vectors.T / np.outer(distance, distance)
    fade = 0.5 * (1 + np.cos(np.pi * distance / environment.RADIUS))
    weights = fade * np.exp(-(((distance / distance.min() - 1) / 0.15) ** 2))
    channel = np.concatenate([np.ones((1, len(kind))), (properties[kind] - properties[0]).T])
    expected = [distance.min(), distance.min() / radius, *(channel @ weights)]
    for degree in environment.DEGREES:
        kernel = np.outer(weights, weights) * eval_legendre(degree, np.clip(cosines, -1, 1))
        expected += [channel[a] @ kernel @ channel[b] for a in range(3) for b in range(a, 3)]
    found = surroundings(crystal)[0]
    expected = np.sign(expected) * np.log1p(np.abs(expected))
    assert found[: len(expected)] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), num_atoms=st.integers(1, 5))
def test_cell_orientation_origin_and_order_do_not_matter(seed, num_atoms):
    crystal = random_crystal(seed, num_atoms)
    rng = np.random.default_rng(seed)
    reference = surroundings(crystal)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(num_atoms)
    moved = Crystal(
        crystal.lattice @ turn,
        crystal.frac_coords[order] + rng.random(3),
        crystal.numbers[order],
        crystal.occupancies[order],
        crystal.site,
    )
    assert surroundings(moved) == pytest.approx(reference[order], abs=1e-5)
    doubled = Crystal.from_structure(crystal.to_structure() * (1, 2, 1))
    assert np.sort(surroundings(doubled), axis=0) == pytest.approx(
        np.sort(np.repeat(reference, 2, axis=0), axis=0), abs=1e-5
    )


def test_angles_tell_what_distances_cannot():
    """A tetrahedron and a square of the same four bonds have different surroundings at their centre."""
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    square = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    found = []
    for bonds in (tetrahedron, square):
        crystal = make_crystal(30.0, ["Si", "O", "O", "O", "O"], np.concatenate([[[0, 0, 0]], bonds * 1.6 / 30]))
        found.append(surroundings(crystal)[0])
    assert np.abs(found[0] - found[1]).max() > 0.1
    assert found[0][:5] == pytest.approx(found[1][:5], abs=1e-5)


def test_isolated_atom_and_disorder():
    lonely = surroundings(make_crystal(30.0, ["He"], [[0, 0, 0]]))
    assert lonely.shape == (1, environment.NUM_FEATURES) and np.isfinite(lonely).all()
    ordered = make_crystal(4.0, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    shared = make_crystal(4.0, [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    half = make_crystal(4.0, [{"Na": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert not np.allclose(surroundings(ordered), surroundings(shared))
    assert surroundings(half)[1, 2] < surroundings(ordered)[1, 2]


def test_graphs_together_have_the_surroundings_of_each_alone():
    crystals = [random_crystal(k, k + 1) for k in range(4)]
    for crystal, graph in zip(crystals, build_graphs(crystals, WITH), strict=True):
        assert graph.environment == pytest.approx(surroundings(crystal))
    assert build_graph(crystals[0]).environment.shape == (1, 0)


def test_halves_of_a_split_site_are_not_neighbours():
    whole = make_crystal(4.0, [{"Li": 0.8}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for gap in (0.0, 0.02):
        split = make_crystal(4.0, [{"Li": 0.4}, {"Li": 0.4}, "O"], [[0, 0, 0], [gap, 0, 0], [0.5, 0.5, 0.5]])
        assert np.isfinite(surroundings(split)).all()
        assert surroundings(split)[0, 0] == pytest.approx(surroundings(whole)[0, 0], abs=0.05)


def test_so_many_pairs_that_they_are_summed_in_parts_give_the_same(monkeypatch):
    """At once, the pairs of a dense cell of 10,000 atoms took more than 6 GiB."""
    crystal = random_crystal(3, 12)
    whole = surroundings(crystal)
    monkeypatch.setattr(environment, "PAIRS_AT_ONCE", 7)
    np.testing.assert_array_equal(surroundings(crystal), whole)
