"""The learning rate of every step, as a function of how far training is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Learning rate over epochs, which may be fractions, and steps, both counted from the start of training.

    step and cosine move every epoch, one-cycle and inverse_sqrt_nowarmup every step. decay_steps: T of the latter.
    """

    kind: str = "step"
    lr: float = 0.01
    epochs: int = 80
    milestones: Sequence[int] = (100,)
    gamma: float = 0.1
    t_max: int | None = None
    eta_min: float = 0.0
    decay_steps: float = 4000.0

    def __call__(self, epoch: float, step: int = 0) -> float:
        return SCHEDULES[self.kind](self, epoch, step)


def _step(s: Schedule, epoch: float, step: int) -> float:
    return s.lr * s.gamma ** sum(int(epoch) >= milestone for milestone in s.milestones)


def _cosine(s: Schedule, epoch: float, step: int) -> float:
    t_max = s.t_max or s.epochs
    return s.eta_min + (s.lr - s.eta_min) * (1 + math.cos(math.pi * int(epoch) / t_max)) / 2


def _one_cycle(s: Schedule, epoch: float, step: int) -> float:
    """Smith and Topin, arXiv:1708.07120: up from lr/25 over three tenths of training, then down to lr/10⁴."""
    rise = 0.3 * s.epochs
    low, high, part = (
        (s.lr / 25, s.lr, epoch / rise)
        if epoch < rise
        else (s.lr / 1e4, s.lr, 1 - (epoch - rise) / (s.epochs - rise))
    )
    return low + (high - low) * (1 - math.cos(math.pi * min(max(part, 0.0), 1.0))) / 2


def _inverse_sqrt(s: Schedule, epoch: float, step: int) -> float:
    """lr·√(T/(T + t)) after t steps; Taniai et al., ICLR 2024 (Crystalformer)."""
    return s.lr * math.sqrt(s.decay_steps / (s.decay_steps + step))


def _const(s: Schedule, epoch: float, step: int) -> float:
    return s.lr


SCHEDULES: dict[str, Callable[[Schedule, float, int], float]] = {
    "step": _step,
    "cosine": _cosine,
    "one-cycle": _one_cycle,
    "inverse_sqrt_nowarmup": _inverse_sqrt,
    "const": _const,
}
