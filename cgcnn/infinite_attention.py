"""Attention to every periodic image of every atom, and what a batch of crystals gives it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn.precision import full

if TYPE_CHECKING:
    from cgcnn.crystalformer import CrystalformerConfig

SLOPE = 0.1  # a of ρ
MOST_SCORES = 1 << 25  # of pairs of atoms and heads at a time
BEYOND = 5.0  # widths beyond the cutoff at which a Gaussian of the distance is 0 everywhere inside


@dataclass(frozen=True, eq=False)
class Group:
    """b crystals of n atoms, at most D edges an atom.

    atoms (b, n): where they stand in the batch. neighbour (b, n, D): which of the n atoms; squared (b, n, D) Å²;
    weight (b, n, D): logarithm of the multiplicity, −∞ where there is no edge; basis (b, n, D, K'). waves
    (b, n, n, M): cos(ω·(p_j − p_i)), lengths (b, M): |ω|² Å⁻², volume (b,) Å³, where blocks sum in reciprocal space.
    """

    atoms: Tensor
    neighbour: Tensor
    squared: Tensor
    weight: Tensor
    basis: Tensor | None
    waves: Tensor | None = None
    lengths: Tensor | None = None
    volume: Tensor | None = None

    @property
    def images(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What a sum over the images needs."""
        return self.neighbour, self.squared, self.weight, self.basis

    def parts(self, heads: int) -> Iterator[Group]:
        """The same, a few atoms at a time as centres where all their scores would be too many for memory."""
        crystals, n = self.atoms.shape
        size = max(1, MOST_SCORES // (crystals * heads * n))
        if size >= n:
            yield self
            return
        for start in range(0, n, size):
            rows = slice(start, start + size)
            cut = {f.name: getattr(self, f.name) for f in fields(self)}
            for name in ("atoms", "neighbour", "squared", "weight", "basis", "waves"):
                cut[name] = None if cut[name] is None else cut[name][:, rows]
            yield Group(**cut)


class RadialFunctions(nn.Module):
    """b_k(r) = exp(−(r − μ_k)²/2w²), μ_k = k w, w = r_max / K, for the k whose functions reach into the cutoff."""

    def __init__(self, config: CrystalformerConfig) -> None:
        super().__init__()
        reach = config.value_pe_dist_max
        reach = -reach * config.scale_real[0] if reach < 0 else reach
        self.width = reach / config.value_pe_dist_real
        count = min(config.value_pe_dist_real, int((config.image_cutoff + BEYOND * self.width) / self.width))
        self.register_buffer("centres", self.width * torch.arange(1, count + 1), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """(…) Å → (…, K')."""
        return torch.exp(-((distances[..., None] - self.centres) / self.width).square() / 2)


class ImageAttention(nn.Module):
    """Softmax and sums over the images: what takes the time. By itself, because it can be compiled for any sizes."""

    def forward(
        self,
        scores: Tensor,
        values: Tensor,
        inverse: Tensor,
        position: Tensor | None,
        neighbour: Tensor,
        squared: Tensor,
        weight: Tensor,
        basis: Tensor | None,
    ) -> Tensor:
        """scores (b, h, n', n), values (b, h, n, d_h), σ^{-2} (b, h, n', 1), position (h, d_h, K) → (b, h, n', d_h).

        The others are those of a `Group`.
        """
        place = neighbour[:, :, None].expand(-1, -1, scores.shape[1], -1)  # (b, n, h, D)
        logits = scores.transpose(1, 2).gather(3, place)
        logits = logits - (0.5 * inverse).transpose(1, 2) * squared[:, :, None] + weight[:, :, None]
        attention = logits.softmax(dim=3)
        by_atom = torch.zeros_like(scores.transpose(1, 2)).scatter_add(3, place, attention)
        summed = by_atom.transpose(1, 2) @ values
        if position is not None:
            functions = attention @ basis  # (b, n, h, K')
            summed = summed + torch.einsum("bnhk,hdk->bhnd", functions, position[..., : basis.shape[-1]])
        return summed


class InfiniteAttention(nn.Module):
    """y_i = Σ_j Σ_n p_ijn (v_j + W b(r_ijn)), p_ijn = softmax over j and n of q_i·k_j/√d − r²/2σ_i².

    σ_i^{-2} = r0^{-2} ρ((q_i·w − m)/s), ρ(z) = (1 − b)·ELU(a z/(1 − b)) + 1. The last `num_reciprocal` heads have
    α_ij = log[(2πσ²)^{3/2}/V Σ_m exp(−σ²|ω_m|²/2) cos(ω_m·(p_j − p_i))] for the sum over n, and no b(r). m and s:
    mean and deviation of q_i·w in the first training batch, over atoms and heads.
    """

    def __init__(self, config: CrystalformerConfig, block: int) -> None:
        super().__init__()
        width, self.heads = config.model_dim, config.head_num
        self.size = width // self.heads
        self.num_reciprocal = config.num_reciprocal(block)
        self.real_scale = config.scale(block, reciprocal=False)
        self.reciprocal_scale = config.scale(block, reciprocal=True)
        self.bounds = (config.gauss_lb_real, config.gauss_lb_reci)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.reach = nn.Parameter(torch.randn(self.heads, self.size) * self.size**-0.5)
        count = config.value_pe_dist_real
        self.position = nn.Parameter(torch.empty(self.heads, self.size, count)) if count else None
        self.images = ImageAttention()
        self.register_buffer("reach_mean", torch.zeros(()))
        self.register_buffer("reach_std", torch.ones(()))
        fixup = 0.67 * config.num_layers**-0.25
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.value.weight *= fixup
            self.out.weight *= fixup
            if self.position is not None:
                nn.init.xavier_uniform_(self.position.view(width, count), gain=count**-0.5)

    @torch.no_grad()
    def fit(self, atoms: Tensor) -> None:
        """m and s from the atoms (N, d) that come to this block."""
        reach = self._reach(self._by_head(self.query(atoms)))
        self.reach_mean.copy_(reach.mean())
        self.reach_std.copy_(reach.std(correction=0).clamp(min=1e-6))

    def forward(self, atoms: Tensor, groups: Sequence[Group]) -> Tensor:
        """(N, d) → (N, d)."""
        query, key, value = (self._by_head(layer(atoms)) for layer in (self.query, self.key, self.value))
        z = (self._reach(query) - self.reach_mean) / self.reach_std
        real = self.heads - self.num_reciprocal
        inverse = torch.cat(
            [
                _rho(z[:, :real], self.bounds[0]) / self.real_scale**2,
                _rho(z[:, real:], self.bounds[1]) / self.reciprocal_scale**2,
            ],
            dim=1,
        )
        position = None if self.position is None else self.position[:real]
        parts, places = [], []
        for group in groups:
            k, v = (values[group.atoms].transpose(1, 2) for values in (key, value))  # (b, H, n, d_h)
            for part in group.parts(self.heads):
                q, s = (values[part.atoms].transpose(1, 2) for values in (query, inverse[..., None]))
                scores = full((q / math.sqrt(self.size)) @ k.transpose(2, 3))  # (b, H, n', n)
                halves = []
                if real:
                    halves.append(self.images(scores[:, :real], v[:, :real], s[:, :real], position, *part.images))
                if self.num_reciprocal:
                    halves.append(self._reciprocal(scores[:, real:], v[:, real:], s[:, real:], part))
                joined = torch.cat(halves, dim=1) if len(halves) > 1 else halves[0]
                parts.append(joined.transpose(1, 2).flatten(0, 1))  # (b·n', H, d_h)
                places.append(part.atoms.flatten())
        gathered = torch.cat(parts)[torch.argsort(torch.cat(places))]
        return self.out(gathered.flatten(1))

    def _reciprocal(self, scores: Tensor, values: Tensor, inverse: Tensor, group: Group) -> Tensor:
        """As `ImageAttention`, with the sum over images as one over frequencies."""
        variance = 1 / inverse  # (b, h, n, 1)
        lengths = group.lengths[:, None, None]
        decay = torch.exp(-0.5 * variance * lengths)  # (b, h, n, M)
        with torch.autocast(decay.device.type, enabled=False):  # what is summed cancels
            sums = torch.einsum("bhim,bijm->bhij", decay, group.waves).clamp(min=1e-6)
        factor = 1.5 * torch.log(2 * math.pi * variance) - torch.log(group.volume)[:, None, None, None]
        return (scores + factor + torch.log(sums)).softmax(dim=3) @ values

    def _by_head(self, atoms: Tensor) -> Tensor:
        return atoms.view(len(atoms), self.heads, self.size)

    def _reach(self, query: Tensor) -> Tensor:
        """(N, H, d_h) → (N, H)."""
        return (query * self.reach).sum(dim=2)


def _rho(z: Tensor, bound: float) -> Tensor:
    """Between `bound` and linear growth, 1 at 0."""
    return (1 - bound) * functional.elu(SLOPE * z / (1 - bound)) + 1
