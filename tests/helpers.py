"""What the end-to-end tests share: small data folders, runs of the commands, and their files."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from cgcnn.cli import predict_command, train_command

REPOSITORY = Path(__file__).resolve().parent.parent
TABLES = ("id_prop.csv", "all.csv", "ax.csv")


class Ran(NamedTuple):
    """What a command gave back."""

    status: int
    out: str
    err: str


def copy_folder(source: str, folder: Path, *, take: slice = slice(None)) -> Path:
    """A copy of a data folder of the repository, cut to some rows of its id_prop.csv."""
    source_folder = REPOSITORY / source
    folder.mkdir(parents=True)
    rows = read_rows(source_folder / "id_prop.csv")
    header = rows[:1] if rows[0][0] == "cif_id" else []
    body = rows[len(header) :][take]
    ids = {row[0] for row in body}
    for name in TABLES:
        if (source_folder / name).exists():
            table = read_rows(source_folder / name)
            write_rows(folder / name, [row for k, row in enumerate(table) if (header and k == 0) or row[0] in ids])
    for crystal_id in ids:
        shutil.copy(source_folder / f"{crystal_id}.cif", folder)
    return folder


def root_folder(folder: Path) -> Path:
    """16 crystals of root_dir, metals and semiconductors, with blank labels among them."""
    return copy_folder("root_dir", folder, take=slice(2, 82, 5))


def read_rows(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


FCC = ("0 0 0", "0 0.5 0.5", "0.5 0 0.5", "0.5 0.5 0")


def write_cif(path: Path, sites: Sequence[tuple[str, str]], length: float = 4.0) -> None:
    """A cubic cell of `length` Å; sites: symbol and place of each atom."""
    rows = "\n".join(f"{symbol} {symbol}{k} {place} 1" for k, (symbol, place) in enumerate(sites))
    path.write_text(
        "data_crystal\n_symmetry_space_group_name_H-M 'P 1'\n"
        + "".join(f"_cell_length_{axis} {length}\n" for axis in "abc")
        + "".join(f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma"))
        + "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
        + "loop_\n_atom_site_type_symbol\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n"
        + f"_atom_site_fract_z\n_atom_site_occupancy\n{rows}\n",
        encoding="utf-8",
    )


def run(command, *words: object) -> Ran:
    """A command in this process: exit status, stdout, stderr."""
    torch.set_num_threads(1)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = command([str(word) for word in words])
    return Ran(status, out.getvalue(), err.getvalue())


def train(folder: Path, out: Path, *words: object) -> Ran:
    """`main.py folder --out-dir out`, which must succeed."""
    ran = run(train_command, folder, "--out-dir", out, "--disable-cuda", *words)
    assert ran.status == 0, ran.err or ran.out
    return ran


def predict(model: Path, crystals: Path, output: Path, *words: object) -> Ran:
    """`predict.py model crystals --output output`."""
    return run(predict_command, model, crystals, "--output", output, "--disable-cuda", *words)


def refused(command, *words: object) -> str:
    """The lines on stderr of a command that must be refused: exit status 2, no traceback."""
    ran = run(command, *words)
    assert ran.status == 2, ran
    lines = ran.err.splitlines()
    assert lines and all(line.startswith("error: ") for line in lines), ran.err
    return ran.err


def script(name: str, *words: object, folder: Path, code: str = "") -> subprocess.Popen:
    """A script of the repository as a process of its own in `folder`; `code` runs in it before the script."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    start = [str(REPOSITORY / name)]
    if code:
        launch = "import runpy, sys\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
        start = ["-c", f"{code}\n{launch}", *start]
    return subprocess.Popen(
        [sys.executable, *start, *map(str, words)],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen, timeout: float = 60) -> Ran:
    out, err = process.communicate(timeout=timeout)
    return Ran(process.returncode, out, err)


def result_file(out: Path, ending: str) -> Path:
    """The one file result/*_{ending} of a run."""
    (path,) = [p for p in (out / "result").rglob(f"*_{ending}") if "previous" not in p.parts]
    return path


def table(path: Path, **options) -> pd.DataFrame:
    return pd.read_csv(path, **options)


def weights(path: Path) -> list[dict[str, torch.Tensor]]:
    """The states of all networks in a model file."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    return content["members"] or [content["state_dict"]]


def same_weights(one: Path, other: Path) -> bool:
    """Whether two model files hold the same networks, bit for bit."""
    first, second = weights(one), weights(other)
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(first, second, strict=True)
    )


ALLOY_ELEMENTS = ("Fe", "Co", "Ni", "Cr", "Mn", "Pd")


def alloy_folder(folder: Path, counts: dict[int, int]) -> Path:
    """A data folder of alloys, number of components → how many; labels etot, emix, and a class magnetic."""
    folder.mkdir(parents=True)
    rows = []
    for components, count in counts.items():
        for k in range(count):
            name = f"n{components}_{k}"
            sites = [(ALLOY_ELEMENTS[i], f"{i / 6} {i * i % 5 / 5} 0.5") for i in range(components)]
            write_cif(folder / f"{name}.cif", [*sites, (ALLOY_ELEMENTS[0], "0.5 0.5 0.1")], length=4 + 0.1 * k)
            rows.append((name, components + 0.1 * k, 0.01 * k - 0.02 * components, k % 2))
    write_rows(folder / "id_prop.csv", [("cif_id", "etot", "emix", "magnetic"), *rows])
    return folder
