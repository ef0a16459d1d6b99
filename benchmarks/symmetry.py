"""Does a prediction depend on how a crystal is written down? Shell graphs must not, classic graphs may.

    python -m benchmarks.symmetry FOLDER [--limit N] [--seed S] [--model FILE]

Draws N crystals from FOLDER, and writes each down in other ways: atoms in another order, another origin, another
orientation, a supercell (2 × 1 × 1, and a skewed one of two cells). For networks with random weights on both kinds
of graph, or for a trained one on its own kind, the table shows how many crystals change by more than 1e-5, and the
largest change, also over the standard deviation of the outputs.
"""

import argparse
import random
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from cgcnn.batch import Collator
from cgcnn.checkpoint import TrainedModel, load
from cgcnn.crystal import Crystal
from cgcnn.features import element_table
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.prediction import predict_rows
from cgcnn.structures import find_structure_files, read_crystal
from cgcnn.tasks import Normalizer, Task, TaskSet

TOLERANCE = 1e-5
GRAPHS = {"shell": GraphSettings(), "classic": GraphSettings(neighbours="classic")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=200, help="crystals, drawn at random (200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="a trained model in place of random weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    rng = np.random.default_rng(arguments.seed)
    crystals = draw(arguments.folder, arguments.limit, arguments.seed)
    written = {name: [change(crystal, rng) for crystal in crystals] for name, change in CHANGES.items()}
    cut = [crystal for crystal in crystals if is_cut(crystal)]
    cubic = sum(is_cubic(crystal) for crystal in cut)
    print(f"{len(crystals)} crystals of {arguments.folder.name}; {len(cut)} have a shell cut, {cubic} of them cubic")

    print(f"{'graph':9}{'pooling':11}{'written with':20}{'changed':>9}{'largest':>12}{'/ spread':>12}")
    for model in [load(arguments.model)] if arguments.model else random_models(crystals, arguments.seed):
        before, changes = predict(model, crystals), []
        for name, others in written.items():
            changes.append(np.abs(predict(model, others) - before))
            report(model, name, changes[-1], before.std())
        report(model, "any of these", np.max(changes, axis=0), before.std())
    return 0


def draw(folder: Path, limit: int, seed: int) -> list[Crystal]:
    files = find_structure_files(folder)
    drawn = random.Random(seed).sample(sorted(files), min(limit, len(files)))
    return [read_crystal(files[crystal_id]) for crystal_id in drawn]


def reordered(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    order = rng.permutation(crystal.num_sites)
    place = np.argsort(order)[crystal.site]
    species = np.argsort(place, kind="stable")
    return Crystal(
        crystal.lattice,
        crystal.frac_coords[order],
        crystal.numbers[species],
        crystal.occupancies[species],
        place[species].astype(np.int32),
    )


def shifted(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    frac_coords = (crystal.frac_coords + rng.random(3)) % 1
    return Crystal(crystal.lattice, frac_coords, crystal.numbers, crystal.occupancies, crystal.site)


def rotated(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    lattice = crystal.lattice @ (rotation * np.sign(np.linalg.det(rotation)))
    return Crystal(lattice, crystal.frac_coords, crystal.numbers, crystal.occupancies, crystal.site)


def supercell(*matrix: Sequence[int]) -> Callable[[Crystal, np.random.Generator], Crystal]:
    return lambda crystal, _: Crystal.from_structure(crystal.to_structure().make_supercell(matrix, in_place=False))


CHANGES: dict[str, Callable[[Crystal, np.random.Generator], Crystal]] = {
    "another order": reordered,
    "another origin": shifted,
    "a rotation": rotated,
    "2 x 1 x 1 cells": supercell((2, 0, 0), (0, 1, 0), (0, 0, 1)),
    "two skewed cells": supercell((1, 1, 0), (-1, 1, 0), (0, 1, 1)),
}


def is_cut(crystal: Crystal) -> bool:
    """Whether twelve neighbours cut a shell of equal distances."""
    shell, classic = (len(build_graph(crystal, settings).distances) for settings in GRAPHS.values())
    return shell > classic


def is_cubic(crystal: Crystal) -> bool:
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    return SpacegroupAnalyzer(crystal.to_structure(), symprec=0.01).get_crystal_system() == "cubic"


def random_models(crystals: list[Crystal], seed: int) -> list[TrainedModel]:
    """Networks with random weights, and batch norms that know the crystals: for each graph and pooling."""
    models = []
    for settings in GRAPHS.values():
        for pooling in ("mean", "attention"):
            tasks = TaskSet((Task("output"),))
            normalizers = {"output": Normalizer()}
            model = TrainedModel("cgcnn", {"pooling": pooling}, tasks, element_table(), normalizers, settings)
            torch.manual_seed(seed)
            network = model.build()
            for layer in network.modules():
                if isinstance(layer, torch.nn.BatchNorm1d):
                    layer.momentum = 1.0
            with torch.no_grad():
                network(table(crystals, settings)[torch.arange(len(crystals))])
            model.networks = [network]
            models.append(model)
    return models


def table(crystals: list[Crystal], settings: GraphSettings) -> Collator:
    graphs = [build_graph(crystal, settings) for crystal in crystals]
    return Collator(GraphTable.from_graphs(graphs, [""] * len(graphs)))


def predict(model: TrainedModel, crystals: list[Crystal]) -> np.ndarray:
    """The first output of each crystal (n,), in its unit."""
    rows = torch.arange(len(crystals))
    found = predict_rows(
        model.networks, table(crystals, model.graph), rows, model.tasks, model.normalizers, rule=model.rule
    )
    first = found[next(iter(model.tasks)).name]
    return first if first.ndim == 1 else first[:, 0]


def report(model: TrainedModel, name: str, change: np.ndarray, spread: float) -> None:
    print(
        f"{model.graph.neighbours:9}{model.config['pooling']:11}{name:20}{(change > TOLERANCE).sum():9}"
        f"{change.max():12.1e}{change.max() / spread:12.1e}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
