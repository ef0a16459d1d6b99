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

from cgcnn.calibration import Interval, read_intervals
from cgcnn.candidates import find_candidates
from cgcnn.contributions import adds_up
from cgcnn.embeddings import write_embeddings
from cgcnn.ensemble import Ensemble, Prediction
from cgcnn.files import is_writable
from cgcnn.flags import EXIT_SOME_FAILED
from cgcnn.growing import FINISHED, GROWING, GrowingFiles
from cgcnn.inference import load_trained
from cgcnn.interrupt import Interrupted, StopRequest
from cgcnn.labels import DataError
from cgcnn.long_tables import count_rows, first_column
from cgcnn.prediction_columns import TEXT_COLUMNS, UNLIKE, atom_table, full_table, short_names
from cgcnn.report import move_aside
from cgcnn.shortlist import SHOWN, as_text, shortlist
from cgcnn.stream import Chunk, read_chunks
from cgcnn.workers import workers_for

CHUNK = 256  # files that are read together
TABLE, FAILED, ATOMS, EMBEDDINGS = "--output", "failed", "--atom-contributions", "--embeddings"
NO_CRYSTALS = Chunk([], [], {})
BAR = {"unit": " structures", "disable": None, "leave": False, "smoothing": 0.1}


def predict_files(args: Namespace) -> int:
    """Predict CIFPATH, write the tables, say what was done; the exit status. Raises DataError."""
    if args.threads:
        torch.set_num_threads(args.threads)
    screening = Screening(args)
    screening.announce()
    stop = StopRequest()
    try:
        with stop.listening():
            screening.predict(stop.check)
    except Interrupted as interrupted:
        words = [word for word in args.words if word != "--resume-output"]
        print(f"{interrupted}: saved. Go on with: {shlex.join(['python', 'predict.py', *words, '--resume-output'])}")
        return stop.exit_status
    return screening.report()


class Screening:
    """One command of predict.py; what is wrong with its flags, models and folder is told before it predicts."""

    def __init__(self, args: Namespace) -> None:
        self.args = args
        self.files = _outputs(args)
        path = Path(args.cifpath)
        elements = (path if path.is_dir() else path.parent) / "atom_init.json"
        self.elements = elements if elements.exists() else None
        device = "cuda" if torch.cuda.is_available() and not args.disable_cuda else "cpu"
        models = [load_trained(Path(model), self.elements, device=device) for model in args.models]
        self.ensemble = Ensemble(models, args.models, batch_size=args.batch_size)
        self.intervals = self._intervals()
        nothing, _ = self.ensemble.predict_chunk(NO_CRYSTALS)
        columns = list(self._table(nothing))
        names = short_names(self.ensemble.tasks, unnamed=self.ensemble.unnamed)
        self.shortlist = shortlist(
            args.where, args.sort, args.top, columns=columns, short_names=names, texts=TEXT_COLUMNS
        )
        self.candidates = find_candidates(path)
        self.seconds = self.count = 0

    def announce(self) -> None:
        """Say what the columns will mean."""
        ensemble, args = self.ensemble, self.args
        if ensemble.num_networks > 1:
            of = f" of {len(ensemble.models)} models" if len(ensemble.models) > 1 else ""
            print(f"mean and standard deviation of {ensemble.num_networks} networks{of}")
        for name, interval in self.intervals.items():
            unit = ensemble.tasks[name].unit
            held = f"{100 * args.coverage:g} % of crystals like the {interval.count} of {args.calibrate}"
            print(f"{name}: {interval}{f' {unit}' if unit else ''} holds {held}")
        if ATOMS in self.files and not all(
            adds_up(network, model.normalizers) for model in ensemble.models for network in model.networks
        ):
            print(f"{ATOMS}: layers follow the pooling, so that the scores do not add up to the prediction")

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

    def report(self) -> int:
        """Say what is there, make the shortlist; the exit status."""
        table, rejects = self.files[TABLE], self.files[FAILED]
        predicted, unlike = count_rows(table, UNLIKE)
        rate = f" ({self.count / self.seconds:.0f} structures/s)" if self.count >= CHUNK else ""
        print(f"{predicted} crystals predicted: {table}{rate}")
        if unlike:
            print(f"{unlike} of them are unlike the training set: see its column {UNLIKE}")
        for name in (ATOMS, EMBEDDINGS):
            if name in self.files:
                print(f"{name[2:].replace('-', ' ')}: {self.files[name]}")
        if self.shortlist:
            self._write_shortlist(table)
        if not rejects.exists():
            return 0
        print(f"{count_rows(rejects)[0]} crystals failed, with the reason in {rejects}")
        return EXIT_SOME_FAILED

    def _predict(self, out: GrowingFiles, done: set[str], check_stop: Callable[[], None]) -> None:
        from tqdm import tqdm

        files = self.candidates.files
        ids = [i for i in files if i not in done]
        labels = self.candidates.beside(list(files), self.ensemble.tasks)
        if labels is not None:
            labels = labels[[i not in done for i in files]]
        workers = workers_for(len(ids), self.args.workers)
        size = max(CHUNK, self.args.batch_size)
        items = ((i, files[i]) for i in ids)
        begun = time.monotonic()
        with (
            closing(read_chunks(items, self.ensemble.settings, size=size, workers=workers)) as chunks,
            tqdm(total=len(files), initial=len(files) - len(ids), desc="Predicting", **BAR) as bar,
        ):
            for chunk in chunks:
                predicted, failed = self.ensemble.predict_chunk(chunk, with_atoms=ATOMS in self.files)
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
        chunk = {name: _as_csv(rows, header=not out.size(name)) for name, rows in tables.items()}
        if EMBEDDINGS in self.files:
            chunk[EMBEDDINGS] = predicted.vectors.astype("<f4").tobytes()
        out.append(chunk)

    def _table(self, predicted: Prediction, labels: np.ndarray | None = None) -> pd.DataFrame:
        tasks, unnamed = self.ensemble.tasks, self.ensemble.unnamed
        return full_table(tasks, predicted, labels, unnamed=unnamed, intervals=self.intervals)

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
            "--calibrate": _digest(args.calibrate and Path(args.calibrate)),
            "--coverage": args.coverage,
            "--batch-size": args.batch_size,
            **{flag: str(self.files[flag]) if flag in self.files else None for flag in (ATOMS, EMBEDDINGS)},
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

    def _write_shortlist(self, table: Path) -> None:
        path = table.with_name(f"{table.stem}_shortlist.csv")
        if path.exists() and (line := move_aside([path], path.parent / "result" / "previous")):
            print(line)
        count, rows = self.shortlist.write(table, path)
        meet = f" of {count} that meet --where" if self.shortlist.where and self.shortlist.top else ""
        by = f", smallest {self.shortlist.sort.text} first" if self.shortlist.sort else ""
        kept = count if self.shortlist.top is None else min(count, self.shortlist.top)
        print(f"{kept} crystals{meet}{by}: {path}")
        asked = {name for part in (self.shortlist.where, self.shortlist.sort) if part for name in part.columns}
        asked |= {"cif_id", UNLIKE, *short_names(self.ensemble.tasks, unnamed=self.ensemble.unnamed).values()}
        shown = [name for name in rows[0] if name in asked]
        if len(rows) > 1:
            print(as_text(rows, shown, TEXT_COLUMNS))
        if kept > SHOWN:
            print(f"… {kept - SHOWN} more")


def _outputs(args: Namespace) -> dict[str, Path]:
    """What is written, by its flag. Raises DataError where it cannot be."""
    output = Path(args.output)
    given = {TABLE: output, ATOMS: args.atom_contributions, EMBEDDINGS: args.embeddings}
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
    return path and hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
