"""Atoms → crystals: the poolings that --pooling offers. Each has the weight of every atom, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn.layers import segment_mean, segment_softmax, segment_sum


class MeanPooling(nn.Module):
    """Σ h_i / n over the atoms of a crystal."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def weights(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """The share of each atom (N,) in its crystal's vector."""
        return (1.0 / num_atoms.to(atoms.dtype))[crystal]

    def forward(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """atoms (N, F), crystal (N,), num_atoms (B,) → (B, F)."""
        return segment_mean(atoms, crystal, num_atoms)


class AttentionPooling(nn.Module):
    """Σ a_i h_i with a = softmax of softplus(w·h_i + b) over the atoms of a crystal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def weights(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """The attention a_i of each atom (N,)."""
        return segment_softmax(functional.softplus(self.score(atoms)).squeeze(1), crystal, len(num_atoms))

    def forward(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """atoms (N, F), crystal (N,), num_atoms (B,) → (B, F)."""
        weights = self.weights(atoms, crystal, num_atoms)
        return segment_sum(atoms * weights[:, None], crystal, len(num_atoms))


class SumPooling(nn.Module):
    """Σ h_i over the atoms of a crystal, for what grows with its size."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def weights(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """1 for every atom (N,)."""
        return torch.ones_like(atoms[:, 0])

    def forward(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """atoms (N, F), crystal (N,), num_atoms (B,) → (B, F)."""
        return segment_sum(atoms, crystal, len(num_atoms))


class MaxPooling(nn.Module):
    """The largest of each component over the atoms of a crystal."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def weights(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """The share of the components (N,) that an atom gives its crystal; atoms that tie share them."""
        top = (atoms == self(atoms, crystal, num_atoms)[crystal]).to(atoms.dtype)
        return (top / segment_sum(top, crystal, len(num_atoms))[crystal]).mean(dim=1)

    def forward(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """atoms (N, F), crystal (N,), num_atoms (B,) → (B, F)."""
        least = atoms.new_full((len(num_atoms), atoms.shape[1]), -torch.inf)
        return least.scatter_reduce(0, crystal[:, None].expand_as(atoms), atoms, "amax")


class Set2SetPooling(nn.Module):
    """Attention that asks several times: q ← LSTM(q ⊕ r), a = softmax(h_i·q), r = Σ a_i h_i; at the end W(q ⊕ r).

    Vinyals, Bengio and Kudlur, arXiv:1511.06391, eqs. 3–7; the last map, which brings the result back to F, is ours.
    """

    STEPS = 3

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(2 * width, width)
        self.out = nn.Linear(2 * width, width)

    def weights(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """The attention (N,) of the last step."""
        return self._attend(atoms, crystal, len(num_atoms))[0]

    def forward(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """atoms (N, F), crystal (N,), num_atoms (B,) → (B, F)."""
        return self.out(self._attend(atoms, crystal, len(num_atoms))[1])

    def _attend(self, atoms: Tensor, crystal: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Attention (N,) and q ⊕ r (B, 2F) after the last step."""
        read = atoms.new_zeros(count, 2 * atoms.shape[1])
        state = None
        for _ in range(self.STEPS):
            state = self.lstm(read, state)
            query = state[0]
            weights = segment_softmax((atoms * query[crystal]).sum(dim=1), crystal, count)
            read = torch.cat([query, segment_sum(atoms * weights[:, None], crystal, count)], dim=1)
        return weights, read


POOLINGS: dict[str, type[nn.Module]] = {
    "mean": MeanPooling,
    "attention": AttentionPooling,
    "sum": SumPooling,
    "max": MaxPooling,
    "set2set": Set2SetPooling,
}
