"""What cutting the sums over images changes in Crystalformer's predictions, against a long reference in float64.

    python -m benchmarks.truncation FOLDER [--model MODEL] [--crystals N]

For each cutoff: the largest and the median difference of the predictions of N crystals from those with --reference Å,
on the learned scale, where labels have a deviation of 1; without MODEL of an untrained network whose outputs are
scaled to it. In float64 throughout, and in float32, as it runs.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.train_step import one_batch
from cgcnn import checkpoint
from cgcnn.batch import Batch
from cgcnn.crystal import Crystal
from cgcnn.crystalformer import Crystalformer, CrystalformerConfig
from cgcnn.features import learned_elements
from cgcnn.graph import GraphSettings, build_graphs
from cgcnn.infinite_attention import RadialFunctions
from cgcnn.structures import find_structure_files, read_crystal
from cgcnn.tasks import Task, TaskSet

CUTOFFS = (5.0, 6.0, 6.93, 8.0, 10.0)
CHUNK = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--crystals", type=int, default=50)
    parser.add_argument("--reference", type=float, default=16.0, help="Å")
    args = parser.parse_args()
    files = find_structure_files(args.folder)
    drawn = random.Random(0).sample(sorted(files), min(args.crystals, len(files)))
    crystals = [read_crystal(files[crystal_id]) for crystal_id in drawn]
    network = trained(args.model) if args.model else untrained(crystals)
    exact = predicted(network, crystals, args.reference)
    scale = 1.0 if args.model else float(exact.std())
    atoms = sum(crystal.num_sites for crystal in crystals)
    print(f"{len(crystals)} crystals, {atoms} atoms; reference {args.reference:g} Å, float64")
    print(f"{'cutoff':>8}{'median':>12}{'worst':>12}{'float32 median':>16}{'worst':>12}")
    for cutoff in CUTOFFS:
        cells = []
        for kind in (torch.float64, torch.float32):
            error = (predicted(network, crystals, cutoff, kind) - exact).abs() / scale
            cells += [float(error.median()), float(error.max())]
        print(f"{cutoff:8.2f}{cells[0]:12.1e}{cells[1]:12.1e}{cells[2]:16.1e}{cells[3]:12.1e}")


def trained(path: Path) -> Crystalformer:
    return checkpoint.load(path).networks[0]


def untrained(crystals: list[Crystal]) -> Crystalformer:
    torch.manual_seed(0)
    network = Crystalformer(CrystalformerConfig(), TaskSet((Task("y"),)), learned_elements(98))
    settings = GraphSettings(network.config.image_cutoff, images=True)
    network.fit_statistics([one_batch(build_graphs(crystals, settings))])
    return network


@torch.no_grad()
def predicted(
    network: Crystalformer, crystals: list[Crystal], cutoff: float, kind: torch.dtype = torch.float64
) -> Tensor:
    """Of the first task, (n,) float64, with every image within the cutoff (Å)."""
    network = network.eval().to(kind)
    if network.functions is not None:
        network.functions = RadialFunctions(replace(network.config, image_cutoff=cutoff)).to(kind)
    name = next(iter(network.tasks)).name
    found = []
    for start in range(0, len(crystals), CHUNK):
        part = crystals[start : start + CHUNK]
        graphs = build_graphs(part, GraphSettings(cutoff, images=True))
        found.append(network(as_kind(one_batch(graphs), kind))[name])
    return torch.cat(found).double()


def as_kind(batch: Batch, kind: torch.dtype) -> Batch:
    """With its floating-point numbers in this precision."""
    floats = {k: v.to(kind) for k, v in vars(batch).items() if isinstance(v, Tensor) and v.is_floating_point()}
    return replace(batch, **floats)


if __name__ == "__main__":
    main()
