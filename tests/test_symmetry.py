"""Space groups and reduced cells of textbook crystals, and what must not change them."""

import numpy as np
import pytest
import spglib
from conftest import fcc, make_crystal, random_crystal

from cgcnn import symmetry
from cgcnn.cif import StructureError
from cgcnn.crystal import Crystal
from cgcnn.symmetry import CELL, NUM_VALUES, SYSTEMS, cell_and_symmetry, crystal_system

HEXAGON = np.array([[1, 0, 0], [-0.5, np.sqrt(0.75), 0], [0, 0, 1]])
TEXTBOOK = {
    "rock salt": make_crystal(fcc(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "diamond": make_crystal(fcc(3.567), ["C", "C"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "hcp": make_crystal(HEXAGON * [[3.2], [3.2], [5.2]], ["Mg"] * 2, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]),
    "perovskite": make_crystal(
        3.905, ["Sr", "Ti", "O", "O", "O"], [[0, 0, 0], [0.5] * 3, [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    ),
    "bcc": make_crystal(2.87, ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "triclinic": make_crystal(
        [[4.0, 0, 0], [0.7, 5.0, 0], [0.9, 1.1, 6.0]], ["Li", "O", "S"], [[0, 0, 0], [0.3, 0.4, 0.2], [0.6, 0.1, 0.7]]
    ),
}
FCC, BCC = 1 / np.sqrt(2), np.sqrt(3) / 2
# number, system, a b c α β γ of the Niggli cell, Å³ an atom, g/cm³
KNOWN = {
    "rock salt": (225, "cubic", (*[5.64 * FCC] * 3, 60, 60, 60), 5.64**3 / 8, 2.164),
    "diamond": (227, "cubic", (*[3.567 * FCC] * 3, 60, 60, 60), 3.567**3 / 8, 3.516),
    "hcp": (194, "hexagonal", (3.2, 3.2, 5.2, 90, 90, 120), 3.2**2 * 5.2 * np.sqrt(3) / 4, 1.751),
    "perovskite": (221, "cubic", (*[3.905] * 3, 90, 90, 90), 3.905**3 / 5, 5.117),
    "bcc": (229, "cubic", (*[2.87 * BCC] * 3, 109.4712, 109.4712, 109.4712), 2.87**3 / 2, 7.846),
}


@pytest.mark.parametrize("name", KNOWN)
def test_textbook_crystals(name):
    number, system, cell, volume, density = KNOWN[name]
    found = cell_and_symmetry(TEXTBOOK[name])
    assert len(found) == NUM_VALUES == 1 + len(CELL)
    assert found[0] == number and SYSTEMS[crystal_system(found[:1])[0]] == system
    assert found[1:7] == pytest.approx(cell, abs=1e-4)
    assert found[7] == pytest.approx(volume) and found[8] == pytest.approx(density, abs=2e-3)


def test_triclinic_crystal_has_the_shortest_cell():
    crystal = TEXTBOOK["triclinic"]
    found = cell_and_symmetry(crystal)
    assert found[0] == 1
    steps = np.stack(np.meshgrid(*[range(-3, 4)] * 3), axis=-1).reshape(-1, 3) @ crystal.lattice
    shortest = np.sort(np.linalg.norm(steps, axis=1))[1:]
    assert found[1] == pytest.approx(shortest[0]) and (np.diff(found[1:4]) > 0).all()
    assert (found[4:7] <= 90).all() or (found[4:7] >= 90).all()  # Niggli's: all acute, or none
    assert found[7] == pytest.approx(4 * 5 * 6 / 3)


def test_each_crystal_system_begins_and_ends_where_the_tables_say():
    first = [1, 3, 16, 75, 143, 168, 195]
    assert crystal_system(np.array(first)).tolist() == list(range(7))
    assert crystal_system(np.array([*np.subtract(first[1:], 1), 230])).tolist() == list(range(7))


def supercell(crystal: Crystal, matrix) -> Crystal:
    structure = crystal.to_structure()
    structure.make_supercell(matrix)
    return Crystal.from_structure(structure)


def turned(crystal: Crystal) -> Crystal:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    return Crystal(crystal.lattice @ turn, crystal.frac_coords, crystal.numbers, crystal.occupancies, crystal.site)


def shifted(crystal: Crystal) -> Crystal:
    places = np.add(crystal.frac_coords, [0.13, 0.71, 0.402])
    return Crystal(crystal.lattice, places, crystal.numbers, crystal.occupancies, crystal.site)


MIXED = make_crystal(fcc(5.7), [{"Na": 0.5, "K": 0.5}, {"Cl": 0.9}], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize("crystal", [*TEXTBOOK.values(), MIXED], ids=[*TEXTBOOK, "disordered"])
@pytest.mark.parametrize(
    "change",
    [
        lambda crystal: supercell(crystal, np.diag([2, 3, 1])),
        lambda crystal: supercell(crystal, [[1, 1, 0], [-1, 1, 0], [0, 1, 2]]),
        lambda crystal: supercell(crystal, [[1, 2, 0], [0, 1, 0], [1, 0, 1]]),
        shifted,
        turned,
    ],
    ids=["supercell", "skew supercell", "other cell", "origin", "rotation"],
)
def test_what_does_not_matter(crystal, change):
    assert cell_and_symmetry(change(crystal)) == pytest.approx(cell_and_symmetry(crystal), abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_what_does_not_matter_without_symmetry(seed):
    crystal = random_crystal(seed, 5)
    other = turned(shifted(supercell(crystal, [[1, 1, 0], [0, 1, 0], [0, 2, 1]])))
    assert cell_and_symmetry(other) == pytest.approx(cell_and_symmetry(crystal), abs=1e-4)


def test_noise_below_the_tolerance_does_not_turn_the_reduced_cell():
    noise = np.random.default_rng(0).uniform(-2e-4, 2e-4, (20, 3, 3))
    cells = [TEXTBOOK["hcp"].lattice + each for each in noise]
    found = [cell_and_symmetry(make_crystal(cell, ["Mg"] * 2, TEXTBOOK["hcp"].frac_coords)) for cell in cells]
    assert np.array(found) == pytest.approx(np.tile(cell_and_symmetry(TEXTBOOK["hcp"]), (20, 1)), abs=0.01)


@pytest.mark.parametrize(
    ("sites", "number"),
    [
        (["Na", "Na"], 229),
        (["Na", "Cl"], 221),
        ([{"Na": 0.5, "Cl": 0.5}] * 2, 229),
        ([{"Na": 0.5, "Cl": 0.5}, {"Cl": 0.5, "Na": 0.5}], 229),
        ([{"Na": 0.5, "Cl": 0.5}, {"Na": 0.4, "Cl": 0.6}], 221),
        ([{"Na": 0.5}, "Na"], 221),
    ],
)
def test_sites_are_of_one_kind_where_their_occupancies_are(sites, number):
    assert cell_and_symmetry(make_crystal(4.0, sites, [[0, 0, 0], [0.5] * 3]))[0] == number


def test_atoms_are_counted_by_occupancy():
    found = cell_and_symmetry(make_crystal(4.0, [{"Na": 0.5}, "Cl"], [[0, 0, 0], [0.5] * 3]))
    assert found[7] == pytest.approx(64 / 1.5)
    assert found[8] == pytest.approx((0.5 * 22.98977 + 35.453) * 1.66054 / 64, rel=1e-4)


def raising(*_, **__):
    raise RuntimeError("as spglib is to do from 3.0 on")


@pytest.mark.parametrize("fault", [None, lambda *_, **__: None, raising], ids=["split site", "None", "raises"])
def test_a_crystal_in_which_no_symmetry_is_found_is_refused(monkeypatch, fault):
    if fault:
        monkeypatch.setattr(spglib, "get_symmetry_dataset", fault)
        crystal = TEXTBOOK["hcp"]
    else:
        places = [*TEXTBOOK["hcp"].frac_coords[:1], TEXTBOOK["hcp"].frac_coords[0] + [0, 0, 0.001]]
        crystal = make_crystal(TEXTBOOK["hcp"].lattice, [{"Mg": 0.5}, {"Mg": 0.5}], places)
    with pytest.raises(StructureError, match=r"finds no symmetry.*usable without"):
        cell_and_symmetry(crystal)


def test_a_lattice_that_cannot_be_reduced_is_kept(monkeypatch):
    monkeypatch.setattr(spglib, "niggli_reduce", raising)
    assert cell_and_symmetry(TEXTBOOK["perovskite"])[1:7] == pytest.approx([3.905] * 3 + [90] * 3)


def test_a_cell_of_more_than_a_thousand_atoms_is_refused(monkeypatch):
    """Of 1,300 places on a grid with vacancies, spglib took 42 s."""
    monkeypatch.setattr(spglib, "get_symmetry_dataset", raising)
    monkeypatch.setattr(symmetry, "_dataset", lambda crystal: pytest.fail("symmetry is sought"))
    places = np.stack(np.unravel_index(np.arange(1001), (11, 11, 11)), axis=1) / 11
    with pytest.raises(StructureError, match="1,001 atoms: no symmetry is sought above 1,000"):
        cell_and_symmetry(make_crystal(30.0, ["Si"] * 1001, places))
