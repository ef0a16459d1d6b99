"""A training step of Crystalformer: time, arithmetic and bytes, and how they grow with the batch and with the cell.

    python -m benchmarks.attention FOLDER [--repeats R] [--threads T]

Forward and backward on crystals of the folder at both cutoffs and several batch sizes, then on one crystal of each
size up to 200 atoms (supercells of caesium chloride, 8 a batch). Multiply-adds are those of one pass forward,
as the formulas need them without padding, and as they are done with it; memory is the peak of the process above what
it held before.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks.train_step import one_batch
from cgcnn.batch import Batch
from cgcnn.crystal import Crystal
from cgcnn.crystalformer import Crystalformer, CrystalformerConfig
from cgcnn.features import learned_elements
from cgcnn.graph import GraphSettings, build_graphs
from cgcnn.structures import find_structure_files, read_crystal
from cgcnn.tasks import Task, TaskSet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    files = find_structure_files(args.folder)
    drawn = random.Random(0).sample(sorted(files), min(512, len(files)))
    crystals = [read_crystal(files[crystal_id]) for crystal_id in drawn]
    print(f"{args.threads} thread(s), {DEVICE}")
    print(f"{'':26}{'atoms':>8}{'edges':>10}{'s a step':>10}{'G mult-adds':>13}{'padded':>8}{'MiB':>8}")
    lines = [(f"{count} crystals, 6.93 Å", crystals[:count], 6.93) for count in (32, 64, 128, 256)]
    lines.append(("128 crystals, 8 Å", crystals[:128], 8.0))
    for times in (1, 2, 3, 4, (5, 5, 4)):
        cell = caesium_chloride(times)
        lines.append((f"8 crystals of {cell.num_sites} atoms", [cell] * 8, 6.93))
    for line in lines:  # each in a process of its own, whose peak of memory is the line's
        process = get_context("spawn").Process(target=show, args=(*line, args.repeats, args.threads))
        process.start()
        process.join()


def caesium_chloride(times: int | tuple[int, int, int]) -> Crystal:
    """A supercell whose atoms are a little off their places, so that no two distances are one."""
    times = np.array([times] * 3 if isinstance(times, int) else times)
    cells = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), axis=-1).reshape(-1, 3)
    places = np.concatenate([cells / times, (cells + 0.5) / times])
    places += np.random.default_rng(0).normal(scale=0.002, size=places.shape)
    numbers = np.repeat([55, 17], len(cells)).astype(np.uint8)
    site = np.arange(len(numbers), dtype=np.int32)
    return Crystal(np.diag(4.1 * times), places, numbers, np.ones(len(numbers)), site)


def show(name: str, crystals: list[Crystal], cutoff: float, repeats: int, threads: int) -> None:
    """A line of the table."""
    torch.set_num_threads(threads)
    batch = one_batch(build_graphs(crystals, GraphSettings(cutoff, images=True))).to(DEVICE)
    torch.manual_seed(0)
    network = Crystalformer(CrystalformerConfig(image_cutoff=cutoff), TaskSet((Task("a"),)), learned_elements(98))
    network.to(DEVICE).fit_statistics([batch])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        network(batch)["a"].square().mean().backward()
        network.zero_grad()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if DEVICE == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
    needed, done = multiply_adds(network, batch)
    step = statistics.median(seconds[1:])
    edges = len(batch.distances)
    print(
        f"{name:26}{len(batch.crystal):8}{edges:10}{step:10.3f}{needed / 1e9:13.2f}{done / 1e9:8.2f}{memory:8.0f}",
        flush=True,
    )


def multiply_adds(network: Crystalformer, batch: Batch) -> tuple[float, float]:
    """Of one pass forward: over atoms, pairs and edges as they are, and with the padding of the groups."""
    config, atoms = network.config, len(batch.crystal)
    width, functions = config.model_dim, len(network.functions.centres)
    an_atom = 4 * width**2 + 2 * width * config.ff_dim + width * functions
    pairs, padded = int(batch.num_atoms.square().sum()), 0
    for group in network.groups(batch):
        padded += group.weight.numel()
    per_layer = atoms * an_atom + pairs * 2 * width
    edges = len(batch.distances)
    return tuple(config.num_layers * (per_layer + e * config.head_num * functions) for e in (edges, padded))


if __name__ == "__main__":
    main()
