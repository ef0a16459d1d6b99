"""Units of energy, and whether work functions and band gaps can have the one they are said to have."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

# eV in one of each: CODATA 2018 (the joule is exact).
EV = {"eV": 1.0, "meV": 1e-3, "hartree": 27.211386245988, "Ry": 13.605693122994, "J": 1 / 1.602176634e-19}
WORK_RANGE = (1.0, 10.0)  # eV, of a median
LARGEST_GAP = 20.0  # eV; only solid helium and neon have more
LARGEST_FORMATION = 10.0  # eV/atom, of a median's size
# Positive gaps that all lie below this are in hartree or rydberg more often than in eV, if there are so many.
_SUSPICIOUS_GAP, _ENOUGH_GAPS = 0.6, 10
# What a table's median usually is (eV), to choose between units that are all possible.
_USUAL_WORK, _USUAL_GAP = 4.5, 1.5


def work_fault(values: Sequence[float], unit: str) -> str | None:
    """Why work functions of this unit cannot be right, and the unit that they look like; None if they can."""
    median = statistics.median(values)
    low, high = WORK_RANGE
    if low <= median * EV[unit] <= high:
        return None
    fitting = [name for name in EV if low <= median * EV[name] <= high]
    what = f"as {unit}, the median work function is {median * EV[unit]:.4g} eV, not {low:g} to {high:g} eV"
    return f"{what}; {_advice(median, fitting, _USUAL_WORK, '--work-unit')}"


def gap_fault(values: Sequence[float], unit: str, *, stated: bool) -> str | None:
    """Why band gaps of this unit cannot be right, and the unit that they look like; None if they can.

    stated: the header or a flag names the unit, so that small gaps are believed. Few gaps above 20 eV are no
    fault of the unit.
    """
    positive = [value for value in values if value > 0]
    if not positive:
        return None
    median, largest = statistics.median(positive), max(positive)
    fitting = [name for name in EV if name != unit and median * EV[name] > 0.05 and largest * EV[name] <= LARGEST_GAP]
    too_large = sum(value * EV[unit] > LARGEST_GAP for value in positive)
    if too_large > len(positive) / 2:
        what = f"as {unit}, {too_large} of {len(positive)} positive band gaps are above {LARGEST_GAP:g} eV"
        return f"{what} (largest {largest * EV[unit]:.4g}); {_advice(median, fitting, _USUAL_GAP, '--gap-unit')}"
    tiny = largest * EV[unit] < 1e-6
    few = len(positive) < _ENOUGH_GAPS
    if not tiny and (stated or few or largest * EV[unit] >= _SUSPICIOUS_GAP):
        return None
    what = f"as {unit}, all {len(positive)} positive band gaps are {largest * EV[unit]:.3g} eV or less"
    believe = "" if tiny else f"; if {unit} is right, say --gap-unit {unit}"
    return f"{what}; {_advice(median, fitting, _USUAL_GAP, '--gap-unit')}{believe}"


def _advice(median: float, fitting: Sequence[str], usual: float, flag: str) -> str:
    """The unit among those possible that brings the median nearest to the usual one, and its flag."""
    if not fitting:
        return f"none of {', '.join(EV)} would make it so: is it the right column?"
    unit = min(fitting, key=lambda name: max(median * EV[name] / usual, usual / (median * EV[name])))
    return f"they look like {unit}, × {EV[unit]:.6g} to eV (median {median * EV[unit]:.3g} eV): {flag} {unit}"
