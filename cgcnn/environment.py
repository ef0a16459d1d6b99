"""The surroundings of an atom as numbers that rotation, origin and choice of cell leave alone: angles included.

Twelve distances do not tell a tetrahedron from a square, or an atom inside a layer from one at its surface. The
density of neighbours around an atom, expanded in spherical harmonics, does: its power spectrum p_l = Σ_m T_lm T'_lm
(Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115 (2013)) is Σ_jk w_j w'_k P_l(cos θ_jk) over pairs of neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from cgcnn.element_properties import element_properties

if TYPE_CHECKING:
    from cgcnn.crystal import Crystal

RADIUS = 6.0  # Å, neighbours that count
DEGREES = (1, 2, 3, 4, 6)
# Neighbours count by one, and by how much they differ from the centre in these properties of the elements: the
# number is the difference that counts as much as a neighbour does.
PROPERTIES = {"electronegativity (Pauling)": 1.0, "valence electrons": 4.0}
SIZE = "atomic radius (Å)"
PAIRS_AT_ONCE = 500_000  # of atoms: each takes a kilobyte while its harmonics are summed
CLOSEST = 0.5  # Å; what is nearer is the other half of a split site, not a neighbour
_CHANNELS = 1 + len(PROPERTIES)
_PAIRS = [(a, b) for a in range(_CHANNELS) for b in range(a, _CHANNELS)]
_SHELL_WIDTH = 0.15  # of the first shell, relative to the nearest distance
_RANGE = 1.5  # Å, over which the second weight falls by e
NUM_FEATURES = 2 + 2 * (_CHANNELS + len(DEGREES) * len(_PAIRS))


def of_crystals(found: Sequence[tuple[Crystal, np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """`environments` of the atoms of several crystals, one after another (ΣN, NUM_FEATURES).

    found: each with centre, neighbour and vector of its pairs. A site of several species has the mean of their
    properties.
    """
    crystals, centres, neighbours, vectors = zip(*found, strict=True)
    counts = np.array([crystal.num_sites for crystal in crystals])
    num_atoms, first = int(counts.sum()), np.cumsum(counts) - counts
    centre, neighbour, site = (
        np.concatenate([part + start for part, start in zip(parts, first, strict=True)])
        for parts in (centres, neighbours, [crystal.site for crystal in crystals])
    )
    numbers = np.concatenate([crystal.numbers for crystal in crystals])
    occupancies = np.concatenate([crystal.occupancies for crystal in crystals])
    weights = np.bincount(site, weights=occupancies, minlength=num_atoms)
    properties = np.stack(
        [
            np.bincount(site, weights=occupancies * column, minlength=num_atoms) / weights
            for column in element_properties([*PROPERTIES, SIZE])[numbers].T
        ],
        axis=1,
    )
    vectors = np.concatenate(vectors)
    return environments(num_atoms, centre, neighbour, vectors, weights, properties[:, :-1], properties[:, -1])


def environments(
    num_atoms: int,
    centre: np.ndarray,
    neighbour: np.ndarray,
    vectors: np.ndarray,
    weights: np.ndarray,
    properties: np.ndarray,
    sizes: np.ndarray,
) -> np.ndarray:
    """Features of N atoms (N, NUM_FEATURES) from all pairs within RADIUS, as sign(x)·log(1 + |x|).

    centre, neighbour (P,); vectors (P, 3) from centre to neighbour, Å; weights (N,) occupancy of each site;
    properties (N, 2) as PROPERTIES; sizes (N,) atomic radii, Å. The columns: distance of the nearest neighbour, and
    the same over the atom's radius; then, for the first shell and for a wider range, the sum over the neighbours of
    each channel and the power spectrum of each pair of channels.
    """
    if len(centre) > PAIRS_AT_ONCE and (upper := centre > int(np.median(centre))).any():
        low, high = (
            environments(num_atoms, centre[kept], neighbour[kept], vectors[kept], weights, properties, sizes)
            for kept in (~upper, upper)
        )
        return np.concatenate([low[: (first := centre[upper].min())], high[first:]])
    distance = np.linalg.norm(vectors, axis=1)
    apart = distance > CLOSEST
    centre, neighbour, vectors, distance = centre[apart], neighbour[apart], vectors[apart], distance[apart]
    nearest = np.full(num_atoms, RADIUS)
    np.minimum.at(nearest, centre, distance)
    smooth = 0.5 * (1 + np.cos(np.pi * np.minimum(distance / RADIUS, 1))) * weights[neighbour]
    differences = (properties[neighbour] - properties[centre]) / list(PROPERTIES.values())
    channels = np.concatenate([np.ones((len(centre), 1)), differences], axis=1)
    harmonics = spherical_harmonics(vectors / distance[:, None], max(DEGREES))
    columns = [nearest[:, None], (nearest / sizes)[:, None]]
    # one row an atom and channel: the sums need no array of all pairs, channels and harmonics
    rows = (centre + num_atoms * np.arange(_CHANNELS)[:, None]).ravel()
    place = rows, np.tile(np.arange(len(centre)), _CHANNELS)
    first_shell = np.exp(-(((distance / nearest[centre] - 1) / _SHELL_WIDTH) ** 2))
    for radial in (first_shell, 8 * np.exp(-distance / _RANGE)):
        density = (radial * smooth)[:, None] * channels
        by_centre = csr_array((density.T.ravel(), place), (_CHANNELS * num_atoms, len(centre)))
        moments = (by_centre @ harmonics).reshape(_CHANNELS, num_atoms, -1).transpose(1, 0, 2)
        columns.append(moments[:, :, 0])
        for degree in DEGREES:
            part = moments[:, :, degree**2 : (degree + 1) ** 2]
            columns.append(np.stack([(part[:, a] * part[:, b]).sum(axis=1) for a, b in _PAIRS], axis=1))
    features = np.concatenate(columns, axis=1)
    return np.sign(features) * np.log1p(np.abs(features))


def spherical_harmonics(directions: np.ndarray, max_degree: int) -> np.ndarray:
    """Real harmonics of unit vectors (P, 3) → (P, (max_degree + 1)²), with Σ_m Y_lm(a) Y_lm(b) = P_l(a·b).

    Associated Legendre functions by their recurrence in l, with sin^m taken into the polynomials in x and y.
    """
    x, y, z = directions.T
    legendre = {(0, 0): np.ones_like(z)}
    for m in range(max_degree + 1):
        if m:
            legendre[m, m] = (2 * m - 1) * legendre[m - 1, m - 1]
        for degree in range(m + 1, max_degree + 1):
            below = legendre.get((degree - 2, m), 0.0)
            above = (2 * degree - 1) * z * legendre[degree - 1, m] - (degree + m - 1) * below
            legendre[degree, m] = above / (degree - m)
    cosine, sine = [np.ones_like(x)], [np.zeros_like(x)]
    for _ in range(max_degree):
        cosine, sine = [*cosine, x * cosine[-1] - y * sine[-1]], [*sine, x * sine[-1] + y * cosine[-1]]
    columns = []
    for degree in range(max_degree + 1):
        columns.append(legendre[degree, 0])
        for m in range(1, degree + 1):
            scale = math.sqrt(2 * math.factorial(degree - m) / math.factorial(degree + m))
            columns += [scale * legendre[degree, m] * cosine[m], scale * legendre[degree, m] * sine[m]]
    return np.stack(columns, axis=1)
