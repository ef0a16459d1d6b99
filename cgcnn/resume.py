"""What a checkpoint keeps of the splits that are trained, and whether it is of the run that it is to continue."""

from __future__ import annotations

import math
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cgcnn.checkpoint import TrainedModel
from cgcnn.dataset import Dataset
from cgcnn.fitting import Epoch
from cgcnn.flag_kinds import as_flag
from cgcnn.flags import training_parser
from cgcnn.graph import GraphSettings
from cgcnn.labels import DataError
from cgcnn.model import MODELS
from cgcnn.splits import Split
from cgcnn.training import Trainer

# What a file that is whole, but not what it says, raises on its way into a run.
_MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_ORDER = ("batch_size", "max_edges_per_batch", "seed")  # what decides which crystals come in which batch


@contextmanager
def taken_up(path: str | None) -> Iterator[None]:
    """Where the state in a checkpoint becomes that of the run. Raises DataError where it has another shape."""
    try:
        yield
    except DataError:
        raise
    except _MISFITS as error:
        reason = re.sub(r"\s+", " ", str(error)) or type(error).__name__
        raise DataError(f"{path}: its run cannot be taken up with these data and flags ({reason})") from None


@dataclass
class SplitResult:
    """One split, trained: its networks' states, its epochs, the sum of their best validation scores.

    last: the states of the last epoch, where they are asked for. averaged: whether a network's state is the average
    of its last steps; others: then its best epoch's, else its average, None where it has none.
    """

    states: list[dict[str, Tensor]] = field(default_factory=list)
    history: list[Epoch] = field(default_factory=list)
    score: float = 0.0
    lengths: list[int] = field(default_factory=list)  # epochs of each network
    last: list[dict[str, Tensor]] = field(default_factory=list)
    others: list[dict[str, Tensor] | None] = field(default_factory=list)
    averaged: list[bool] = field(default_factory=list)

    def add(self, trainer: Trainer, *, with_last: bool = False) -> None:
        """One more network of the split's ensemble."""
        self.states.append({name: value.cpu() for name, value in trainer.best_state.items()})
        if with_last:
            self.last.append({name: value.cpu() for name, value in trainer.validated_model().state_dict().items()})
        other = trainer.other_state
        self.others.append(None if other is None else {name: value.cpu() for name, value in other.items()})
        self.averaged.append(trainer.is_averaged)
        self.history += trainer.history
        self.lengths.append(len(trainer.history))
        self.score += trainer.best_score

    def to_dict(self) -> dict:
        return {
            "states": self.states,
            "history": [vars(epoch) for epoch in self.history],
            "score": self.score,
            "lengths": self.lengths,
            "last": self.last,
            "others": self.others,
            "averaged": self.averaged,
        }

    @classmethod
    def from_dict(cls, saved: Mapping) -> SplitResult:
        history = [Epoch.from_dict(epoch) for epoch in saved["history"]]
        states = list(saved["states"])
        kept = {name: list(saved.get(name, [])) for name in ("lengths", "last")}
        kept["others"] = list(saved.get("others", [None] * len(states)))
        kept["averaged"] = list(saved.get("averaged", [False] * len(states)))
        return cls(states, history, float(saved["score"]), **kept)


def run_to_resume(
    trainer: Trainer,
    template: TrainedModel,
    done: Sequence[SplitResult],
    current: SplitResult,
    ids: Sequence[str],
    splits: Sequence[Split],
) -> dict:
    """The content of a checkpoint: the network as it is, and all that the run needs to go on."""
    return template.with_states([trainer.model.state_dict()]).to_dict() | {
        "epoch": trainer.epoch,
        "best_score": trainer.best_score,
        "training": {
            "trainer": trainer.state_dict(),
            "done": [split.to_dict() for split in done],
            "current": current.to_dict(),
            "ids": list(ids),
            "splits": [[split.train, split.val, split.test] for split in splits],
        },
    }


def check_same_run(
    saved: Mapping,
    args: Namespace,
    data: Dataset,
    splits: Sequence[Split],
    described: Sequence[Mapping],
    *,
    finished: int,
) -> None:
    """Raises DataError where the checkpoint is of other tasks, another network, or other crystals, splits or labels.

    described: what `TrainedModel.to_dict` says of each split before training; finished: how many splits are trained.
    """
    path, training = args.resume, saved["training"]
    if saved["tasks"] != data.tasks.to_list():
        before, now = _named(saved["tasks"]), _named(data.tasks.to_list())
        if before == now:
            raise DataError(f"{path}: a checkpoint of other weights, units or transforms of {now}")
        raise DataError(f"{path}: a checkpoint of other tasks ({before}) than this run's ({now})")
    if _network(saved) != _network(described[0]):
        raise DataError(f"{path}: a checkpoint of another network than this run's flags describe")
    before = saved["args"]
    changed = [
        name for name in _ORDER if getattr(args, name) != before.get(name, training_parser().get_default(name))
    ]
    if training["trainer"]["batch"] and changed:
        raise DataError(f"{path}: stopped within an epoch; {as_flag(changed[0])} cannot change there")
    if training["ids"] != data.ids or training["splits"] != [[s.train, s.val, s.test] for s in splits]:
        raise DataError(f"{path}: a checkpoint of other crystals, or of another split of them")
    if not _same_scales(saved["normalizers"], described[finished]["normalizers"]):
        raise DataError(f"{path}: a checkpoint of other labels of these crystals")


def check_same_features(path: str, before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> None:
    """Raises DataError where the numbers of whole crystals in the training part are not those of the checkpoint.

    before, now: states of the network, which hold their mean and deviation.
    """
    for name in ("global_mean", "global_std"):
        if name in now and not torch.allclose(before[name].cpu(), now[name].cpu(), rtol=1e-4, atol=1e-6):
            raise DataError(f"{path}: a checkpoint of other --crystal-features or --global-features than these")


def _network(model: Mapping) -> tuple:
    """What describes network and graphs; what an earlier version did not know is at its default."""
    _, configuration = MODELS[model["model"]]
    config = {name: tuple(value) if isinstance(value, list) else value for name, value in model["config"].items()}
    return model["model"], configuration(**config), GraphSettings(**model["graph"])


def _same_scales(before: Mapping[str, Mapping], now: Mapping[str, Mapping]) -> bool:
    """Whether two sets of normalisers are one, but for the last digits that another machine may give."""
    if before.keys() != now.keys():
        return False
    pairs = [(before[task][key], now[task][key]) for task in now for key in ("mean", "std")]
    return all(math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) for one, other in pairs)


def _named(tasks: Sequence[Mapping]) -> str:
    return ", ".join(f"{task['name']}:class" if task["classes"] else task["name"] for task in tasks)
