"""Crystals that are one under two names, across the parts of a split."""

import numpy as np
import pytest
from conftest import fcc, make_crystal, random_crystal

from cgcnn.crystal import Crystal
from cgcnn.duplicates import duplicate_rows, near_duplicates
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.splits import Split

SALT = [[0, 0, 0], [0.5, 0.5, 0.5]]


def table_of(*crystals, settings: GraphSettings | None = None) -> GraphTable:
    return GraphTable.from_graphs([build_graph(c, settings) for c in crystals], [c.reduced_formula for c in crystals])


def salt(edge: float) -> Crystal:
    return make_crystal(fcc(edge), ["Na", "Cl"], SALT)


def test_a_supercell_and_a_strain_of_half_a_percent_are_found():
    doubled = Crystal.from_structure(salt(5.64).to_structure() * (2, 1, 1))
    crystals = [salt(5.64), doubled, salt(5.64 * 1.005), salt(5.64 * 1.03)]
    split = Split(train=[0], val=[2], test=[1, 3])
    assert sorted(near_duplicates(table_of(*crystals), split)) == [(0, 1), (0, 2)]


def test_other_formulas_and_polymorphs_are_not():
    caesium = make_crystal(3.4, ["Na", "Cl"], SALT)
    swapped = make_crystal(fcc(5.64), ["Na", "F"], SALT)
    split = Split(train=[0], val=[1], test=[2])
    assert near_duplicates(table_of(salt(5.64), caesium, swapped), split) == []


@pytest.mark.parametrize("settings", [GraphSettings(6.0, histogram=60), GraphSettings(6.0, images=True)])
def test_they_are_told_apart_whatever_the_graphs_are(settings):
    caesium, split = make_crystal(3.4, ["Na", "Cl"], SALT), Split(train=[0], val=[2], test=[1, 3])
    crystals = [salt(5.64), caesium, salt(5.64 * 1.005), salt(5.64 * 1.03)]
    assert near_duplicates(table_of(*crystals, settings=settings), split) == [(0, 2)]


def test_duplicates_within_the_training_part_do_not_count():
    split = Split(train=[0, 1], val=[2], test=[])
    assert near_duplicates(table_of(salt(5.64), salt(5.64), random_crystal(1, 3)), split) == []


def test_rows_have_names_and_the_nearest_twin():
    table = table_of(salt(5.60), salt(5.64), salt(5.641))
    rows = duplicate_rows(table, Split(train=[0, 1], val=[], test=[2]), ["a", "b", "c"])
    assert rows == [{"cif_id": "c", "part": "test", "train_id": "b", "formula": "NaCl"}]


def test_atoms_with_few_neighbours_are_compared_by_those_they_have():
    lonely = make_crystal(30.0, ["He"], [[0, 0, 0]])
    pair = [make_crystal(30.0, ["H", "H"], [[0, 0, 0], [d / 30, 0, 0]]) for d in (0.74, 0.741, 0.9)]
    split = Split(train=[0, 1], val=[2], test=[3])
    found = near_duplicates(table_of(lonely, pair[0], pair[1], pair[2]), split)
    assert found == [(1, 2)] and np.isfinite(found).all()


def test_a_crystal_with_few_neighbours_hides_no_twin():
    molecule = make_crystal(30.0, ["H", "H"], [[0, 0, 0], [0.74 / 30, 0, 0]])
    dense = [make_crystal(edge, ["H", "H"], SALT) for edge in (3.0, 3.001)]
    assert near_duplicates(table_of(molecule, *dense), Split(train=[0, 1], val=[2], test=[])) == [(1, 2)]


def test_twins_are_those_of_all_comparisons():
    rng = np.random.default_rng(0)
    edges = 5.6 * (1 + 0.05 * rng.random(60))
    split = Split(train=list(range(40)), val=list(range(40, 60)), test=[])
    found = near_duplicates(table_of(*map(salt, edges)), split)
    expected = []
    for row in range(40, 60):
        apart = np.abs(np.log(edges[:40] / edges[row]))
        if apart.min() <= 0.01:
            expected.append((int(apart.argmin()), row))
    assert found == expected and len(found) > 5
