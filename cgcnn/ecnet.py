"""ECNet: a state for every element of an alloy, from which every property is summed.

Published as doi:10.1038/s41524-022-00945-x. Filters act on single pairs of atoms and are summed, so that a crystal
is, for this network, its partial radial histograms (cgcnn/radial.py): a step evaluates the filters on the grid of the
distances only, whatever the number of atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn.batch import Batch, RadialPairs
from cgcnn.features import NUM_LEARNED
from cgcnn.layers import segment_sum
from cgcnn.multi_task import MultiTaskNetwork
from cgcnn.radial import num_intervals
from cgcnn.reference import Reference
from cgcnn.standardise import Moments, global_units
from cgcnn.tasks import TaskSet


def cosine_envelope(distance: Tensor, cutoff: float) -> Tensor:
    """½ (cos(π d / cutoff) + 1): smoothly to 0 at the cutoff."""
    return 0.5 * (torch.cos(math.pi * distance / cutoff) + 1)


def published_envelope(distance: Tensor, cutoff: float) -> Tensor:
    """cutoff / d² − 1: changes its sign at √cutoff, and jumps from 1 / cutoff − 1 at the cutoff."""
    return cutoff / (distance.square() + 1e-10) - 1


ENVELOPES = {"cosine": cosine_envelope, "published": published_envelope}


@dataclass(frozen=True)
class ECNetConfig:
    """Sizes and choices; the names are the published code's.

    hidden_channels F of an element's state; n_filters f, n_interactions blocks, n_gaussian of the distances up to the
    cutoff (Å). aggregation: elements are added up, or averaged. tower: `separate` for each task, or one whose first
    two layers are `shared`. reference, extensive: see cgcnn/reference.py. global_features, crystal_features: kinds of
    numbers of the whole crystal, and names of those from a table, that join the state of every element.
    """

    hidden_channels: int = 128
    n_filters: int = 64
    n_interactions: int = 3
    n_gaussian: int = 50
    cutoff: float = 10.0
    aggregation: str = "add"
    envelope: str = "cosine"
    tower: str = "separate"
    tower_h1: int = 128
    tower_h2: int = 64
    reference: str = "none"
    extensive: tuple[str, ...] = ()
    global_features: str = ""
    crystal_features: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        return asdict(self)


class ShiftedSoftplus(nn.Module):
    """softplus(x) − ln 2, which is 0 at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(x) - math.log(2.0)


class Filter(nn.Module):
    """W(d) = C(d)·MLP(g(d)) at every point of the grid of the histograms."""

    def __init__(self, config: ECNetConfig) -> None:
        super().__init__()
        grid = torch.linspace(0, config.cutoff, num_intervals(config.cutoff) + 1, dtype=torch.float64)
        centres = torch.linspace(0, config.cutoff, config.n_gaussian, dtype=torch.float64)
        spacing = centres[1] - centres[0]
        gaussians = torch.exp(-(grid[:, None] - centres).square() / (2 * spacing.square()))
        envelope = ENVELOPES[config.envelope](grid, config.cutoff)
        envelope[0] = 0.0  # no two atoms are at no distance, and 1/d² ends there
        self.register_buffer("gaussians", gaussians.float(), persistent=False)
        self.register_buffer("envelope", envelope.float()[:, None], persistent=False)
        width = config.n_filters
        self.mlp = nn.Sequential(nn.Linear(config.n_gaussian, width), ShiftedSoftplus(), nn.Linear(width, width))

    def forward(self) -> Tensor:
        """→ (G, f)."""
        return self.mlp(self.gaussians) * self.envelope


class ElementConvolution(nn.Module):
    """out_c = V ssp(B M_c + b) + v, M_c = mean over the atoms i of element c of Σ_j W(d_ij) ⊙ A e(z_j).

    M comes divided by the neighbours of an atom, Σ_j C(d_ij), averaged over the training part: a sum over hundreds of
    neighbours starts far from where ssp bends. The published network does without.
    """

    def __init__(self, config: ECNetConfig) -> None:
        super().__init__()
        self.filter = Filter(config)
        self.send = nn.Linear(config.hidden_channels, config.n_filters, bias=False)
        self.receive = nn.Linear(config.n_filters, config.hidden_channels)
        self.activation = ShiftedSoftplus()
        self.out = nn.Linear(config.hidden_channels, config.hidden_channels)

    def forward(self, elements: Tensor, counts: Tensor, pairs: RadialPairs, neighbours: Tensor) -> Tensor:
        """Vectors of the elements (Z, F), histograms of the pairs (P, G), neighbours of an atom () → (Z, F)."""
        messages = (counts @ self.filter()) * self.send(elements)[pairs.neighbours]
        gathered = segment_sum(messages, pairs.centres, len(elements)) / pairs.amounts[:, None]
        return self.out(self.activation(self.receive(gathered / neighbours)))


def tower(config: ECNetConfig, *, num_outputs: int = 1, with_top: bool = True) -> nn.Sequential:
    """F → h1 → h2 → outputs."""
    layers = [nn.Linear(config.hidden_channels, config.tower_h1), ShiftedSoftplus()]
    layers += [nn.Linear(config.tower_h1, config.tower_h2), ShiftedSoftplus()]
    return nn.Sequential(*layers, *([nn.Linear(config.tower_h2, num_outputs)] if with_top else []))


class ECNet(MultiTaskNetwork):
    """States of the elements, from which towers sum the tasks; its batches have radial pairs."""

    head_layers = ("heads.", "trunk.")
    has_atoms = False

    def __init__(self, config: ECNetConfig, tasks: TaskSet, elements: Tensor) -> None:
        """elements (119, ·): which elements have a vector (no NaN); the vectors themselves are learned."""
        super().__init__()
        self.config, self.tasks = config, tasks
        self.register_buffer("elements", elements.clone(), persistent=False)
        self.embedding = nn.Embedding(NUM_LEARNED, config.hidden_channels)
        self.blocks = nn.ModuleList(ElementConvolution(config) for _ in range(config.n_interactions))
        self.add_crystal_features(config.hidden_channels)
        self.activation = ShiftedSoftplus()
        is_shared = config.tower == "shared"
        self.trunk = tower(config, with_top=False) if is_shared else nn.Identity()
        self.heads = nn.ModuleList(
            nn.Linear(config.tower_h2, task.num_outputs) if is_shared else tower(config, num_outputs=task.num_outputs)
            for task in tasks
        )
        self.reference = Reference(tasks)
        self.register_buffer("neighbours", torch.ones(()))

    @property
    def vector_length(self) -> int:
        return self.config.hidden_channels

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Over the training part: neighbours of an atom, each as much as the envelope leaves; numbers of crystals."""
        counts_neighbours = self.config.envelope != "published" and len(self.blocks) > 0
        if not counts_neighbours and self.join is None:
            return
        held, atoms, of_crystals = 0.0, 0.0, Moments()
        for batch in batches:
            if counts_neighbours:
                envelope = self.blocks[0].filter.envelope[:, 0]
                held += (batch.pairs.counts * envelope[batch.pairs.bins]).double().sum().item()
                atoms += batch.pairs.amounts.double().sum().item()
            if self.join is not None:
                of_crystals.add(batch.global_features)
        if counts_neighbours:
            self.neighbours.fill_(max(held / atoms, 1.0))
        if self.join is not None:
            of_crystals.write(self.global_mean, self.global_std, global_units(self.config))

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """States of the elements (Z, F), and of the crystals (B, F): their mean over the atoms."""
        pairs = batch.pairs
        elements = self.embedding(pairs.numbers)
        counts = pairs.dense(num_intervals(self.config.cutoff) + 1)
        states = elements
        for block in self.blocks:
            states = states + block(elements, counts, pairs, self.neighbours)
        if self.join is not None:
            states = states + self.activation(self.joined(states, batch.global_features[pairs.crystal]))
        weighted = segment_sum(states * pairs.amounts[:, None], pairs.crystal, len(batch))
        return states, weighted / segment_sum(pairs.amounts[:, None], pairs.crystal, len(batch))

    def read_out(self, batch: Batch, states: Tensor, crystals: Tensor) -> dict[str, Tensor]:
        """What `embed` gives → outputs of every task."""
        hidden = self.trunk(states)
        outputs = {}
        for task, head in zip(self.tasks, self.heads, strict=True):
            summed = segment_sum(head(hidden), batch.pairs.crystal, len(batch))
            if self.config.aggregation == "mean":
                summed = summed / batch.pairs.num_elements[:, None]
            outputs[task.name] = summed.squeeze(1) if task.is_regression else summed
        return self.reference(outputs, batch)
