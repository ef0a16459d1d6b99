"""The multi-task crystal graph network: embedding, convolutions, readout, one head a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn.batch import Batch
from cgcnn.environment import NUM_FEATURES
from cgcnn.features import GaussianExpansion, RadialBasis
from cgcnn.layers import EdgeUpdate, GatedConvolution
from cgcnn.multi_task import MultiTaskNetwork, by_site
from cgcnn.pooling import POOLINGS
from cgcnn.reference import Reference
from cgcnn.standardise import Moments, global_units, register_statistics, scaled
from cgcnn.tasks import AUXILIARY, TARGET, TaskSet

READOUTS = ("per-atom", "classic")
# --edge-features offers these: configuration → a module from distances (E,) to features (E, K)
EDGE_FEATURES: dict[str, Callable[[NetworkConfig], nn.Module]] = {
    "gaussian": lambda c: GaussianExpansion(dmin=c.dmin, radius=c.radius, step=c.step),
    "rbf": lambda c: RadialBasis(radius=c.radius, count=c.num_rbf, learnable=c.learnable_edges),
}


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and choices of a network; with the tasks and the element table it is what rebuilds one.

    readout: `per-atom` widens and activates every atom before pooling; `classic` pools first, as
    CrystalGraphConvNet does. environment: atoms start with their surroundings too. global_features: kinds of
    numbers of the whole crystal that join its vector. dmin, radius, step: Å, the Gaussians of the distances.
    edge_features: `gaussian`, or `rbf` with num_rbf centres. learnable_atoms: the element vectors are parameters.
    learnable_edges: edges are updated before every convolution, and centres and widths of `rbf` are parameters.
    reference, extensive: what outputs are counted from, and which tasks grow with the cell (cgcnn/reference.py).
    crystal_features: names of the numbers from a table that join the crystal's vector too, after the others.
    """

    atom_fea_len: int = 64
    h_fea_len: int = 128
    n_conv: int = 3
    n_h: int = 1
    pooling: str = "mean"
    readout: str = "per-atom"
    dropout: float = 0.0
    environment: bool = False
    global_features: str = ""
    dmin: float = 0.0
    radius: float = 8.0
    step: float = 0.2
    edge_features: str = "gaussian"
    num_rbf: int = 10
    learnable_atoms: bool = False
    learnable_edges: bool = False
    reference: str = "none"
    extensive: tuple[str, ...] = ()
    crystal_features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.readout not in READOUTS:
            raise ValueError(f"readout must be one of {', '.join(READOUTS)}")

    def to_dict(self) -> dict:
        return asdict(self)


def gated_convolution(config: NetworkConfig, nbr_fea_len: int) -> GatedConvolution:
    """The convolution of CGCNN."""
    return GatedConvolution(config.atom_fea_len, nbr_fea_len)


class CrystalGraphBody(nn.Module):
    """Atoms and edges of crystals → a vector a crystal. Parameter names are the original code's.

    convolution: configuration, K → a module that takes atoms (N, F), edges (E, K), centres and neighbours (E,).
    """

    def __init__(
        self,
        config: NetworkConfig,
        orig_atom_fea_len: int,
        nbr_fea_len: int,
        convolution: Callable[[NetworkConfig, int], nn.Module] = gated_convolution,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Linear(orig_atom_fea_len, config.atom_fea_len)
        self.convs = nn.ModuleList(convolution(config, nbr_fea_len) for _ in range(config.n_conv))
        count = config.n_conv if config.learnable_edges else 0
        self.edge_updates = nn.ModuleList(EdgeUpdate(config.atom_fea_len, nbr_fea_len) for _ in range(count))
        self.conv_to_fc = nn.Linear(config.atom_fea_len, config.h_fea_len)
        pooled = config.h_fea_len if config.readout == "per-atom" else config.atom_fea_len
        self.pooling = POOLINGS[config.pooling](pooled)
        self.fcs = nn.ModuleList(nn.Linear(config.h_fea_len, config.h_fea_len) for _ in range(config.n_h - 1))
        self.dropout = nn.Dropout(config.dropout)

    def atoms(self, atom_fea: Tensor, edges: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        """Vectors of the atoms that are pooled: atom_fea (N, F₀), edges (E, K) → (N, H), classic (N, F)."""
        atoms = self.embedding(atom_fea)
        for k, convolution in enumerate(self.convs):
            if self.edge_updates:
                edges = self.edge_updates[k](atoms, edges, centres, neighbours)
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


class CrystalGraphNetwork(MultiTaskNetwork):
    """Embedding, convolutions, pooling. A network of another convolution is a subclass with another `convolution`."""

    convolution = staticmethod(gated_convolution)

    def __init__(self, config: NetworkConfig, tasks: TaskSet, elements: Tensor) -> None:
        """elements: the vector of each atomic number (119, F₀), rows of NaN for elements without one."""
        super().__init__()
        self.config = config
        if config.learnable_atoms:
            self.elements = nn.Parameter(torch.nan_to_num(elements))
        else:
            self.register_buffer("elements", elements.clone(), persistent=False)
        self.expansion = EDGE_FEATURES[config.edge_features](config)
        num_environment = NUM_FEATURES if config.environment else 0
        register_statistics(self, "environment", num_environment)
        num_atom_features = elements.shape[1] + num_environment
        self.body = CrystalGraphBody(config, num_atom_features, self.expansion.num_features, self.convolution)
        self.tasks = tasks
        self.add_crystal_features(config.h_fea_len)
        # by position: a task may have a name that a module cannot
        self.heads = nn.ModuleList(nn.Linear(config.h_fea_len, task.num_outputs) for task in tasks)
        for task, head in zip(tasks, self.heads, strict=True):
            if task.role == AUXILIARY:
                nn.init.normal_(head.weight, std=0.001)
                nn.init.zeros_(head.bias)
        self.reference = Reference(tasks, is_used=config.reference != "none" or bool(config.extensive))

    @property
    def vector_length(self) -> int:
        """H of the vector of a crystal."""
        return self.config.h_fea_len

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Mean and deviation of the inputs over the training part; called once, before training."""
        if not len(self.environment_mean) + len(self.global_mean):
            return
        environment, of_crystals = Moments(), Moments()
        for batch in batches:
            environment.add(batch.environment)
            if len(self.global_mean):
                of_crystals.add(batch.global_features)
        if len(self.environment_mean):
            environment.write(self.environment_mean, self.environment_std, torch.ones(NUM_FEATURES))
        if len(self.global_mean):
            of_crystals.write(self.global_mean, self.global_std, global_units(self.config))

    def atom_features(self, batch: Batch) -> Tensor:
        """What the atoms start with (N, F₀ + K): element vectors, and, if asked for, their standardised surroundings.

        The vector of a disordered site is the occupancy-weighted mean of its elements'; what it lacks to full
        occupancy is vacant, and counts as zeros.
        """
        atoms = by_site(self.elements[batch.numbers], batch)
        if not self.config.environment:
            return atoms
        return torch.cat([atoms, scaled(batch.environment, self.environment_mean, self.environment_std)], dim=1)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Vectors of the atoms (N, ·) and of the crystals (B, H)."""
        edges = self.expansion(batch.distances)
        atoms = self.body.atoms(self.atom_features(batch), edges, batch.centres, batch.neighbours)
        return atoms, self.crystal_vectors(atoms, batch.crystal, batch.num_atoms, batch.global_features)

    def crystal_vectors(
        self, atoms: Tensor, crystal: Tensor, num_atoms: Tensor, global_features: Tensor | None
    ) -> Tensor:
        """Atoms (N, ·) pooled, with what the network knows of whole crystals (B, G) → (B, H)."""
        crystals = self.body.crystals(atoms, crystal, num_atoms)
        if self.join is not None:
            crystals = functional.softplus(self.joined(crystals, global_features))
        return crystals

    def atom_weights(self, batch: Batch, atoms: Tensor) -> Tensor:
        """The share of each atom (N,) in its crystal's vector."""
        return self.body.pooling.weights(atoms, batch.crystal, batch.num_atoms)

    @property
    def adds_up(self) -> bool:
        """Whether nothing but a linear head follows a mean over the atoms."""
        config = self.config
        averages = config.pooling in ("mean", "attention") and config.readout == "per-atom" and config.n_h == 1
        return averages and self.join is None and not self.reference.is_used


def classic_dropout(tasks: TaskSet) -> float:
    """The original code drops half of the hidden units where it classifies."""
    return 0.5 if all(not task.is_regression for task in tasks if task.role == TARGET) else 0.0
