"""What is predicted: the name, kind and unit of each task, and the scale on which it is learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch

REGRESSION, CLASSIFICATION = "regression", "classification"
# What a task is for: a target is predicted and counted; the category steers the band-gap loss; an auxiliary
# task only helps the shared layers to learn.
TARGET, CATEGORY, AUXILIARY = "target", "category", "auxiliary"
UNITS = {
    "work_function": "eV",
    "band_gap": "eV",
    "formation_energy": "eV/atom",
    "first_ionization_energy_avg": "eV",
}
# transform → (label to learned quantity, its inverse)
TRANSFORMS: dict[str, tuple[Callable, Callable]] = {
    "none": (lambda x: x, lambda y: y),
    "log": (torch.log10, lambda y: 10.0**y),
    "scaling": (lambda x: 1000.0 * x, lambda y: y / 1000.0),
    "n": (lambda x: x, lambda y: y),  # standardised, though other tasks may not be
}
EVERY = "*"  # the name that stands for all of them where kinds are given by name


@dataclass(frozen=True)
class Task:
    """One quantity of the result. `classes` (C labels) is empty for a regression; `weight` is its loss's."""

    name: str
    kind: str = REGRESSION
    role: str = TARGET
    unit: str = ""
    weight: float = 1.0
    classes: tuple[str, ...] = ()
    transform: str = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if not isinstance(self.name, str):
            raise TypeError(f"the name of a task is {self.name!r}")
        if self.kind not in (REGRESSION, CLASSIFICATION) or self.role not in (TARGET, CATEGORY, AUXILIARY):
            raise ValueError(f"the task {self.name} is neither a regression nor a classification with a known role")
        if self.transform not in TRANSFORMS:
            raise ValueError(f"transform of {self.name} must be one of {', '.join(TRANSFORMS)}")

    @property
    def is_regression(self) -> bool:
        return self.kind == REGRESSION

    @property
    def num_outputs(self) -> int:
        return 1 if self.is_regression else len(self.classes)

    def to_dict(self) -> dict:
        return {**asdict(self), "classes": list(self.classes)}


@dataclass
class Normalizer:
    """Mean and standard deviation of one regression task, after its transform, over the training part."""

    mean: float = 0.0
    std: float = 1.0
    transform: str = "none"

    @classmethod
    def fit(cls, labels: torch.Tensor, transform: str = "none", *, standardise: bool = True) -> Normalizer:
        """From the labels (n,) of the training part; NaN marks a missing one.

        Raises ValueError where a label has no transform (the logarithm of a number that is not positive).
        """
        known = TRANSFORMS[transform][0](labels[~torch.isnan(labels)].double())
        if not torch.isfinite(known).all():
            raise ValueError(f"transform {transform!r} needs positive labels")
        if transform == "n":
            transform, standardise = "none", True
        if not standardise or not len(known):
            return cls(transform=transform)
        std = known.std(correction=0).item()
        return cls(known.mean().item(), std if std > 1e-12 else 1.0, transform)

    def norm(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels in their unit → learned scale; NaN stays NaN."""
        return (TRANSFORMS[self.transform][0](labels) - self.mean) / self.std

    def denorm(self, values: torch.Tensor) -> torch.Tensor:
        """Learned scale → labels in their unit."""
        return TRANSFORMS[self.transform][1](values * self.std + self.mean)

    def state_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict) -> Normalizer:
        """Of ours, or of an original checkpoint (`mean`, `std` tensors). Raises ValueError for another transform."""
        transform = state.get("transform", "none")
        if transform not in TRANSFORMS:
            raise ValueError(f"its transform {transform!r} is none of {', '.join(TRANSFORMS)}")
        return cls(float(state["mean"]), float(state["std"]), transform)


@dataclass(frozen=True)
class TaskSet:
    """The T tasks of a run, in the order of the columns of its label matrix (B, T)."""

    tasks: tuple[Task, ...]
    _by_name: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._by_name.update({task.name: column for column, task in enumerate(self.tasks)})
        names = [task.name for task in self.tasks]
        if twice := [name for k, name in enumerate(names) if name in names[:k]]:
            raise ValueError(f"two tasks are named {twice[0]!r}")

    def __iter__(self):
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def column(self, name: str) -> int:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Task:
        return self.tasks[self._by_name[name]]

    @property
    def targets(self) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if task.role == TARGET)

    @property
    def category(self) -> Task | None:
        return next((task for task in self.tasks if task.role == CATEGORY), None)

    @property
    def gap(self) -> Task | None:
        """The regression target that the conditional loss calls the band gap.

        `band_gap`, or else one with gap in its name, or else the second of several columns without a header.
        """
        regressions = [task for task in self.targets if task.is_regression]
        named = [task for task in regressions if "gap" in task.name.lower()]
        exact = [task for task in named if task.name == "band_gap"]
        second = [task for task in regressions if task.name == "target_2"]
        return next(iter(exact + named + second), None)

    def to_list(self) -> list[dict]:
        return [task.to_dict() for task in self.tasks]

    @classmethod
    def from_list(cls, items: Sequence[dict]) -> TaskSet:
        return cls(tuple(Task(**item) for item in items))


def class_labels(values: Sequence[float]) -> tuple[str, ...]:
    """The C classes of a label column of whole numbers: 0 … max, so that a class absent here keeps its place.

    Raises ValueError where a label is no whole number from 0 to 999.
    """
    known = [value for value in values if not math.isnan(value)]
    for value in known:
        if value != int(value) or not 0 <= value < 1000:
            raise ValueError(f"class {value:g} is not a whole number from 0 to 999")
    return tuple(str(k) for k in range(max(2, int(max(known, default=0)) + 1)))
