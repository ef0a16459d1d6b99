"""A saved model on the test part of its split, or of another split, other targets or other data: no training."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cgcnn import checkpoint, report
from cgcnn.arguments import parse_training
from cgcnn.baselines import baselines
from cgcnn.checkpoint import TrainedModel
from cgcnn.crystal_features import columns_of
from cgcnn.data_graphs import graph_settings
from cgcnn.dataset import Dataset, load_dataset
from cgcnn.files import is_writable
from cgcnn.inference import Model
from cgcnn.labels import DataError
from cgcnn.prepare import splits_of_run
from cgcnn.results import RunResult
from cgcnn.screening.columns import full_table
from cgcnn.screening.ensemble import Ensemble
from cgcnn.split_flags import DIVIDING
from cgcnn.splits import Split
from cgcnn.tasks import AUXILIARY, TaskSet


def evaluate(args: Namespace, say: Callable[[str], None] = print) -> RunResult:
    """main.py --evaluate: the end table of a run, predictions and metrics in result/predictions/, nothing else.

    Raises DataError where the model does not predict the targets, reads other graphs than the flags describe, or does
    not say which of several splits it was trained on.
    """
    begun = time.monotonic()
    if args.threads:
        torch.set_num_threads(args.threads)
    path = Path(args.evaluate)
    out = report.Outputs(Path(args.out_dir), f"{_stem(path)}_evaluation")
    if not is_writable(out.result):
        raise DataError(f"--out-dir {args.out_dir}: cannot be written")
    model = checkpoint.load(path)
    if graph_settings(args) != model.graph:
        raise DataError(f"{path}: reads other crystal graphs than these flags describe")
    known = model.config.get("crystal_features", ())
    data = _as_the_model_knows(load_dataset(args, known=known), model, path)
    if data.features is not None and columns_of(data.crystal_features) != columns_of(known):
        needs = f"--crystal-features TABLE:{'+'.join(columns_of(known))}" if known else "no --crystal-features"
        raise DataError(f"{path}: takes {needs}, not {args.crystal_features}")
    split = _split(args, data, model, say)
    own = parse_training([args.data_options[0], "--evaluate", args.evaluate])
    if any(getattr(args, name) != getattr(own, name) for name in DIVIDING):
        _warn_of_known(split, own, data, model, say)
    for note in data.notes:
        say(note)
    device = "cuda" if torch.cuda.is_available() and not args.disable_cuda else "cpu"
    model.networks = [network.to(device) for network in model.networks]
    rows = np.array(split.test)
    ensemble = Ensemble([model], batch_size=args.batch_size).with_features(data.features)
    predicted = ensemble.predict([data.ids[k] for k in rows], [data.table], rows)
    labels = data.labels[rows]
    which = "mean of its networks" if len(model.networks) > 1 else "its network"
    say(f"{path}: {which} on {len(rows)} test crystals, {len(split.train)} train, {len(split.val)} validation")
    say("")
    say(report.end_table(data.tasks, labels, predicted.values, baselines(data, split, args.extensive)))
    table = full_table(data.tasks, predicted, labels, unnamed=data.unnamed)
    metrics = pd.DataFrame([{"Split": model.split or 1, **report.metric_row(data.tasks, labels, predicted.values)}])
    measured = out.predictions.with_name(f"{out.run_id}_metrics.csv")
    earlier = [file for file in (out.predictions, measured) if file.exists()]
    if line := report.move_aside(earlier, out.result / "previous"):
        say(line)
    report.write_table(out.predictions, table)
    report.write_table(measured, metrics)
    say(f"\npredictions: {out.predictions}; metrics: {measured}; {time.monotonic() - begun:.1f} s")
    model.networks = [network.cpu() for network in model.networks]
    return RunResult(metrics, table, Model(model), path)


def _stem(path: Path) -> str:
    """The name of a model's file, for those made of it."""
    return path.name.removesuffix(".tar").removesuffix(".pth").removesuffix(".pt")


def _as_the_model_knows(data: Dataset, model: TrainedModel, path: Path) -> Dataset:
    """The data with the model's tasks for those that the flags choose: its units and classes. Raises DataError."""
    chosen = [task for task in data.tasks if task.role != AUXILIARY]
    for task in chosen:
        if task.name not in model.tasks or model.tasks[task.name].kind != task.kind:
            there = ", ".join(f"{own.name} ({own.kind})" for own in model.tasks if own.role != AUXILIARY)
            raise DataError(f"{path}: does not predict {task.name} ({task.kind}), but {there}")
    tasks = TaskSet(tuple(model.tasks[task.name] for task in chosen))
    labels = data.labels[:, [data.tasks.column(task.name) for task in chosen]]
    for column, task in enumerate(tasks):
        if not task.is_regression and np.nanmax(labels[:, column], initial=0) >= task.num_outputs:
            raise DataError(
                f"{path}: knows the classes {', '.join(task.classes)} of {task.name}, the labels have more"
            )
    return replace(data, tasks=tasks, labels=labels, unnamed=model.unnamed)


def _split(args: Namespace, data: Dataset, model: TrainedModel, say: Callable[[str], None]) -> Split:
    """The model's own split of those that the flags describe, which holds a test part. Raises DataError."""
    splits = splits_of_run(args, data, say)
    if len(splits) > 1 and model.split is None:
        raise DataError(
            f"{args.evaluate}: does not say which of the {len(splits)} splits it was trained on; "
            "give --split-file of its result/…_ids.csv"
        )
    split = splits[min((model.split or 1), len(splits)) - 1]
    if not split.test:
        raise DataError("the test part of the split is empty")
    return split


def _warn_of_known(
    split: Split, own: Namespace, data: Dataset, model: TrainedModel, say: Callable[[str], None]
) -> None:
    """Say how many crystals of the test part the model has seen, if these are the data that it was trained on."""
    try:
        before = _split(own, data, model, lambda _: None)
    except DataError:  # other data, which its own flags do not divide
        return
    if known := set(before.train + before.val).intersection(split.test):
        say(
            f"{len(known)} of the {len(split.test)} test crystals are in the training or validation part of the "
            "model's own split, if these are its data: the errors would be too small"
        )
