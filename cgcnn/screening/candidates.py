"""What is to be predicted: a structure file or a folder of them, and the labels that lie beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgcnn.dataset import target_columns
from cgcnn.labels import DataError, LabelTable, read_labels
from cgcnn.structures import StructureError, find_structure_names
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


def find_candidates(path: Path) -> Candidates:
    """The crystals of a file or folder: those of id_prop.csv first, the others by id. Raises DataError."""
    if path.is_file():
        return Candidates({path.name.removesuffix(path.suffix): str(path)}, {}, None)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    try:
        files = find_structure_names(path)
    except StructureError as error:
        raise DataError(f"{path}: {error}") from None
    labels = read_labels(path / "id_prop.csv", labels_needed=False) if (path / "id_prop.csv").exists() else None
    if labels is None:
        if not files:
            raise DataError(f"{path}: no structure files")
        return Candidates(files, {}, None)
    listed = dict.fromkeys(labels.ids)
    missing = {i: "listed in id_prop.csv, but no structure file of this name" for i in listed if i not in files}
    order = [i for i in listed if i in files] + [i for i in files if i not in listed]
    return Candidates({i: files[i] for i in order}, missing, labels)
