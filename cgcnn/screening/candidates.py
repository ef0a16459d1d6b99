"""What is to be predicted: a structure file, a folder of them or a data file, and the labels that lie beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgcnn.data_file import is_data_file
from cgcnn.data_source import MAX_LISTED, open_source
from cgcnn.labels import DataError, LabelTable, raise_all
from cgcnn.reading import printable
from cgcnn.targets import target_columns
from cgcnn.tasks import TaskSet


@dataclass(frozen=True, eq=False)
class Candidates:
    """Names of structure files by id, in the order of the table; listed ids without a file; the labels, if any."""

    files: dict[str, str]
    missing: dict[str, str]
    labels: LabelTable | None

    def beside(self, ids: Sequence[str], tasks: TaskSet) -> np.ndarray | None:
        """Labels (n, T) of these ids; those of a classification are blank where the table holds something else."""
        if self.labels is None:
            return None
        known = target_columns(self.labels, ids, tasks)
        for column, task in enumerate(tasks):
            if not task.is_regression and (known[:, column] % 1 > 0).any():
                print(f"{self.labels.path}: its labels are no classes of {task.name}, and are not shown beside them")
                known[:, column] = np.nan
        return known


def find_candidates(path: Path, cache_dir: str | None = None) -> Candidates:
    """The crystals of a file or folder: those of its table first, the others by id. Raises DataError.

    cache_dir: where a data file is unpacked, see `cache_folder`.
    """
    if path.is_file() and not is_data_file(path):
        return Candidates({printable(path.name.removesuffix(path.suffix)): str(path)}, {}, None)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    source = open_source(path, cache_dir=cache_dir)
    raise_all(source.faults, limit=MAX_LISTED)
    files, labels = source.files, source.labels(needed=False)
    if source.is_file:
        return Candidates(files, source.lacking, labels)
    if labels is None:
        if not files:
            raise DataError(f"{path}: no structure files")
        return Candidates(files, {}, None)
    listed = dict.fromkeys(labels.ids)
    missing = {i: "listed in id_prop.csv, but no structure file of this name" for i in listed if i not in files}
    order = [i for i in listed if i in files] + [i for i in files if i not in listed]
    return Candidates({i: files[i] for i in order}, missing, labels)
