"""The periodic table as a grid, and errors by the elements that crystals hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cgcnn.cif import ATOMIC_NUMBERS
from cgcnn.graph_table import GraphTable

SYMBOLS = {number: symbol for symbol, number in ATOMIC_NUMBERS.items() if symbol not in ("D", "T")}
NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)  # atomic numbers that end a period


@dataclass(frozen=True)
class ElementError:
    """Mean absolute error over the `count` crystals that hold an element; None where there is no crystal."""

    number: int
    symbol: str
    row: int
    column: int
    mean: float | None
    count: int


def place(number: int) -> tuple[int, int]:
    """Row and column, from 1, of an element on the table of 18 groups; lanthanides and actinides in rows 8 and 9."""
    period = next(k for k, last in enumerate(NOBLE) if number <= last)
    after = number - NOBLE[period - 1]  # 1 for the alkali metals
    length = NOBLE[period] - NOBLE[period - 1]
    if after <= 2 and not (period == 1 and after == 2):
        return period, after
    if length == 32 and after <= 17:
        return period + 2, after
    return period, 18 - (NOBLE[period] - number)


def element_mask(table: GraphTable, rows: Sequence[int]) -> np.ndarray:
    """Whether each of these crystals holds the element of each atomic number: (n, 119)."""
    numbers = np.asarray(table.columns["numbers"])
    mask = np.zeros((len(rows), 119), dtype=bool)
    for k, row in enumerate(rows):
        start = int(table.start["species"][row])
        mask[k, numbers[start : start + int(table.length["species"][row])]] = True
    return mask


def errors_by_element(mask: np.ndarray, error: np.ndarray) -> list[ElementError]:
    """Mean of |error| (n,) over the crystals that hold each of the 118 elements, mask (n, 119)."""
    counts = mask.sum(axis=0)
    sums = np.abs(error) @ mask
    return [
        ElementError(z, SYMBOLS[z], *place(z), float(sums[z] / counts[z]) if counts[z] else None, int(counts[z]))
        for z in range(1, 119)
    ]
