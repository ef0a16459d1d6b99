"""What the atoms of a crystal have to do with its prediction: a weight and a score for each."""

from __future__ import annotations

import torch
from torch import Tensor

from cgcnn.batch import Batch
from cgcnn.graph import CrystalGraph
from cgcnn.multi_task import MultiTaskNetwork
from cgcnn.novelty import SYMBOLS
from cgcnn.tasks import Normalizer

LINEAR = ("none", "scaling")  # of cgcnn.tasks.TRANSFORMS


@torch.no_grad()
def atom_scores(network: MultiTaskNetwork, batch: Batch, atoms: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Weight (N,) of each atom in its crystal's mean, and its score (N,) for every regression, on the learned scale.

    atoms (N, ·): the vectors that the network pools. The weights are attention, or 1/n for mean pooling. The score is
    the prediction for a crystal whose atoms all have this vector. Where the network `adds_up`, that is the head
    applied to h_i, and Σ a_i score_i = w·Σ a_i h_i + b is the crystal's prediction; where more layers follow the
    pooling, the score tells which way an atom pulls, but the weighted sum is not the prediction.
    """
    count = len(batch.crystal)
    alone = torch.arange(count, device=atoms.device)
    of_crystal = None if batch.global_features is None else batch.global_features[batch.crystal]
    vectors = network.crystal_vectors(atoms, alone, torch.ones_like(alone), of_crystal)
    outputs = network.read_out(batch, atoms, vectors, by_atom=True)
    weights = network.atom_weights(batch, atoms)
    return weights, {task.name: outputs[task.name] for task in network.tasks if task.is_regression}


def adds_up(network: MultiTaskNetwork, normalizers: dict[str, Normalizer]) -> bool:
    """Whether the weighted sum of the scores, in units, is the prediction: only a linear head follows the pooling."""
    return network.adds_up and all(n.transform in LINEAR for n in normalizers.values())


def site_elements(graph: CrystalGraph) -> list[str]:
    """What stands on each of the N sites: `Ni`, or with the occupancies where they are not 1, `Ni0.8Co0.2`."""
    sites = [""] * graph.num_atoms
    for site, number, occupancy in zip(graph.site, graph.numbers, graph.occupancies, strict=True):
        sites[site] += SYMBOLS[int(number)] + (f"{occupancy:.4g}" if abs(occupancy - 1) > 1e-6 else "")
    return sites
