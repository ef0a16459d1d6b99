"""Averages of weights over the steps of training, and the batch-norm statistics that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cgcnn.batch import Batch


def weight_average(model: nn.Module, *, ema: float, swa: int) -> AveragedModel | None:
    """A copy of the network for the moving average (ema > 0) or the mean (swa > 0) of its weights, if either."""
    if ema:
        return AveragedModel(model, multi_avg_fn=moving_average(ema), use_buffers=True)
    return AveragedModel(model) if swa else None


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], None]:
    """For AveragedModel: a ← d·a + (1 − d)·c, after n steps with d = min(decay, (1 + n)/(10 + n)).

    With `decay` from the first step on, the random start would keep the weight decayⁿ. Integers are copied.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor) -> None:
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        torch._foreach_sub_(averaged, current)
        torch._foreach_mul_(averaged, ((1 + steps) / (10 + steps)).clamp(max=decay))
        torch._foreach_add_(averaged, current)

    return update


@torch.no_grad()
def refresh_statistics(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Batch-norm statistics of averaged weights: one pass over `batches`, which are the training part.

    A network without any is left as it is, and no batch is made.
    """
    train_mode(model)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d) and m.training]
    if not norms:
        model.eval()
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    for k, batch in enumerate(batches):
        for norm in norms:
            norm.momentum = 1.0 / (k + 1)
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def train_mode(model: nn.Module) -> None:
    """As model.train(), but the statistics of a normalisation whose weights do not learn stay as they are, too."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d) and not any(p.requires_grad for p in module.parameters()):
            module.eval()
