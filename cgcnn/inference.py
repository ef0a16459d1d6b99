"""A trained model and crystals → a table: from files for predict.py, from structures for a notebook."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cgcnn import checkpoint
from cgcnn.batch import Collator
from cgcnn.checkpoint import TrainedModel
from cgcnn.dataset import target_columns
from cgcnn.features import missing_elements
from cgcnn.files import is_writable
from cgcnn.flags import EXIT_SOME_FAILED
from cgcnn.global_features import global_features
from cgcnn.graph import build_graph
from cgcnn.labels import DataError, LabelTable, read_labels
from cgcnn.prediction import predict_rows
from cgcnn.report import move_aside, prediction_table, write_failed, write_table
from cgcnn.store import GraphTable
from cgcnn.structures import Crystal, StructureError, find_structure_files, read_crystal
from cgcnn.tasks import TaskSet

CHUNK = 1024  # crystals in memory at a time


@dataclass
class Model:
    """A trained model for a notebook: `cgcnn.load_model(path).predict(structures)`."""

    trained: TrainedModel
    device: str = "cpu"
    batch_size: int = 256

    def predict(self, structures: Iterable, ids: Sequence[str] | None = None) -> pd.DataFrame:
        """A row a structure (pymatgen Structure, Crystal, or path of a file): predictions of every target.

        ids: names for the first column, by default 0, 1, …. Raises DataError that names the structure for one
        that cannot be used.
        """
        structures = list(structures)
        names = [str(k) for k in range(len(structures))] if ids is None else [str(i) for i in ids]
        if len(names) != len(structures):
            raise DataError(f"{len(structures)} structures, but {len(names)} ids")
        tables = []
        for start in range(0, len(structures), CHUNK):
            part = names[start : start + CHUNK]
            table, failed = self.predict_some(part, structures[start : start + CHUNK])
            if failed:
                raise DataError("\n".join(f"{name}: {reason}" for name, reason in failed.items()))
            tables.append(table)
        table = pd.concat(tables, ignore_index=True) if tables else self.predict_some([], [])[0]
        return table[[column for column in table if column != "target" and not column.endswith("_target")]]

    def predict_some(
        self, ids: Sequence[str], structures: Sequence, labels: np.ndarray | None = None
    ) -> tuple[pd.DataFrame, dict[str, str]]:
        """Predictions of those that can be used, in their order, and the reason for each that cannot.

        labels (n, T): the labels that the table shows beside them.
        """
        model = self.trained
        graphs, formulas, good, failed = [], [], [], {}
        for k, structure in enumerate(structures):
            try:
                crystal = _as_crystal(structure)
                missing = missing_elements(model.elements, torch.from_numpy(crystal.numbers))
                if missing:
                    raise StructureError(f"no element vector for atomic number {missing[0]}")
                graphs.append(build_graph(crystal, model.graph))
                formulas.append(crystal.reduced_formula)
                good.append(k)
            except (StructureError, OSError) as error:
                failed[ids[k]] = str(error)
        names = [ids[k] for k in good]
        known = None if labels is None else labels[good]
        if graphs:
            table = GraphTable.from_graphs(graphs, formulas)
            kinds = model.config.get("global_features", "")
            collator = Collator(table, global_features=global_features(kinds, table))
        predicted = predict_rows(
            model.networks,
            collator if graphs else None,
            torch.arange(len(graphs)),
            model.tasks,
            model.normalizers,
            rule=model.rule,
            batch_size=self.batch_size,
            device=self.device,
        )
        return prediction_table(names, model.tasks, predicted, known, unnamed=model.unnamed), failed


def load_model(path: str | Path, *, elements: str | Path | None = None, device: str = "cpu") -> Model:
    """A model from our checkpoints and `*_trained_model.pt`, or from original CGCNN weights. Raises DataError.

    elements: see `checkpoint.load`.
    """
    trained = checkpoint.load(Path(path), elements and Path(elements))
    trained.networks = [network.to(device) for network in trained.networks]
    return Model(trained, device)


def predict_files(args: Namespace) -> int:
    """predict.py: predict CIFPATH, write the tables, say what was done; the exit status."""
    if args.threads:
        torch.set_num_threads(args.threads)
    path, output = Path(args.cifpath), Path(args.output)
    if output.is_dir() or not is_writable(output.parent):
        raise DataError(f"--output {output}: {'a folder' if output.is_dir() else 'cannot be written'}")
    device = "cuda" if torch.cuda.is_available() and not args.disable_cuda else "cpu"
    elements = (path if path.is_dir() else path.parent) / "atom_init.json"
    model = load_model(args.modelpath, elements=elements if elements.exists() else None, device=device)
    model.batch_size = args.batch_size
    files, labels, failed = _find(path)
    known = None if labels is None else _labels_beside(labels, list(files), model.trained.tasks)
    from tqdm import tqdm

    tables = []
    rows = iter(range(len(files)))
    with tqdm(total=len(files), desc="Predicting", unit="crystal", disable=None, leave=False) as bar:
        for part in _chunks(files.items()):
            ids = [i for i, _ in part]
            some = None if known is None else known[list(islice(rows, len(part)))]
            table, bad = model.predict_some(ids, [file for _, file in part], some)
            failed |= bad
            tables.append(table)
            bar.update(len(part))
    rejects = output.with_name(f"{output.stem}_failed.csv")
    old = [file for file in (output, rejects) if file.exists()]
    if line := move_aside(old, output.parent / "result" / "previous"):
        print(line)
    table = pd.concat(tables, ignore_index=True) if tables else model.predict_some([], [])[0]
    write_table(output, table)
    print(f"{len(table)} crystals predicted: {output}")
    if not failed:
        return 0
    write_failed(rejects, failed)
    print(f"{len(failed)} crystals failed, with the reason in {rejects}")
    return EXIT_SOME_FAILED


def _find(path: Path) -> tuple[dict[str, Path], LabelTable | None, dict[str, str]]:
    """Structure files by id, the labels beside them if there are any, and listed ids that have no file."""
    if path.is_file():
        return {path.name.removesuffix(path.suffix): path}, None, {}
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    try:
        files = find_structure_files(path)
    except StructureError as error:
        raise DataError(f"{path}: {error}") from None
    labels = read_labels(path / "id_prop.csv", labels_needed=False) if (path / "id_prop.csv").exists() else None
    if labels is None:
        if not files:
            raise DataError(f"{path}: no structure files")
        return dict(sorted(files.items())), None, {}
    listed = dict.fromkeys(labels.ids)
    missing = {i: "listed in id_prop.csv, but no structure file of this name" for i in listed if i not in files}
    order = [i for i in listed if i in files] + sorted(i for i in files if i not in listed)
    return {i: files[i] for i in order}, labels, missing


def _labels_beside(table: LabelTable, ids: Sequence[str], tasks: TaskSet) -> np.ndarray:
    """Labels (n, T) of these ids; those of a classification are blank where the table holds something else."""
    labels = target_columns(table, ids, tasks)
    for column, task in enumerate(tasks):
        if not task.is_regression and (labels[:, column] % 1 > 0).any():
            print(f"{table.path}: its labels are no classes of {task.name}, and are not shown beside them")
            labels[:, column] = np.nan
    return labels


def _as_crystal(structure) -> Crystal:
    if isinstance(structure, Crystal):
        return structure
    if isinstance(structure, str | Path):
        return read_crystal(structure)
    return Crystal.from_structure(structure)


def _chunks(items: Iterable) -> Iterator[list]:
    items = iter(items)
    while part := list(islice(items, CHUNK)):
        yield part
