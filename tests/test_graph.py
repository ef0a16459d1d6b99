"""Crystal graphs: the right neighbours, whatever the cell, and the same ones however it is written down."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import fcc, make_crystal, random_crystal
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from cgcnn import graph
from cgcnn.crystal import Crystal
from cgcnn.graph import CrystalGraph, GraphSettings, build_graph, build_graphs
from cgcnn.structures import StructureError, read_crystal

CLASSIC = GraphSettings(neighbours="classic")


def edges_by_atom(crystal_graph: CrystalGraph) -> list[tuple[np.ndarray, np.ndarray]]:
    """(neighbours, distances) of each atom."""
    ends = np.cumsum(crystal_graph.degree)
    parts = [slice(end - degree, end) for degree, end in zip(crystal_graph.degree, ends, strict=True)]
    return [(crystal_graph.neighbours[part], crystal_graph.distances[part]) for part in parts]


def all_neighbours(crystal: Crystal, radius: float) -> list[list[tuple[float, int]]]:
    """Distance and index of every neighbour of each atom, by summing over all the images that can reach it."""
    spacing = 1 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)
    reach = np.ceil(radius / spacing + np.ptp(crystal.frac_coords, axis=0)).astype(int)
    images = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))))
    found = []
    for i, centre in enumerate(crystal.frac_coords):
        gaps = crystal.frac_coords[None] + images[:, None] - centre
        distances = np.linalg.norm(gaps @ crystal.lattice, axis=2)
        distances[(images == 0).all(axis=1), i] = np.inf
        rows, others = np.nonzero(distances <= radius)
        found.append(sorted(zip(distances[rows, others].tolist(), others.tolist(), strict=True)))
    return found


def expected_shell(crystal: Crystal, chosen: GraphSettings) -> list[list[tuple[float, int]]]:
    found = all_neighbours(crystal, chosen.radius + chosen.tie)
    last = [pairs[min(chosen.max_num_nbr, len(pairs)) - 1][0] if pairs else 0 for pairs in found]
    return [
        [pair for pair in pairs if pair[0] <= limit + chosen.tie] for pairs, limit in zip(found, last, strict=True)
    ]


def assert_same_edges(crystal_graph: CrystalGraph, expected: list[list[tuple[float, int]]]) -> None:
    """Both by neighbour and then by distance: the order of equal distances is not laid down."""
    assert crystal_graph.degree.tolist() == [len(pairs) for pairs in expected]
    for (neighbours, distances), pairs in zip(edges_by_atom(crystal_graph), expected, strict=True):
        assert (np.diff(distances) >= -1e-6).all()
        order = np.lexsort((distances, neighbours))
        pairs = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
        assert neighbours[order].tolist() == [index for _, index in pairs]
        np.testing.assert_allclose(distances[order], [distance for distance, _ in pairs], atol=2e-5)


def assert_same_surroundings(ours: list, theirs: list) -> None:
    """Element → sorted distances of each atom."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for number, distances in a.items():
            np.testing.assert_allclose(distances, b[number], atol=2e-5)


def surroundings(crystal: Crystal, chosen: GraphSettings) -> list[dict[int, list[float]]]:
    found = build_graph(crystal, chosen)
    return [
        {z: sorted(distances[crystal.numbers[neighbours] == z]) for z in set(crystal.numbers[neighbours].tolist())}
        for neighbours, distances in edges_by_atom(found)
    ]


# --- which neighbours ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_atoms=st.integers(1, 6),
    length=st.sampled_from([2.5, 4.0, 6.0, 9.0, 30.0]),
    skew=st.sampled_from([0.0, 0.4, 1.5]),
    radius=st.sampled_from([2.0, 5.0, 8.0]),
    max_num_nbr=st.sampled_from([1, 4, 12, 30]),
)
def test_shell_is_the_periodic_sum(seed, num_atoms, length, skew, radius, max_num_nbr):
    crystal = random_crystal(seed, num_atoms, length=length, skew=skew)
    shift = np.random.default_rng(seed).integers(-2, 3, crystal.frac_coords.shape)
    crystal = replace(crystal, frac_coords=crystal.frac_coords + shift)  # not always in [0, 1)
    chosen = GraphSettings(radius=radius, max_num_nbr=max_num_nbr)
    assert_same_edges(build_graph(crystal, chosen), expected_shell(crystal, chosen))


@pytest.mark.parametrize("name", ["NaCl", "Cu", "diamond", "low"])
@pytest.mark.parametrize("max_num_nbr", [1, 7, 12, 13])
def test_shell_keeps_every_tie(crystals, name, max_num_nbr):
    chosen = GraphSettings(max_num_nbr=max_num_nbr)
    assert_same_edges(build_graph(crystals[name], chosen), expected_shell(crystals[name], chosen))


def test_numbers_of_neighbours_that_are_known(crystals):
    def degrees(name, chosen):
        return set(build_graph(crystals[name], chosen).degree.tolist())

    assert degrees("NaCl", GraphSettings()) == {18}  # 6 and 12
    assert degrees("diamond", GraphSettings()) == {16}  # 4 and 12
    assert degrees("Cu", GraphSettings()) == {12}
    assert degrees("Cu", GraphSettings(max_num_nbr=13)) == {18}
    assert degrees("NaCl", CLASSIC) == degrees("diamond", CLASSIC) == {12}


def test_the_tie_is_measured_from_the_last_neighbour_kept():
    beside = np.array([[0, 0, 0], [2, 0, 0], [-2.0008, 0, 0], [0, 2.0015, 0]])
    line = make_crystal(40.0, ["H"] * 4, beside / 40)
    assert build_graph(line, GraphSettings(max_num_nbr=1)).degree[0] == 2
    assert build_graph(line, GraphSettings(max_num_nbr=1, tie=2e-3)).degree[0] == 3
    assert build_graph(line, GraphSettings(max_num_nbr=1, tie=1e-4)).degree[0] == 1


def test_fewer_neighbours_than_asked_for():
    pair = make_crystal(30.0, ["N", "N", "Ar"], [[0, 0, 0], [0.04, 0, 0], [0.5, 0.5, 0.5]])
    for chosen in (GraphSettings(), CLASSIC):
        found = build_graph(pair, chosen)
        assert found.degree.tolist() == [1, 1, 0]
        assert found.neighbours.tolist() == [1, 0]
        np.testing.assert_allclose(found.distances, [1.2, 1.2], rtol=1e-6)


def test_several_crystals_at_once_are_the_same_as_one_by_one(crystals):
    several = [*crystals.values(), make_crystal(30.0, ["Ar"], [[0, 0, 0]]), *crystals.values()]
    for chosen in (GraphSettings(environment=True), CLASSIC, replace(CLASSIC, padded=True)):
        for together, alone in zip(
            build_graphs(several, chosen), [build_graph(crystal, chosen) for crystal in several], strict=True
        ):
            for name in vars(alone):
                np.testing.assert_array_equal(getattr(together, name), getattr(alone, name))
    assert build_graphs([]) == []


def test_species_and_sites_are_those_of_the_crystal():
    shared = make_crystal(4.0, [{"Ni": 0.75, "Co": 0.25}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    found = build_graph(shared)
    assert found.num_atoms == 2
    assert found.numbers.tolist() == [28, 27, 8]
    assert found.occupancies.tolist() == [0.75, 0.25, 1.0]
    assert found.site.tolist() == [0, 0, 1]


# --- classic ------------------------------------------------------------------------------------------


def assert_as_pymatgen(crystal: Crystal, structure: Structure) -> None:
    found = build_graph(crystal, CLASSIC)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        everything = structure.get_all_neighbors(8, include_index=True)
    for (neighbours, distances), theirs in zip(edges_by_atom(found), everything, strict=True):
        nearest = sorted(theirs, key=lambda neighbour: neighbour.nn_distance)[:12]
        assert neighbours.tolist() == [neighbour.index for neighbour in nearest]
        np.testing.assert_allclose(distances, [neighbour.nn_distance for neighbour in nearest], rtol=1e-6)


def test_classic_is_pymatgens_order_on_made_crystals(crystals):
    for crystal in (*crystals.values(), *(random_crystal(seed, 5, skew=1.0) for seed in range(5))):
        assert_as_pymatgen(crystal, crystal.to_structure())


@pytest.mark.parametrize("folder", ["root_dir", "data/sample-classification", "vacancy_data"])
def test_classic_is_pymatgens_order_on_real_crystals(repo, folder):
    for file in sorted((repo / folder).glob("*.cif"))[::9]:
        crystal = read_crystal(file)
        if crystal.is_ordered:
            assert_as_pymatgen(crystal, Structure.from_file(file))


def test_classic_is_pymatgens_order_on_published_crystals(shared_data):
    files = sorted((shared_data / "cgcnn_original" / "mp60").glob("*.cif"))
    if not files:
        pytest.skip("the published sample is not here")
    for file in files[::5]:
        assert_as_pymatgen(read_crystal(file), Structure.from_file(file))


def test_padding_is_that_of_the_original():
    pair = make_crystal(30.0, ["Ar", "N", "N"], [[0.5, 0.5, 0.5], [0, 0, 0], [0.04, 0, 0]])
    found = build_graph(pair, GraphSettings(6.0, 3, neighbours="classic", padded=True))
    assert found.degree.tolist() == [3, 3, 3]
    assert found.neighbours.reshape(3, 3).tolist() == [[0, 0, 0], [2, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(found.distances.reshape(3, 3), [[7, 7, 7], [1.2, 7, 7], [1.2, 7, 7]], rtol=1e-6)


# --- invariance ---------------------------------------------------------------------------------------


def rotation(seed: int) -> np.ndarray:
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


def supercell(crystal: Crystal, repeats: tuple[int, int, int]) -> Crystal:
    """Its atoms are those of the crystal, over and over."""
    images = np.array(list(itertools.product(*map(range, repeats))))
    coordinates = (crystal.frac_coords[None] + images[:, None]).reshape(-1, 3) / repeats
    count = len(images)
    sites = np.arange(count * crystal.num_sites, dtype=np.int32)
    return Crystal(
        lattice=crystal.lattice * np.array(repeats)[:, None],
        frac_coords=coordinates,
        numbers=np.tile(crystal.numbers, count),
        occupancies=np.ones(len(sites)),
        site=sites,
    )


@pytest.mark.parametrize("name", ["NaCl", "Cu", "diamond", "low"])
@pytest.mark.parametrize("max_num_nbr", [5, 12])
def test_the_way_a_crystal_is_written_down_does_not_matter(crystals, name, max_num_nbr):
    crystal, chosen = crystals[name], GraphSettings(max_num_nbr=max_num_nbr)
    plain = surroundings(crystal, chosen)
    order = np.random.default_rng(1).permutation(crystal.num_sites)
    shuffled = replace(crystal, frac_coords=crystal.frac_coords[order], numbers=crystal.numbers[order])
    assert_same_surroundings(surroundings(shuffled, chosen), [plain[k] for k in order])
    shifted = replace(crystal, frac_coords=crystal.frac_coords + np.array([0.377, -1.213, 0.5]))
    assert_same_surroundings(surroundings(shifted, chosen), plain)
    for seed in range(3):
        turned = replace(crystal, lattice=crystal.lattice @ rotation(seed))
        assert_same_surroundings(surroundings(turned, chosen), plain)
    repeated = supercell(crystal, (2, 1, 3))
    assert_same_surroundings(surroundings(repeated, chosen), plain * 6)


def test_a_shell_on_the_cutoff_is_kept_however_the_cell_is_turned():
    cube = make_crystal(8.0, ["Po"], [[0, 0, 0]])
    for seed in range(8):
        turned = replace(cube, lattice=cube.lattice @ rotation(seed))
        assert build_graph(turned).degree.tolist() == [6]


def test_ties_across_the_cutoff_are_kept():
    tied, apart = (make_crystal(np.diag([7.9996, 7.9996, c]), ["Po"], [[0, 0, 0]]) for c in (8.0004, 8.0015))
    assert [found.degree.tolist() for found in build_graphs([tied, apart])] == [[6], [4]]
    assert build_graph(tied, CLASSIC).degree.tolist() == [4]


# --- the narrow first search --------------------------------------------------------------------------


def test_the_first_search_does_not_change_the_result(crystals, monkeypatch):
    # In the last, four neighbours lie just below the first radius and eight, tied with them, just above.
    a = 4.4996 * 2**0.5
    stretched = make_crystal(fcc(1.0) * [a, a, (4 * 4.5004**2 - a**2) ** 0.5], ["Cu"], [[0, 0, 0]])
    several = [*crystals.values(), *(random_crystal(k, 4, length=3.5 + k / 8) for k in range(20)), stretched]
    for chosen in (GraphSettings(), GraphSettings(max_num_nbr=4), GraphSettings(radius=4.4999)):
        narrow = build_graphs(several, chosen)
        with monkeypatch.context() as patch:
            patch.setattr(graph, "FIRST_SEARCH", 1e9)
            wide = build_graphs(several, chosen)
        for a_graph, another in zip(narrow, wide, strict=True):
            pairs = [list(zip(d.tolist(), n.tolist(), strict=True)) for n, d in edges_by_atom(another)]
            assert_same_edges(a_graph, pairs)
    assert build_graph(stretched, GraphSettings(max_num_nbr=4)).degree.tolist() == [12]


# --- settings and faults ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"neighbours": "nearest"}, "nearest"),
        ({"radius": 0.0}, "positive"),
        ({"radius": -1.0}, "positive"),
        ({"max_num_nbr": 0}, "positive"),
        ({"padded": True}, "classic"),
    ],
)
def test_settings_that_make_no_sense(fault, message):
    with pytest.raises(ValueError, match=message):
        GraphSettings(**fault)


def test_keys_differ_where_graphs_differ(monkeypatch):
    variants = [
        GraphSettings(),
        GraphSettings(radius=6.0),
        GraphSettings(max_num_nbr=8),
        GraphSettings(tie=1e-2),
        GraphSettings(environment=True),
        CLASSIC,
        replace(CLASSIC, padded=True),
    ]
    keys = [chosen.key() for chosen in variants]
    assert len(set(keys)) == len(keys)
    assert GraphSettings().key() == keys[0]
    monkeypatch.setattr(graph, "GRAPH_VERSION", graph.GRAPH_VERSION + 1)
    assert GraphSettings().key() not in keys


@pytest.mark.parametrize("lattice", [np.eye(3) * 0.5, np.zeros((3, 3)), [[4, 0, 0], [0, 4, 0], [4, 4, 0]]])
def test_a_cell_too_dense_to_be_a_crystal(crystals, lattice):
    crowd = make_crystal(lattice, ["H"] * 300, np.random.default_rng(0).random((300, 3)))
    for chosen in (GraphSettings(), CLASSIC):
        with pytest.raises(StructureError, match="too small for 300 atoms"):
            build_graph(crowd, chosen)
        with pytest.raises(StructureError, match="too small"):
            build_graphs([crystals["NaCl"], crowd], chosen)


def test_atoms_too_far_apart_or_too_many_in_one_place_are_refused():
    salt = [[0, 0, 0], [0.5, 0.5, 0.5]]
    for settings_ in (GraphSettings(), GraphSettings(images=True), GraphSettings(environment=True)):
        with pytest.raises(StructureError, match="spread over 5000 × 5000 × 5000 Å, too far"):
            build_graph(make_crystal(1e4, ["Na", "Cl"], salt), settings_)
    places = np.random.default_rng(0).random((5000, 3)) / 40
    with pytest.raises(StructureError, match=r"\d+ atoms stand within 4\.5 Å, too dense"):
        build_graph(make_crystal(200.0, ["Si"] * 5000, places))


def test_a_cell_of_thousands_of_atoms_denser_than_any_is_refused():
    places = np.stack(np.unravel_index(np.arange(4000), (16, 16, 16)), axis=1) / 16
    with pytest.raises(StructureError, match="too small for 4000 atoms"):
        build_graph(make_crystal(12.0, ["Si"] * 4000, places), GraphSettings(environment=True))


def test_a_radius_whose_sphere_has_no_number_is_refused():
    with pytest.raises(StructureError, match="too small for 1 atoms and a radius of 1e\\+308"):
        build_graph(make_crystal(4.0, ["Na"], [[0, 0, 0]]), GraphSettings(radius=1e308))


def test_a_large_empty_cell_is_a_crystal():
    assert build_graph(make_crystal(1e4, ["Na"], [[0, 0, 0]])).num_atoms == 1
    wire = build_graph(make_crystal(np.diag([4.0, 4.0, 1e5]), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert len(wire.distances) == 24 and wire.distances.max() < 9
