"""Crystals as arrays: to and from pymatgen, and one formula for every cell of a crystal."""

import numpy as np
import pytest
from conftest import make_crystal
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from test_structures import assert_same

from cgcnn.crystal import Crystal


def test_structure_and_back():
    structure = Structure(Lattice.hexagonal(3, 5), [{"Li": 0.5, "Na": 0.25}, "O2-"], [[0, 0, 0], [1 / 3, 2 / 3, 0.5]])
    crystal = Crystal.from_structure(structure)
    assert_same(crystal, structure)
    assert_same(crystal, crystal.to_structure())
    assert not crystal.is_ordered
    assert Crystal.from_structure(Structure(Lattice.cubic(3), ["D"], [[0, 0, 0]])).numbers.tolist() == [1]


@pytest.mark.parametrize(
    "species",
    ["Na Cl", "Li Fe P O O O O", "Na Na Cl Cl", "Sr Ca N N O", "Fe Fe O O O", "Ar", "U Pu"],
)
def test_reduced_formula(species):
    symbols = species.split()
    coordinates = [[k / len(symbols), 0, 0] for k in range(len(symbols))]
    structure = Structure(Lattice.cubic(20), symbols, coordinates)
    assert Crystal.from_structure(structure).reduced_formula == structure.reduced_formula


def cells(sites: list[dict[str, float]], count: int) -> list[Crystal]:
    """A crystal of these sites, and `count` of its cells as one."""
    return [
        make_crystal(
            np.diag([4.0 * k, 4, 4]), sites * k, [[i / (k * len(sites)), 0, 0] for i in range(k * len(sites))]
        )
        for k in (1, count)
    ]


@pytest.mark.parametrize("count", [2, 3, 7, 10, 24])
@pytest.mark.parametrize(
    ("sites", "formula"),
    [
        ([{"Li": 0.5}, {"O": 1}], "LiO2"),
        ([{"Na": 0.5, "Li": 0.3}, {"Cl": 0.5}], "Na5Li3Cl5"),
        ([{"Au": 0.5, "Cu": 0.5}, {"Au": 0.5, "Cu": 0.5}], "CuAu"),
        ([{"Li": 1 / 3}, {"Co": 1}, {"O": 1}, {"O": 1}], "LiCo3O6"),
        ([{"Li": 0.33}, {"Na": 0.67}, {"O": 1}], "Na67Li33O100"),
        ([{"Li": 0.1}] * 3 + [{"O": 0.7}], "Li3O7"),
        ([{"Y": 0.01, "Ba": 0.99}, {"O": 1}], "Ba99YO100"),
        ([{"Ti": 0.137, "V": 0.263, "Cr": 0.6}], "Ti0.228V0.438Cr"),
        ([{"Li": 0.37}, *[{"O": 1}] * 9], "Li3O73"),
        ([{"Li": 0.5025}, {"O": 1}], "LiO2"),
        ([{"Li": 1}] * 13 + [{"O": 1}] * 3, "Li13O3"),
    ],
)
def test_a_supercell_has_the_formula_of_its_cell(sites, formula, count):
    assert [crystal.reduced_formula for crystal in cells(sites, count)] == [formula] * 2


@settings(deadline=None)
@given(
    sites=st.lists(
        st.dictionaries(st.sampled_from(["Li", "Na", "Ti", "O"]), st.integers(1, 250), min_size=1, max_size=3),
        min_size=1,
        max_size=6,
    ),
    grain=st.sampled_from([250, 1000, 999]),
    count=st.integers(2, 12),
)
def test_any_supercell_has_the_formula_of_its_cell(sites, grain, count):
    shares = [{symbol: amount / grain for symbol, amount in site.items()} for site in sites]
    one, several = (crystal.reduced_formula for crystal in cells(shares, count))
    assert one == several


@pytest.mark.parametrize("digits", [3, 4, 5, 6])
@pytest.mark.parametrize(("part", "formula"), [(1 / 3, "NaLi2O3"), (1 / 6, "NaLi5O6"), (1 / 7, "NaLi6O7")])
def test_a_rounded_occupancy_gives_the_same_formula(part, formula, digits):
    sites = [{"Na": round(part, digits), "Li": round(1 - part, digits)}, {"O": 1}]
    assert {crystal.reduced_formula for crystal in cells(sites, 3)} == {formula}


def test_a_large_ordered_formula_is_exact():
    sites = [{"Li": 1}] * 215 + [{"Co": 1}] * 216 + [{"O": 1}] * 432
    assert {crystal.reduced_formula for crystal in cells(sites, 2)} == {"Li215Co216O432"}
