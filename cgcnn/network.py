"""The multi-task crystal graph network: embedding, convolutions, readout, one head a task."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn.batch import Batch
from cgcnn.features import GaussianExpansion
from cgcnn.layers import POOLINGS, GatedConvolution, segment_sum
from cgcnn.tasks import AUXILIARY, TARGET, TaskSet

READOUTS = ("per-atom", "classic")


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and choices of a network; with the tasks and the element table it is what rebuilds one.

    readout: `per-atom` widens and activates every atom before pooling; `classic` pools first, as
    CrystalGraphConvNet does. dmin, radius, step: Å, the Gaussians of the distances.
    """

    atom_fea_len: int = 64
    h_fea_len: int = 128
    n_conv: int = 3
    n_h: int = 1
    pooling: str = "mean"
    readout: str = "per-atom"
    dropout: float = 0.0
    dmin: float = 0.0
    radius: float = 8.0
    step: float = 0.2

    def __post_init__(self) -> None:
        if self.readout not in READOUTS:
            raise ValueError(f"readout must be one of {', '.join(READOUTS)}")

    def to_dict(self) -> dict:
        return asdict(self)


class CrystalGraphBody(nn.Module):
    """Atoms and edges of crystals → a vector a crystal. Parameter names are the original code's."""

    def __init__(self, config: NetworkConfig, orig_atom_fea_len: int, nbr_fea_len: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Linear(orig_atom_fea_len, config.atom_fea_len)
        self.convs = nn.ModuleList(GatedConvolution(config.atom_fea_len, nbr_fea_len) for _ in range(config.n_conv))
        self.conv_to_fc = nn.Linear(config.atom_fea_len, config.h_fea_len)
        pooled = config.h_fea_len if config.readout == "per-atom" else config.atom_fea_len
        self.pooling = POOLINGS[config.pooling](pooled)
        self.fcs = nn.ModuleList(nn.Linear(config.h_fea_len, config.h_fea_len) for _ in range(config.n_h - 1))
        self.dropout = nn.Dropout(config.dropout)

    def atoms(self, atom_fea: Tensor, edges: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        """Vectors of the atoms that are pooled: atom_fea (N, F₀), edges (E, K) → (N, H), classic (N, F)."""
        atoms = self.embedding(atom_fea)
        for convolution in self.convs:
            atoms = convolution(atoms, edges, centres, neighbours)
        if self.config.readout == "per-atom":
            atoms = functional.softplus(self.conv_to_fc(atoms))
        return atoms

    def crystals(self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor) -> Tensor:
        """Pooled atoms through the hidden layers: (N, ·) → (B, H)."""
        pooled = self.pooling(atoms, crystal, num_atoms)
        if self.config.readout == "classic":
            pooled = functional.softplus(self.conv_to_fc(functional.softplus(pooled)))
        pooled = self.dropout(pooled)
        for layer in self.fcs:
            pooled = functional.softplus(layer(pooled))
        return pooled


class CrystalGraphNetwork(nn.Module):
    """Batch → {task: output}: (B,) for a regression, on the learned scale, (B, C) logits for a classification."""

    def __init__(self, config: NetworkConfig, tasks: TaskSet, elements: Tensor) -> None:
        """elements: the vector of each atomic number (119, F₀), rows of NaN for elements without one."""
        super().__init__()
        self.config = config
        self.register_buffer("elements", elements.clone(), persistent=False)
        self.expansion = GaussianExpansion(dmin=config.dmin, radius=config.radius, step=config.step)
        self.body = CrystalGraphBody(config, elements.shape[1], self.expansion.num_features)
        self.tasks = tasks
        # by position: a task may have a name that a module cannot
        self.heads = nn.ModuleList(nn.Linear(config.h_fea_len, task.num_outputs) for task in tasks)
        for task, head in zip(tasks, self.heads, strict=True):
            if task.role == AUXILIARY:
                nn.init.normal_(head.weight, std=0.001)
                nn.init.zeros_(head.bias)

    def atom_features(self, batch: Batch) -> Tensor:
        """Element vectors of the atoms (N, F₀): on a disordered site their occupancy-weighted mean.

        What a site lacks to full occupancy is vacant, and counts as zeros.
        """
        species = self.elements[batch.numbers]
        if len(species) == len(batch.crystal):
            return species * batch.occupancies[:, None]
        return segment_sum(species * batch.occupancies[:, None], batch.site, len(batch.crystal))

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Vectors of the atoms (N, ·) and of the crystals (B, H)."""
        edges = self.expansion(batch.distances)
        atoms = self.body.atoms(self.atom_features(batch), edges, batch.centres, batch.neighbours)
        return atoms, self.body.crystals(atoms, batch.crystal, batch.num_atoms)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        _, crystals = self.embed(batch)
        return self.predict_heads(crystals)

    def predict_heads(self, crystals: Tensor) -> dict[str, Tensor]:
        """Vectors (B, H) → outputs of every task."""
        return {
            task.name: head(crystals).squeeze(1) if task.is_regression else head(crystals)
            for task, head in zip(self.tasks, self.heads, strict=True)
        }


def classic_dropout(tasks: TaskSet) -> float:
    """The original code drops half of the hidden units where it classifies."""
    return 0.5 if all(not task.is_regression for task in tasks if task.role == TARGET) else 0.0


def describe_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def missing_elements(model: CrystalGraphNetwork, numbers: Tensor) -> list[int]:
    """Atomic numbers among `numbers` that the element table has no vector for."""
    return [int(z) for z in torch.unique(numbers) if torch.isnan(model.elements[int(z)]).any()]
