"""A training step of ECNet on radial histograms beside the classic network on as many edges, and edge by edge.

    python -m benchmarks.element_network FOLDER [--few N] [--batch-size B] [--repeats R] [--threads T]

First on --few crystals, which the classic network and ECNet's own edge form can hold with all their pairs within the
cutoff; then the step of a whole batch from histograms, with the seconds of an epoch of the folder. Networks take
turns on the same crystals; medians. Multiply-adds are those of one pass forward.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.train_step import WARM_UP, network_step, one_batch
from cgcnn.batch import Batch
from cgcnn.crystal import Crystal
from cgcnn.ecnet import ENVELOPES, ECNet, ECNetConfig
from cgcnn.features import element_table, learned_elements
from cgcnn.graph import GraphSettings, build_graphs
from cgcnn.layers import segment_sum
from cgcnn.network import CrystalGraphNetwork, NetworkConfig
from cgcnn.radial import num_intervals
from cgcnn.structures import find_structure_files, read_crystal
from cgcnn.tasks import Task, TaskSet

TASKS = TaskSet((Task("a"), Task("b")))


class EdgeForm(nn.Module):
    """ECNet with every filter evaluated at every edge, as the formula reads."""

    def __init__(self, network: ECNet, pairs: Batch, edges: Batch) -> None:
        super().__init__()
        self.network, self.pairs, self.numbers = network, pairs.pairs, edges.numbers
        number_of = edges.crystal * 1000 + edges.numbers
        self.element = torch.searchsorted(pairs.pairs.crystal * 1000 + pairs.pairs.numbers, number_of)
        self.edges = edges
        config = network.config
        centres = torch.linspace(0, config.cutoff, config.n_gaussian)
        d = edges.distances
        self.gaussians = torch.exp(-((d[:, None] - centres) ** 2) / (2 * centres[1] ** 2))
        self.envelope = ENVELOPES[config.envelope](d, config.cutoff)[:, None]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        network, pairs = self.network, self.pairs
        vectors = network.embedding(pairs.numbers)
        states = vectors
        for block in network.blocks:
            weights = block.filter.mlp(self.gaussians) * self.envelope
            messages = weights * block.send(vectors)[self.element][self.edges.neighbours]
            by_element = segment_sum(messages, self.element[self.edges.centres], len(states)) / pairs.amounts[:, None]
            states = states + block.out(block.activation(block.receive(by_element / network.neighbours)))
        return network.read_out(batch, states, states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--few", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--cutoff", type=float, default=10.0, help="Å")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each network (7)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    files = find_structure_files(args.folder)
    drawn = random.Random(0).sample(sorted(files), len(files))
    crystals = [read_crystal(files[crystal_id]) for crystal_id in drawn]
    few = crystals[: args.few]
    print(f"{len(files)} crystals, cutoff {args.cutoff:g} Å, {args.threads} thread(s)\n")
    of_pairs = histograms(few, args.cutoff)
    all_edges = one_batch(build_graphs(few, GraphSettings(args.cutoff, 100_000)))
    nearest = one_batch(build_graphs(few, GraphSettings()))
    edges = len(all_edges.distances)
    torch.manual_seed(0)
    network = ECNet(ECNetConfig(cutoff=args.cutoff), TASKS, learned_elements())
    network.fit_statistics([of_pairs])
    edge_form = EdgeForm(network, of_pairs, all_edges)
    with torch.no_grad():
        ours, theirs = network(of_pairs)["a"], edge_form(of_pairs)["a"]
    classic = CrystalGraphNetwork(NetworkConfig(radius=args.cutoff), TASKS, element_table())
    usual = CrystalGraphNetwork(NetworkConfig(), TASKS, element_table())
    seconds = turns(
        {
            "ecnet, histograms": network_step(network, of_pairs),
            "ecnet, edge by edge": network_step(edge_form, of_pairs),
            "cgcnn, all these edges": network_step(classic, all_edges),
            "cgcnn, 12 neighbours": network_step(usual, nearest),
        },
        args.repeats,
    )
    print(f"{len(few)} crystals, {len(all_edges.crystal)} atoms, {edges} edges within the cutoff,")
    print(f"{len(of_pairs.pairs.bins)} entries of histograms of {len(of_pairs.pairs.centres)} pairs of elements;")
    print(f"largest difference of the two forms of ecnet {float((ours - theirs).abs().max()):.1e}")
    first = seconds["ecnet, histograms"]
    for name, median in seconds.items():
        print(f"  {name:24}{1e3 * median:10.1f} ms{median / first:10.1f} ×")
    points = num_intervals(args.cutoff) + 1
    config = network.config
    by_pair = config.n_interactions * config.n_filters * points * len(of_pairs.pairs.centres)
    on_grid = config.n_interactions * points * config.n_filters * (config.n_gaussian + config.n_filters)
    by_edge = config.n_interactions * edges * config.n_filters * (config.n_gaussian + config.n_filters)
    print(f"  multiply-adds of the filters: {by_pair + on_grid:.2e} from histograms, {by_edge:.2e} edge by edge")
    batch = histograms(crystals[: args.batch_size], args.cutoff)
    median = turns({"step": network_step(network, batch)}, args.repeats)["step"]
    steps = -(-len(crystals) // args.batch_size)
    print(
        f"\n{len(batch)} crystals a batch: {1e3 * median:.1f} ms a step, {median * steps:.3f} s an epoch of {steps}"
    )


def histograms(crystals: list[Crystal], cutoff: float) -> Batch:
    return one_batch(build_graphs(crystals, GraphSettings(cutoff, histogram=num_intervals(cutoff))))


def turns(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for k in range(WARM_UP + repeats):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if k >= WARM_UP:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
