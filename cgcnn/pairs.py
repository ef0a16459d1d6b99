"""Pairs of atoms of a crystal, and how far apart they are."""

from __future__ import annotations

import numpy as np

from cgcnn.cif import StructureError
from cgcnn.crystal import Crystal

# Pairs one search may return: 12 neighbours never need more; a cell too dense to be a crystal does.
MAX_PAIRS = 20_000_000
DENSEST = 1.0  # atoms/Å³; diamond has 0.18
# Boxes as wide as the radius that the search sorts the space between the atoms into, 220 bytes each.
MAX_BOXES = 4_000_000
_PERIODIC, _ALONE = np.ones(3, dtype=np.int64), np.zeros(3, dtype=np.int64)


def pairs_within(crystal: Crystal, radius: float, *, periodic: bool = True) -> tuple[np.ndarray, ...]:
    """Centre, neighbour, image of its cell (P, 3) and distance (Å) of all pairs within a radius.

    periodic: without, of the atoms of the cell alone. Raises StructureError for a cell too dense or too empty to be a
    crystal's.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(crystal.lattice, dtype=float)
    volume = abs(np.linalg.det(lattice))
    expected = crystal.num_sites**2 * 4.19 * radius * radius * radius / volume if volume > 0 else np.inf
    is_denser = crystal.num_sites > DENSEST * volume
    if not expected < (MAX_PAIRS / 4 if is_denser else MAX_PAIRS):
        raise StructureError(
            f"cell volume {volume:.3g} Å³ is too small for {crystal.num_sites} atoms and a radius of {radius:.4g} Å"
        )
    points = cartesian(crystal)
    _check_spread(points, radius)
    centre, neighbour, image, distance = find_points_in_spheres(
        points, points, r=radius, pbc=_PERIODIC if periodic else _ALONE, lattice=lattice, tol=1e-8
    )
    other = (centre != neighbour) | (distance > 1e-8)
    return centre[other], neighbour[other], image[other], distance[other]


def _check_spread(points: np.ndarray, radius: float) -> None:
    """Raises StructureError where atoms are too far apart, or too many in one place, for the memory of a search."""
    spread = np.ptp(points, axis=0)
    if np.prod(spread / radius + 3) > MAX_BOXES:
        size = " × ".join(f"{length:.4g}" for length in spread)
        raise StructureError(f"the atoms of its cell are spread over {size} Å, too far for a crystal's")
    if 4.19 * len(points) ** 2 > MAX_PAIRS:
        boxes = np.floor((points - points.min(axis=0)) / radius).astype(np.int64)
        _, counts = np.unique(boxes, axis=0, return_counts=True)
        if 4.19 * (counts.astype(float) ** 2).sum() > MAX_PAIRS:  # a sphere, of boxes filled alike
            raise StructureError(f"{counts.max()} atoms stand within {radius:.4g} Å, too dense to be a crystal")


def cartesian(crystal: Crystal) -> np.ndarray:
    """Cartesian coordinates (N, 3), Å."""
    # Row by row, as pymatgen does: a product of matrices rounds differently, and reorders equal distances.
    return np.matmul(crystal.frac_coords[:, None, :], crystal.lattice).reshape(-1, 3)
