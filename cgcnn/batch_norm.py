"""Batch normalisation over the rows of a batch, or of its parts in all processes that train together."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn import distributed
from cgcnn.precision import full


class BatchNorm(nn.BatchNorm1d):
    """nn.BatchNorm1d with the statistics of the whole batch where processes have parts of it, on CPUs, too.

    Of a row alone it has no statistics, and takes the running ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (n, F) → (n, F)."""
        x = full(x)
        if self.training and distributed.is_divided():
            return _Divided.apply(x, self.weight, self.bias, self)
        if self.training and len(x) == 1:  # a large crystal alone in its batch; torch's own layer raises
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class _Divided(torch.autograd.Function):
    """Batch normalisation of a part of a batch. A sum over the processes each way: what takes time is to wait."""

    @staticmethod
    def forward(ctx, x, weight, bias, norm):
        mean, variance, total = batch_statistics(x, norm)
        inverse_std = (variance + norm.eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inverse_std, total)
        return (x - mean) * (inverse_std * weight) + bias

    @staticmethod
    def backward(ctx, grad):
        x, weight, mean, inverse_std, total = ctx.saved_tensors
        unit = (x - mean) * inverse_std
        sums = torch.stack([(grad * unit).sum(0), grad.sum(0)])
        # through the mean and variance of the batch
        along, constant = distributed.summed(sums) / total.clamp(min=1)
        return (grad - constant - unit * along) * (inverse_std * weight), *sums, None


def batch_statistics(x: Tensor, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor, Tensor | float]:
    """Mean and variance (F,) of x (n, F), noted in the running ones, and the number of rows they are of.

    Outside training the running ones, and 0 rows. Not differentiable.
    """
    if norm.training and distributed.is_divided():
        mean, variance, total = _joined(*_moments(x), len(x))
        note_statistics(norm, mean, variance, total)
        return mean, variance, total
    if not norm.training or not len(x):
        return norm.running_mean, norm.running_var, 0.0
    norm.num_batches_tracked += 1
    if len(x) == 1:  # one edge has no variance; torch's own layer raises here
        return x[0].clone(), torch.zeros_like(x[0]), 1.0
    mean, variance = torch.batch_norm_update_stats(x, norm.running_mean, norm.running_var, norm.momentum)
    return mean, variance, float(len(x))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (F,) of the rows of x (n, F); of none, 0."""
    if len(x) < 2:
        return x.sum(0), x.new_zeros(x.shape[1])
    return torch.batch_norm_update_stats(x, *x.new_zeros(2, x.shape[1]), 1.0)


def _joined(mean: Tensor, variance: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Those of all processes' rows, and their number (), from those of each.

    Chan, Golub and LeVeque, Am. Stat. 37, 242 (1983): no difference of large squares.
    """
    of_each = distributed.from_each(torch.cat([mean, variance, mean.new_tensor([rows])]))
    means, variances, counts = of_each.split([len(mean), len(mean), 1], dim=1)
    total = counts.sum()
    share = counts / total.clamp(min=1)
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0), total


@torch.no_grad()
def note_statistics(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, total: Tensor) -> None:
    """Move the running mean and the running unbiased variance towards those of a batch of `total` () rows."""
    norm.num_batches_tracked += (total > 0).to(norm.num_batches_tracked)
    # of one row, as of none, nothing is noted; no branch, for which a GPU would have to be waited for
    momentum = norm.momentum * (total > 1).to(mean)
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (total / (total - 1).clamp(min=1)), momentum)
