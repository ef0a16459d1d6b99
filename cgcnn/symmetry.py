"""Symmetry and reduced cell of a crystal, the same for every cell, origin and orientation it is given in.

The cell is the Niggli-reduced primitive one (Grosse-Kunstleve, Sauter and Adams, Acta Cryst. A 60, 1 (2004)). It
is reduced from the lattice as its symmetry demands: a hexagonal cell whose angles are off by a thousandth of a
degree would otherwise have γ = 60° or 120° by chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cgcnn.cif import StructureError
from cgcnn.element_properties import element_properties

if TYPE_CHECKING:
    from cgcnn.crystal import Crystal

# Atoms; spglib takes minutes, as the third power, for a larger supercell with a few atoms missing.
MAX_ATOMS = 1000
TOLERANCE = 0.01  # Å, by which an atom may miss its place; coordinates in CIFs have four to six digits
OCCUPANCY_DIGITS = 3  # to which occupancies are equal
NUM_GROUPS = 230
SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
_LAST_GROUP = np.array([2, 15, 74, 142, 167, 194, NUM_GROUPS])  # of each system
# What cell_and_symmetry gives: the number of the space group, then the cell's
CELL = ("a (Å)", "b (Å)", "c (Å)", "α (°)", "β (°)", "γ (°)", "volume (Å³/atom)", "density (g/cm³)")
NUM_VALUES = 1 + len(CELL)
_WITHOUT = "usable without lattice, symmetry and spacegroup in --global-features"
_TO_G_CM3 = 1.66053907  # of u/Å³
# Centring of a standard cell → its primitive vectors, rows, in those of the cell (International Tables A, 1.5;
# R on hexagonal axes, obverse)
_PRIMITIVE = {
    "P": np.eye(3),
    "A": np.array([[2, 0, 0], [0, 1, -1], [0, 1, 1]]) / 2,
    "C": np.array([[1, 1, 0], [-1, 1, 0], [0, 0, 2]]) / 2,
    "I": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
    "F": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}


def cell_and_symmetry(crystal: Crystal) -> np.ndarray:
    """Number of the space group, and CELL of the Niggli-reduced primitive cell: (NUM_VALUES,).

    By spglib, to TOLERANCE. A site of several species, or one that is not full, is a kind of its own; sites of equal
    occupancies are of one kind. Atoms are counted by occupancy. Raises StructureError where none is found (parts of
    a split site are nearer than the tolerance), or sought (more than MAX_ATOMS).
    """
    if crystal.num_sites > MAX_ATOMS:
        raise StructureError(f"{crystal.num_sites:,} atoms: no symmetry is sought above {MAX_ATOMS:,}; {_WITHOUT}")
    found = _dataset(crystal)
    if found is None:
        raise StructureError(f"spglib finds no symmetry; are parts of a site nearer than {TOLERANCE} Å? {_WITHOUT}")
    primitive = _PRIMITIVE[found.hall.lstrip("-")[0]] @ found.std_lattice
    volume = abs(np.linalg.det(crystal.lattice))
    mass = crystal.occupancies @ element_properties(["atomic mass (u)"])[crystal.numbers, 0]
    per_atom = volume / crystal.occupancies.sum()
    return np.array([found.number, *_parameters(_reduced(primitive)), per_atom, _TO_G_CM3 * mass / volume])


def crystal_system(numbers: np.ndarray) -> np.ndarray:
    """Space-group numbers (n,) → places in SYSTEMS (n,)."""
    return np.searchsorted(_LAST_GROUP, numbers)


def _dataset(crystal: Crystal):
    """What spglib knows of a crystal; None where it finds nothing."""
    import spglib

    cell = (crystal.lattice, crystal.frac_coords, _kinds(crystal))
    try:
        return spglib.get_symmetry_dataset(cell, symprec=TOLERANCE)
    except Exception:  # what makes today's spglib return None is to be an exception in the next
        return None


def _kinds(crystal: Crystal) -> list[int]:
    """What stands on each site (N,), equal numbers for equal contents."""
    contents: list[list[tuple[int, float]]] = [[] for _ in range(crystal.num_sites)]
    occupancies = crystal.occupancies.round(OCCUPANCY_DIGITS).tolist()
    for site, number, occupancy in zip(crystal.site.tolist(), crystal.numbers.tolist(), occupancies, strict=True):
        contents[site].append((number, occupancy))
    kinds: dict[tuple, int] = {}
    return [kinds.setdefault(tuple(sorted(content)), len(kinds) + 1) for content in contents]


def _reduced(lattice: np.ndarray) -> np.ndarray:
    """The Niggli cell of a lattice, or the lattice itself where it is too odd to be reduced."""
    import spglib

    try:
        reduced = spglib.niggli_reduce(lattice)
    except Exception:  # as above
        reduced = None
    return lattice if reduced is None else reduced


def _parameters(lattice: np.ndarray) -> np.ndarray:
    """a, b, c in Å and α, β, γ in degrees (6,)."""
    lengths = np.linalg.norm(lattice, axis=1)
    others = np.roll(lattice, -1, axis=0), np.roll(lattice, -2, axis=0)
    cosines = (others[0] * others[1]).sum(axis=1) / (np.roll(lengths, -1) * np.roll(lengths, -2))
    return np.concatenate([lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))])
