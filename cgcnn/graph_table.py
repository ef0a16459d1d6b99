"""Crystal graphs side by side: the columns that many of them share, and each graph, or crystal, out of them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cgcnn.crystal import Crystal
from cgcnn.graph import CrystalGraph

# column → (type, the length it follows)
COLUMNS = {
    "numbers": ("u1", "species"),
    "occupancies": ("<f4", "species"),
    "site": ("<i4", "species"),
    "degree": ("<i4", "atoms"),
    "neighbours": ("<i4", "edges"),
    "distances": ("<f4", "edges"),
    "environment": ("<f4", "environment"),
    "lattice": ("<f8", "cell"),
    "frac_coords": ("<f8", "coordinates"),
    "symmetry": ("<f8", "symmetry"),
    "elements": ("u1", "elements"),
    "amounts": ("<f4", "elements"),
    "pair_bins": ("<i4", "pairs"),
    "bins": ("<i2", "bins"),
    "counts": ("<f4", "bins"),
    "multiplicity": ("<f4", "multiplicity"),
}
LENGTHS = (
    *("species", "atoms", "edges", "environment", "cell", "coordinates", "symmetry", "elements", "pairs", "bins"),
    "multiplicity",
)


class JoinedColumn:
    """One column that lies in several arrays (P₁,), (P₂,) …, read as if they were one behind another (P,).

    What is taken is copied; a slice that lies in one of the arrays is not.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = list(parts)
        self.ends = np.cumsum([len(part) for part in self.parts])
        self.dtype = self.parts[0].dtype

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, chosen: slice | np.ndarray) -> np.ndarray:
        """A slice without a step, or the values at some positions (n,)."""
        if isinstance(chosen, slice):
            start, stop, _ = chosen.indices(len(self))
            first = int(np.searchsorted(self.ends, start, side="right"))
            if stop <= start:
                return self.parts[0][:0]
            skipped = int(self.ends[first]) - len(self.parts[first])
            if stop <= self.ends[first]:
                return self.parts[first][start - skipped : stop - skipped]
            chosen = np.arange(start, stop)
        found = np.empty(len(chosen), self.dtype)
        of_part = np.searchsorted(self.ends, chosen, side="right")
        for k in np.unique(of_part):
            inside = of_part == k
            found[inside] = self.parts[k][chosen[inside] - (self.ends[k] - len(self.parts[k]))]
        return found

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class GraphTable:
    """Graphs of B crystals in shared columns.

    columns: name → flat array (see CrystalGraph), or as many arrays of each as there are shards; no crystal lies in
    two of them. start, length: for each of LENGTHS (B,) where a crystal's part begins and how long it is. formulas:
    (B,) reduced formulas.
    """

    columns: dict[str, np.ndarray | JoinedColumn]
    start: dict[str, np.ndarray]
    length: dict[str, np.ndarray]
    formulas: list[str]

    def __len__(self) -> int:
        return len(self.formulas)

    def parts(self, name: str) -> list[np.ndarray]:
        """The arrays that a column lies in, one for each shard."""
        column = self.columns[name]
        return column.parts if isinstance(column, JoinedColumn) else [column]

    @classmethod
    def from_graphs(cls, graphs: Sequence[CrystalGraph], formulas: Sequence[str]) -> GraphTable:
        """The same graphs, in memory, without a store."""
        columns = {
            name: np.concatenate([getattr(g, name).ravel() for g in graphs]).astype(kind)
            for name, (kind, _) in COLUMNS.items()
        }
        lengths = [lengths_of(g) for g in graphs]
        length = {name: np.array([each[name] for each in lengths]) for name in LENGTHS}
        start = {name: np.cumsum(length[name]) - length[name] for name in LENGTHS}
        return cls(columns, start, length, list(formulas))

    def graph(self, row: int) -> CrystalGraph:
        """Graph of one crystal, as it was built."""
        part = {name: slice(s := int(self.start[name][row]), s + int(self.length[name][row])) for name in LENGTHS}
        parts = {name: self.columns[name][part[of]] for name, (_, of) in COLUMNS.items()}
        for name, width in (("environment", -1), ("frac_coords", 3)):
            parts[name] = parts[name].reshape(len(parts["degree"]), width)
        return CrystalGraph(**parts | {"lattice": parts["lattice"].reshape(3, 3)})

    def crystal(self, row: int) -> Crystal:
        """The crystal that a graph was built from; its occupancies have single precision."""
        graph = self.graph(row)
        occupancies = graph.occupancies.astype(float)
        return Crystal(graph.lattice, graph.frac_coords, graph.numbers, occupancies, graph.site)

    def taken(self, name: str) -> np.ndarray:
        """The parts of a column that belong to the crystals, one after another."""
        of = COLUMNS[name][1]
        start, length = self.start[of], self.length[of]
        skipped = np.cumsum(length) - length
        return self.columns[name][np.repeat(start - skipped, length) + np.arange(length.sum())]


def lengths_of(graph: CrystalGraph) -> dict[str, int]:
    """How long a graph's part of the columns is, for each of LENGTHS."""
    return {
        "species": len(graph.numbers),
        "atoms": len(graph.degree),
        "edges": len(graph.distances),
        "environment": graph.environment.size,
        "cell": graph.lattice.size,
        "coordinates": graph.frac_coords.size,
        "symmetry": graph.symmetry.size,
        "elements": len(graph.elements),
        "pairs": len(graph.pair_bins),
        "bins": len(graph.bins),
        "multiplicity": len(graph.multiplicity),
    }
