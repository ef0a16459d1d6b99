"""Whether files are whole, and whether two folders hold the same result."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sqlite3
import zipfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from cgcnn import checkpoint
from cgcnn.arguments import parse_training, read_config
from cgcnn.data_graphs import graph_settings
from cgcnn.files import cache_folder
from cgcnn.graph_table import COLUMNS
from cgcnn.labels import DataError
from cgcnn.store import GraphStore

TIME = re.compile(r"\d{8}_\d{6}(_\d+)?")
_OF_THE_CLOCK = {"Seconds", "Host", "Last Lines", "seconds"}
TEMPORARY = re.compile(r"\.(part|expected)$|\.progress$|-journal$")
_ENDS = {".html": b"</html>", ".png": b"IEND\xaeB`\x82", ".pdf": b"%%EOF"}
_ASIDE = ("previous", "log", "xdg")


def files(box: Path) -> list[Path]:
    """All files, but for locks."""
    return [path for path in sorted(box.rglob("*")) if path.is_file() and not path.name.endswith("lock")]


def damaged(box: Path) -> list[str]:
    """A line for every file that is there and not whole; those that are being written have other names."""
    lines = []
    for path in files(box):
        if TEMPORARY.search(path.name) or path.name == ".ballast":
            continue
        try:
            _read(path)
        except Exception as error:
            lines.append(f"{path.relative_to(box)}: {type(error).__name__}: {error}")
    return lines


def temporaries(box: Path) -> list[str]:
    """What is left of files that were being written, but for what was moved aside."""
    names = [str(path.relative_to(box)) for path in files(box) if TEMPORARY.search(path.name)]
    return [name for name in names if "previous" not in Path(name).parts]


def _read(path: Path) -> None:
    """Raises where a file is not whole."""
    if path.suffix == ".csv":
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("cut short, or empty")
        lengths = {len(row) for row in csv.reader(line for line in text.splitlines() if line[:1] != "#")}
        if len(lengths) > 1:
            raise ValueError("rows of several lengths")
    elif path.suffix in (".pt", ".tar"):
        checkpoint.load(path)
    elif path.suffix == ".toml":
        read_config(path)
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise ValueError("not whole")
    elif path.suffix in _ENDS and not path.read_bytes().rstrip().endswith(_ENDS[path.suffix]):
        raise ValueError("cut short")
    elif path.suffix == ".db":
        with closing(sqlite3.connect(path)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check").fetchone()
        if said != "ok":
            raise ValueError(said)


def result(box: Path, words: Sequence[str] = ()) -> dict[str, set[str]]:
    """File → digest of what is the same in every run of a command; files whose names differ in a time are one name.

    words: of main.py, if its graphs are part of the result.
    """
    found: dict[str, set[str]] = {}
    for path in files(box):
        parts = path.relative_to(box).parts
        if TEMPORARY.search(path.name) or parts[0] == "cache" or set(parts) & set(_ASIDE):
            continue
        if path.name not in ("output.txt", ".ballast"):
            found.setdefault(TIME.sub("<time>", "/".join(parts)), set()).add(_digest(path))
    if words:
        found["graphs"] = {graphs(words)}
    return found


def _digest(path: Path) -> str:
    if path.suffix == ".csv" and "timing" not in path.name:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        kept = [k for k, name in enumerate(rows[0]) if name not in _OF_THE_CLOCK] if rows else []
        is_table = all(len(row) == len(rows[0]) for row in rows)
        text = repr([[row[k] for k in kept] for row in rows] if is_table else rows)
        return _short(text.encode())
    if path.suffix in (".pt", ".tar"):
        content = torch.load(path, map_location="cpu", weights_only=False)
        states = [content["state_dict"], *content["members"]]
        return _short(*(state[name].numpy().tobytes() for state in states for name in sorted(state)))
    if path.suffix in (".npz", ".png"):
        return _short(path.read_bytes())
    return "there"


def graphs(words: Sequence[str]) -> str:
    """Digest of all graphs in the cache of a command of main.py, crystal by crystal."""
    args = parse_training(list(words))
    store = GraphStore(cache_folder(Path(args.data_options[0]), args.cache_dir), graph_settings(args))
    ids = sorted(store.row_of)
    table = store.table(ids)
    columns = [np.ascontiguousarray(getattr(table.graph(k), name)) for k in range(len(ids)) for name in COLUMNS]
    return _short(repr(ids).encode(), *(column.tobytes() for column in columns))


def differences(found: dict[str, set[str]], expected: dict[str, set[str]]) -> list[str]:
    """What is missing, or other than expected."""
    missing = [f"{name} is missing" for name in expected if name not in found]
    return missing + [f"{name} differs" for name in expected if name in found and not found[name] & expected[name]]


def contents(box: Path) -> set[bytes]:
    """What the files hold, wherever they are."""
    return {path.read_bytes() for path in files(box) if path.stat().st_size}


def is_readable(path: Path) -> bool:
    """Whether a checkpoint is there and whole."""
    try:
        return bool(checkpoint.read(path))
    except DataError:
        return False


def _short(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
