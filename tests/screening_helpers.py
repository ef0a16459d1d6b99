"""What the tests of predict.py share: models of random weights, and folders of small crystals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from conftest import cif_text, fcc, make_crystal

from cgcnn import checkpoint
from cgcnn.batch import Collator
from cgcnn.checkpoint import TrainedModel
from cgcnn.crystal import Crystal
from cgcnn.features import element_table
from cgcnn.graph import GraphSettings, build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.novelty import training_domain
from cgcnn.prediction import GapRule
from cgcnn.tasks import CATEGORY, CLASSIFICATION, Normalizer, Task, TaskSet

WORK_FUNCTION, GAP = Task("work_function", unit="eV"), Task("band_gap", unit="eV")
KIND = Task("material_type", CLASSIFICATION, CATEGORY, classes=("metal", "semiconductor"))
SALT = [[0, 0, 0], [0.5, 0.5, 0.5]]


def salts(count: int, *, low: float = 5.2, high: float = 6.0) -> dict[str, Crystal]:
    """So many NaCl cells, c000 …, from one lattice parameter to another."""
    edges = np.linspace(low, high, count)
    return {f"c{k:03}": make_crystal(fcc(a), ["Na", "Cl"], SALT) for k, a in enumerate(edges)}


def folder_of(crystals: Mapping[str, Crystal], folder: Path) -> Path:
    """Their CIFs."""
    folder.mkdir(parents=True, exist_ok=True)
    for crystal_id, crystal in crystals.items():
        (folder / f"{crystal_id}.cif").write_text(cif_text(crystal), encoding="utf-8")
    return folder


def model(
    *tasks: Task,
    seed: int = 0,
    networks: int = 1,
    config: Mapping | None = None,
    graph: GraphSettings | None = None,
    rule: GapRule | None = None,
    trained_on: Mapping[str, Crystal] | None = None,
    unnamed: bool = False,
) -> TrainedModel:
    """A small model of random weights, as if it had been trained on these crystals."""
    torch.manual_seed(seed)
    tasks = tasks or (WORK_FUNCTION, GAP)
    made = TrainedModel(
        name="cgcnn",
        config={"atom_fea_len": 8, "h_fea_len": 12, "n_conv": 2, **(config or {})},
        tasks=TaskSet(tasks),
        elements=element_table(),
        normalizers={t.name: Normalizer(3.0 + k, 0.5) for k, t in enumerate(tasks) if t.is_regression},
        graph=graph or GraphSettings(),
        rule=rule,
        unnamed=unnamed,
    )
    made.networks = [made.build().eval() for _ in range(networks)]
    if trained_on is not None:
        collator = collator_of(trained_on, made.graph)
        made.domain = training_domain(made.networks[0], collator, torch.arange(len(trained_on)))
    return made


def collator_of(crystals: Mapping[str, Crystal], settings: GraphSettings | None = None) -> Collator:
    """Batches of their graphs, in this order."""
    graphs = [build_graph(crystal, settings) for crystal in crystals.values()]
    return Collator(GraphTable.from_graphs(graphs, [crystal.reduced_formula for crystal in crystals.values()]))


def saved(made: TrainedModel, path: Path) -> Path:
    """The model's file."""
    checkpoint.save(path, made.to_dict())
    return path
