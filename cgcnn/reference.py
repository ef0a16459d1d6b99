"""What a regression's output is counted from: what the composition alone says, and the size of the cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cgcnn.batch import Batch
from cgcnn.features import MAX_NUMBER
from cgcnn.layers import segment_sum
from cgcnn.tasks import TaskSet


@dataclass(frozen=True, eq=False)
class FirstGuess:
    """Of one regression, on the learned scale: Σ_z x_z w_z + b, x_z atoms of element z if extensive, else shares.

    coefficients (119,): w. offset: b. atoms: mean number of atoms of a training crystal for what is extensive, whose
    output counts per atom; else 0.
    """

    coefficients: Tensor
    offset: float = 0.0
    atoms: float = 0.0

    @classmethod
    def nothing(cls) -> FirstGuess:
        """That of a network without one."""
        return cls(torch.zeros(MAX_NUMBER + 1))

    @property
    def is_extensive(self) -> bool:
        return self.atoms > 0


class Reference(nn.Module):
    """outputs h (B,) of the regressions → s·h + Σ_z x_z w_z + b, s = n / atoms of a cell of n atoms, or 1.

    Nothing in it is learned: `write` sets it from the training part, and a checkpoint keeps it.
    """

    def __init__(self, tasks: TaskSet, *, is_used: bool = True) -> None:
        """is_used: without, outputs stay as they are."""
        super().__init__()
        self.tasks, self.is_used = tasks, is_used
        count = len(tasks) if is_used else 0
        self.register_buffer("coefficients", torch.zeros(count, MAX_NUMBER + 1), persistent=is_used)
        self.register_buffer("offset", torch.zeros(count), persistent=is_used)
        self.register_buffer("atoms", torch.zeros(count), persistent=is_used)

    @torch.no_grad()
    def write(self, guesses: Mapping[str, FirstGuess]) -> None:
        """Set the first guess of these tasks."""
        for name, guess in guesses.items():
            column = self.tasks.column(name)
            self.coefficients[column] = guess.coefficients
            self.offset[column], self.atoms[column] = guess.offset, guess.atoms

    def read(self, name: str) -> FirstGuess:
        """The first guess of a task."""
        if not self.is_used:
            return FirstGuess.nothing()
        column = self.tasks.column(name)
        return FirstGuess(self.coefficients[column].clone(), self.offset[column].item(), self.atoms[column].item())

    def forward(self, outputs: dict[str, Tensor], batch: Batch, *, by_atom: bool = False) -> dict[str, Tensor]:
        """outputs: task → (B,), or (B, C), which stay; by_atom: every atom as a crystal of its own, (N,)."""
        if not self.is_used:
            return outputs
        whole, count = (batch.site, len(batch.crystal)) if by_atom else (batch.crystal[batch.site], len(batch))
        amounts = batch.occupancies[:, None]
        total = segment_sum(amounts, whole, count)
        sums = segment_sum(amounts * self.coefficients.t()[batch.numbers], whole, count)
        scale = torch.where(self.atoms > 0, total / self.atoms.clamp(min=1e-12), 1.0)
        guess = torch.where(self.atoms > 0, sums, sums / total) + self.offset
        return outputs | {
            task.name: scale[:, k] * outputs[task.name] + guess[:, k]
            for k, task in enumerate(self.tasks)
            if task.is_regression
        }
