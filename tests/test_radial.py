"""Partial radial histograms against sums over pairs, counted one by one."""

import itertools

import numpy as np
import pytest
from conftest import make_crystal, random_crystal

from cgcnn.crystal import Crystal
from cgcnn.graph import CrystalGraph, GraphSettings, build_graph, build_graphs
from cgcnn.radial import num_intervals

CUTOFF = 6.0
SETTINGS = GraphSettings(CUTOFF, histogram=num_intervals(CUTOFF))


def disordered() -> Crystal:
    sites = [{"Ni": 0.7, "Co": 0.3}, "O", {"Fe": 0.5}]
    return make_crystal(
        [[4, 0, 0], [0.5, 4.2, 0], [0, -0.4, 3.8]], sites, [[0, 0, 0], [0.5, 0.4, 0.6], [0.1, 0.6, 0.2]]
    )


CRYSTALS = {
    "low": random_crystal(7, 7, length=6.0),
    "small": random_crystal(1, 2, length=3.0),
    "disorder": disordered(),
}


def smooth(distance):
    """A filter with the curvature of the narrowest Gaussian of ECNet, 0.2 Å."""
    return np.exp(-((distance - 3.1) ** 2) / (2 * 0.2**2)) + 0.3 * np.cos(distance)


def brute_force(crystal: Crystal, function, *, periodic: bool) -> dict[tuple[int, int], float]:
    """Σ_{i∈c} Σ_{j∈c'} of a function of the distance, over all images of the cell; occupancies weigh."""
    cells = itertools.product(range(-6, 7), repeat=3) if periodic else [(0, 0, 0)]
    shifts = np.array(list(cells)) @ crystal.lattice
    points = crystal.frac_coords @ crystal.lattice
    sums: dict[tuple[int, int], float] = {}
    for one, other in itertools.product(range(len(crystal.numbers)), repeat=2):
        i, j = crystal.site[one], crystal.site[other]
        distance = np.linalg.norm(points[j] + shifts - points[i], axis=1)
        inside = distance[(distance <= CUTOFF) & (distance > 1e-8)]
        key = (int(crystal.numbers[one]), int(crystal.numbers[other]))
        weight = crystal.occupancies[one] * crystal.occupancies[other]
        sums[key] = sums.get(key, 0.0) + weight * function(inside).sum()
    return sums


def by_histogram(graph: CrystalGraph, function, settings: GraphSettings = SETTINGS) -> dict[tuple[int, int], float]:
    grid = np.linspace(0, settings.radius, settings.histogram + 1)
    ends = np.cumsum(graph.pair_bins)
    sums = {}
    for k, pair in enumerate(itertools.product(graph.elements.tolist(), repeat=2)):
        part = slice(ends[k] - graph.pair_bins[k], ends[k])
        sums[pair] = float((graph.counts[part] * function(grid[graph.bins[part]])).sum())
    return sums


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("crystal", CRYSTALS.values(), ids=CRYSTALS.keys())
def test_numbers_of_pairs_and_mean_distances_are_exact(crystal, periodic):
    """What is linear in the distance is not changed by sharing it between two points."""
    settings = GraphSettings(CUTOFF, 1000, histogram=num_intervals(CUTOFF), periodic=periodic)
    graph = build_graph(crystal, settings)
    for function in (np.ones_like, lambda distance: distance):
        theirs = brute_force(crystal, function, periodic=periodic)
        ours = by_histogram(graph, function, settings)
        assert ours.keys() == theirs.keys()
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    assert len(graph.degree) == crystal.num_sites
    assert len(graph.neighbours) == len(graph.distances) == 0


@pytest.mark.parametrize("crystal", CRYSTALS.values(), ids=CRYSTALS.keys())
def test_a_smooth_filter_errs_by_no_more_than_linear_interpolation_does(crystal):
    """|error of a pair| ≤ h²/8·max|W''|, h = 0.02 Å: 0.13 % of a Gaussian of 0.2 Å at its top."""
    graph = build_graph(crystal, SETTINGS)
    theirs, ours = brute_force(crystal, smooth, periodic=True), by_histogram(graph, smooth)
    pairs = brute_force(crystal, np.ones_like, periodic=True)
    bound = 0.02**2 / 8 * (1 / 0.2**2 + 0.3)
    for pair, value in theirs.items():
        assert abs(ours[pair] - value) <= bound * pairs[pair] + 1e-4
    assert max(abs(ours[pair] - value) for pair, value in theirs.items()) > 0  # not the edges themselves


def test_a_coarser_grid_errs_more():
    crystal, errors = CRYSTALS["low"], []
    for intervals in (60, 300):
        settings = GraphSettings(CUTOFF, histogram=intervals)
        theirs, ours = (
            brute_force(crystal, smooth, periodic=True),
            by_histogram(build_graph(crystal, settings), smooth, settings),
        )
        errors.append(max(abs(ours[pair] - value) for pair, value in theirs.items()))
    assert errors[1] < errors[0] / 10


def test_amounts_are_atoms_of_each_element():
    graph = build_graph(disordered(), SETTINGS)
    assert dict(zip(graph.elements.tolist(), graph.amounts.tolist(), strict=True)) == pytest.approx(
        {8: 1.0, 26: 0.5, 27: 0.3, 28: 0.7}
    )


def test_a_cell_alone_keeps_the_nearest_neighbours_of_each_atom():
    crystal = CRYSTALS["low"]
    few = build_graph(crystal, GraphSettings(CUTOFF, 2, "classic", histogram=300, periodic=False))
    assert few.counts.sum() == pytest.approx(2 * crystal.num_sites)
    points = crystal.frac_coords @ crystal.lattice
    distances = np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)[:, 1:3]
    mean = by_histogram(few, lambda d: d, GraphSettings(CUTOFF, histogram=300))
    assert sum(mean.values()) == pytest.approx(distances.sum(), rel=1e-5)


def test_several_crystals_have_the_histograms_they_have_alone():
    together = build_graphs(list(CRYSTALS.values()), SETTINGS)
    for graph, crystal in zip(together, CRYSTALS.values(), strict=True):
        alone = build_graph(crystal, SETTINGS)
        for name in ("elements", "amounts", "pair_bins", "bins", "counts"):
            np.testing.assert_array_equal(getattr(graph, name), getattr(alone, name))


def test_pairs_at_the_cutoff_count_whatever_rounding_says():
    """A cube of the cutoff's edge: six images of an atom are exactly as far away."""
    for turn in range(5):
        rng = np.random.default_rng(turn)
        q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        crystal = make_crystal((np.eye(3) * CUTOFF @ q).tolist(), ["Cu"], [[0.3, 0.1, 0.7]])
        assert build_graph(crystal, SETTINGS).counts.sum() == pytest.approx(6.0)


def test_only_histograms_can_be_of_a_cell_alone():
    with pytest.raises(ValueError, match="cell alone"):
        GraphSettings(periodic=False)


def test_settings_that_differ_have_other_stores():
    keys = {GraphSettings(CUTOFF, histogram=n, periodic=p).key() for n in (100, 200) for p in (True, False)}
    assert len(keys | {GraphSettings(CUTOFF).key()}) == 5
