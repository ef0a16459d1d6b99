"""Crystals as their atoms of each element, and linear models of that: what knowing no structure tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from cgcnn.features import MAX_NUMBER
from cgcnn.graph_table import GraphTable

ALPHA = 0.1  # holds elements of one crystal or none near the others, and is nothing beside a hundred labels


def atoms_of_elements(graphs: GraphTable) -> sparse.csr_matrix:
    """Atoms of each element in the cell of every crystal (n, 119), occupancies counted."""
    numbers, occupancies = graphs.taken("numbers"), graphs.taken("occupancies")
    ends = np.cumsum(graphs.length["species"])
    atoms = sparse.csr_matrix(
        (occupancies.astype(float), numbers.astype(np.int32), np.append(0, ends)), shape=(len(graphs), MAX_NUMBER + 1)
    )
    atoms.sum_duplicates()
    return atoms


def shares(atoms: sparse.csr_matrix) -> sparse.csr_matrix:
    """Atoms of each element (n, 119) → their shares, rows that sum to 1."""
    return sparse.csr_matrix(sparse.diags(1 / number_of_atoms(atoms)) @ atoms)


def number_of_atoms(atoms: sparse.csr_matrix) -> np.ndarray:
    """Atoms in each cell (n,), occupancies counted."""
    return np.asarray(atoms.sum(axis=1)).ravel()


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Σ_z x_z w_z + b: x_z atoms of element z for what is extensive, else shares.

    coefficients (119,): w. intercept: b.
    """

    coefficients: np.ndarray
    intercept: float
    is_extensive: bool

    def __call__(self, atoms: sparse.csr_matrix) -> np.ndarray:
        """Atoms of each element (n, 119) → (n,)."""
        return (atoms if self.is_extensive else shares(atoms)) @ self.coefficients + self.intercept


def linear_model(
    atoms: sparse.csr_matrix, labels: np.ndarray, *, is_extensive: bool = False, by_element: bool = True
) -> LinearModel:
    """Ridge regression of labels (n,), NaN where missing, on the atoms of each element (n, 119).

    Without `by_element` all elements are one: the mean, or, of what is extensive, the same for every atom. An element
    that is in no labelled crystal is like the mean of the others. Raises ValueError without a label.
    """
    known = ~np.isnan(labels)
    if not known.any():
        raise ValueError("no label to fit a linear model to")
    atoms, labels = atoms[known], labels[known]
    everywhere, mean = np.zeros(MAX_NUMBER + 1), float(labels.mean())
    if is_extensive:
        count = number_of_atoms(atoms)
        everywhere += (count @ labels) / (count @ count)
        mean = 0.0
    if not by_element:
        return LinearModel(everywhere, mean, is_extensive)
    from sklearn.linear_model import Ridge

    ridge = Ridge(alpha=ALPHA, fit_intercept=not is_extensive, solver="sparse_cg", tol=1e-9)
    amounts = atoms if is_extensive else shares(atoms)
    ridge.fit(amounts, labels - amounts @ everywhere)
    return LinearModel(everywhere + ridge.coef_, float(ridge.intercept_), is_extensive)
