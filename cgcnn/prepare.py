"""A data set and the flags → splits, and what each is trained with: an untrained model, loss, validation score."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cgcnn.checkpoint import TrainedModel, load
from cgcnn.component_splits import PUBLISHED, component_splits, left_out, num_components, read_published
from cgcnn.data_graphs import graph_settings
from cgcnn.data_source import beside
from cgcnn.dataset import Dataset
from cgcnn.first_guess import first_guess
from cgcnn.labels import DataError, named_crystals
from cgcnn.losses import MultiTaskLoss, balanced_class_weights, has_trained_category, task_weights
from cgcnn.metrics import task_metrics, validation_score
from cgcnn.pickled_splits import part_file
from cgcnn.prediction import GapRule
from cgcnn.reference import FirstGuess
from cgcnn.settings import flags_as_plain, network_config, split_settings
from cgcnn.splits import Split, make_splits, read_split
from cgcnn.target_sets import other_than_published
from cgcnn.tasks import CATEGORY, TARGET, Normalizer
from cgcnn.training import TrainingError


def model_to_start_from(args: Namespace) -> TrainedModel | None:
    """The model of --init-from; an atom_init.json in the data folder is that of original weights, too."""
    if not args.init_from:
        return None
    return load(Path(args.init_from), beside(Path(args.data_options[0]), "atom_init.json"))


def what_all_read(args: Namespace, data: Dataset, splits: Sequence[Split]) -> Iterator[bytes]:
    """What processes that train together have to have read alike; where it lies may differ."""
    own = ("data_options", "cache_dir", "out_dir", "resume", "init_from")
    yield repr([item for item in sorted(vars(args).items()) if item[0] not in own]).encode()
    yield repr([data.ids, splits]).encode()
    yield data.labels.tobytes()


def splits_of_run(args: Namespace, data: Dataset, say: Callable[[str], None] = lambda _: None) -> list[Split]:
    """The parts of every split that the flags ask for, the training part cut to its share. Raises DataError."""
    others = [name for name in ("split_file", "split", "folds") if getattr(args, name)]
    if data.split is not None and others:
        say(f"{args.data_options[0]}: divided anew by --{others[0].replace('_', '-')}, not by its own folders")
    if args.split_file:
        split, unnamed = read_split(Path(args.split_file), data.ids, needs_val=args.is_validate)
        if unnamed:
            say(f"{args.split_file}: {len(unnamed)} crystals are not in it and are left out")
        splits = [_without_validation(split, args, args.split_file, say)] * args.num_splits
    elif args.split:
        splits = _by_components(args, data, say)
    elif data.split is not None and not args.folds:
        splits = [_of_folders(data.split, args, say)] * args.num_splits
    else:
        formulas = data.table.formulas
        splits = make_splits(formulas, split_settings(args), num_splits=args.num_splits, seed=args.seed)
    return [split.shortened(args.train_fraction, args.seed + k) for k, split in enumerate(splits)]


def _of_folders(split: Split, args: Namespace, say: Callable[[str], None]) -> Split:
    """The split of the data itself. Raises DataError where a part that is needed is empty."""
    folder = Path(args.data_options[0])
    for part in ("train", "val") if args.is_validate else ("train",):
        if not split[part]:
            path = part_file(folder, part)
            why = "no crystal of it can be used" if path.exists() else "no such file"
            raise DataError(f"{path}: {why}; --split-file and --folds divide the other folders anew")
    if line := other_than_published(args.target_set, split):
        say(line)
    return _without_validation(split, args, str(folder), say)


def _without_validation(split: Split, args: Namespace, where: str, say: Callable[[str], None]) -> Split:
    """With --no-is-validate, the crystals of the validation part are trained on."""
    if args.is_validate or not split.val:
        return split
    say(f"{where}: its {len(split.val)} validation crystals are trained on (--no-is-validate)")
    return Split(split.train + split.val, [], split.test)


def _by_components(args: Namespace, data: Dataset, say: Callable[[str], None]) -> list[Split]:
    """The splits of --split; says which crystals are in no part, and where the parts are the published ones."""
    components, is_test = num_components(data.table), None
    published = beside(Path(args.data_options[0]), "alloys.csv")
    if args.split == "a0" and published is not None:
        is_test = read_published(published, data.ids)
        if is_test is not None:
            say(f"--split a0: training and test part of {published}, column {PUBLISHED}")
    options = {"num_splits": args.num_splits, "seed": args.seed, "is_test": is_test}
    splits = component_splits(args.split, components, split_settings(args), **options)
    if line := left_out(splits[0], components):
        say(f"--split {args.split}: {line}")
    return splits


def untrained_model(args: Namespace, data: Dataset, split: Split, number: int = 1) -> TrainedModel:
    """The model of a split, the run's `number`, without weights; scales and first guesses see the training part only.

    Raises DataError where a target or the category has no label there, a label that its transform does not take, or
    no target that is trained has one in the validation part.
    """
    weights = task_weights(data.tasks, args.task_weights)
    _check_labels(data, split, weights)
    normalizers, guesses = _scales(args, data, split)
    rule = GapRule(args.metal_threshold, args.min_bandgap) if has_trained_category(data.tasks, weights) else None
    return TrainedModel(
        name=args.model,
        config=network_config(args, data.tasks, data.crystal_features),
        tasks=data.tasks,
        elements=data.elements,
        normalizers=normalizers,
        graph=graph_settings(args),
        rule=rule,
        unnamed=data.unnamed,
        args=flags_as_plain(args),
        split=number,
        guesses=guesses,
    )


def _scales(args: Namespace, data: Dataset, split: Split) -> tuple[dict[str, Normalizer], dict[str, FirstGuess]]:
    """Normalisers of the regressions, and first guesses of the targets that have one, from the training part."""
    normalizers, guesses = {}, {}
    for task, labels in zip(data.tasks, data.labels[split.train].T, strict=True):
        if not task.is_regression:
            continue
        try:
            scale = Normalizer.fit(torch.from_numpy(labels), task.transform, standardise=args.normalize)
        except ValueError as error:
            raise DataError(f"{task.name}: {error}") from None
        grows, by_element = task.name in args.extensive, args.reference == "composition"
        if task.role == TARGET and (grows or by_element):
            guesses[task.name], scale = first_guess(
                data.atoms[split.train],
                labels,
                scale,
                is_extensive=grows,
                by_element=by_element,
                standardise=args.normalize or task.transform == "n",
            )
        normalizers[task.name] = scale
    return normalizers, guesses


def training_loss(
    args: Namespace, data: Dataset, split: Split, normalizers: Mapping[str, Normalizer], device: str
) -> MultiTaskLoss:
    """The loss that the flags describe; class weights are those of the training part."""
    class_weights = {}
    if args.class_weights == "balanced":
        for column, task in enumerate(data.tasks):
            if not task.is_regression:
                labels = torch.from_numpy(data.labels[split.train][:, column])
                class_weights[task.name] = balanced_class_weights(labels, task.num_outputs).to(device)
    return MultiTaskLoss(
        data.tasks,
        normalizers,
        task_weights(data.tasks, args.task_weights),
        loss=args.loss,
        loss_weights=args.loss_weights,
        metal_weight=args.metal_weight if args.conditional_loss else None,
        semiconductor_weight=args.semiconductor_weight if args.conditional_loss else None,
        class_weights=class_weights,
    )


def validation(
    data: Dataset, split: Split, predict: Callable[[nn.Module], Mapping[str, np.ndarray]]
) -> Callable[[nn.Module], tuple[float, dict[str, float]]]:
    """network → its validation score, and the metrics to show; `predict` gives its predictions of that part.

    Without a validation part the score is NaN. The function raises TrainingError for predictions that are not finite.
    """
    if not split.val:
        return lambda _: (math.nan, {})
    labels, ids = data.labels[split.val], [data.ids[row] for row in split.val]
    regressions = [task.name for task in data.tasks if task.is_regression]
    scales = {name: _spread(data.labels[split.train][:, data.tasks.column(name)]) for name in regressions}

    def score(network: nn.Module) -> tuple[float, dict[str, float]]:
        predicted = predict(network)
        _check_finite(predicted, ids)
        metrics = {
            task.name: task_metrics(task, labels[:, data.tasks.column(task.name)], predicted[task.name])
            for task in data.tasks.targets
        }
        shown = {f"{name} {what}": m[what] for name, m in metrics.items() for what in ("MAE", "ACC") if what in m}
        return validation_score(metrics, scales), shown

    return score


def _check_labels(data: Dataset, split: Split, weights: Mapping[str, float]) -> None:
    """Raises DataError for a part without the labels that training, or the choice of the best epoch, needs."""
    known = ~np.isnan(data.labels)
    for task, in_train in zip(data.tasks, known[split.train].any(axis=0), strict=True):
        if in_train:
            continue
        if task.role == TARGET:
            raise DataError(f"no crystal of the training part has a label for {task.name}")
        if task.role == CATEGORY:
            raise DataError("--conditional-loss: no crystal of the training part has a category 0 or 1")
    trained = [task.name for task in data.tasks.targets if weights[task.name] > 0]
    if split.val and not known[split.val][:, [data.tasks.column(name) for name in trained]].any():
        raise DataError(f"no crystal of the validation part has a label for any target ({', '.join(trained)})")


def _check_finite(predicted: Mapping[str, np.ndarray], ids: Sequence[str]) -> None:
    """Raises TrainingError, so that a network that has diverged is not saved as the last good one."""
    for name, values in predicted.items():
        bad = ~np.isfinite(values.reshape(len(ids), -1)).all(axis=1)
        if bad.any():
            named = named_crystals([ids[k] for k in np.flatnonzero(bad)])
            raise TrainingError(
                f"the predictions of {name} are not finite for {named} (validation part); "
                "try a smaller --lr or --clip-grad 1"
            )


def _spread(labels: np.ndarray) -> float:
    """Standard deviation of the known labels (n,), 1 where it is 0."""
    known = labels[~np.isnan(labels)]
    return float(known.std()) if len(known) and known.std() > 0 else 1.0
