"""Crystals → one batch: their graphs side by side in flat tensors, gathered without a loop over crystals."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from cgcnn.graph_table import COLUMNS, GraphTable

_COLUMNS = {name: of for name, (_, of) in COLUMNS.items() if name != "symmetry"}
_LENGTHS = tuple(dict.fromkeys(_COLUMNS.values()))


@dataclass(frozen=True, eq=False)
class RadialPairs:
    """The partial radial histograms of B crystals that hold Z elements, with P ordered pairs of these (Σ C²).

    numbers (Z,) atomic numbers; crystal (Z,) the crystal of each; amounts (Z,) its atoms in the cell;
    num_elements (B,). centres, neighbours (P,) the elements c and c' of each pair. pair, bins, counts (H,): what the
    histogram of which pair holds at which point of the grid.
    """

    numbers: torch.Tensor
    crystal: torch.Tensor
    amounts: torch.Tensor
    num_elements: torch.Tensor
    centres: torch.Tensor
    neighbours: torch.Tensor
    pair: torch.Tensor
    bins: torch.Tensor
    counts: torch.Tensor

    def dense(self, points: int) -> torch.Tensor:
        """The histograms (P, G) on a grid of so many points."""
        held = self.counts.new_zeros(len(self.centres) * points)
        held[self.pair * points + self.bins] = self.counts
        return held.view(-1, points)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> RadialPairs:
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)}
        return RadialPairs(**moved)


@dataclass(frozen=True, eq=False)
class Batch:
    """B crystals with N atoms, E edges and S site species (S = N without disorder).

    numbers (S,) atomic numbers; occupancies (S,); site (S,) the atom of each species. crystal (N,) the crystal of
    each atom; num_atoms (B,). centres, neighbours (E,) the atoms i and j of each edge, sorted by i; distances
    (E,) Å; multiplicity (E,) how many images each edge is, (0,) where all are one. environment (N, K) surroundings of
    the atoms, K = 0 without. lattice (B, 3, 3) Å and frac_coords (N, 3) of the cells. rows (B,) the crystals' rows in
    the data set; targets (B, T) in their units, NaN where missing; global_features (B, G) numbers of the whole
    crystals. pairs: their radial histograms, where the graphs are these and not edges.
    """

    numbers: torch.Tensor
    occupancies: torch.Tensor
    site: torch.Tensor
    crystal: torch.Tensor
    num_atoms: torch.Tensor
    centres: torch.Tensor
    neighbours: torch.Tensor
    distances: torch.Tensor
    multiplicity: torch.Tensor
    environment: torch.Tensor
    lattice: torch.Tensor
    frac_coords: torch.Tensor
    rows: torch.Tensor
    targets: torch.Tensor | None = None
    global_features: torch.Tensor | None = None
    pairs: RadialPairs | None = None

    def __len__(self) -> int:
        return len(self.num_atoms)

    def to(self, device: torch.device | str) -> Batch:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device, non_blocking=True) for k, v in moved.items() if v is not None})


class Collator:
    """Rows of a graph table → Batch, by index arithmetic alone."""

    def __init__(
        self,
        table: GraphTable,
        targets: np.ndarray | torch.Tensor | None = None,
        global_features: np.ndarray | None = None,
    ) -> None:
        """targets (n, T) and global_features (n, G) of all crystals of the table, or None."""
        self.columns = {name: torch.from_numpy(np.asarray(table.columns[name])) for name in _COLUMNS}
        self.start = {name: torch.from_numpy(np.asarray(table.start[name], dtype=np.int64)) for name in _LENGTHS}
        self.length = {name: torch.from_numpy(np.asarray(table.length[name], dtype=np.int64)) for name in _LENGTHS}
        self.targets = None if targets is None else torch.as_tensor(targets, dtype=torch.float32)
        self.global_features = None if global_features is None else torch.as_tensor(global_features)

    def __len__(self) -> int:
        return len(self.start["atoms"])

    def __getitem__(self, rows: torch.Tensor) -> Batch:
        """The batch of these crystals, rows (B,) int64, in this order."""
        length = {name: self.length[name][rows] for name in _LENGTHS}
        taken = {name: _ranges(self.start[name][rows], length[name]) for name in _LENGTHS}
        column = {name: self.columns[name][taken[of]] for name, of in _COLUMNS.items()}
        first_atom = length["atoms"].cumsum(0) - length["atoms"]
        atoms = torch.arange(int(length["atoms"].sum()))
        return Batch(
            numbers=column["numbers"].long(),
            occupancies=column["occupancies"],
            site=column["site"] + first_atom.repeat_interleave(length["species"]),
            crystal=torch.arange(len(rows)).repeat_interleave(length["atoms"]),
            num_atoms=length["atoms"],
            centres=atoms.repeat_interleave(column["degree"]),
            neighbours=column["neighbours"] + first_atom.repeat_interleave(length["edges"]),
            distances=column["distances"],
            multiplicity=column["multiplicity"],
            lattice=column["lattice"].float().view(-1, 3, 3),
            frac_coords=column["frac_coords"].float().view(-1, 3),
            environment=column["environment"].view(len(atoms), -1),
            rows=rows,
            targets=None if self.targets is None else self.targets[rows],
            global_features=None if self.global_features is None else self.global_features[rows],
            pairs=self._pairs(column, length) if len(self.columns["elements"]) else None,
        )

    def _pairs(self, column: dict[str, torch.Tensor], length: dict[str, torch.Tensor]) -> RadialPairs:
        """From the columns and lengths of a batch."""
        count = length["elements"]
        of_pair = count.repeat_interleave(length["pairs"])  # (P,) elements of each pair's crystal
        first = (count.cumsum(0) - count).repeat_interleave(length["pairs"])
        place = _ranges(torch.zeros_like(count), length["pairs"])
        return RadialPairs(
            numbers=column["elements"].long(),
            crystal=torch.arange(len(count)).repeat_interleave(count),
            amounts=column["amounts"],
            num_elements=count,
            centres=first + place // of_pair,
            neighbours=first + place % of_pair,
            pair=torch.arange(len(place)).repeat_interleave(column["pair_bins"]),
            bins=column["bins"].long(),
            counts=column["counts"],
        )


def _ranges(start: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """start, length (B,) → the positions start … start + length − 1 of each, one after another (Σ length,)."""
    skipped = length.cumsum(0) - length
    return torch.arange(int(length.sum())) + (start - skipped).repeat_interleave(length)
