"""predict.py: any number of structure files → a table, in memory that does not grow with their number."""

from __future__ import annotations

import hashlib
import shlex
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cgcnn.crystal_features import FLAG, CrystalTable, find_table
from cgcnn.data_source import beside
from cgcnn.files import is_writable
from cgcnn.inference import load_trained
from cgcnn.interrupt import Interrupted, StopRequest
from cgcnn.labels import DataError
from cgcnn.pickled_splits import part_files
from cgcnn.screening.calibration import Interval, read_intervals
from cgcnn.screening.candidates import find_candidates
from cgcnn.screening.columns import TEXT_COLUMNS, atom_table, element_table, full_table, short_names
from cgcnn.screening.embeddings import write_embeddings
from cgcnn.screening.ensemble import Ensemble
from cgcnn.screening.growing import FINISHED, GROWING, GrowingFiles
from cgcnn.screening.long_tables import first_column
from cgcnn.screening.predictions import Prediction
from cgcnn.screening.report import ATOMS, ELEMENTS, EMBEDDINGS, FAILED, TABLE, announce, report, write_shortlist
from cgcnn.screening.shortlist import shortlist
from cgcnn.screening.stream import Chunk, read_chunks
from cgcnn.workers import MANY, threads_beside_workers, workers_for

CHUNK = 256  # files that are read together
NO_CRYSTALS = Chunk([], [], {})
BAR = {"unit": " structures", "disable": None, "leave": False, "smoothing": 0.1}


def predict_files(args: Namespace) -> int:
    """Predict CIFPATH, write the tables, say what was done; the exit status. Raises DataError."""
    screening = Screening(args)
    # by the number of all files: a run that is taken up has to round as before, although less of them are left
    if args.threads or len(screening.candidates.files) >= MANY:
        torch.set_num_threads(args.threads or threads_beside_workers())
    announce(screening.ensemble, screening.intervals, args)
    stop = StopRequest()
    try:
        with stop.listening():
            screening.predict(stop.check)
    except Interrupted as interrupted:
        words = [word for word in args.words if word != "--resume-output"]
        print(f"{interrupted}: saved. Go on with: {shlex.join(['python', 'predict.py', *words, '--resume-output'])}")
        return stop.exit_status
    seconds = screening.seconds if screening.count >= CHUNK else None
    status = report(screening.files, seconds and screening.count / seconds)
    if screening.shortlist:
        write_shortlist(screening.shortlist, Path(args.output), screening.ensemble)
    return status


class Screening:
    """One command of predict.py; what is wrong with its flags, models and folder is told before it predicts."""

    def __init__(self, args: Namespace) -> None:
        self.args = args
        self.files = _outputs(args)
        path = Path(args.cifpath)
        self.elements = beside(path, "atom_init.json")
        device = "cuda" if torch.cuda.is_available() and not args.disable_cuda else "cpu"
        models = [load_trained(Path(model), self.elements, device=device) for model in args.models]
        self.features = find_table(args.crystal_features, path) if args.crystal_features else None
        table = CrystalTable.read(self.features) if self.features else None
        self.ensemble = Ensemble(models, args.models, batch_size=args.batch_size).with_features(table)
        self._check_kinds()
        self.intervals = self._intervals()
        nothing, _ = self.ensemble.predict_chunk(NO_CRYSTALS)
        columns = list(self._table(nothing))
        names = short_names(self.ensemble.tasks, unnamed=self.ensemble.unnamed)
        self.shortlist = shortlist(
            args.where, args.sort, args.top, columns=columns, short_names=names, texts=TEXT_COLUMNS
        )
        self.candidates = find_candidates(path, args.cache_dir)
        self.seconds = self.count = 0

    def predict(self, check_stop: Callable[[], None]) -> None:
        """Predict what is not predicted yet. What `check_stop` raises after a chunk ends it; the chunk is kept."""
        with GrowingFiles(self.files, self._begun_with()) as out:
            done = self._take_up(out)
            if out.stage == GROWING:
                self._predict(out, done, check_stop)
            if out.stage != FINISHED:
                length = self.ensemble.vector_length
                vectors = {EMBEDDINGS: lambda part, path: write_embeddings(path, part, out.part(TABLE), length)}
                if line := out.finish(vectors, keep_record=self.args.resume_output):
                    print(line)

    def _predict(self, out: GrowingFiles, done: set[str], check_stop: Callable[[], None]) -> None:
        from tqdm import tqdm

        files = self.candidates.files
        ids = [i for i in files if i not in done]
        labels = self.candidates.beside(list(files), self.ensemble.tasks)
        if labels is not None:
            labels = labels[[i not in done for i in files]]
        who = {"workers": workers_for(len(ids), self.args.workers)}
        if self.args.parallel == "dask":
            who = {"cluster": self.args.scheduler_address, "check_stop": check_stop}
        size = max(CHUNK, self.args.batch_size)
        items = ((i, files[i]) for i in ids)
        begun = time.monotonic()
        with (
            closing(read_chunks(items, self.ensemble.settings, size=size, **who)) as chunks,
            tqdm(total=len(files), initial=len(files) - len(ids), desc="Predicting", **BAR) as bar,
        ):
            for chunk in chunks:
                more = {"with_atoms": ATOMS in self.files, "with_elements": ELEMENTS in self.files}
                predicted, failed = self.ensemble.predict_chunk(chunk, **more)
                known = None if labels is None else labels[_places(ids, predicted.ids, self.count)]
                self._append(out, predicted, failed, known)
                self.count += len(chunk)
                self.seconds = time.monotonic() - begun
                bar.update(len(chunk))
                if self.count < len(ids):
                    check_stop()

    def _append(
        self, out: GrowingFiles, predicted: Prediction, failed: dict[str, str], labels: np.ndarray | None = None
    ) -> None:
        """What became of a chunk, to the end of each file; a table without rows yet gets its header."""
        tables = {TABLE: self._table(predicted, labels)}
        if failed:
            tables[FAILED] = pd.DataFrame(failed.items(), columns=["cif_id", "reason"])
        if ATOMS in self.files:
            tables[ATOMS] = atom_table(self.ensemble.tasks, predicted, unnamed=self.ensemble.unnamed)
        if ELEMENTS in self.files:
            tables[ELEMENTS] = element_table(predicted)
        chunk = {name: _as_csv(rows, header=not out.size(name)) for name, rows in tables.items()}
        if EMBEDDINGS in self.files:
            chunk[EMBEDDINGS] = predicted.vectors.astype("<f4").tobytes()
        out.append(chunk)

    def _table(self, predicted: Prediction, labels: np.ndarray | None = None) -> pd.DataFrame:
        tasks, unnamed = self.ensemble.tasks, self.ensemble.unnamed
        return full_table(tasks, predicted, labels, unnamed=unnamed, intervals=self.intervals)

    def _check_kinds(self) -> None:
        """Raises DataError where a file is asked for that these networks have nothing to fill with."""
        if ATOMS in self.files and not self.ensemble.has_atoms:
            raise DataError(f"{ATOMS}: ecnet has states of elements, not of atoms; {ELEMENTS} writes these")
        if ELEMENTS in self.files and not self.ensemble.has_elements:
            raise DataError(f"{ELEMENTS}: {self.args.models[0]} has vectors of atoms, not of elements")

    def _intervals(self) -> dict[str, Interval]:
        args, ensemble = self.args, self.ensemble
        if not args.calibrate:
            return {}
        several = ensemble.num_networks > 1
        path, options = Path(args.calibrate), {"with_deviations": several, "unnamed": ensemble.unnamed}
        return read_intervals(path, ensemble.tasks, coverage=args.coverage, **options)

    def _begun_with(self) -> dict[str, object]:
        """What decides the content of the outputs."""
        args = self.args
        table = self.candidates.labels.path if self.candidates.labels else None
        return {
            "MODEL": [_digest(Path(path)) for path in args.models],
            "CIFPATH": str(Path(args.cifpath).resolve()),
            "id_prop.csv": _digest(table),
            "atom_init.json": _digest(self.elements),
            FLAG: _digest(self.features),
            "--calibrate": _digest(Path(args.calibrate) if args.calibrate else None),
            "--coverage": args.coverage,
            "--batch-size": args.batch_size,
            **{flag: str(self.files[flag]) if flag in self.files else None for flag in (ATOMS, ELEMENTS, EMBEDDINGS)},
        }

    def _take_up(self, out: GrowingFiles) -> set[str]:
        """Begin, or go on where a run of this command was; the ids that are done."""
        done: set[str] = set()
        if is_resumed := self.args.resume_output and out.resume():
            paths = self.files.get if out.stage == FINISHED else out.part
            done = {i for name in (TABLE, FAILED) if (path := paths(name)).exists() for i in first_column(path)}
            if out.stage == FINISHED and not (out.is_whole() and done >= self.candidates.files.keys()):
                is_resumed = False
        if is_resumed:
            files = self.candidates.files
            print(f"{len(done & files.keys())} of {len(files)} crystals are done already")
        elif line := out.begin():
            print(f"{line}; --resume-output would have gone on with them")
        if out.stage == GROWING and not out.size(TABLE):
            done = set()
            nothing, _ = self.ensemble.predict_chunk(NO_CRYSTALS)
            self._append(out, nothing, self.candidates.missing)
        return done


def _outputs(args: Namespace) -> dict[str, Path]:
    """What is written, by its flag. Raises DataError where it cannot be."""
    output = Path(args.output)
    given = {TABLE: output, ATOMS: args.atom_contributions, EMBEDDINGS: args.embeddings}
    given[ELEMENTS] = args.element_features
    files = {flag: Path(path) for flag, path in given.items() if path}
    for flag, path in files.items():
        if path.is_dir() or not is_writable(path.parent):
            raise DataError(f"{flag} {path}: {'a folder' if path.is_dir() else 'cannot be written'}")
    if EMBEDDINGS in files and files[EMBEDDINGS].suffix != ".npz":
        raise DataError(f"{EMBEDDINGS} {files[EMBEDDINGS]}: a name that ends in .npz is expected")
    return {TABLE: output, FAILED: output.with_name(f"{output.stem}_failed.csv"), **files}


def _places(ids: Sequence[str], some: Sequence[str], start: int) -> list[int]:
    """Where each of `some` stands among `ids`, which hold them in this order from `start` on."""
    places, k = [], start
    for crystal_id in some:
        k = ids.index(crystal_id, k)
        places.append(k)
    return places


def _as_csv(rows: pd.DataFrame, *, header: bool) -> bytes:
    return rows.to_csv(index=False, header=header, float_format="%.9g", lineterminator="\n").encode()


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for each in part_files(path).values() if path.is_dir() else [path]:
        with open(each, "rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()
