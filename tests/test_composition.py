"""Atoms of each element, and linear models of them, against numbers that can be worked out by hand."""

import numpy as np
import pytest
from conftest import fcc, make_crystal
from scipy import sparse

from cgcnn.composition import atoms_of_elements, linear_model, number_of_atoms, shares
from cgcnn.graph import build_graph
from cgcnn.graph_table import GraphTable

OX, NA, CL, FE, NI = 8, 11, 17, 26, 28


def table(*crystals) -> GraphTable:
    return GraphTable.from_graphs([build_graph(c) for c in crystals], [c.reduced_formula for c in crystals])


def atoms(*cells: dict) -> sparse.csr_matrix:
    """Cells as element → atoms."""
    dense = np.zeros((len(cells), 119))
    for row, cell in zip(dense, cells, strict=True):
        for element, amount in cell.items():
            row[element] = amount
    return sparse.csr_matrix(dense)


def test_atoms_are_counted_with_their_occupancies_and_once_an_element():
    salt = make_crystal(fcc(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    alloy = make_crystal(
        4.0, [{"Fe": 0.75, "Ni": 0.25}, "Fe", {"Ni": 0.5}], [[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]]
    )
    found = atoms_of_elements(table(salt, alloy))
    assert found.shape == (2, 119) and found.nnz == 4
    assert found.toarray()[:, [NA, CL, FE, NI]].tolist() == [[1, 1, 0, 0], [0, 0, 1.75, 0.75]]
    assert number_of_atoms(found).tolist() == [2, 2.5]
    assert shares(found).toarray()[1, [FE, NI]] == pytest.approx([0.7, 0.3])


def test_rows_of_a_store_in_another_order_are_counted_alike(types):
    whole, some = table(*types), [5, 0, 3]
    part = GraphTable(
        whole.columns,
        {name: start[some] for name, start in whole.start.items()},
        {name: length[some] for name, length in whole.length.items()},
        [whole.formulas[k] for k in some],
    )
    assert (atoms_of_elements(part) != atoms_of_elements(whole)[some]).nnz == 0


def test_what_is_intensive_is_a_sum_over_shares():
    cells = [{FE: a, NI: b} for a, b in ((1, 0), (0, 2), (1, 1), (3, 1), (1, 4))] * 200
    labels = np.array([3.0, 5.0, 4.0, 3.5, 4.6] * 200)
    labels[7] = np.nan
    model = linear_model(atoms(*cells), labels)
    assert model(atoms({FE: 8}, {FE: 2, NI: 2})) == pytest.approx([3, 4], abs=1e-3)
    assert model(atoms({OX: 1})) == pytest.approx([4], abs=1e-3)  # never seen: like the others


def test_what_is_extensive_counts_atoms_and_has_no_intercept():
    cells = [{FE: a, NI: b} for a, b in ((1, 0), (0, 2), (1, 1), (3, 1), (1, 4))] * 200
    labels = np.array([cell.get(FE, 0) * 2.0 + cell.get(NI, 0) * 1.0 for cell in cells])
    model = linear_model(atoms(*cells), labels, is_extensive=True)
    assert model(atoms({FE: 8}, {FE: 2, NI: 2}, {})) == pytest.approx([16, 6, 0], abs=1e-3)
    assert 1 < model(atoms({OX: 1}))[0] < 2
    assert linear_model(atoms(*cells), labels + 5, is_extensive=True)(atoms({})) == pytest.approx([0], abs=1e-9)
    alike = linear_model(atoms(*cells), labels, is_extensive=True, by_element=False)
    assert np.unique(alike.coefficients).size == 1 and alike.intercept == 0
    count = number_of_atoms(atoms(*cells))
    assert alike.coefficients[0] == pytest.approx((count @ labels) / (count @ count))


def test_fewer_labels_than_elements_still_give_a_model_and_none_is_refused():
    model = linear_model(atoms({FE: 1, OX: 1}, {NI: 1}), np.array([1.0, np.nan]))
    assert model(atoms({NI: 1, OX: 3})) == pytest.approx([1.0])
    with pytest.raises(ValueError, match="no label"):
        linear_model(atoms({FE: 1}), np.array([np.nan]))
