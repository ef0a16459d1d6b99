"""One combination of a sweep: the settings that it stands for, and the names of their columns in the summary."""

from __future__ import annotations

import hashlib
import json
import math
import os
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cgcnn.crystal_features import find_table, split_flag
from cgcnn.data_source import open_source
from cgcnn.flags import training_parser
from cgcnn.labels import DataError
from cgcnn.meaning import acts
from cgcnn.sweep.axes import describe
from cgcnn.sweep.flags import SweepFlags

# Flags that say how and where a run computes, not what.
_NO_SETTING = (
    "data_options",
    "config",
    "out_dir",
    "run_name",
    "resume",
    "max_time",
    "disable_cuda",
    "threads",
    "workers",
    "print_freq",
    "cache_dir",
    "verify_cache",
    "graph_jobs",
    "parallel",
    "scheduler_address",
)
# Flags that decide which graphs, labels and features are read.
_DATA = (
    "neighbors",
    "max_num_nbr",
    "radius",
    "environment",
    "atom_features",
    "global_features",
    "crystal_features",
    "task",
    "targets",
    "task_weights",
    "units",
    "transforms",
    "conditional_loss",
    "auxiliary_tasks",
)
_FILES = ("split_file", "init_from")
_TABLES = ("id_prop.csv", "all.csv", "ax.csv", "atom_init.json")
# switch → flags that decide nothing where it is off
_IDLE = {
    "conditional_loss": (
        "classification_weight",
        "metal_weight",
        "semiconductor_weight",
        "metal_threshold",
        "min_bandgap",
    ),
    "auxiliary_tasks": ("aux_task1_weight", "aux_task2_weight", "aux_task3_weight"),
    "adaptive_weights": ("adaptive_weight_update",),
}
# column of the summary, as the published sweep names it → flag
_COLUMNS = {
    "Scheduler": "scheduler",
    "Pooling": "pooling",
    "Adaptive Weights": "adaptive_weights",
    "Conditional Loss": "conditional_loss",
    "Classification Weight": "classification_weight",
    "SC-Metal Ratio": None,
    "Metal Threshold": "metal_threshold",
    "Metal Weight": "metal_weight",
    "SC Weight": "semiconductor_weight",
    "Task2 Weight": "task2_weight",
    "Aux Tasks": "auxiliary_tasks",
    "Aux Task1 Weight": "aux_task1_weight",
    "Aux Task2 Weight": "aux_task2_weight",
    "Aux Task3 Weight": "aux_task3_weight",
    "Min Bandgap": "min_bandgap",
    "Learning Rate": "lr",
    "Epochs": "epochs",
    "Weight Decay": "weight_decay",
}
SETTING_COLUMNS = tuple(_COLUMNS)
FLAG_COLUMNS = {flag: column for column, flag in _COLUMNS.items() if flag} | {"sc_metal_ratio": "SC-Metal Ratio"}


@dataclass(frozen=True)
class Combination:
    """values: axis → value. key: of all settings of the run, whatever their order. settings: SETTING_COLUMNS.

    idle: axes that have no effect beside the other settings, such as num-rbf where edges are Gaussian.
    """

    values: dict
    key: str
    settings: dict
    idle: list = field(default_factory=list)

    @property
    def effective(self) -> dict:
        """The values that have an effect."""
        return {name: value for name, value in self.values.items() if name not in self.idle}

    def __str__(self) -> str:
        return describe(self.effective)


class Settler:
    """values → Combination; and what the combinations met so far ask of the data folder, and repeat."""

    def __init__(self, flags: SweepFlags) -> None:
        self.flags = flags
        self.data_variants: dict[str, Namespace] = {}
        self._keys: dict[str, str] = {}
        self._met: dict[str, str] = {}

    @property
    def num_repeats(self) -> int:
        """How many combinations differ from another only in flags that have no effect there."""
        return len(self._keys) - len(set(self._keys.values()))

    @property
    def num_same(self) -> int:
        """How many combinations are another one, but for flags that mean nothing in them and are left out."""
        return len(self._met) - len(set(self._met.values()))

    def __call__(self, values: Mapping[str, object]) -> Combination:
        """Raises DataError for a combination that main.py refuses."""
        try:
            args = self.flags.settle(values)
        except DataError as error:
            raise DataError(f"{describe(values)}: {error}") from None
        self.data_variants.setdefault(json.dumps([getattr(args, name) for name in _DATA]), args)
        chosen = settings_of(args)
        key = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]
        idle = [name for switch, names in _IDLE.items() if not getattr(args, switch) for name in names]
        effective = {name: value for name, value in chosen.items() if name not in idle}
        self._met[describe(values)] = key
        self._keys[key] = json.dumps(effective, sort_keys=True)
        ratio = args.semiconductor_weight / args.metal_weight if args.metal_weight else math.inf
        settings = {column: getattr(args, flag) if flag else ratio for column, flag in _COLUMNS.items()}
        inert = [name for name in values if not acts(args, name.replace("-", "_"))]
        return Combination(dict(values), key, settings, inert)


def settings_of(args: Namespace) -> dict[str, object]:
    """The flags that decide what is learned and differ from the default; a file stands for its content."""
    parser = training_parser()
    settings = {}
    for name, value in vars(args).items():
        if name in _NO_SETTING or value == parser.get_default(name):
            continue
        path = Path(str(value))
        if name == "crystal_features":
            table = find_table(split_flag(value)[0], Path(args.data_options[0]))
            settings[name] = [value, _digest(table.read_bytes())]
            continue
        settings[name] = _digest(path.read_bytes()) if name in _FILES and path.is_file() else value
    return settings


def data_digest(data: Path, cache_dir: str | None = None) -> str:
    """Of the tables of a data folder or file, and of the names and sizes of its structure files. Raises DataError."""
    source = open_source(data, cache_dir=cache_dir)
    tables = [folder / name for folder in source.folders for name in _TABLES]
    parts = [table.read_bytes() for table in tables if table.exists()]
    parts += [f"{crystal_id} {os.stat(file).st_size}".encode() for crystal_id, file in sorted(source.files.items())]
    return _digest(b"\0".join(parts))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()[:16]}"
