"""Numbers of a whole crystal that join its vector after pooling: what a mean over atoms cannot know."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from cgcnn import slabs
from cgcnn.composition import atoms_of_elements, shares
from cgcnn.crystal import formula_unit
from cgcnn.features import MAX_NUMBER
from cgcnn.graph_table import GraphTable
from cgcnn.labels import DataError
from cgcnn.symmetry import CELL, NUM_GROUPS, NUM_VALUES, SYSTEMS, crystal_system

_STEP = 1e-3  # charges closer than this are one


def global_features(kinds: str, graphs: GraphTable) -> np.ndarray | None:
    """The features of these kinds, joined with `+`, of every crystal (n, G); None for no kind.

    The graphs must have been built with symmetry where `needs_symmetry`. Raises DataError as `kinds_of`.
    """
    names = kinds_of(kinds)
    return np.concatenate([GLOBAL_FEATURES[name][0](graphs) for name in names], axis=1) if names else None


def num_global_features(kinds: str) -> int:
    """G of these kinds."""
    return sum(GLOBAL_FEATURES[kind][1] for kind in kinds_of(kinds))


def needs_symmetry(kinds: str) -> bool:
    """Whether graphs must be built with `cell_and_symmetry` for these kinds."""
    return not _FROM_SYMMETRY.isdisjoint(kinds_of(kinds))


def kinds_of(kinds: str) -> list[str]:
    """The kinds that are joined with `+`. Raises DataError for one that is none, or that stands twice."""
    names = kinds.split("+") if kinds else []
    for k, name in enumerate(names):
        if name not in GLOBAL_FEATURES:
            known = ", ".join(GLOBAL_FEATURES)
            raise DataError(f"--global-features {kinds}: {name!r} is none of {known} (joined with +)")
        if name in names[:k]:
            raise DataError(f"--global-features {kinds}: {name} stands twice")
    return names


def lattice_features(graphs: GraphTable) -> np.ndarray:
    """`symmetry.CELL` of every crystal (n, 8): reduced cell, volume an atom, density."""
    return _symmetry(graphs)[:, 1:].astype(np.float32)


def system_features(graphs: GraphTable) -> np.ndarray:
    """Which crystal system it is, one-hot (n, 7)."""
    return np.eye(len(SYSTEMS), dtype=np.float32)[crystal_system(_symmetry(graphs)[:, 0])]


def group_features(graphs: GraphTable) -> np.ndarray:
    """Which space group it is, one-hot (n, 230)."""
    return np.eye(NUM_GROUPS, dtype=np.float32)[_symmetry(graphs)[:, 0].astype(int) - 1]


def _symmetry(graphs: GraphTable) -> np.ndarray:
    return graphs.taken("symmetry").reshape(len(graphs), NUM_VALUES)


def valence_features(graphs: GraphTable) -> np.ndarray:
    """`formula_valence` of every crystal (n, 6)."""
    numbers, occupancies = graphs.columns["numbers"], graphs.columns["occupancies"]
    known: dict[str, tuple[float, ...]] = {}
    rows = np.empty((len(graphs), 6), dtype=np.float32)
    for k, formula in enumerate(graphs.formulas):
        if formula not in known:
            part = slice(s := int(graphs.start["species"][k]), s + int(graphs.length["species"][k]))
            known[formula] = formula_valence(formula_unit(numbers[part], occupancies[part].astype(float)))
        rows[k] = known[formula]
    return rows


def composition_averages(graphs: GraphTable) -> np.ndarray:
    """Variance of Pauling's electronegativity and mean first ionisation energy (eV) over the atoms (n, 2).

    From the composition, occupancies as weights; NaN where an element has no such number.
    """
    from pymatgen.core import Element

    properties = np.full((MAX_NUMBER + 1, 2), np.nan)
    amounts = shares(atoms_of_elements(graphs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in np.unique(amounts.indices):
            element = Element.from_Z(int(number))
            properties[number] = element.X, element.ionization_energy or np.nan
    electronegativity, ionisation = properties.T
    spread = amounts.copy()  # what it holds stands in the order of the crystals
    crystal = np.repeat(np.arange(len(graphs)), np.diff(amounts.indptr))
    spread.data *= (electronegativity[amounts.indices] - (amounts @ electronegativity)[crystal]) ** 2
    return np.stack([np.asarray(spread.sum(axis=1)).ravel(), amounts @ ionisation], axis=1)


def formula_valence(unit: Mapping[int, float]) -> tuple[float, ...]:
    """Whether the electrons of a composition can pair and its charges can balance: six numbers of order one.

    unit: atomic number → amount in one formula unit, as `crystal.formula_unit` gives it: with that the choice
    of cell does not matter. 1. (1 − cos πn)/2 with n electrons a formula unit: 1 for an odd number, which leaves a
    band half full. 2., 3. the smallest charge an atom that the elements' common oxidation states leave, and
    whether it is 0; 4., 5. the same with all their known states. 6. number of elements over 4.
    """
    electrons = sum(number * amount for number, amount in unit.items())
    atoms = sum(unit.values())
    features = [(1 - math.cos(math.pi * electrons)) / 2]
    for common in (True, False):
        charge = _smallest_charge(unit, common=common) / atoms
        features += [charge, float(charge < _STEP)]
    return (*features, len(unit) / 4)


def _smallest_charge(unit: Mapping[int, float], *, common: bool) -> float:
    """The smallest total charge |Σ n·q| over one oxidation state q for each element."""
    totals = {0.0}
    for number, amount in unit.items():
        states = _oxidation_states(number, common=common)
        totals = {round((total + amount * q) / _STEP) * _STEP for total in totals for q in states}
    return min(map(abs, totals))


@cache
def _oxidation_states(number: int, *, common: bool) -> tuple[float, ...]:
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        element = Element.from_Z(number)
        return tuple((element.common_oxidation_states if common else element.oxidation_states) or (0,))


# kind → (function of the graphs, how many numbers it gives)
GLOBAL_FEATURES: dict[str, tuple[Callable[[GraphTable], np.ndarray], int]] = {
    "valence": (valence_features, 6),
    "slab": (slabs.slab_features, slabs.NUM_FEATURES),
    "lattice": (lattice_features, len(CELL)),
    "symmetry": (system_features, len(SYSTEMS)),
    "spacegroup": (group_features, NUM_GROUPS),
}
_FROM_SYMMETRY = {"lattice", "symmetry", "spacegroup"}
