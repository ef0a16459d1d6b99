"""How one network is trained, and what is kept of an epoch of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cgcnn.schedules import Schedule


@dataclass(frozen=True)
class FitSettings:
    """How one network is trained. ema: decay a step, 0 = off. swa: epochs at the end whose steps are averaged.

    patience: epochs without a better validation score before training ends, 0 = off. clip: largest gradient
    norm, 0 = off. betas: of Adam and AdamW. decay_biases: whether the decay pulls at biases and the scales of
    normalisations, too. seed decides the order of the crystals. max_edges: of a batch with more than one crystal,
    0 = any number. precision: `bf16` for layers and products in bfloat16, sums and losses in float32.
    """

    schedule: Schedule
    batch_size: int = 256
    optimizer: str = "SGD"
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_biases: bool = True
    betas: Sequence[float] = (0.9, 0.999)
    clip: float = 0.0
    ema: float = 0.0
    swa: int = 0
    patience: int = 0
    seed: int = 123
    workers: int = 0
    max_edges: int = 0
    precision: str = "float32"


@dataclass
class Epoch:
    """What is kept of one epoch: loss (see `Trainer.losses`) and weight of each task, validation score, seconds."""

    losses: dict[str, float]
    weights: dict[str, float]
    score: float
    metrics: dict[str, float]
    seconds: float
    lr: float

    @classmethod
    def from_dict(cls, saved: Mapping) -> Epoch:
        """Raises TypeError for a value that is no number."""
        epoch = cls(**saved)
        groups = (epoch.losses, epoch.weights, epoch.metrics)
        numbers = [epoch.score, epoch.seconds, epoch.lr, *(each for group in groups for each in group.values())]
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("a value of an epoch is no number")
        return epoch
