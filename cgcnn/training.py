"""The training loop: one for every network. What it holds can be saved at any batch and continued exactly."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cgcnn import distributed
from cgcnn.augmented import AugmentedCollator
from cgcnn.averaging import refresh_statistics, train_mode, weight_average
from cgcnn.batch import Batch, Collator, divided
from cgcnn.fitting import Epoch, FitSettings
from cgcnn.labels import named_crystals
from cgcnn.losses import AdaptiveWeights, MultiTaskLoss
from cgcnn.optimisers import optimiser, restore
from cgcnn.precision import autocast, full
from cgcnn.prediction import loader


class TrainingError(RuntimeError):
    """Training that cannot go on; one line."""


@dataclass
class Trainer:
    """Fits `model` to the training rows, and keeps the state that was best on validation.

    score: network → (validation score, lower is better, NaN to keep the last; metrics to log). on_batch(trainer) is
    called after every batch, on_epoch(trainer) after every epoch. What these three raise ends training at a point
    from which the state, if it is saved, goes on exactly. augmented: makes the batches of the steps, if they are not
    to be those of `collator`, which everything else looks at. With swa, is_averaged says in the end whether
    best_state is the average; other_state is the other of the two.
    """

    model: nn.Module
    loss: MultiTaskLoss
    collator: Collator
    rows: Tensor
    settings: FitSettings
    score: Callable[[nn.Module], tuple[float, dict[str, float]]]
    ids: list[str]
    device: torch.device | str = "cpu"
    adaptive: AdaptiveWeights | None = None
    augmented: AugmentedCollator | None = None
    on_batch: Callable[[Trainer], None] = lambda trainer: None
    on_epoch: Callable[[Trainer], None] = lambda trainer: None

    epoch: int = 0
    batch: int = 0
    steps: int = field(init=False)
    best_score: float = math.inf
    best_epoch: int = field(init=False)
    best_state: dict[str, Tensor] = field(default_factory=dict)
    other_state: dict[str, Tensor] | None = None
    is_averaged: bool = False
    history: list[Epoch] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = optimiser(self.model, self.settings)
        self.average = weight_average(self.model, ema=self.settings.ema, swa=self.settings.swa)
        self.best_epoch = self.epoch - 1  # patience counts from the first epoch
        self.steps = self.epoch * len(self._divided(self.rows))

    def batches(self, epoch: int) -> list[Tensor]:
        """The rows of each batch of an epoch, in all processes together."""
        order = torch.randperm(
            len(self.rows), generator=torch.Generator().manual_seed(self.settings.seed * 100_003 + epoch)
        )
        return self._divided(self.rows[order])

    def _divided(self, rows: Tensor) -> list[Tensor]:
        return divided(rows, self.collator.length, self.settings.batch_size, self.settings.max_edges)

    def _seen(self, collator: Collator | AugmentedCollator, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """The batches that this process makes: of their own crystals, where others have the rest."""
        edges = self.collator.length["edges"]
        parts = []
        for rows in batches:
            with distributed.dividing(len(rows)):
                parts.append(distributed.part(rows, edges[rows]))
        for rows, batch in zip(
            batches, loader(collator, parts, workers=self.settings.workers, device=self.device), strict=True
        ):
            with distributed.dividing(len(rows)):
                yield batch.to(self.device)

    def run(self) -> None:
        """Train from where the state stands to the last epoch, or until patience ends."""
        while not self.is_finished:
            self._run_epoch()
            self.on_epoch(self)
        if self.settings.swa and self.average is not None and self.average.n_averaged > 0:
            refresh_statistics(self.average.module, self._seen(self.collator, self._divided(self.rows)))
            best, average = self.best_state, self.average.module.state_dict()
            self._keep_if_best(self.average.module)
            self.is_averaged = self.best_state is not best
            self.other_state = best if self.is_averaged else average

    @property
    def is_finished(self) -> bool:
        """Whether no epoch is left, or patience is."""
        is_out_of_patience = 0 < self.settings.patience <= self.epoch - 1 - self.best_epoch
        return is_out_of_patience or self.epoch >= self.settings.schedule.epochs

    def validated_model(self) -> nn.Module:
        """The network that validation looks at: the moving average where there is one."""
        return self.average.module if self.settings.ema and self.average is not None else self.model

    def losses(self) -> dict[str, float]:
        """Unweighted loss of each task so far in this epoch: the mean over its labelled samples, NaN without any."""
        return {name: (total / count).item() for name, (total, count) in self.sums.items()}

    def _run_epoch(self) -> None:
        begun = time.monotonic()
        already = self.seconds
        batches = self.batches(self.epoch)
        train_mode(self.model)
        collator = self.collator if self.augmented is None else self.augmented.in_epoch(self.epoch)
        distributed.same_everywhere(self.model)
        for batch in self._seen(collator, batches[self.batch :]):
            self._step(batch, batches[self.batch], len(batches))
            self.batch += 1
            self.seconds = already + time.monotonic() - begun
            self.on_batch(self)
        losses = self.losses()
        weights = dict(self.loss.weights)
        score, metrics = self._keep_if_best(self.validated_model())
        if self.adaptive is not None:
            targets = {task.name for task in self.loss.tasks.targets}
            self.loss.weights = self.adaptive.step(weights, {n: v for n, v in losses.items() if n in targets})
        seconds = already + time.monotonic() - begun
        lr = self.optimizer.param_groups[0]["lr"]
        self.history.append(Epoch(losses, weights, score, metrics, seconds, lr))
        self.epoch, self.batch, self.sums, self.seconds = self.epoch + 1, 0, {}, 0.0

    def _step(self, batch: Batch, rows: Tensor, count: int) -> None:
        """One step on `batch`, which is the batch of these rows or this process's part of it."""
        if len(rows) == 1 and len(batch.crystal) < 2:
            raise TrainingError(
                f"{self.ids[int(rows[0])]}: one atom alone in a batch cannot be normalised; "
                "use a larger --batch-size, or more crystals"
            )
        # steps that are averaged are not counted: a rate that follows the steps rests meanwhile
        averaged = int(self.average.n_averaged) if self.settings.swa else 0
        lr = self.settings.schedule(self.epoch + self.batch / count, self.steps - averaged)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        distributed.seed_step(self.settings.seed, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.settings.precision):
            outputs = self.model(batch)
        total, sums = self.loss({name: full(out) for name, out in outputs.items()}, batch.targets)
        total.backward()
        sums = distributed.sum_gradients(self._parameters, {"": total.detach(), **sums})
        total = sums.pop("")
        if not torch.isfinite(total):
            named = named_crystals([self.ids[row] for row in rows.tolist()])
            raise TrainingError(
                f"the loss became {total.item()} in epoch {self.epoch + 1} on {named}; "
                "try a smaller --lr or --clip-grad 1"
            )
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.steps += 1
        if self.average is not None and self._averages_now():
            self.average.update_parameters(self.model)
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.double()

    def _keep_if_best(self, model: nn.Module) -> tuple[float, dict[str, float]]:
        score, metrics = self.score(model)
        if math.isnan(score) or score < self.best_score or not self.best_state:
            self.best_score, self.best_epoch = score, self.epoch
            self.best_state = copy.deepcopy(model.state_dict())
        return score, metrics

    def _averages_now(self) -> bool:
        return bool(self.settings.ema) or self.epoch >= self.settings.schedule.epochs - self.settings.swa

    @property
    def _is_on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    def state_dict(self) -> dict:
        """Everything that decides how training goes on; plain types and tensors."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "adaptive": None if self.adaptive is None else self.adaptive.history,
            "weights": self.loss.weights,
            "rng": torch.get_rng_state(),
            "cuda_rng": [torch.cuda.get_rng_state(self.device)] if self._is_on_gpu else [],
            "epoch": self.epoch,
            "batch": self.batch,
            "steps": self.steps,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "best_state": self.best_state,
            "history": [vars(epoch) for epoch in self.history],
            "sums": self.sums,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping) -> None:
        """Continue from a state of `state_dict`."""
        self.model.load_state_dict(state["model"])
        restore(self.optimizer, state["optimizer"])
        if self.adaptive is not None:
            self.adaptive.history = state["adaptive"]
        self.loss.weights = dict(state["weights"])
        torch.set_rng_state(state["rng"].cpu())
        if state["cuda_rng"] and self._is_on_gpu:
            torch.cuda.set_rng_state(state["cuda_rng"][0].cpu(), self.device)
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])
        # what an earlier version saved does not say them
        self.steps = state.get("steps", self.epoch * len(self._divided(self.rows)) + self.batch)
        first = 0 if self.settings.ema else self.settings.schedule.epochs - self.settings.swa
        # with more epochs than before, the mean of those that were the last is of no use
        if self.average is not None and state["average"] is not None and self.epoch + bool(self.batch) > first:
            self.average.load_state_dict(state["average"])
        self.best_score, self.best_epoch = float(state["best_score"]), int(state["best_epoch"])
        self.best_state = dict(state["best_state"])
        self.history = [Epoch.from_dict(epoch) for epoch in state["history"]]
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.seconds = float(state["seconds"])
