"""What training minimises: a masked mean a task, weighted; the conditional band-gap loss; adaptive weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cgcnn.distributed import summed
from cgcnn.tasks import CATEGORY, Normalizer, Task, TaskSet

# prediction, label (n,) on the learned scale → loss of each sample (n,)
REGRESSION_LOSSES = {
    "mse": lambda y, t: (y - t).square(),
    "l1": lambda y, t: (y - t).abs(),
    "huber": lambda y, t: functional.huber_loss(y, t, reduction="none"),
}


def conditional_weights(category_logits: Tensor, metal: float, semiconductor: float) -> Tensor:
    """Weight of each sample's band-gap loss (B,) from its category logits (B, 2), detached.

    w = (λ_metal·p_metal + λ_semi·p_semi) / ((λ_metal + λ_semi)/2): only their ratio acts.
    """
    probability = category_logits.detach().softmax(dim=1)
    weights = metal * probability[:, 0] + semiconductor * probability[:, 1]
    return weights / ((metal + semiconductor) / 2)


def weighted_loss(weights: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss that sums squares, absolute values and Huber's, each with its weight."""
    parts = [(weight, REGRESSION_LOSSES[name]) for weight, name in zip(weights, ("mse", "l1", "huber"), strict=True)]
    return lambda y, t: sum(weight * part(y, t) for weight, part in parts if weight)


@dataclass
class MultiTaskLoss:
    """L = Σ_t w_t·L_t over tasks whose weight is not 0, each L_t a mean over the labelled samples of the batch.

    weights: task → w_t. metal_weight, semiconductor_weight: given, they weigh the samples of the band gap's
    loss by the category head (conditional loss). class_weights: task → (C,) weights in its cross-entropy. loss: one
    of REGRESSION_LOSSES, or `weighted` with loss_weights, those of mse, l1 and huber.
    """

    tasks: TaskSet
    normalizers: Mapping[str, Normalizer]
    weights: dict[str, float]
    loss: str = "mse"
    loss_weights: Sequence[float] = (0.4, 0.4, 0.2)
    metal_weight: float | None = None
    semiconductor_weight: float | None = None
    class_weights: Mapping[str, Tensor] | None = None

    def __call__(self, outputs: Mapping[str, Tensor], targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """outputs of the network, targets (B, T) in their units → L, and what the epoch's losses are made of.

        That is task → (2,): the sum of its loss over the labelled samples, which no weight has touched, and their
        number. Where processes have parts of the batch, L is what this part adds to that of the whole.
        """
        known = ~torch.isnan(targets)
        shares = [self._shares(task, targets[:, k], known[:, k]) for k, task in enumerate(self.tasks)]
        wholes = summed(torch.stack([share.sum() for share in shares])).clamp(min=1e-12)  # in one transfer
        weighted, sums = [], {}
        for column, task in enumerate(self.tasks):
            losses = self._losses(task, outputs[task.name], targets[:, column], known[:, column])
            sums[task.name] = torch.stack([losses.detach().sum(), known[:, column].sum()])
            if self.weights[task.name] != 0:
                mean = (shares[column] * self._conditioned(task, losses, outputs)).sum() / wholes[column]
                weighted.append(self.weights[task.name] * mean)
        return torch.stack(weighted).sum(), sums

    def __post_init__(self) -> None:
        self._regression_loss = (
            weighted_loss(self.loss_weights) if self.loss == "weighted" else REGRESSION_LOSSES[self.loss]
        )

    @property
    def is_conditional(self) -> bool:
        return self.metal_weight is not None and self.tasks.category is not None

    def _losses(self, task: Task, output: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Loss of every sample (B,), 0 where it has no label."""
        if task.is_regression:
            scaled = torch.where(known, self.normalizers[task.name].norm(label), 0.0)
            losses = self._regression_loss(output, scaled)
        else:
            losses = functional.cross_entropy(output, _classes(label, known), reduction="none")
        return torch.where(known, losses, 0.0)

    def _shares(self, task: Task, label: Tensor, known: Tensor) -> Tensor:
        """What each sample counts in the mean (B,), before it is divided by the sum; 0 where it has no label."""
        if self.class_weights and task.name in self.class_weights:
            weights = self.class_weights[task.name].to(label)
            return torch.where(known, weights[_classes(label, known)], 0.0)
        return known.to(label)

    def _conditioned(self, task: Task, losses: Tensor, outputs: Mapping[str, Tensor]) -> Tensor:
        """Losses (B,), those of the band gap weighted by the category."""
        if not self.is_conditional or task != self.tasks.gap:
            return losses
        logits = outputs[self.tasks.category.name]
        return losses * conditional_weights(logits, self.metal_weight, self.semiconductor_weight)


def _classes(label: Tensor, known: Tensor) -> Tensor:
    """Class of every sample (B,), 0 where it has no label."""
    return torch.where(known, label, 0.0).long()


def balanced_class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weight of each class (C,), inverse to its share of the labels (n,), with a mean of 1 over the samples."""
    counts = torch.bincount(labels[~torch.isnan(labels)].long(), minlength=num_classes).float()
    present = counts > 0
    weights = torch.where(present, counts.sum() / counts.clamp(min=1), 0.0)
    return weights / present.sum().clamp(min=1)


@dataclass
class AdaptiveWeights:
    """Weights of the targets that follow their training losses, once an epoch.

    h_k ← 0.9 h_k + 0.1 l_k (first epoch h = l); then w_k ← (1−u)·w_k + u·(1/h_k)/Σ_m(1/h_m), and the weights are
    scaled to a sum of 1. That is the published rule for two tasks, w_1 ← (1−u)·w_1 + u·h_2/(h_1+h_2), for any
    number of them.
    """

    update: float
    history: dict[str, float] | None = None

    def step(self, weights: dict[str, float], losses: Mapping[str, float]) -> dict[str, float]:
        """New weights of the tasks in `losses` (unweighted, of this epoch); other weights stay.

        So do those of a task whose weight is 0, and of one without a loss (NaN): neither takes part.
        """
        losses = {name: loss for name, loss in losses.items() if weights[name] != 0 and not math.isnan(loss)}
        if not losses:
            return weights
        before = self.history or {}
        now = {name: 0.9 * before[name] + 0.1 * loss if name in before else loss for name, loss in losses.items()}
        self.history = {**before, **now}
        inverse = {name: 1.0 / max(h, 1e-12) for name, h in now.items()}
        total = sum(inverse.values())
        moved = {name: (1 - self.update) * weights[name] + self.update * inverse[name] / total for name in now}
        scale = 1.0 / sum(moved.values())
        return {**weights, **{name: weight * scale for name, weight in moved.items()}}


def task_weights(tasks: TaskSet, given: Mapping[str, float]) -> dict[str, float]:
    """The weight of every task: its own, replaced by what the user gives by name."""
    return {task.name: float(given.get(task.name, task.weight)) for task in tasks}


def has_trained_category(tasks: TaskSet, weights: Mapping[str, float]) -> bool:
    """Whether the category head learns, so that the decision rule may use it."""
    return any(task.role == CATEGORY and weights[task.name] > 0 for task in tasks)
