"""Crystals that stand in two parts of a split under two names: the same formula, and the same distances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from cgcnn.graph import build_graph
from cgcnn.graph_table import GraphTable
from cgcnn.splits import PARTS, Split

NEIGHBOURS = 12
FAR = 99.0  # logarithm of a distance that no neighbour has
TOLERANCE = 0.01  # relative difference of distances up to which two crystals are one


def near_duplicates(table: GraphTable, split: Split) -> list[tuple[int, int]]:
    """Pairs of rows, in the training part and outside it, whose crystals are one structure within TOLERANCE.

    Two crystals are compared if they have one reduced formula; they agree if, for every element, the mean distances
    of its atoms to their first, second … NEIGHBOURS-th neighbour do. Each row outside is named once.
    """
    outside = {row: part for part in PARTS[1:] for row in split[part]}
    groups: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for row in split.train:
        groups[table.formulas[row]][0].append(row)
    for row in outside:
        groups[table.formulas[row]][1].append(row)
    pairs = []
    for train, others in groups.values():
        if not train or not others:
            continue
        # a tree, as there may be 100,000 crystals of one formula
        known = cKDTree(np.stack([_profile(table, row) for row in train]))
        found, nearest = known.query(
            np.stack([_profile(table, row) for row in others]), p=np.inf, distance_upper_bound=2 * TOLERANCE
        )
        pairs += [(train[k], row) for k, row, far in zip(nearest, others, found, strict=True) if far <= TOLERANCE]
    return pairs


def duplicate_rows(table: GraphTable, split: Split, ids: Sequence[str]) -> list[dict[str, str]]:
    """`near_duplicates` with names: rows of a table `cif_id, part, train_id, formula`."""
    part_of = {row: part for part in PARTS for row in split[part]}
    return [
        {"cif_id": ids[row], "part": part_of[row], "train_id": ids[twin], "formula": table.formulas[row]}
        for twin, row in near_duplicates(table, split)
    ]


def _profile(table: GraphTable, row: int) -> np.ndarray:
    """Logarithms of the mean distance to the k-th neighbour (elements · NEIGHBOURS,), elements by atomic number.

    Where an atom of an element has fewer neighbours, those it lacks are FAR. A disordered site counts as its first
    element.
    """
    graph = table.graph(row)
    if len(graph.elements) or len(graph.multiplicity):  # of histograms, or of images that are not sorted by distance
        graph = build_graph(table.crystal(row))
    first = np.unique(graph.site, return_index=True)[1]
    numbers = graph.numbers[first]
    distances = np.full((len(numbers), NEIGHBOURS), np.nan)
    rank = np.arange(len(graph.distances)) - np.repeat(np.cumsum(graph.degree) - graph.degree, graph.degree)
    centre = np.repeat(np.arange(len(numbers)), graph.degree)
    near = rank < NEIGHBOURS
    distances[centre[near], rank[near]] = graph.distances[near]
    means = [distances[numbers == number].mean(axis=0) for number in np.unique(numbers)]
    return np.nan_to_num(np.log(np.concatenate(means)), nan=FAR)
