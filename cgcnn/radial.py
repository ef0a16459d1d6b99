"""How far apart the elements of a crystal are: its partial radial histograms, one for each ordered pair of elements.

What a network that sums filters of distances over pairs of atoms needs to know of a crystal, and no more: with W(d)
the filter, Σ_{i∈c} Σ_{j∈c'} W(d_ij) = Σ_b count_{cc'}(b) W(r_b), where every distance is shared by the two points of
the grid on either side of it, as linear interpolation of W between them does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cgcnn.crystal import Crystal

SPACING = 0.02  # Å, of the grid at most


def num_intervals(cutoff: float) -> int:
    """How many intervals the grid has from 0 to the cutoff (Å)."""
    return math.ceil(cutoff / SPACING - 1e-9)


@dataclass(frozen=True, eq=False)
class RadialHistogram:
    """Of one crystal with C elements, on a grid of points from 0 to the cutoff.

    elements (C,) atomic numbers, ascending; amounts (C,) atoms of each, occupancies counted. pair_bins (C²,): how
    many points of the grid hold something, of each pair (c, c'), the second running fastest. bins (H,): these points,
    ascending for each pair; counts (H,): what they hold, Σ_{i∈c} Σ_{j∈c'} of occupancies and shares.
    """

    elements: np.ndarray
    amounts: np.ndarray
    pair_bins: np.ndarray
    bins: np.ndarray
    counts: np.ndarray


def nothing() -> RadialHistogram:
    """Of graphs that have edges instead."""
    return RadialHistogram(*(np.zeros(0, kind) for kind in ("u1", "f4", "i4", "i2", "f4")))


def radial_histogram(
    crystal: Crystal,
    centre: np.ndarray,
    neighbour: np.ndarray,
    distance: np.ndarray,
    *,
    cutoff: float,
    intervals: int,
) -> RadialHistogram:
    """From the pairs (P,) of sites i and j and their distances (P,) Å; what is beyond the cutoff counts as at it.

    The grid has `intervals` + 1 points, from 0 to the cutoff (Å).
    """
    elements, slot = np.unique(crystal.numbers, return_inverse=True)
    amounts = np.bincount(slot, crystal.occupancies)
    one, other, pair = _species_pairs(crystal.site, crystal.num_sites, centre, neighbour)
    weight = crystal.occupancies[one] * crystal.occupancies[other]
    position = np.minimum(distance[pair] * (intervals / cutoff), intervals)
    low = np.minimum(position.astype(np.int64), intervals - 1)
    share = position - low
    points = intervals + 1
    first = (slot[one] * len(elements) + slot[other]) * points + low
    size = len(elements) ** 2 * points
    held = np.bincount(first, weight * (1 - share), minlength=size)
    held += np.bincount(first + 1, weight * share, minlength=size)
    filled = np.flatnonzero(held)
    return RadialHistogram(
        elements.astype(np.uint8),
        amounts.astype(np.float32),
        np.bincount(filled // points, minlength=len(elements) ** 2).astype(np.int32),
        (filled % points).astype(np.int16),
        held[filled].astype(np.float32),
    )


def _species_pairs(
    site: np.ndarray, num_sites: int, centre: np.ndarray, neighbour: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of sites (P,) → pairs of what stands on them: two positions among the species, and the pair's own.

    site (S,) ascending.
    """
    if len(site) == num_sites:
        return centre, neighbour, np.arange(len(centre))
    species = np.bincount(site, minlength=num_sites)
    first = np.cumsum(species) - species
    of_pair = species[centre] * species[neighbour]
    pair = np.repeat(np.arange(len(centre)), of_pair)
    k = np.arange(of_pair.sum()) - np.repeat(np.cumsum(of_pair) - of_pair, of_pair)
    one, other = np.divmod(k, species[neighbour][pair])
    return first[centre[pair]] + one, first[neighbour[pair]] + other, pair
