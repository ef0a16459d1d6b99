"""Settled flags → the configurations that the parts of a run take, and the file that repeats it."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from cgcnn.files import write_text
from cgcnn.fitting import FitSettings
from cgcnn.labels import DataError
from cgcnn.model import MODELS
from cgcnn.network import classic_dropout
from cgcnn.schedules import Schedule
from cgcnn.splits import PARTS, SplitSettings
from cgcnn.tasks import TaskSet


def split_settings(args: Namespace) -> SplitSettings:
    """How the flags say to divide the crystals."""
    names = ("train_ratio", "val_ratio", "test_ratio", "train_size", "val_size", "test_size", "folds")
    given = {name: getattr(args, name) for name in names}
    return SplitSettings(**given, group_by_formula=args.group_by == "formula", has_val=args.is_validate)


def fit_settings(args: Namespace, seed: int) -> FitSettings:
    """How the flags say to train."""
    schedule = Schedule(
        args.scheduler,
        args.lr,
        args.epochs,
        tuple(args.lr_milestones),
        t_max=args.T_max,
        eta_min=args.eta_min,
        decay_steps=args.sch_params,
    )
    return FitSettings(
        schedule,
        args.batch_size,
        args.optim,
        args.momentum,
        args.weight_decay,
        args.decay_biases,
        tuple(args.adam_betas),
        args.clip_grad,
        args.ema,
        args.swa,
        args.patience,
        seed,
        args.workers,
        args.max_edges_per_batch,
        args.precision,
    )


def network_config(args: Namespace, tasks: TaskSet, crystal_features: Sequence[str]) -> dict:
    """The network's configuration that the flags describe, for a data set with these features of the crystals.

    Raises DataError for sizes that do not go together.
    """
    _, configuration = MODELS[args.model]
    config = {each.name: getattr(args, each.name) for each in fields(configuration)}
    config["crystal_features"] = list(crystal_features)
    if config.get("dropout", 0.0) is None:
        config["dropout"] = classic_dropout(tasks)
    try:
        configuration(**config)
    except ValueError as error:
        raise DataError(f"--model {args.model}: {error}") from None
    return config


def flags_as_plain(args: Namespace) -> dict:
    """All flags that are set, as a checkpoint and a configuration file hold them."""
    left_out = ["config", "resume", "max_time", "out_dir", "data_options", "target_set"]
    left_out += ["parallel", "scheduler_address"]  # a cluster is there today
    left_out += [f"{part}_ratio" for part in PARTS if getattr(args, f"{part}_size") is not None]
    return {name: value for name, value in vars(args).items() if name not in left_out and value is not None}


def write_config(path: Path, args: Namespace) -> None:
    """The complete configuration of a run, which --config repeats, below the command that does so."""
    import tomli_w

    command = shlex.join(["python", "main.py", args.data_options[0], "--config", str(path)])
    # A comment ends with its line, and TOML has no control characters.
    comment = "".join(letter if letter.isprintable() else "?" for letter in command)
    write_text(path, f"# {comment}\n{tomli_w.dumps(flags_as_plain(args))}")
