"""The periodic table: where elements stand, and errors by the elements that crystals hold."""

import numpy as np
import pytest
from conftest import make_crystal

from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.periodic import element_mask, errors_by_element, place

PLACES = {1: (1, 1), 2: (1, 18), 5: (2, 13), 12: (3, 2), 21: (4, 3), 36: (4, 18), 57: (8, 3), 71: (8, 17), 72: (6, 4)}
PLACES |= {89: (9, 3), 103: (9, 17), 104: (7, 4), 118: (7, 18)}


@pytest.mark.parametrize("number", PLACES)
def test_an_element_stands_where_the_table_has_it(number):
    assert place(number) == PLACES[number]


def test_every_element_has_a_place_of_its_own():
    places = {place(number) for number in range(1, 119)}
    assert len(places) == 118
    assert all(1 <= row <= 9 and 1 <= column <= 18 for row, column in places)


def test_an_element_of_a_disordered_site_counts():
    crystals = [
        make_crystal(4.0, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        make_crystal(4.0, [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    ]
    table = GraphTable.from_graphs([build_graph(c, GraphSettings()) for c in crystals], ["NaCl", "NaKCl2"])
    mask = element_mask(table, [1, 0])
    assert [np.flatnonzero(row).tolist() for row in mask] == [[11, 17, 19], [11, 17]]


def test_the_error_of_an_element_is_the_mean_over_its_crystals():
    mask = np.zeros((3, 119), dtype=bool)
    mask[[0, 1], 8] = True
    mask[2, 26] = True
    found = {one.symbol: one for one in errors_by_element(mask, np.array([1.0, -3.0, 0.5]))}
    assert len(found) == 118
    assert (found["O"].mean, found["O"].count) == (2.0, 2)
    assert (found["Fe"].mean, found["Fe"].count) == (0.5, 1)
    assert (found["H"].mean, found["H"].count) == (None, 0)
