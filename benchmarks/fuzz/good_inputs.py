"""The good inputs that the fuzzer breaks: structures of every format, data folders and files, tables, models."""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import gzip
import io
import json
import pickle
import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from cgcnn.cli import train_command
from cgcnn.crystal import Crystal
from cgcnn.data_source import open_source
from cgcnn.features import element_table
from cgcnn.graph import GraphSettings
from cgcnn.model import CrystalGraphConvNet
from cgcnn.store import GraphStore
from cgcnn.structures import read_crystal

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "root_dir"
TARGETS = ("work_function", "band_gap")


def prepare(good: Path) -> None:
    """Write all of them below `good`: pool/ structures, folder/ data, files/ data files, parts/ pickles, models/."""
    ids = sorted(row[0] for row in _rows(EXAMPLE / "id_prop.csv")[3:83:5])
    crystals = {i: read_crystal(EXAMPLE / f"{i}.cif") for i in ids}
    _structures(good / "pool", ids, crystals)
    (good / "beside").mkdir()
    for crystal_id in ids[-2:]:
        shutil.copy(EXAMPLE / f"{crystal_id}.cif", good / "beside")
    _folder(good / "folder", ids)
    _data_files(good, crystals)
    _models(good)
    _caches(good)


def _rows(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _write(path: Path, rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n", delimiter=delimiter).writerows(rows)


def _structures(pool: Path, ids: Sequence[str], crystals: dict[str, Crystal]) -> None:
    """CIFs with and without symmetry, disordered and with oxidation states; POSCARs of all kinds; JSON."""
    from pymatgen.io.cif import CifWriter
    from pymatgen.io.vasp import Poscar

    pool.mkdir(parents=True)
    for crystal_id in ids[:6]:
        shutil.copy(EXAMPLE / f"{crystal_id}.cif", pool)
    for path in sorted((ROOT / "vacancy_data").glob("*.cif"))[:2]:
        shutil.copy(path, pool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [crystals[i].to_structure() for i in ids[:5]]
        for k, structure in enumerate(found):
            CifWriter(structure, symprec=0.01).write_file(pool / f"symmetric{k}.cif")
        charged = found[0].copy().add_oxidation_state_by_guess()
        CifWriter(charged).write_file(pool / "charged.cif")
        mixed = found[1].copy()
        mixed.replace(0, {"Fe": 0.4, "Co": 0.35})
        CifWriter(mixed).write_file(pool / "mixed.cif")
        for k, structure in enumerate(found[:3]):
            moving = [[True, False, True]] * len(structure)
            options = {"selective_dynamics": moving} if k else {}
            Poscar(structure, **options).write_file(pool / f"p{k}.vasp", direct=k != 2)
            (pool / f"j{k}.json").write_text(json.dumps(structure.as_dict()))
        (pool / "mixed.json").write_text(json.dumps({"structure": mixed.as_dict()}))


def _folder(folder: Path, ids: Sequence[str]) -> None:
    """16 crystals of root_dir, and beside them every table that a command takes."""
    folder.mkdir()
    for name in ("id_prop.csv", "all.csv", "ax.csv"):
        header, *rows = _rows(EXAMPLE / name)
        _write(folder / name, [header, *(row for row in rows if row[0] in ids)])
    for crystal_id in ids:
        shutil.copy(EXAMPLE / f"{crystal_id}.cif", folder)
    labels = {row[0]: row[1:] for row in _rows(folder / "id_prop.csv")[1:]}
    parts = ["test", "test", "val", "val", *["train"] * (len(ids) - 4)]
    _write(folder / "split.csv", [("cif_id", "split"), *zip(ids, parts, strict=True)])
    _write(folder / "alloys.csv", [("cif_id", "a0_test"), *((i, k % 2) for k, i in enumerate(ids))])
    rows = [(i, 100 + 10 * k, ("bcc", "fcc")[k % 2]) for k, i in enumerate(ids)]
    _write(folder / "features.csv", [("cif_id", "temperature", "phase"), *rows])
    vectors = {number: vector.tolist() for number, vector in enumerate(element_table()) if number in range(1, 101)}
    (folder / "elements.json").write_text(json.dumps({n: v[:5] for n, v in vectors.items()}))
    (folder / "flags.toml").write_text(
        'epochs = 1\nlr = 0.01\nbatch_size = 8\npooling = "attention"\noptim = "Adam"\nlr_milestones = [5, 10]\n'
        'auxiliary_tasks = true\ntargets = ["work_function", "band_gap"]\n[task_weights]\nband_gap = 0.5\n'
    )
    flags = {"epochs": 1, "lr": 0.01, "pooling": "mean", "units": {"band_gap": "eV"}, "ema": 0.9, "model": "cgcnn"}
    (folder / "flags.json").write_text(json.dumps(flags))
    (folder / "axes.toml").write_text('pooling = ["mean", "attention"]\nlr = [0.005, 0.011]\nn-conv = 2\n')
    _tables_of_others(folder, labels)


def _tables_of_others(folder: Path, labels: dict[str, list[str]]) -> None:
    """Tables to be merged, and predictions with labels beside them."""
    known = {i: tuple(float(cell or 4) for cell in cells) for i, cells in labels.items()}
    work = [(f"{i}.cif", work, "PBE") for i, (work, _) in known.items()]
    _write(folder / "work.csv", [("name", "work function (eV)", "method"), *work])
    gaps = [(i.lower(), gap) for i, (_, gap) in known.items()]
    _write(folder / "band.csv", [("material", "band gap / eV"), *gaps], delimiter=";")
    _write(folder / "kinds.csv", [("id", "category"), *((i, int(gap > 0)) for i, (_, gap) in known.items())])
    names = [f"{name}_{what}" for name in TARGETS for what in ("target", "pred", "std")]
    rows = [(i, work, work + 0.1, 0.2, gap, max(gap - 0.2, 0), 0.3) for i, (work, gap) in known.items()]
    _write(folder / "predictions.csv", [("cif_id", *names), *rows])
    _write(folder / "plain.csv", [(i, work, work + 0.1) for i, (work, _) in known.items()])
    classes = [(i, k % 2, 0.9 * (k % 2) + 0.05, 1 - k % 2) for k, i in enumerate(known)]
    _write(folder / "classes.csv", [("cif_id", "kind_target", "kind_pred", "kind_prob"), *classes])


def _data_files(good: Path, crystals: dict[str, Crystal]) -> None:
    """Four entries as a list, lines, an object, packed; structures as dicts, CIF text and JARVIS's; pickled parts."""
    files = good / "files"
    files.mkdir()
    found = [(i, crystal.to_structure()) for i, crystal in list(crystals.items())[:4]]
    entries = [{"id": i, "structure": s.as_dict(), "gap": 0.5 * k, "kind": None} for k, (i, s) in enumerate(found)]
    (files / "list.json").write_text(json.dumps(entries))
    (files / "lines.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (files / "packed.json.gz").write_bytes(gzip.compress(json.dumps(entries).encode(), mtime=0))
    atoms = [
        {
            "lattice_mat": s.lattice.matrix.tolist(),
            "coords": s.frac_coords.tolist(),
            "elements": [str(each) for each in s.species],
        }
        for _, s in found
    ]
    keyed = {
        i: {"atoms": each, "properties": {"gap": 1.0, "e": -2}} for (i, _), each in zip(found, atoms, strict=True)
    }
    (files / "keyed.json").write_text(json.dumps(keyed))
    texts = [{"jid": i, "cif": (EXAMPLE / f"{i}.cif").read_text(), "targets": {"gap": "1.5"}} for i, _ in found]
    (files / "texts.json").write_text(json.dumps(texts))
    records = pickled_records(crystals)
    (files / "records.pkl").write_bytes(pickle.dumps(records))
    for k, part in enumerate(("train", "val", "test")):
        raw = good / "parts" / part / "raw"
        raw.mkdir(parents=True)
        (raw / "raw_data.pkl").write_bytes(pickle.dumps(records[4 * k : 4 * k + 4], protocol=(0, 2, 5)[k]))


def pickled_records(crystals: dict[str, Crystal]) -> list[dict]:
    """What pickled parts hold: dicts with a pymatgen Structure."""
    found = list(crystals.items())[:12]
    return [{"material_id": i, "structure": c.to_structure(), "bandgap": 0.1 * k} for k, (i, c) in enumerate(found)]


def _models(good: Path) -> None:
    """A run of one epoch, and the weights of a network of the original code in both of torch's formats."""
    models, run = good / "models", good / "run"
    words = [str(good / "folder"), "--epochs", "1", "--out-dir", str(run), "--disable-cuda", "--threads", "1"]
    words += ["--atom-fea-len", "8", "--h-fea-len", "8", "--n-conv", "1", "--cache-dir", str(good / "cache")]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = train_command(words)
    if status:
        raise RuntimeError(said.getvalue())
    shutil.rmtree(good / "cache")
    models.mkdir()
    for path in (run / "checkpoint.pth.tar", run / "model_best.pth.tar", next((good / "folder").glob("*.cif"))):
        shutil.copy(path, models)
    torch.manual_seed(0)
    network = CrystalGraphConvNet(92, 41, atom_fea_len=8, n_conv=1, h_fea_len=8)
    content = {
        "epoch": 1,
        "state_dict": network.state_dict(),
        "best_mae_error": torch.tensor(0.1),
        "normalizer": {"mean": torch.tensor(1.0), "std": torch.tensor(2.0)},
        "args": argparse.Namespace(atom_fea_len=8, n_conv=1, h_fea_len=8, n_h=1, task="regression"),
    }
    torch.save(content, models / "original.pth.tar")
    plain = copy.copy(content) | {"args": vars(content["args"])}
    torch.save(plain, models / "legacy.pth.tar", _use_new_zipfile_serialization=False)


def _caches(good: Path) -> None:
    """Three crystals with their graphs, and a data file with what was unpacked of it."""
    stored = good / "stored"
    stored.mkdir()
    for path in sorted((good / "folder").glob("*.cif"))[:3]:
        shutil.copy(path, stored)
    files = {path.stem: path for path in stored.glob("*.cif")}
    GraphStore(stored / ".cgcnn_cache", GraphSettings()).update(files, jobs=1, quiet=True)
    unpacked = good / "unpacked"
    unpacked.mkdir()
    shutil.copy(good / "files" / "list.json", unpacked)
    open_source(unpacked / "list.json")
