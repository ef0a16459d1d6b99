"""What is known before a network learns: the share of the composition, and that a target grows with the cell."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from cgcnn.composition import linear_model, number_of_atoms
from cgcnn.reference import FirstGuess
from cgcnn.tasks import TRANSFORMS, Normalizer

_LEAST = 1e-3  # of the labels' deviation: less than that is left by chance, where labels are few


def first_guess(
    atoms: sparse.csr_matrix,
    labels: np.ndarray,
    scale: Normalizer,
    *,
    is_extensive: bool,
    by_element: bool,
    standardise: bool = True,
) -> tuple[FirstGuess, Normalizer]:
    """The first guess of a regression, and the scale on which what it leaves over is learned.

    atoms of each element (n, 119) and labels (n,), NaN where missing, of the training part. scale: that of the
    labels; its mean stays, its deviation becomes the root mean square of label − guess, unless not `standardise`.
    by_element: a linear model of the composition, rather than one number for every atom.
    """
    learned = TRANSFORMS[scale.transform][0](torch.from_numpy(labels)).numpy()
    model = linear_model(atoms, learned, is_extensive=is_extensive, by_element=by_element)
    if standardise:
        left = float(np.sqrt(np.nanmean((learned - model(atoms)) ** 2)))
        scale = Normalizer(scale.mean, max(left, _LEAST * scale.std), scale.transform)
    known = ~np.isnan(labels)
    guess = FirstGuess(
        torch.from_numpy(model.coefficients / scale.std).float(),
        (model.intercept - scale.mean) / scale.std,
        float(number_of_atoms(atoms[known]).mean()) if is_extensive else 0.0,
    )
    return guess, scale
