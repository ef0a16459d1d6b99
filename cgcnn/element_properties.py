"""What is measured of the elements, as numbers. Without torch: processes that build graphs need no network."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

MAX_NUMBER = 118
PROPERTIES: dict[str, Callable] = {
    "atomic number": lambda e: e.Z,
    "period": lambda e: e.row,
    "group": lambda e: e.group,
    "Mendeleev number": lambda e: e.mendeleev_no,
    "atomic mass (u)": lambda e: e.atomic_mass,
    "electronegativity (Pauling)": lambda e: e.X,
    "first ionisation energy (eV)": lambda e: e.ionization_energy,
    "electron affinity (eV)": lambda e: e.electron_affinity,
    "atomic radius (Å)": lambda e: e.atomic_radius,
    "mean ionic radius (Å)": lambda e: e.average_ionic_radius or None,
    "van der Waals radius (Å)": lambda e: e.van_der_waals_radius,
    "molar volume (cm³/mol)": lambda e: e.molar_volume,
    "melting point (K)": lambda e: e.melting_point,
    "electrons in the last shell": lambda e: e.full_electronic_structure[-1][2],
    "valence electrons": lambda e: e.group if e.group <= 12 else e.group - 10,
    "transition metal": lambda e: e.is_transition_metal,
    "d electrons": lambda e: sum(count for _, shell, count in e.full_electronic_structure if shell == "d"),
    "highest oxidation state": lambda e: e.max_oxidation_state,
    "lowest oxidation state": lambda e: e.min_oxidation_state,
}


@cache
def measured_properties() -> np.ndarray:
    """PROPERTIES of the elements (119, P) in their units, NaN for what pymatgen has no value of."""
    from pymatgen.core import Element

    values = np.full((MAX_NUMBER + 1, len(PROPERTIES)), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(1, MAX_NUMBER + 1):
            element = Element.from_Z(number)
            for column, value_of in enumerate(PROPERTIES.values()):
                with contextlib.suppress(KeyError, ValueError, IndexError, TypeError):
                    values[number, column] = float(value_of(element))
    return values


def element_properties(names: Sequence[str]) -> np.ndarray:
    """Some of PROPERTIES (119, len(names)) in their units; an element without one has the mean of the others."""
    values = measured_properties()[:, [list(PROPERTIES).index(name) for name in names]]
    return np.where(np.isnan(values), np.nanmean(values, axis=0), values)
