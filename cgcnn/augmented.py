"""Batches of training crystals that are other crystals in every epoch: changed, and their graphs built anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from cgcnn.augment import augmented
from cgcnn.batch import Batch, Collator
from cgcnn.build import graphs_or_errors
from cgcnn.cif import StructureError
from cgcnn.crystal import Crystal
from cgcnn.graph import CrystalGraph, GraphSettings
from cgcnn.graph_table import GraphTable


@dataclass(frozen=True, eq=False)
class AugmentedCollator:
    """Rows of a graph table → Batch of their crystals as they are in one epoch.

    table: the crystals as they are, with the graphs of `settings`. plain: of the same table; gives labels and
    global features. kinds: see `augment.amounts`. The same seed, epoch and row give the same crystal, whatever
    batch it is in and whichever process makes it.
    """

    table: GraphTable
    settings: GraphSettings
    plain: Collator
    kinds: Mapping[str, float | None]
    seed: int
    epoch: int = 0

    def in_epoch(self, epoch: int) -> AugmentedCollator:
        """The same for another epoch."""
        return replace(self, epoch=epoch)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, rows: torch.Tensor) -> Batch:
        """The batch of these crystals, rows (B,) int64, in this order."""
        graphs = self.graphs(rows.tolist())
        table = GraphTable.from_graphs(graphs, [""] * len(graphs))
        batch = Collator(table)[torch.arange(len(rows))]
        # Features of whole crystals stay those of the unchanged one: valence does not change, symmetry would be
        # lost, and the network standardises them by the statistics of crystals as they are.
        features = self.plain.global_features
        return replace(
            batch,
            rows=rows,
            targets=None if self.plain.targets is None else self.plain.targets[rows],
            global_features=None if features is None else features[rows],
        )

    def graphs(self, rows: list[int]) -> list[CrystalGraph]:
        """Graphs of the changed crystals; a crystal that has none after the change stays as it is.

        Every atom keeps its neighbours, at other distances. By order of distance the atoms of one shell would come
        apart, and a bcc metal, say, would have 12 neighbours an atom in training and 14 as it is, in validation.
        """
        # The search for symmetry is slow, and its result only goes into features that are not taken from here.
        settings = replace(self.settings, symmetry=False)
        moved, still = zip(*(self._crystals(row) for row in rows), strict=True)
        graphs = graphs_or_errors(still, settings, moved=moved)
        pairs = zip(rows, graphs, strict=True)
        return [self.table.graph(row) if isinstance(graph, StructureError) else graph for row, graph in pairs]

    def _crystals(self, row: int) -> tuple[Crystal, Crystal]:
        # a seed may be negative, and numpy takes none that is
        rng = np.random.default_rng([self.seed % 2**64, self.epoch, row])
        return augmented(self.table.crystal(row), self.kinds, rng)
