"""A periodic crystal as arrays: lattice, sites and the species on them, its formula, and what cannot be one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cgcnn import cif
from cgcnn.cif import ATOMIC_NUMBERS, StructureError

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Cells; the search for neighbours takes memory for all the space between the atoms, 85 GB at 100,000 cells.
_FARTHEST = 10
# Atoms all but in one place; a split site has a few, and ten thousand would take minutes to compare.
_MOST_PARTS = 100
# Occupancies that add up to 1 on paper may add up to a little more in floating point.
FULL = 1 + 1e-6
_SYMBOLS = {number: symbol for symbol, number in ATOMIC_NUMBERS.items() if symbol not in ("D", "T")}
_FORMULA_ORDER = {symbol: place for place, symbol in enumerate(cif.SYMBOLS_BY_ELECTRONEGATIVITY)}
# A disordered formula has up to so many atoms of an element, each amount this near. The product of the two is less
# than 1, so that no formula passes for a smaller one.
_MOST_ATOMS, _NEAR = 100, 0.005


@dataclass(frozen=True, eq=False)
class Crystal:
    """A periodic crystal of N sites that S species share; S = N where every site holds one element.

    lattice: (3, 3) float64 Å, rows a, b, c. frac_coords: (N, 3) float64, not always in [0, 1). numbers: (S,)
    uint8 atomic numbers, without oxidation states and isotopes. occupancies: (S,) float64 in (0, 1], how much
    of its site a species holds. site: (S,) int32 in 0..N-1, ascending.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    numbers: np.ndarray
    occupancies: np.ndarray
    site: np.ndarray

    @property
    def num_sites(self) -> int:
        return len(self.frac_coords)

    @property
    def is_ordered(self) -> bool:
        """Whether every site is full of one element."""
        return len(self.numbers) == self.num_sites and bool((np.abs(self.occupancies - 1) < 1e-8).all())

    @property
    def reduced_formula(self) -> str:
        """Elements by electronegativity with their amounts in `formula_unit`."""
        unit = formula_unit(self.numbers, self.occupancies)
        amounts = {_SYMBOLS[number]: amount for number, amount in unit.items()}
        order = sorted(amounts, key=lambda symbol: (_FORMULA_ORDER.get(symbol, math.inf), symbol))
        return "".join(f"{symbol}{amounts[symbol]:.8g}" if amounts[symbol] != 1 else symbol for symbol in order)

    def to_structure(self) -> Structure:
        """The same crystal as a pymatgen Structure."""
        from pymatgen.core import Structure

        species: list[dict[str, float]] = [{} for _ in range(self.num_sites)]
        rows = zip(self.site.tolist(), self.numbers.tolist(), self.occupancies.tolist(), strict=True)
        for site, number, occupancy in rows:
            species[site][_SYMBOLS[number]] = occupancy
        return Structure(self.lattice, species, self.frac_coords)

    @classmethod
    def from_structure(cls, structure: Structure) -> Crystal:
        """The crystal of a pymatgen Structure.

        Species of one element on one site (Fe2+ and Fe3+, H and D) become one; X next to other species is a
        vacancy. Raises StructureError where there is no usable crystal in it.
        """
        sites = [[(species.symbol, amount) for species, amount in site.species.items()] for site in structure]
        return checked_crystal(structure.lattice.matrix, np.asarray(structure.frac_coords, dtype=float), sites)


def formula_unit(numbers: np.ndarray, occupancies: np.ndarray) -> dict[int, float]:
    """Atomic number → amount in one formula unit, the same for every cell of a crystal; S species as in Crystal.

    Where all sites are full: whole numbers without a common divisor. Otherwise the smallest whole numbers that
    are the amounts to 0.005, so that 0.333 counts as a third; where more than 100 atoms of an element would be
    needed, the amounts over the largest, to three digits.
    """
    totals = np.bincount(numbers, weights=occupancies)
    present = np.flatnonzero(totals)
    amounts = totals[present]
    if (np.abs(occupancies - 1) < 1e-6).all():
        unit = amounts / np.gcd.reduce(amounts.round().astype(int))
    else:
        shares = (amounts / amounts.max()).round(6)  # without what the order of a sum changes
        multiples = np.outer(np.arange(1, _MOST_ATOMS + 1), shares)
        whole = multiples.round()
        fits = ((np.abs(multiples - whole) < _NEAR) & (whole > 0)).all(axis=1)
        unit = whole[fits.argmax()] if fits.any() else np.array([float(f"{share:.3g}") for share in shares])
    return dict(zip(present.tolist(), unit.tolist(), strict=True))


def checked_crystal(lattice: np.ndarray, frac_coords: np.ndarray, sites: list[list[tuple[str, float]]]) -> Crystal:
    """Crystal of (symbol, occupancy) pairs, one list a site; raises StructureError if it cannot be one."""
    if not sites:
        raise StructureError("has no atom sites")
    if not np.isfinite(frac_coords).all():
        raise StructureError("a coordinate is not a finite number")
    if (farthest := np.abs(frac_coords).max()) > _FARTHEST:
        raise StructureError(f"an atom lies {farthest:.3g} cells away from its cell")
    reach = cif.MIN_DISTANCE * cif.inverse_spacings(lattice)
    held = [_elements(site) for site in sites]
    totals = [sum(site.values()) for site in held]
    for number, total in enumerate(totals, start=1):
        if not 0 < total <= FULL:
            raise StructureError(f"occupancies on atom site {number} add up to {total:g}")
    shares = np.array(totals)
    num_close = 0
    for i, j in cif.close_pairs(frac_coords, reach):
        gap = frac_coords[i] - frac_coords[j]
        distance = np.linalg.norm((gap - np.rint(gap)) @ lattice, axis=1)
        # Parts of one split site may all but coincide; what fills the same place twice may not.
        twice = np.flatnonzero((distance < cif.MIN_DISTANCE) & (shares[i] + shares[j] > FULL))
        if len(twice):
            k = twice[0]
            raise StructureError(f"atoms {i[k] + 1} and {j[k] + 1} are {distance[k]:.4f} Å apart")
        if (num_close := num_close + len(i)) > _MOST_PARTS * len(held):
            raise StructureError(f"more than {_MOST_PARTS} parts of one split site")
    return Crystal(
        np.array(lattice, dtype=float),
        np.array(frac_coords, dtype=float),
        np.array([number for site in held for number in site], dtype=np.uint8),
        np.array([min(occupancy, 1.0) for site in held for occupancy in site.values()]),
        np.repeat(np.arange(len(held), dtype=np.int32), [len(site) for site in held]),
    )


def _elements(site: list[tuple[str, float]]) -> dict[int, float]:
    """Atomic number → occupancy on one site, vacancies left out."""
    held: dict[int, float] = {}
    for symbol, occupancy in site:
        if symbol == "X" and len(site) > 1:
            continue
        if symbol not in ATOMIC_NUMBERS:
            raise StructureError(f"unknown element {symbol!r}")
        if not occupancy > 0:
            raise StructureError(f"occupancy {occupancy:g} of {symbol} is not positive")
        number = ATOMIC_NUMBERS[symbol]
        held[number] = held.get(number, 0.0) + occupancy
    return held
