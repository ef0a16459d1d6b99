"""Crystalformer: every atom attends to every periodic image of every atom, with a Gaussian of the distance.

Taniai et al., ICLR 2024 (openreview fxQiecl9HB). The sum over images is cut where its Gaussians have ended; the edges
hold each image (cgcnn/images.py), and a softmax over them is the published sum over atoms of sums over images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn.batch import Batch
from cgcnn.batch_norm import BatchNorm
from cgcnn.infinite_attention import Group, InfiniteAttention, RadialFunctions
from cgcnn.layers import segment_mean
from cgcnn.multi_task import MultiTaskNetwork, by_site
from cgcnn.reference import Reference
from cgcnn.standardise import Moments, global_units
from cgcnn.tasks import TaskSet

NUM_SPECIES = 98
FREQUENCIES = 2  # |m|∞ of the reciprocal sum at most


@dataclass(frozen=True)
class CrystalformerConfig:
    """Sizes and choices; the names are the published code's.

    model_dim d, head_num H, num_layers L blocks, ff_dim of their second part; embedding_dim: widths after pooling,
    norm_type `no` or `bn` there. scale_real r0 (Å) and gauss_lb_real b of the Gaussians; value_pe_dist_real: K
    functions of the distance in the values, 0 for none, up to value_pe_dist_max (Å; negative: times scale_real).
    domain: `real`, `multihead` (half of the heads of a block sum in reciprocal space) or `real-reci` (every other
    block does), with scale_reci and gauss_lb_reci. image_cutoff (Å): where the sum is cut. reference, extensive,
    global_features, crystal_features: as in NetworkConfig.
    """

    model_dim: int = 128
    head_num: int = 8
    num_layers: int = 4
    ff_dim: int = 512
    embedding_dim: tuple[int, ...] = (128,)
    norm_type: str = "no"
    scale_real: tuple[float, ...] = (1.4,)
    gauss_lb_real: float = 0.5
    value_pe_dist_real: int = 64
    value_pe_dist_max: float = -10.0
    domain: str = "real"
    scale_reci: tuple[float, ...] = (2.2,)
    gauss_lb_reci: float = 0.5
    image_cutoff: float = 6.93
    reference: str = "none"
    extensive: tuple[str, ...] = ()
    global_features: str = ""
    crystal_features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.model_dim % self.head_num:
            raise ValueError(f"{self.head_num} heads cannot share a model of {self.model_dim}")
        for name in ("embedding_dim", "scale_real", "scale_reci", "extensive", "crystal_features"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("scale_real", "scale_reci"):
            if len(getattr(self, name)) not in (1, self.num_layers):
                raise ValueError(f"{name} is one number, or one for each of {self.num_layers} blocks")

    def to_dict(self) -> dict:
        return asdict(self)

    def scale(self, block: int, *, reciprocal: bool) -> float:
        """r0 (Å) of a block."""
        scales = self.scale_reci if reciprocal else self.scale_real
        return scales[block % len(scales)]

    def num_reciprocal(self, block: int) -> int:
        """How many heads of a block, its last ones, sum in reciprocal space."""
        if self.domain == "multihead":
            return self.head_num // 2
        return self.head_num * (block % 2) if self.domain == "real-reci" else 0


class Block(nn.Module):
    """x ← x + attention(x); x ← x + W_2 relu(W_1 x + b_1) + b_2, without norms (T-Fixup, Huang et al., ICML 2020)."""

    def __init__(self, config: CrystalformerConfig, block: int) -> None:
        super().__init__()
        self.attention = InfiniteAttention(config, block)
        self.wider = nn.Linear(config.model_dim, config.ff_dim)
        self.back = nn.Linear(config.ff_dim, config.model_dim)
        for layer in (self.wider, self.back):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
            with torch.no_grad():
                layer.weight *= 0.67 * config.num_layers**-0.25

    def forward(self, atoms: Tensor, groups: Sequence[Group]) -> Tensor:
        """(N, d) → (N, d)."""
        atoms = atoms + self.attention(atoms, groups)
        return atoms + self.back(functional.relu(self.wider(atoms)))


class Crystalformer(MultiTaskNetwork):
    """Blocks of attention to all images, mean over the atoms, hidden layers; its batches have images."""

    def __init__(self, config: CrystalformerConfig, tasks: TaskSet, elements: Tensor) -> None:
        """elements (119, ·): which elements have a vector (no NaN); the vectors themselves are learned."""
        super().__init__()
        self.config, self.tasks = config, tasks
        self.register_buffer("elements", elements.clone(), persistent=False)
        self.embedding = nn.Embedding(NUM_SPECIES, config.model_dim)
        nn.init.normal_(self.embedding.weight, std=config.model_dim**-0.5 * (9 * config.num_layers) ** -0.25)
        self.functions = RadialFunctions(config) if config.value_pe_dist_real else None
        self.blocks = nn.ModuleList(Block(config, k) for k in range(config.num_layers))
        layers, width = [], config.model_dim
        for wider in config.embedding_dim:
            layers += [nn.Linear(width, wider)]
            layers += [BatchNorm(wider)] if config.norm_type == "bn" else []
            layers += [nn.ReLU()]
            width = wider
        self.hidden = nn.Sequential(*layers)
        self.add_crystal_features(width)
        self.heads = nn.ModuleList(nn.Linear(width, task.num_outputs) for task in tasks)
        self.reference = Reference(tasks, is_used=config.reference != "none" or bool(config.extensive))

    @property
    def vector_length(self) -> int:
        """Of the vector of a crystal."""
        return (self.config.model_dim, *self.config.embedding_dim)[-1]

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """m and s of every block, from the first batch, block by block; numbers of crystals, from all."""
        of_crystals = Moments()
        for k, batch in enumerate(batches):
            if k == 0:
                atoms, groups = self.species(batch), self.groups(batch)
                for block in self.blocks:
                    block.attention.fit(atoms)
                    atoms = block(atoms, groups)
            if self.join is None:
                return
            of_crystals.add(batch.global_features)
        of_crystals.write(self.global_mean, self.global_std, global_units(self.config))

    def to_compile(self) -> Iterable[nn.Module]:
        """The whole has another loop for every batch, over its numbers of atoms, and would be compiled for each."""
        return (block.attention.images for block in self.blocks)

    def species(self, batch: Batch) -> Tensor:
        """What the atoms start with (N, d): the vector of a disordered site is the sum of its elements' shares."""
        return by_site(self.embedding(batch.numbers - 1), batch)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Vectors of the atoms (N, d) and of the crystals (B, H)."""
        atoms, groups = self.species(batch), self.groups(batch)
        for block in self.blocks:
            atoms = block(atoms, groups)
        return atoms, self.crystal_vectors(atoms, batch.crystal, batch.num_atoms, batch.global_features)

    def crystal_vectors(
        self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor, global_features: Tensor | None
    ) -> Tensor:
        """Mean of the atoms (N, d), and what is known of whole crystals (B, G) → (B, H)."""
        crystals = self.hidden(segment_mean(atoms, crystal, num_atoms))
        if self.join is not None:
            crystals = functional.relu(self.joined(crystals, global_features))
        return crystals

    def atom_weights(self, batch: Batch, atoms: Tensor) -> Tensor:
        """The share of each atom (N,) in its crystal's vector."""
        return (1.0 / batch.num_atoms.to(atoms.dtype))[batch.crystal]

    @property
    def adds_up(self) -> bool:
        """Whether nothing but a linear head follows the mean over the atoms."""
        return not self.config.embedding_dim and self.join is None and not self.reference.is_used

    @torch.no_grad()
    def groups(self, batch: Batch) -> list[Group]:
        """The crystals by their number of atoms; distances and phases are never rounded to bfloat16."""
        with torch.autocast(batch.distances.device.type, enabled=False):
            return self._groups(batch)

    def _groups(self, batch: Batch) -> list[Group]:
        count = batch.num_atoms
        first_atom = count.cumsum(0) - count
        degree = torch.bincount(batch.centres, minlength=len(batch.crystal))
        first_edge = degree.cumsum(0) - degree
        found = []
        for n in count.unique().tolist():
            crystals = (count == n).nonzero().squeeze(1)
            atoms = first_atom[crystals, None] + torch.arange(n, device=count.device)
            slots = torch.arange(int(degree[atoms].max()), device=count.device)
            there = slots < degree[atoms][..., None]
            edge = torch.where(there, first_edge[atoms][..., None] + slots, 0)
            distances = batch.distances[edge]
            neighbour = torch.where(there, batch.neighbours[edge] - first_atom[crystals, None, None], 0)
            weight = torch.where(there, batch.multiplicity[edge].log(), -torch.inf)
            basis = None if self.functions is None else self.functions(distances)
            waves = self._waves(batch, crystals, atoms)
            found.append(Group(atoms, neighbour, distances.square(), weight, basis, *waves))
        return found

    def _waves(self, batch: Batch, crystals: Tensor, atoms: Tensor) -> tuple:
        if self.config.domain == "real":
            return ()
        index = torch.arange(-FREQUENCIES, FREQUENCIES + 1, device=atoms.device)
        frequency = torch.cartesian_prod(index, index, index).to(batch.distances)  # (M, 3)
        lattice = batch.lattice[crystals]
        lengths = (2 * math.pi * frequency @ torch.linalg.inv(lattice).transpose(1, 2)).square().sum(dim=2)
        place = batch.frac_coords[atoms]
        phase = 2 * math.pi * (place[:, None] - place[:, :, None]) @ frequency.t()  # (b, i, j, M)
        return phase.cos(), lengths, torch.linalg.det(lattice).abs()
