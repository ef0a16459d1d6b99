"""Trained models for a notebook: structures → a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cgcnn import checkpoint
from cgcnn.checkpoint import TrainedModel
from cgcnn.crystal_features import CrystalTable
from cgcnn.labels import DataError
from cgcnn.screening.columns import full_table
from cgcnn.screening.ensemble import Ensemble
from cgcnn.screening.stream import read_chunk

CHUNK = 256  # crystals in memory at a time


@dataclass
class Model:
    """A trained model: `cgcnn.load_model(path).predict(structures)`. others: averaged with it."""

    trained: TrainedModel
    batch_size: int = CHUNK
    others: tuple[TrainedModel, ...] = ()

    def predict(
        self,
        structures: Iterable,
        ids: Sequence[str] | None = None,
        crystal_features: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """A row a structure (pymatgen Structure, Crystal, or path of a file), the columns of predict.py less labels.

        ids: names for the first column, by default 0, 1, …. crystal_features: what the model has to know of the
        crystals beside their structure, a row each, the ids as its index or its first column cif_id. Raises
        DataError that names the structure for one that cannot be used.
        """
        structures = list(structures)
        names = [str(k) for k in range(len(structures))] if ids is None else [str(i) for i in ids]
        if len(names) != len(structures):
            raise DataError(f"{len(structures)} structures, but {len(names)} ids")
        ensemble = Ensemble((self.trained, *self.others), batch_size=self.batch_size)
        known = None if crystal_features is None else CrystalTable.from_frame(crystal_features)
        ensemble.with_features(known, "predict(…, crystal_features=DataFrame)")
        tables = []
        for start in range(0, max(len(structures), 1), max(CHUNK, self.batch_size)):
            part = slice(start, start + max(CHUNK, self.batch_size))
            items = list(zip(names[part], structures[part], strict=True))
            predicted, failed = ensemble.predict_chunk(read_chunk(items, ensemble.settings))
            if failed:
                raise DataError("\n".join(f"{name}: {reason}" for name, reason in failed.items()))
            tables.append(full_table(ensemble.tasks, predicted, unnamed=ensemble.unnamed))
        table = pd.concat(tables, ignore_index=True)
        return table[[column for column in table if column != "target" and not column.endswith("_target")]]


def load_model(
    path: str | Path | Sequence[str | Path], *, elements: str | Path | None = None, device: str = "cpu"
) -> Model:
    """A model from our checkpoints and `*_trained_model.pt`, or from original CGCNN weights. Raises DataError.

    path: of one, or of several that are averaged. elements: see `checkpoint.load`.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    models = [load_trained(Path(each), elements and Path(elements), device=device) for each in paths]
    Ensemble(models, [str(each) for each in paths])  # raises where they do not fit together
    return Model(models[0], others=tuple(models[1:]))


def load_trained(path: Path, elements: Path | None = None, *, device: str = "cpu") -> TrainedModel:
    """`checkpoint.load`, with the networks on a device."""
    trained = checkpoint.load(path, elements)
    trained.networks = [network.to(device) for network in trained.networks]
    return trained
