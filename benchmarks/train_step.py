"""Compare a training step with one whose convolutions are written edge by edge, as the formula reads.

    python -m benchmarks.train_step [FOLDER] [--batch-size B] [--repeats R] [--threads T]

The batch is drawn from the structure files of FOLDER, or made up without one. Both sides have the same weights and
take turns; the table shows medians and their ratio, of one layer (forward and backward) and of the whole step
(forward, loss, backward, Adam). The rows below count multiply-adds of the layer's linear maps forward, and the bytes
that it keeps for the way back.
"""

import argparse
import copy
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn.batch import Batch, Collator
from cgcnn.crystal import Crystal
from cgcnn.features import element_table
from cgcnn.graph import CrystalGraph, build_graphs
from cgcnn.graph_table import GraphTable
from cgcnn.layers import GatedConvolution
from cgcnn.network import CrystalGraphNetwork, NetworkConfig
from cgcnn.structures import find_structure_files, read_crystal
from cgcnn.tasks import Task, TaskSet

WARM_UP = 3


class PerEdgeConvolution(nn.Module):
    """The layer of cgcnn.layers.GatedConvolution, with the same parameters, edge by edge."""

    def __init__(self, ours: GatedConvolution) -> None:
        super().__init__()
        self.fc_full, self.bn1, self.bn2 = (
            copy.deepcopy(ours.fc_full),
            copy.deepcopy(ours.bn1),
            copy.deepcopy(ours.bn2),
        )

    def forward(self, atoms: Tensor, edges: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        z = torch.cat([atoms[centres], atoms[neighbours], edges], dim=1)
        gate, core = self.bn1(self.fc_full(z)).chunk(2, dim=1)
        messages = torch.sigmoid(gate) * functional.softplus(core)
        summed = torch.zeros_like(atoms).index_add(0, centres, messages)
        return functional.softplus(atoms + self.bn2(summed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=15, help="turns of each side (15)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    batch = (
        real_batch(arguments.folder, arguments.batch_size) if arguments.folder else made_batch(arguments.batch_size)
    )

    tasks = TaskSet((Task("a"), Task("b")))
    ours = CrystalGraphNetwork(NetworkConfig(pooling="attention"), tasks, element_table())
    theirs = copy.deepcopy(ours)
    theirs.body.convs = nn.ModuleList(PerEdgeConvolution(layer) for layer in ours.body.convs)
    num_atoms, num_edges = len(batch.crystal), len(batch.distances)
    print(f"{len(batch)} crystals, {num_atoms} atoms, {num_edges} edges; {arguments.threads} thread(s)")
    print(f"{'':24}{'ours':>12}{'per edge':>12}{'ratio':>8}")
    pair = [layer_step(net.body.convs[1], ours, batch) for net in (ours, theirs)]
    print_row("layer, ms", *(1e3 * t for t in alternate(*pair, arguments.repeats)))
    pair = [network_step(net, batch) for net in (ours, theirs)]
    print_row("training step, ms", *(1e3 * t for t in alternate(*pair, arguments.repeats)))
    print_row("multiply-adds, million", *(n / 1e6 for n in multiply_adds(ours, num_atoms, num_edges)))
    print_row("bytes kept, MB", *(kept_bytes(net.body.convs[1], ours, batch) / 1e6 for net in (ours, theirs)))
    return 0


def real_batch(folder: Path, size: int) -> Batch:
    files = find_structure_files(folder)
    drawn = random.Random(0).sample(sorted(files), min(size, len(files)))
    return one_batch(build_graphs([read_crystal(files[crystal_id]) for crystal_id in drawn]))


def made_batch(size: int) -> Batch:
    """Cubes of 1 to 12 atoms, where they fall, 20 Å³ an atom."""
    rng = np.random.default_rng(0)
    crystals = []
    for num_atoms in rng.integers(1, 13, size):
        numbers = rng.integers(1, 84, num_atoms).astype(np.uint8)
        lattice = np.eye(3) * (20 * num_atoms) ** (1 / 3)
        site = np.arange(num_atoms, dtype=np.int32)
        crystals.append(Crystal(lattice, rng.random((num_atoms, 3)), numbers, np.ones(num_atoms), site))
    return one_batch(build_graphs(crystals))


def one_batch(graphs: list[CrystalGraph]) -> Batch:
    table = GraphTable.from_graphs(graphs, [""] * len(graphs))
    return Collator(table, torch.randn(len(graphs), 2))[torch.arange(len(graphs))]


def layer_input(network: CrystalGraphNetwork, batch: Batch) -> tuple[Tensor, ...]:
    with torch.no_grad():
        atoms = network.body.embedding(network.atom_features(batch))
    return atoms.requires_grad_(), network.expansion(batch.distances), batch.centres, batch.neighbours


def layer_step(layer: nn.Module, network: CrystalGraphNetwork, batch: Batch) -> Callable[[], None]:
    graph = layer_input(network, batch)
    incoming = torch.randn(len(batch.crystal), network.config.atom_fea_len)
    wanted = [graph[0], *layer.parameters()]
    return lambda: torch.autograd.grad(layer(*graph), wanted, incoming)


def network_step(network: nn.Module, batch: Batch) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6)

    def step() -> None:
        outputs = network(batch)
        loss = sum((outputs[name] - batch.targets[:, k]).square().mean() for k, name in enumerate("ab"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def alternate(ours: Callable[[], None], theirs: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Median seconds of each, turn by turn, so that what else the machine does weighs on both."""
    seconds = ([], [])
    for k in range(WARM_UP + repeats):
        for side, step in enumerate((ours, theirs)):
            begun = time.perf_counter()
            step()
            if k >= WARM_UP:
                seconds[side].append(time.perf_counter() - begun)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def multiply_adds(network: CrystalGraphNetwork, num_atoms: int, num_edges: int) -> tuple[int, int]:
    """Of one layer's linear maps, forward: the atoms' parts once an atom or once an edge."""
    width, num_gaussians = network.config.atom_fea_len, network.expansion.num_features
    ours = 2 * width * (2 * width * num_atoms + num_gaussians * num_edges)
    return ours, 2 * width * (2 * width + num_gaussians) * num_edges


def kept_bytes(layer: nn.Module, network: CrystalGraphNetwork, batch: Batch) -> int:
    """Of the different tensors that a layer's forward pass keeps for its backward pass."""
    kept = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = layer(*layer_input(network, batch))
        total = sum(kept.values())
    del out
    return total


def print_row(name: str, ours: float, theirs: float) -> None:
    print(f"{name:24}{ours:12.2f}{theirs:12.2f}{theirs / ours:8.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
