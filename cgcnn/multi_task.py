"""What networks of every kind share: heads of the tasks, and numbers of whole crystals that join their vectors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cgcnn.batch import Batch
from cgcnn.layers import segment_sum
from cgcnn.standardise import global_units, register_statistics, scaled


class MultiTaskNetwork(nn.Module):
    """Batch → {task: output}: (B,) for a regression, on the learned scale, (B, C) logits for a classification.

    A network has `config`, `tasks`, `heads` and `reference`, and says how it comes to vectors of atoms (or elements)
    and of crystals: `embed`. head_layers: how the names of the parameters begin that belong to the tasks. has_atoms:
    the former are of atoms, each with its share in the crystal, `atom_weights`; `adds_up` says whether the output of
    a regression is the mean, so weighed, of what its head makes of the atoms alone.
    """

    head_layers = ("heads.",)
    has_atoms = True

    def add_crystal_features(self, width: int) -> None:
        """`join`, which takes numbers of crystals beside vectors (·, width), where the configuration has some."""
        count = len(global_units(self.config))
        register_statistics(self, "global", count)
        self.join = nn.Linear(width + count, width) if count else None

    def joined(self, vectors: Tensor, global_features: Tensor) -> Tensor:
        """`join` of vectors (n, width) and numbers of their crystals (n, G), which it standardises → (n, width)."""
        known = scaled(global_features, self.global_mean, self.global_std)
        return self.join(torch.cat([vectors, known], dim=1))

    def read_out(self, batch: Batch, atoms: Tensor, crystals: Tensor, *, by_atom: bool = False) -> dict[str, Tensor]:
        """What `embed` gives → outputs of every task; by_atom: vectors are of atoms, each a crystal of its own."""
        outputs = {
            task.name: head(crystals).squeeze(1) if task.is_regression else head(crystals)
            for task, head in zip(self.tasks, self.heads, strict=True)
        }
        return self.reference(outputs, batch, by_atom=by_atom)

    def to_compile(self) -> Iterable[nn.Module]:
        """The modules that `--compile` compiles, each by itself."""
        return (self,)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.read_out(batch, *self.embed(batch))


def by_site(species: Tensor, batch: Batch) -> Tensor:
    """Vectors of the elements on each site (S, F) → their sum, each as much as there is of it (N, F)."""
    weighted = species * batch.occupancies[:, None]
    count = len(batch.crystal)
    return weighted if len(weighted) == count else segment_sum(weighted, batch.site, count)
