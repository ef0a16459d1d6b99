"""What a monolayer or slab shows to the vacuum: numbers of a whole crystal that work functions hang on.

A mean over atoms knows nothing of where in a layer they lie. Above a layer whose charges q are at heights z the
potential differs from its mean inside by their dipole moment Σ q z / ε₀A, and, where both sides are alike, by their
quadrupole moment Σ q z² / 2ε₀A. How an element's properties differ from the mean of its layer stands for its charge.
"""

from __future__ import annotations

import numpy as np

from cgcnn.element_properties import element_properties
from cgcnn.graph_table import GraphTable

VACUUM = 6.0  # Å; a wider empty space separates two layers
DEPTH = 0.5  # Å, over which an atom below the outermost counts e times less at the surface
# Property and what it is measured in, so that all are of order one
SCALES = {
    "electronegativity (Pauling)": 1.0,
    "valence electrons": 4.0,
    "first ionisation energy (eV)": 4.0,
    "electron affinity (eV)": 1.0,
}
NUM_FEATURES = 4 + 4 * len(SCALES)


def slab_features(graphs: GraphTable) -> np.ndarray:
    """Numbers of every crystal (n, NUM_FEATURES); all 0 for one that is not made of layers in a vacuum.

    A layer lies parallel to a face of the cell; several in a cell are averaged, so that supercells do not matter, nor
    does which side is up. Columns: 1; thickness (5 Å); atoms and valence electrons an area (10 Å², Å²); then for each
    property of SCALES the quadrupole and the dipole moment an area, as sign(x)·log(1 + |x|), and the smaller and the
    larger mean of the two surfaces.
    """
    features = np.zeros((len(graphs), NUM_FEATURES), dtype=np.float32)
    if not len(graphs):
        return features
    crystal, frac, properties, filling = _atoms(graphs)
    lattice = graphs.taken("lattice").reshape(-1, 3, 3)
    areas = np.linalg.norm(np.cross(np.roll(lattice, -1, axis=1), np.roll(lattice, -2, axis=1)), axis=2)
    heights = np.abs(np.linalg.det(lattice))[:, None] / areas
    widest = np.stack(
        [_widest_gap(frac[:, axis], crystal, len(graphs)) * heights[:, axis] for axis in range(3)], axis=1
    )
    axis = widest.argmax(axis=1)
    height, area = (values[np.arange(len(graphs)), axis] for values in (heights, areas))
    is_slab = widest.max(axis=1) >= VACUUM
    atoms = np.flatnonzero(is_slab[crystal])
    if not len(atoms):
        return features
    crystal, properties, filling = crystal[atoms], properties[atoms], filling[atoms]
    order, layer, z = _layers(frac[atoms, axis[crystal]], crystal, height)
    crystal, properties, filling = crystal[order], properties[order], filling[order]
    of_layer, first, layer = np.unique(layer, return_index=True, return_inverse=True)
    found = _describe(layer, len(of_layer), z, properties, filling, area[crystal[first]])
    slab = crystal[first]
    sums = np.zeros_like(features, dtype=float)
    np.add.at(sums, slab, found)
    features[is_slab] = sums[is_slab] / np.bincount(slab, minlength=len(graphs))[is_slab, None]
    return features


def _atoms(graphs: GraphTable) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of all atoms: crystal (N,), coordinates in [0, 1) (N, 3), mean properties (N, P), filling of the site (N,)."""
    num_atoms, num_species = graphs.length["atoms"], graphs.length["species"]
    crystal = np.repeat(np.arange(len(graphs)), num_atoms)
    site = graphs.taken("site") + np.repeat(np.cumsum(num_atoms) - num_atoms, num_species)
    occupancies = graphs.taken("occupancies").astype(float)
    filling = np.bincount(site, weights=occupancies, minlength=len(crystal))
    of_species = element_properties(list(SCALES))[graphs.taken("numbers")] / list(SCALES.values())
    properties = np.zeros((len(crystal), len(SCALES)))
    np.add.at(properties, site, of_species * occupancies[:, None])
    return crystal, graphs.taken("frac_coords").reshape(-1, 3) % 1.0, properties / filling[:, None], filling


def _gaps(height: np.ndarray, crystal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atoms in order of crystal and height (N,), and how far above each of them the next one is, around the cell."""
    order = np.lexsort((height, crystal))
    height, crystal = height[order], crystal[order]
    first = np.flatnonzero(np.append(True, crystal[1:] != crystal[:-1]))
    last = np.append(first[1:], len(crystal)) - 1
    above = np.append(height[1:], 0.0)
    above[last] = height[first] + 1.0
    return order, above - height


def _widest_gap(height: np.ndarray, crystal: np.ndarray, count: int) -> np.ndarray:
    """The widest empty space of every crystal (count,), as a fraction of its cell."""
    order, gap = _gaps(height, crystal)
    widest = np.zeros(count)
    np.maximum.at(widest, crystal[order], gap)
    return widest


def _layers(fraction: np.ndarray, crystal: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, ...]:
    """Order of the atoms (N,), and in that order the layer of each (N,) and its height in it (N,) in Å."""
    order, gap = _gaps(fraction, crystal)
    crystal, z = crystal[order], fraction[order]
    ends = (gap * height[crystal] >= VACUUM).astype(int)
    before = np.cumsum(ends) - ends  # how many layers end below an atom, in all crystals
    first = np.flatnonzero(np.append(True, crystal[1:] != crystal[:-1]))
    count = np.add.reduceat(ends, first)
    number = before - np.repeat(before[first], np.diff(np.append(first, len(crystal))))
    count = np.repeat(count, np.diff(np.append(first, len(crystal))))
    wraps = number == count  # above the last empty space: the lower part of the first layer, one cell up
    z = (z - wraps) * height[crystal]
    number = np.where(wraps, 0, number)
    return order, crystal * (number.max() + 1) + number, z


def _describe(
    layer: np.ndarray, count: int, z: np.ndarray, properties: np.ndarray, filling: np.ndarray, area: np.ndarray
) -> np.ndarray:
    """Features (count, NUM_FEATURES) of layers: layer and z of each atom (N,), their areas (count,) in Å²."""

    def total(values: np.ndarray) -> np.ndarray:
        sums = np.zeros((count, *values.shape[1:]))
        np.add.at(sums, layer, values)
        return sums

    top, bottom = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(top, layer, z)
    np.minimum.at(bottom, layer, z)
    atoms = total(filling)
    mean = total(properties * filling[:, None]) / atoms[:, None]
    charge = (properties - mean[layer]) * filling[:, None]
    centre = z - (total(z * filling) / atoms)[layer]
    moments = [total(charge * (centre**power)[:, None]) / area[:, None] for power in (2, 1)]
    moments[1] = np.abs(moments[1])
    sides = []
    for depth in (top[layer] - z, z - bottom[layer]):
        weight = filling * np.exp(-depth / DEPTH)
        sides.append(total(properties * weight[:, None]) / total(weight)[:, None])
    valence = total(properties[:, 1] * filling)
    plain = [np.ones(count), (top - bottom) / 5, 10 * atoms / area, valence * SCALES["valence electrons"] / area]
    return np.concatenate(
        [
            np.stack(plain, axis=1),
            *(np.sign(m) * np.log1p(np.abs(m)) for m in moments),
            np.minimum(*sides),
            np.maximum(*sides),
        ],
        axis=1,
    )
