"""Batch normalisation over the rows of a batch, or of its parts in all processes that train together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cgcnn import distributed
from cgcnn.precision import full


class BatchNorm(nn.BatchNorm1d):
    """nn.BatchNorm1d with the statistics of the whole batch where processes have parts of it, on CPUs, too."""

    def forward(self, x: Tensor) -> Tensor:
        """x (n, F) → (n, F)."""
        x = full(x)
        if not (self.training and distributed.is_divided()):
            return super().forward(x)
        total = distributed.summed(torch.tensor([len(x)], dtype=x.dtype, device=x.device))
        mean = distributed.differentiable_sum(x.sum(0)) / total
        centred = x - mean
        variance = distributed.differentiable_sum(centred.square().sum(0)) / total
        note_statistics(self, mean.detach(), variance.detach(), total)
        return centred * ((variance + self.eps).rsqrt() * self.weight) + self.bias


def batch_statistics(x: Tensor, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor, Tensor | float]:
    """Mean and variance (F,) of x (n, F), noted in the running ones, and the number of rows they are of.

    Outside training the running ones, and 0 rows. Not differentiable.
    """
    if norm.training and distributed.is_divided():
        total = distributed.summed(torch.tensor([len(x)], dtype=x.dtype, device=x.device))
        mean = distributed.summed(x.sum(0)) / total.clamp(min=1)
        variance = distributed.summed((x - mean).square().sum(0)) / total.clamp(min=1)
        note_statistics(norm, mean, variance, total)
        return mean, variance, total
    if not norm.training or not len(x):
        return norm.running_mean, norm.running_var, 0.0
    norm.num_batches_tracked += 1
    if len(x) == 1:  # one edge has no variance; torch's own layer raises here
        return x[0].clone(), torch.zeros_like(x[0]), 1.0
    mean, variance = torch.batch_norm_update_stats(x, norm.running_mean, norm.running_var, norm.momentum)
    return mean, variance, float(len(x))


@torch.no_grad()
def note_statistics(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, total: Tensor) -> None:
    """Move the running mean and the running unbiased variance towards those of a batch of `total` (1,) rows."""
    if total.item() == 0:
        return
    norm.num_batches_tracked += 1
    if total.item() > 1:
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (total / (total - 1)), norm.momentum)
