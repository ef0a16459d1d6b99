"""Is a crystal unlike all that a model was trained on? An element it never saw, or a vector far from all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cgcnn.batch import Collator
from cgcnn.cif import ATOMIC_NUMBERS
from cgcnn.features import MAX_NUMBER
from cgcnn.graph_table import GraphTable

MAX_KEPT = 2000  # crystals whose vectors are kept
PERCENTILE = 99.0
FAR = "far"
SYMBOLS = {number: symbol for symbol, number in ATOMIC_NUMBERS.items() if symbol not in ("D", "T")}


@dataclass(frozen=True, eq=False)
class TrainingDomain:
    """What a model was trained on, as far as it takes to tell that a crystal is unlike it.

    elements: atomic numbers, ascending. vectors (n, H) float16: of n training crystals, as the first network of the
    model has them before its heads, less `mean` and over `scale` (H,). threshold: the 99th percentile of their
    distances to their nearest other; a crystal farther than that from all of them is far from the training set
    (distance in latent space as a measure of trust: Janet et al., Chem. Sci. 10, 7913 (2019)).
    """

    elements: tuple[int, ...]
    vectors: Tensor
    mean: Tensor
    scale: Tensor
    threshold: float

    def distances(self, vectors: Tensor) -> np.ndarray:
        """Of crystals with these vectors (m, H) to the nearest training crystal (m,), in units of the threshold."""
        nearest = _nearest((vectors - self.mean) / self.scale, self.vectors.float())
        return nearest.double().numpy() / self.threshold

    def unseen(self, table: GraphTable, rows: np.ndarray) -> list[str]:
        """For each of these rows (m,) of a table, the elements that no training crystal holds: "" or "Pu Am"."""
        known = np.zeros(MAX_NUMBER + 1, dtype=bool)
        known[list(self.elements)] = True
        found = []
        for row in rows:
            part = slice(start := int(table.start["species"][row]), start + int(table.length["species"][row]))
            numbers = np.unique(table.columns["numbers"][part])
            found.append(" ".join(SYMBOLS[int(number)] for number in numbers[~known[numbers]]))
        return found

    def to_dict(self) -> dict:
        return {**vars(self), "elements": list(self.elements)}

    @classmethod
    def from_dict(cls, saved: Mapping) -> TrainingDomain:
        """Raises ValueError or TypeError for what is no domain."""
        elements = tuple(int(number) for number in saved["elements"])
        if not all(0 < number <= MAX_NUMBER for number in elements):
            raise ValueError(f"the elements that it was trained on are not from 1 to {MAX_NUMBER}")
        domain = cls(**{**saved, "elements": elements, "threshold": float(saved["threshold"])})
        if not all(isinstance(each, Tensor) for each in (domain.vectors, domain.mean, domain.scale)):
            raise TypeError("the vectors of what it was trained on are none")
        if domain.vectors.ndim != 2 or not domain.mean.shape == domain.scale.shape == domain.vectors.shape[1:]:
            raise ValueError("the vectors of what it was trained on have other shapes")
        return domain


@torch.no_grad()
def training_domain(
    network: nn.Module, collator: Collator, rows: Tensor, *, seed: int = 0, batch_size: int = 256
) -> TrainingDomain | None:
    """The domain of a network on the CPU that was trained on these rows (n,); None for less than two crystals.

    Of more than MAX_KEPT crystals as many are drawn with the seed.
    """
    if len(rows) < 2:
        return None
    numbers = torch.cat([collator[part].numbers.unique() for part in rows.split(batch_size)]).unique()
    if len(rows) > MAX_KEPT:
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        rows = rows[drawn[:MAX_KEPT].sort().values]
    network.eval()
    vectors = torch.cat([network.embed(collator[part])[1] for part in rows.split(batch_size)])
    mean, spread = vectors.mean(dim=0), vectors.std(dim=0, correction=0)
    # A component that is all but constant in training tells little where it moves.
    scale = spread.clamp(min=max(0.1 * float(spread.median()), 1e-6))
    kept = ((vectors - mean) / scale).half()
    nearest = _nearest(kept.float(), kept.float(), leave_one_out=True)
    threshold = max(float(np.percentile(nearest.numpy(), PERCENTILE)), 1e-6)
    return TrainingDomain(tuple(numbers.tolist()), kept, mean, scale, threshold)


def _nearest(vectors: Tensor, among: Tensor, *, leave_one_out: bool = False) -> Tensor:
    """Distance of each of (m, H) to the nearest of (n, H), but not to the one of its own row → (m,)."""
    found = []
    for start in range(0, len(vectors), 256):
        # as differences: products of matrices lose the digits of small distances
        distances = torch.cdist(vectors[start : start + 256], among, compute_mode="donot_use_mm_for_euclid_dist")
        if leave_one_out:
            distances.diagonal(start).fill_(torch.inf)
        found.append(distances.amin(dim=1))
    return torch.cat(found) if found else vectors.new_zeros(0)
