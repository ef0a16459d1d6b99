"""Inputs of a network on one scale: mean and deviation over the training part, kept with its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cgcnn.global_features import num_global_features

MAX_DEVIATION = 4.0
# As a deviation it makes 0 of whatever comes: weights of an input that never varied have learned nothing from it.
CONSTANT = 1e9


def register_statistics(module: nn.Module, name: str, count: int) -> None:
    """Buffers `{name}_mean` and `{name}_std` (count,) of a module, in its state where there are any."""
    module.register_buffer(f"{name}_mean", torch.zeros(count), persistent=bool(count))
    module.register_buffer(f"{name}_std", torch.ones(count), persistent=bool(count))


def global_units(config) -> Tensor:
    """The unit of each of the numbers of a crystal (G,) that a network of this configuration takes, for `Moments`.

    Those of a table come in whatever unit a user has: 0.
    """
    return torch.cat(
        [torch.ones(num_global_features(config.global_features)), torch.zeros(len(config.crystal_features))]
    )


class Moments:
    """Mean and deviation of columns of numbers that come in parts, in memory that does not grow with them."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, 0.0, 0.0

    def add(self, values: Tensor) -> None:
        """values (n, K)."""
        values = values.double()
        self.count += len(values)
        self.sum, self.squares = self.sum + values.sum(dim=0), self.squares + values.square().sum(dim=0)

    def write(self, mean: Tensor, deviation: Tensor, unit: Tensor) -> None:
        """Into two tensors (K,); a deviation is at least 0.001 units, and CONSTANT where nothing varies."""
        unit = unit.to(self.sum)
        average = self.sum / self.count
        mean.copy_(average)
        variance = (self.squares / self.count - average.square()).clamp(min=0)
        varies = variance.sqrt() > 1e-6 * (unit + average.abs())
        deviation.copy_(torch.where(varies, variance.sqrt().clamp(min=1e-3 * unit), CONSTANT))


def scaled(values: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Standardised (n, K); what is unlike anything in training is not extrapolated to."""
    return ((values - mean) / deviation).clamp(-MAX_DEVIATION, MAX_DEVIATION)
