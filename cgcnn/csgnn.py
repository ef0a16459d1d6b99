"""CSGCNN, CSGANN and CSGINN: one network with three ways to gather neighbours, with or without a skip around each.

The names and the table of what was tried with them are those of the CSGCNN project; the layers are the published
ones that it builds on. Every convolution is v ← BN(ReLU(f(v))), and v ← v + BN(ReLU(f(v))) with `residual`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn.batch_norm import BatchNorm
from cgcnn.layers import gated_messages, segment_softmax, segment_sum
from cgcnn.network import CrystalGraphNetwork, NetworkConfig


@dataclass(frozen=True)
class CSGConfig(NetworkConfig):
    """residual: a skip around every convolution."""

    residual: bool = False


@dataclass(frozen=True)
class CSGANNConfig(CSGConfig):
    """num_heads: of the attention; they share the atom vector's width."""

    num_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.atom_fea_len % self.num_heads:
            raise ValueError(f"{self.num_heads} heads cannot share an atom vector of {self.atom_fea_len}")


class _Convolution(nn.Module):
    """BN and ReLU, and the skip, around what `gather` makes of the neighbours."""

    def __init__(self, config: CSGConfig) -> None:
        super().__init__()
        self.residual = config.residual
        self.norm = BatchNorm(config.atom_fea_len)

    def forward(self, atoms: Tensor, edges: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        """atoms (N, F), edges (E, K), centres and neighbours (E,) → (N, F)."""
        out = self.norm(functional.relu(self.gather(atoms, edges, centres, neighbours)))
        return atoms + out if self.residual else out


class GatedSum(_Convolution):
    """v_i + Σ_j σ(W_f z_ij)·softplus(W_s z_ij), z_ij = v_i ⊕ v_j ⊕ u_ij.

    Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), eq. 5; unlike in CGCNN's code no norm comes between.
    """

    def __init__(self, config: CSGConfig, nbr_fea_len: int) -> None:
        super().__init__(config)
        width = config.atom_fea_len
        self.full = nn.Linear(2 * width + nbr_fea_len, 2 * width)

    def gather(self, atoms: Tensor, edges: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        return atoms + gated_messages(self.full, atoms, edges, centres, neighbours)


class EdgeAttention(_Convolution):
    """W_0 v_i + Σ_j α_ij (W_n v_j + W_e u_ij), α_ij = softmax_j a·LeakyReLU(W_c v_i + W_n v_j + W_e u_ij), by heads.

    Brody, Alon and Yahav, arXiv:2105.14491, eq. 7 (GATv2). Edges are in the values too: the neighbours of a crystal
    with one kind of atom at one distance would otherwise not show how far away they are.
    """

    def __init__(self, config: CSGANNConfig, nbr_fea_len: int) -> None:
        super().__init__(config)
        width, heads = config.atom_fea_len, config.num_heads
        self.on_centre, self.on_neighbour = nn.Linear(width, width), nn.Linear(width, width)
        self.on_edge = nn.Linear(nbr_fea_len, width, bias=False)
        self.itself = nn.Linear(width, width)
        self.score = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.xavier_uniform_(self.score)

    def gather(self, atoms: Tensor, edges: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        values = self.on_edge(edges) + self.on_neighbour(atoms)[neighbours]
        hidden = functional.leaky_relu(values + self.on_centre(atoms)[centres], 0.2)
        scores = (hidden.view(-1, *self.score.shape) * self.score).sum(dim=2)
        attention = segment_softmax(scores, centres, len(atoms))
        weighted = values.view(-1, *self.score.shape) * attention[:, :, None]
        return self.itself(atoms) + segment_sum(weighted.flatten(1), centres, len(atoms))


class EdgeIsomorphism(_Convolution):
    """MLP((1 + ε) v_i + Σ_j ReLU(v_j + W u_ij)) with ε learned.

    Hu et al., arXiv:1905.12265 (GINE), after Xu et al., arXiv:1810.00826, eq. 4.1.
    """

    def __init__(self, config: CSGConfig, nbr_fea_len: int) -> None:
        super().__init__(config)
        width = config.atom_fea_len
        self.on_edge = nn.Linear(nbr_fea_len, width)
        self.epsilon = nn.Parameter(torch.zeros(()))
        self.mlp = nn.Sequential(nn.Linear(width, width), BatchNorm(width), nn.ReLU(), nn.Linear(width, width))

    def gather(self, atoms: Tensor, edges: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        messages = functional.relu(atoms[neighbours] + self.on_edge(edges))
        return self.mlp((1 + self.epsilon) * atoms + segment_sum(messages, centres, len(atoms)))


class CSGCNN(CrystalGraphNetwork):
    """Gated sums."""

    convolution = GatedSum


class CSGANN(CrystalGraphNetwork):
    """Attention over the neighbours."""

    convolution = EdgeAttention


class CSGINN(CrystalGraphNetwork):
    """Sums that tell apart all multisets of neighbours."""

    convolution = EdgeIsomorphism
