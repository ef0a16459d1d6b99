"""Every periodic image of every atom within a radius, the atom itself included: what attention to all of them sums.

Images of one neighbour at one distance cannot be told apart by what depends on distances; they are one edge that
counts as often as there are images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NEAR = 1e-5  # Å; distances that differ by less are one


class Images(NamedTuple):
    """Edges (E,) of a crystal of N atoms, sorted by centre, neighbour and distance.

    degree (N,) edges of each atom; neighbours (E,); distances (E,) Å, the mean of those that are one edge;
    multiplicity (E,) how many.
    """

    degree: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray
    multiplicity: np.ndarray


def merged_images(num_atoms: int, centre: np.ndarray, neighbour: np.ndarray, distance: np.ndarray) -> Images:
    """From all pairs (P,) of different places, and their distances (P,) Å."""
    itself = np.arange(num_atoms)
    centre, neighbour = np.concatenate([itself, centre]), np.concatenate([itself, neighbour])
    distance = np.concatenate([np.zeros(num_atoms), distance])
    order = np.lexsort((distance, neighbour, centre))
    centre, neighbour, distance = centre[order], neighbour[order], distance[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(centre) != 0) | (np.diff(neighbour) != 0) | (np.diff(distance) > NEAR)
    first = np.flatnonzero(new)
    multiplicity = np.diff(np.append(first, len(order)))
    return Images(
        np.bincount(centre[first], minlength=num_atoms),
        neighbour[first],
        np.add.reduceat(distance, first) / multiplicity,
        multiplicity,
    )


def joined_images(parts: Sequence[Images]) -> Images:
    """Those of several crystals, one after another; neighbours count from the first atom of their crystal."""
    return Images(*map(np.concatenate, zip(*parts, strict=True)))


def no_images(num_atoms: int) -> Images:
    """Atoms without edges."""
    return Images(*(np.zeros(count, dtype=np.int64) for count in (num_atoms, 0, 0, 0)))
