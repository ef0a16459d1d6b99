"""Network outputs → numbers a person reads: units, probabilities, the metal rule for the band gap."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cgcnn import distributed
from cgcnn.batch import Batch, Collator, divided
from cgcnn.tasks import CLASSIFICATION, Normalizer, TaskSet


@dataclass(frozen=True)
class GapRule:
    """On test and prediction, in eV: p(metal) above the threshold → gap 0, otherwise at least the minimum."""

    metal_threshold: float = 0.5
    min_bandgap: float = 0.015

    def __call__(self, gap: Tensor, p_metal: Tensor) -> Tensor:
        """gap (n,) eV, p_metal (n,) → gap (n,) eV."""
        return torch.where(p_metal > self.metal_threshold, 0.0, gap.clamp(min=self.min_bandgap))

    def to_dict(self) -> dict:
        return asdict(self)


def loader(
    collator: Collator, batches: Iterable[Tensor], *, workers: int = 0, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """The batches of these rows, made in this process or ahead of time by `workers` others.

    On their way to a GPU they lie in pinned memory, from which they are copied while it computes, and are made by
    two other processes at least; where the graphs are in its memory already, by none.
    """
    is_resident = getattr(collator, "device", torch.device("cpu")).type != "cpu"
    is_copied = torch.device(device).type == "cuda" and not is_resident
    workers = 0 if is_resident else max(workers, 2 * is_copied)
    # The generator is its own: drawing from torch's would make a run depend on how often it is resumed.
    made = DataLoader(
        collator,
        sampler=list(batches),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        pin_memory=is_copied,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )
    with _signals_held():
        return iter(made)


def _as_it_is(batch):
    return batch


@contextmanager
def _signals_held() -> Iterator[None]:
    """Processes that are started within leave signals to the one that saves, and end with it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@torch.no_grad()
def raw_outputs(
    model: nn.Module,
    collator: Collator,
    rows: Tensor,
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
    max_edges: int = 0,
    check_stop: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """Outputs of one network in evaluation mode for these crystals, rows (n,): task → (n,) or (n, C).

    batch_size, max_edges: see `divided`. check_stop is called before every batch; what it raises ends the
    prediction. Processes that train together share the crystals, call it equally often, and each has all outputs
    in the end.
    """
    training = model.training
    model.eval()
    outputs = []
    with distributed.dividing(len(rows)):
        places = distributed.part(torch.arange(len(rows)), collator.length["edges"][rows])
        parts = divided(rows[places], collator.length, batch_size, max_edges)
        for k in range(distributed.largest(len(parts))):
            check_stop()
            if k < len(parts):
                outputs.append(model(collator[parts[k]].to(device)))
        found = {name: torch.cat([out[name] for out in outputs]) for name in outputs[0]}
        found = {name: distributed.gathered(values, places, len(rows)).cpu() for name, values in found.items()}
    model.train(training)
    return found


def in_units(
    outputs: Mapping[str, Tensor], tasks: TaskSet, normalizers: Mapping[str, Normalizer]
) -> dict[str, Tensor]:
    """Regressions de-normalised to their units (n,), logits to probabilities (n, C); float64."""
    return {
        task.name: normalizers[task.name].denorm(outputs[task.name].double())
        if task.is_regression
        else outputs[task.name].double().softmax(dim=1)
        for task in tasks
    }


def combine(members: Sequence[dict[str, Tensor]], tasks: TaskSet, rule: GapRule | None) -> dict[str, np.ndarray]:
    """The mean over the members of an ensemble, then the metal rule, if there is one."""
    mean = {task.name: torch.stack([m[task.name] for m in members]).mean(0) for task in tasks}
    if rule is not None and tasks.category is not None and tasks.gap is not None:
        mean[tasks.gap.name] = rule(mean[tasks.gap.name], mean[tasks.category.name][:, 0])
    return {name: values.numpy() for name, values in mean.items()}


def deviations(members: Sequence[dict[str, Tensor]], tasks: TaskSet) -> dict[str, np.ndarray]:
    """How far the members of an ensemble disagree: task → standard deviation over them (n,), {} for one alone.

    Of a regression in its unit, before the metal rule; of a class, that of the probability of the predicted one.
    """
    if len(members) < 2:
        return {}
    found = {}
    for task in tasks:
        values = torch.stack([member[task.name] for member in members])
        if not task.is_regression:
            chosen = values.mean(0).argmax(dim=1)
            values = values[:, torch.arange(len(chosen)), chosen]
        found[task.name] = values.std(dim=0, correction=0).numpy()
    return found


def no_predictions(tasks: TaskSet) -> dict[str, np.ndarray]:
    """What `combine` gives for no crystals."""
    return {task.name: np.zeros((0, task.num_outputs) if task.kind == CLASSIFICATION else 0) for task in tasks}


def predict_rows(
    models: Sequence[nn.Module],
    collator: Collator,
    rows: Tensor,
    tasks: TaskSet,
    normalizers: Mapping[str, Normalizer],
    *,
    rule: GapRule | None = None,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    max_edges: int = 0,
    check_stop: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Predictions of an ensemble (of one, mostly) for rows (n,): task → (n,) in its unit or (n, C) probabilities.

    max_edges, check_stop: see `raw_outputs`.
    """
    if not len(rows):
        return no_predictions(tasks)
    options = {"batch_size": batch_size, "device": device, "max_edges": max_edges, "check_stop": check_stop}
    members = [in_units(raw_outputs(model, collator, rows, **options), tasks, normalizers) for model in models]
    return combine(members, tasks, rule)
