"""Crystals → one batch: their graphs side by side in flat tensors, gathered without a loop over crystals."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from cgcnn.graph_table import COLUMNS, GraphTable

_COLUMNS = {name: of for name, (_, of) in COLUMNS.items() if name != "symmetry"}
_ROWS_A_COPY = 8_192
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

    def pin_memory(self) -> RadialPairs:
        return RadialPairs(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})


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
        return self._with(lambda each: each.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """In memory from which a GPU copies while the CPU goes on."""
        return self._with(lambda each: each.pin_memory())

    def _with(self, changed: Callable) -> Batch:
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: changed(each) for name, each in held.items() if each is not None})


class Collator:
    """Rows of a graph table → Batch, by index arithmetic alone."""

    def __init__(
        self,
        table: GraphTable,
        targets: np.ndarray | torch.Tensor | None = None,
        global_features: np.ndarray | None = None,
    ) -> None:
        """targets (n, T) and global_features (n, G) of all crystals of the table, or None."""
        parts = {name: table.parts(name) for name in _COLUMNS}
        self.shards = [
            {name: torch.from_numpy(np.asarray(arrays[k])) for name, arrays in parts.items()}
            for k in range(len(parts["lattice"]))
        ]
        self.filled = [name for name in _COLUMNS if any(len(shard[name]) for shard in self.shards)]
        # where each shard begins, for each length
        self.begin = {
            _COLUMNS[name]: torch.tensor([0, *(len(shard[name]) for shard in self.shards)])[:-1].cumsum(0)
            for name in self.filled
        }
        self.start = {name: torch.from_numpy(np.asarray(table.start[name], dtype=np.int64)) for name in _LENGTHS}
        self.length = {name: torch.from_numpy(np.asarray(table.length[name], dtype=np.int64)) for name in _LENGTHS}
        self.device = torch.device("cpu")
        self.targets = None if targets is None else torch.as_tensor(targets, dtype=torch.float32)
        self.global_features = None if global_features is None else torch.as_tensor(global_features)

    def __len__(self) -> int:
        return len(self.start["atoms"])

    def __getitem__(self, rows: torch.Tensor) -> Batch:
        """The batch of these crystals, rows (B,) int64 on the CPU, in this order."""
        length = {name: self.length[name][rows] for name in _LENGTHS}
        total = {name: int(each.sum()) for name, each in length.items()}
        column = {name: self.shards[0][name][:0] for name in _COLUMNS} | self._columns(rows, length)
        # sizes of what follows are known here: a GPU is not asked for them
        length = {name: each.to(self.device, non_blocking=True) for name, each in length.items()}
        first_atom = length["atoms"].cumsum(0) - length["atoms"]
        rows = rows.to(self.device, non_blocking=True)
        return Batch(
            numbers=column["numbers"].long(),
            occupancies=column["occupancies"],
            site=column["site"] + first_atom.repeat_interleave(length["species"], output_size=total["species"]),
            crystal=_numbered(length["atoms"], total["atoms"]),
            num_atoms=length["atoms"],
            centres=_numbered(column["degree"], total["edges"]),
            neighbours=column["neighbours"]
            + first_atom.repeat_interleave(length["edges"], output_size=total["edges"]),
            distances=column["distances"],
            multiplicity=column["multiplicity"],
            lattice=column["lattice"].float().view(-1, 3, 3),
            frac_coords=column["frac_coords"].float().view(-1, 3),
            environment=column["environment"].view(total["atoms"], -1),
            rows=rows,
            targets=None if self.targets is None else self.targets[rows],
            global_features=None if self.global_features is None else self.global_features[rows],
            pairs=self._pairs(column, length) if "elements" in self.filled else None,
        )

    @property
    def num_bytes(self) -> int:
        """What the graphs of its crystals take in memory."""
        shard = self.shards[0]
        return sum(shard[name].itemsize * int(self.length[_COLUMNS[name]].sum()) for name in self.filled)

    def resident(self, device: torch.device | str) -> Collator:
        """The same with the graphs of its crystals in the memory of a device, where batches are then made."""
        held: dict[str, list[torch.Tensor]] = {name: [] for name in self.filled}
        for rows in torch.arange(len(self)).split(_ROWS_A_COPY):
            columns = self._columns(rows, {name: each[rows] for name, each in self.length.items()})
            for name, values in columns.items():
                held[name].append(values.to(device))
        there = copy.copy(self)
        there.device = torch.device(device)
        empty = {name: column[:0].to(device) for name, column in self.shards[0].items()}
        there.shards = [empty | {name: torch.cat(parts) for name, parts in held.items()}]
        there.begin = {name: torch.zeros(1, dtype=torch.int64) for name in self.begin}
        there.start = {name: each.cumsum(0) - each for name, each in self.length.items()}
        for name in ("targets", "global_features"):
            values = getattr(self, name)
            setattr(there, name, None if values is None else values.to(device))
        return there

    def _columns(self, rows: torch.Tensor, length: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What these crystals have of each column that is filled, one after another."""
        start = {name: self.start[name][rows] for name in self.begin}
        if len(self.shards) == 1:
            taken = {name: _ranges(start[name], length[name], self.device) for name in self.begin}
            return {name: self.shards[0][name][taken[_COLUMNS[name]]] for name in self.filled}
        # shard by shard, and then into the order of the batch
        of_shard, order = (torch.bucketize(start["cell"], self.begin["cell"], right=True) - 1).sort()
        shards, counts = of_shard.unique_consecutive(return_counts=True)
        shards, last = shards.tolist(), counts.cumsum(0) - 1
        taken, back = {}, {}
        for name, begin in self.begin.items():
            sorted_length = length[name][order]
            ends = sorted_length.cumsum(0)
            inside = _ranges(start[name][order] - begin[of_shard], sorted_length)
            taken[name] = inside.split(ends[last].diff(prepend=ends.new_zeros(1)).tolist())
            first = torch.empty_like(ends)
            first[order] = ends - sorted_length
            back[name] = _ranges(first, length[name])
        found = {}
        for name in self.filled:
            parts = zip(shards, taken[_COLUMNS[name]], strict=True)
            found[name] = torch.cat([self.shards[k][name][part] for k, part in parts])[back[_COLUMNS[name]]]
        return found

    def _pairs(self, column: dict[str, torch.Tensor], length: dict[str, torch.Tensor]) -> RadialPairs:
        """From the columns and lengths of a batch."""
        count = length["elements"]
        of_pair = count.repeat_interleave(length["pairs"])  # (P,) elements of each pair's crystal
        first = (count.cumsum(0) - count).repeat_interleave(length["pairs"])
        place = _ranges(torch.zeros_like(count), length["pairs"], self.device)
        return RadialPairs(
            numbers=column["elements"].long(),
            crystal=_numbered(count, len(column["elements"])),
            amounts=column["amounts"],
            num_elements=count,
            centres=first + place // of_pair,
            neighbours=first + place % of_pair,
            pair=_numbered(column["pair_bins"], len(column["bins"])),
            bins=column["bins"].long(),
            counts=column["counts"],
        )


def divided(
    rows: torch.Tensor, length: Mapping[str, torch.Tensor], batch_size: int, max_edges: int = 0
) -> list[torch.Tensor]:
    """Rows (n,) → those of each batch, in their order: at most batch_size crystals and, if given, max_edges edges.

    length: as of a Collator. A crystal with more edges is a batch of its own, but one atom, which could not be
    normalised, is never alone with max_edges. A last crystal alone joins the batch before, unless it has several
    atoms and too many edges for that.
    """
    if max_edges:
        sizes = zip(length["edges"][rows].tolist(), length["atoms"][rows].tolist(), strict=True)
        parts, first, edges, atoms = [], 0, 0, 0
        for k, (more_edges, more_atoms) in enumerate(sizes):
            if k - first == batch_size or (edges + more_edges > max_edges and atoms > 1):
                parts.append(rows[first:k])
                first, edges, atoms = k, 0, 0
            edges, atoms = edges + more_edges, atoms + more_atoms
        parts.append(rows[first:])
        joins = atoms < 2 or int(length["edges"][torch.cat(parts[-2:])].sum()) <= max_edges
    else:
        parts, joins = list(rows.split(batch_size)), True
    if len(parts) > 1 and len(parts[-1]) == 1 and joins:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _ranges(start: torch.Tensor, length: torch.Tensor, device: torch.device | str = "cpu") -> torch.Tensor:
    """start, length (B,) → the positions start … start + length − 1 of each, one after another (Σ length,)."""
    total = int(length.sum())
    ahead = (start - (length.cumsum(0) - length)).to(device, non_blocking=True)
    each = ahead.repeat_interleave(length.to(device, non_blocking=True), output_size=total)
    return torch.arange(total, device=device) + each


def _numbered(counts: torch.Tensor, total: int) -> torch.Tensor:
    """counts (n,), whose sum is `total` → 0 as often as the first says, 1 as often as the second, … (total,)."""
    return torch.arange(len(counts), device=counts.device).repeat_interleave(counts, output_size=total)
