"""What an ensemble says of some crystals, of their atoms, and of their elements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class AtomScores:
    """N atoms of n crystals: the place of each one's crystal (N,), its elements (N), weight (N,), task → score (N,).

    Scores are in the task's unit. On a disordered site, elements are `Ni0.8Co0.2`.
    """

    crystal: np.ndarray
    elements: list[str]
    weight: np.ndarray
    scores: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class ElementStates:
    """Z elements of n crystals: the place of each one's crystal, its number and atoms (Z,), its state (Z, F)."""

    crystal: np.ndarray
    numbers: np.ndarray
    amounts: np.ndarray
    states: np.ndarray


@dataclass(frozen=True, eq=False)
class Prediction:
    """Of the n crystals `ids`: task → mean (n,) or probabilities (n, C), task → standard deviation (n,).

    deviations: {} with one network. distance (n,) to the training set in units of the model's threshold, and unlike
    (n), why a crystal is unlike it ("" if it is not); None where no model knows. vectors (n, H) of the first network.
    elements: states of the first network, where it has some and they were asked for.
    """

    ids: list[str]
    values: dict[str, np.ndarray]
    deviations: dict[str, np.ndarray]
    distance: np.ndarray | None
    unlike: list[str] | None
    vectors: np.ndarray
    atoms: AtomScores | None = None
    elements: ElementStates | None = None
