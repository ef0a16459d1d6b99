"""Elements and distances → numbers: the element table of CGCNN, and distances in Gaussians."""

from __future__ import annotations

import csv
import json
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from cgcnn.element_properties import MAX_NUMBER, measured_properties
from cgcnn.labels import DataError
from cgcnn.reading import read_bytes

TAIL, BEYOND_TAIL = 1e-30, 69.2  # exp(−69.2) = 9e−31
NUM_LEARNED = 100  # rows of a learned table, by atomic number, as published for ECNet
PLUTONIUM = 94  # the heaviest element that crystals of any number are made of
# Columns of elements.csv and how many bins each has: together the 92 numbers of the CGCNN element table
# (Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), Table I of the supplement).
BINS = {
    "group": 19,
    "period": 7,
    "electronegativity": 10,
    "covalent_radius": 10,
    "valence_electrons": 12,
    "first_ionisation": 10,
    "electron_affinity": 10,
    "block": 4,
    "atomic_volume": 10,
}
LARGEST = 1e9  # of a number of an element, which is learned from as it is


@cache
def element_table() -> torch.Tensor:
    """The packaged element vectors (119, 92), a row an atomic number; rows of NaN for elements without one."""
    table = np.full((MAX_NUMBER + 1, sum(BINS.values())), np.nan, dtype=np.float32)
    text = resources.files("cgcnn").joinpath("elements.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        vector = [np.eye(size)[int(row[name])] if row[name] else np.zeros(size) for name, size in BINS.items()]
        table[int(row["number"])] = np.concatenate(vector)
    return torch.from_numpy(table)


def learned_elements(last: int = NUM_LEARNED - 1) -> torch.Tensor:
    """For networks that learn the vectors themselves (119, 1): 0, NaN for elements beyond the last of its table."""
    table = torch.zeros(MAX_NUMBER + 1, 1)
    table[0], table[last + 1 :] = torch.nan, torch.nan
    return table


def read_element_table(path: Path) -> torch.Tensor:
    """Element vectors (119, F) from an `atom_init.json` (atomic number → vector); NaN rows for those it lacks.

    Raises DataError for a file that is no such table.
    """
    try:
        vectors = {int(number): vector for number, vector in json.loads(read_bytes(path).decode("utf-8-sig")).items()}
        matrix = np.array(list(vectors.values()), dtype=np.float32)
        if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
            raise ValueError("vectors of one length with finite numbers are expected")
        if np.abs(matrix).max() > LARGEST:
            raise ValueError(f"{np.abs(matrix).max():g} is larger than {LARGEST:g}")
        if not 1 <= min(vectors) <= max(vectors) <= MAX_NUMBER:
            raise ValueError(f"atomic numbers are from 1 to {MAX_NUMBER}")
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, RecursionError):
            error = "too many brackets inside each other"
        raise DataError(f"{path}: not a table of element vectors ({error})") from None
    table = np.full((MAX_NUMBER + 1, matrix.shape[1]), np.nan, dtype=np.float32)
    table[list(vectors)] = matrix
    return torch.from_numpy(table)


def property_table() -> torch.Tensor:
    """All of PROPERTIES (119, P) with mean 0 and deviation 1 up to plutonium; what an element lacks is 0, the mean.

    The network needs no flag for that: the noble gases lack most, and their group tells them.
    """
    values = measured_properties()
    known = values[: PLUTONIUM + 1]
    scaled = (values - np.nanmean(known, axis=0)) / np.nanstd(known, axis=0)
    table = np.where(np.isnan(values), 0.0, scaled)
    table[0] = np.nan
    return torch.from_numpy(table.astype(np.float32))


def missing_table() -> torch.Tensor:
    """Which of PROPERTIES an element lacks, 1 or 0 (119, P'), those that all have up to plutonium left out."""
    missing = np.isnan(measured_properties())
    table = missing[:, missing[1 : PLUTONIUM + 1].any(axis=0)].astype(np.float32)
    table[0] = np.nan
    return torch.from_numpy(table)


def onehot_table() -> torch.Tensor:
    """A place of its own for every element (119, 118)."""
    table = torch.eye(MAX_NUMBER + 1)[:, 1:]
    table[0] = torch.nan
    return table


def bits_table() -> torch.Tensor:
    """The binary digits of the atomic number (119, 7), the lowest first."""
    numbers = torch.arange(MAX_NUMBER + 1)[:, None]
    table = (numbers >> torch.arange(MAX_NUMBER.bit_length()) & 1).float()
    table[0] = torch.nan
    return table


def atom_features(kinds: str, own_table: Path | None = None) -> torch.Tensor:
    """Element vectors (119, F₀) of these kinds, joined with `+`; own_table: an atom_init.json that stands for `json`.

    Raises DataError for a kind that is none.
    """
    tables = {
        "json": lambda: read_element_table(own_table) if own_table else element_table(),
        "properties": property_table,
        "onehot": onehot_table,
        "bits": bits_table,
        "missing": missing_table,
    }
    names = kinds.split("+")
    if len(set(names)) < len(names):
        raise DataError(f"--atom-features {kinds}: each kind once")
    for name in names:
        if name not in tables:
            raise DataError(f"--atom-features {kinds}: {name!r} is none of {', '.join(tables)} (joined with +)")
    return torch.cat([tables[name]() for name in names], dim=1)


def missing_elements(elements: torch.Tensor, numbers: torch.Tensor) -> list[int]:
    """Atomic numbers among `numbers`, ascending, that the element vectors (119, F) have none for."""
    return [int(number) for number in torch.unique(numbers) if torch.isnan(elements[int(number)]).any()]


class RadialBasis(torch.nn.Module):
    """Distances (E,) Å → (E, K) exp(−(d − μ)²/w²) over their sum: K centres evenly from 0 to radius, w their spacing.

    learnable: centres and widths are parameters.
    """

    def __init__(self, *, radius: float = 8.0, count: int = 10, learnable: bool = False) -> None:
        super().__init__()
        centres, widths = torch.linspace(0, radius, count), torch.full((count,), radius / (count - 1))
        if learnable:
            self.centres, self.log_widths = torch.nn.Parameter(centres), torch.nn.Parameter(widths.log())
        else:
            self.register_buffer("centres", centres, persistent=False)
            self.register_buffer("log_widths", widths.log(), persistent=False)

    @property
    def num_features(self) -> int:
        return len(self.centres)

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        return ((distances[:, None] - self.centres) / self.log_widths.exp()).square().neg().softmax(dim=1)


class GaussianExpansion(torch.nn.Module):
    """Distances (E,) Å → (E, K) Gaussians exp(−(d − μ)²/step²), μ from dmin to radius in steps."""

    def __init__(self, *, dmin: float = 0.0, radius: float = 8.0, step: float = 0.2) -> None:
        super().__init__()
        centres = torch.from_numpy(np.arange(dmin, radius + step, step, dtype=np.float64)).float()
        self.register_buffer("centres", centres, persistent=False)
        self.step = step

    @property
    def num_features(self) -> int:
        return len(self.centres)

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        scaled = (distances[:, None] - self.centres) / self.step
        # Far tails are 0, and never computed: numbers too small for a float's full precision cost some processors
        # a hundred cycles each, and their exponential tenfold.
        return torch.threshold_(scaled.square_().clamp_(max=BEYOND_TAIL).neg_().exp_(), TAIL, 0.0)
