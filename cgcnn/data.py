"""The data classes of the original code under their public names and call shapes, over the graphs of this package.

For users' scripts, with the networks of `cgcnn.model`; training itself goes through `cgcnn.dataset` and
`cgcnn.batch`, which keep no padding and no Gaussians.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, SubsetRandomSampler
from torch.utils.data import Dataset as TorchDataset

from cgcnn.features import GaussianExpansion, element_table, read_element_table
from cgcnn.graph import CrystalGraph, GraphSettings, build_graph
from cgcnn.labels import DataError, read_labels
from cgcnn.splits import SplitSettings
from cgcnn.structures import StructureError, find_structure_files, read_crystal

__all__ = ["AtomCustomJSONInitializer", "CIFData", "GaussianDistance", "collate_pool", "get_train_val_test_loader"]

# (atom_fea (n, F₀), nbr_fea (n, M, K), nbr_fea_idx (n, M)), target (T,), cif_id
Item = tuple[tuple[Tensor, Tensor, Tensor], Tensor, str]


class GaussianDistance:
    """Distances in Gaussians, centres from dmin to dmax (Å)."""

    def __init__(self, dmin: float, dmax: float, step: float) -> None:
        self._expansion = GaussianExpansion(dmin=dmin, radius=dmax, step=step)

    def expand(self, distances: np.ndarray) -> np.ndarray:
        """Distances (…,) Å → (…, K) float32."""
        distances = torch.as_tensor(distances, dtype=torch.float32)
        return self._expansion(distances.reshape(-1)).reshape(*distances.shape, -1).numpy()


class AtomCustomJSONInitializer:
    """The element vectors of an `atom_init.json`. Raises DataError where the file is none."""

    def __init__(self, elem_embedding_file: str | os.PathLike) -> None:
        self._vectors = read_element_table(Path(elem_embedding_file))

    def get_atom_fea(self, atom_type: int) -> np.ndarray:
        """Atomic number → its vector (F₀,); NaN for an element that the file lacks."""
        return self._vectors[atom_type].numpy()


class CIFData(TorchDataset):
    """The rows of a folder's id_prop.csv in an order that `random_seed` decides, as padded classic graphs.

    radius, dmin, step: Å. `data[i]` is ((atom_fea (n, F₀), nbr_fea (n, M, K), nbr_fea_idx (n, M) int64), target
    (T,), cif_id); T is the number of label columns, two for a regression with a class. Graphs are built when they
    are first asked for, and kept. Raises DataError for what is wrong with the folder, or with a crystal's file.
    """

    def __init__(
        self,
        root_dir: str | os.PathLike,
        max_num_nbr: int = 12,
        radius: float = 8,
        dmin: float = 0,
        step: float = 0.2,
        random_seed: int = 123,
    ) -> None:
        root = Path(root_dir)
        labels = read_labels(root / "id_prop.csv")
        self.id_prop_data = list(zip(labels.ids, labels.values.tolist(), strict=True))
        random.Random(random_seed).shuffle(self.id_prop_data)
        try:
            self._files = find_structure_files(root)
        except StructureError as error:
            raise DataError(f"{root}: {error}") from None
        missing = [crystal_id for crystal_id in labels.ids if crystal_id not in self._files]
        if missing:
            raise DataError(f"{root}: no structure file for {len(missing)} ids, the first is {missing[0]!r}")
        own = root / "atom_init.json"
        self._elements = read_element_table(own) if own.exists() else element_table()
        self._expansion = GaussianExpansion(dmin=dmin, radius=radius, step=step)
        self._settings = GraphSettings(radius, max_num_nbr, "classic", padded=True)
        self._graphs: dict[str, CrystalGraph] = {}

    def __len__(self) -> int:
        return len(self.id_prop_data)

    def __getitem__(self, idx: int) -> Item:
        cif_id, target = self.id_prop_data[idx]
        graph = self._graph(cif_id)
        weighted = self._elements[graph.numbers.tolist()] * torch.from_numpy(graph.occupancies)[:, None]
        atom_fea = weighted.new_zeros(graph.num_atoms, weighted.shape[1])
        atom_fea.index_add_(0, torch.from_numpy(graph.site), weighted)
        nbr_fea = self._expansion(torch.from_numpy(graph.distances))
        size = (graph.num_atoms, self._settings.max_num_nbr)
        nbr_fea_idx = torch.from_numpy(graph.neighbours).long().view(size)
        return (atom_fea, nbr_fea.view(*size, -1), nbr_fea_idx), torch.tensor(target), cif_id

    def _graph(self, cif_id: str) -> CrystalGraph:
        if cif_id not in self._graphs:
            try:
                graph = build_graph(read_crystal(self._files[cif_id]), self._settings)
            except StructureError as error:
                raise DataError(f"{self._files[cif_id]}: {error}") from None
            unknown = {z for z in graph.numbers.tolist() if torch.isnan(self._elements[z]).any()}
            if unknown:
                raise DataError(f"{self._files[cif_id]}: no element vector for atomic number {min(unknown)}")
            self._graphs[cif_id] = graph
        return self._graphs[cif_id]


def collate_pool(
    dataset_list: Sequence[Item],
) -> tuple[tuple[Tensor, Tensor, Tensor, list[Tensor]], Tensor, list[str]]:
    """Items of CIFData → ((atom_fea (N, F₀), nbr_fea (N, M, K), nbr_fea_idx (N, M), [(n_b,)]), target (B, T), ids).

    The fourth holds the positions of each crystal's atoms among the N.
    """
    graphs, targets, cif_ids = zip(*dataset_list, strict=True)
    atom_fea, nbr_fea, nbr_fea_idx = zip(*graphs, strict=True)
    ends = list(accumulate(len(atoms) for atoms in atom_fea))
    crystal_atom_idx = [torch.arange(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    shifted = [index + start for index, start in zip(nbr_fea_idx, [0, *ends[:-1]], strict=True)]
    batch = (torch.cat(atom_fea), torch.cat(nbr_fea), torch.cat(shifted), crystal_atom_idx)
    return batch, torch.stack(targets), list(cif_ids)


def get_train_val_test_loader(
    dataset: TorchDataset,
    collate_fn: Callable = collate_pool,
    batch_size: int = 64,
    train_ratio: float | None = None,
    val_ratio: float = 0.1,
    test_ratio: float = 0.1,
    return_test: bool = False,
    num_workers: int = 0,
    pin_memory: bool = False,
    *,
    train_size: int | None = None,
    val_size: int | None = None,
    test_size: int | None = None,
) -> tuple[DataLoader, ...]:
    """Loaders of the training and the validation part, and of the test part if asked for.

    The parts are the first, the last but one and the last rows of the dataset; batches are drawn at random within
    each. Raises DataError where the parts do not fit, or one is empty.
    """
    count = len(dataset)
    sizes = SplitSettings(train_ratio, val_ratio, test_ratio, train_size, val_size, test_size).sizes(count)
    train, val, test = sizes
    parts = [range(train), range(count - test - val, count - test)]
    if return_test:
        parts.append(range(count - test, count))
    return tuple(
        DataLoader(
            dataset,
            batch_size,
            sampler=SubsetRandomSampler(part),
            collate_fn=collate_fn,
            num_workers=num_workers,
            pin_memory=pin_memory,
        )
        for part in parts
    )
