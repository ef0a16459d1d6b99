"""Pairs of atoms of a crystal, and how far apart they are."""

from __future__ import annotations

import numpy as np

from cgcnn.cif import StructureError
from cgcnn.crystal import Crystal

# Pairs one search may return: 12 neighbours never need more; a cell too dense to be a crystal does.
MAX_PAIRS = 20_000_000
_PERIODIC, _ALONE = np.ones(3, dtype=np.int64), np.zeros(3, dtype=np.int64)


def pairs_within(crystal: Crystal, radius: float, *, periodic: bool = True) -> tuple[np.ndarray, ...]:
    """Centre, neighbour, image of its cell (P, 3) and distance (Å) of all pairs within a radius.

    periodic: without, of the atoms of the cell alone. Raises StructureError for a cell too dense to be a crystal's.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(crystal.lattice, dtype=float)
    volume = abs(np.linalg.det(lattice))
    expected = crystal.num_sites**2 * 4.19 * radius**3 / volume if volume > 0 else np.inf
    if not expected < MAX_PAIRS:
        raise StructureError(
            f"cell volume {volume:.3g} Å³ is too small for {crystal.num_sites} atoms and a radius of {radius:.4g} Å"
        )
    points = cartesian(crystal)
    centre, neighbour, image, distance = find_points_in_spheres(
        points, points, r=radius, pbc=_PERIODIC if periodic else _ALONE, lattice=lattice, tol=1e-8
    )
    other = (centre != neighbour) | (distance > 1e-8)
    return centre[other], neighbour[other], image[other], distance[other]


def cartesian(crystal: Crystal) -> np.ndarray:
    """Cartesian coordinates (N, 3), Å."""
    # Row by row, as pymatgen does: a product of matrices rounds differently, and reorders equal distances.
    return np.matmul(crystal.frac_coords[:, None, :], crystal.lattice).reshape(-1, 3)
