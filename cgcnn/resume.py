"""What a checkpoint keeps of the splits that are trained, and whether it is of the run that it is to continue."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from cgcnn.dataset import Dataset
from cgcnn.labels import DataError
from cgcnn.splits import Split
from cgcnn.training import Epoch, Trainer


@dataclass
class SplitResult:
    """One split, trained: its networks' states, its epochs, the sum of their best validation scores."""

    states: list[dict[str, Tensor]] = field(default_factory=list)
    history: list[Epoch] = field(default_factory=list)
    score: float = 0.0
    lengths: list[int] = field(default_factory=list)  # epochs of each network

    def add(self, trainer: Trainer) -> None:
        """One more network of the split's ensemble."""
        self.states.append({name: value.cpu() for name, value in trainer.best_state.items()})
        self.history += trainer.history
        self.lengths.append(len(trainer.history))
        self.score += trainer.best_score

    def to_dict(self) -> dict:
        return {
            "states": self.states,
            "history": [vars(epoch) for epoch in self.history],
            "score": self.score,
            "lengths": self.lengths,
        }

    @classmethod
    def from_dict(cls, saved: Mapping) -> SplitResult:
        history = [Epoch(**epoch) for epoch in saved["history"]]
        return cls(list(saved["states"]), history, saved["score"], list(saved.get("lengths", [])))


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
    if any(saved[name] != described[0][name] for name in ("model", "config", "graph")):
        raise DataError(f"{path}: a checkpoint of another network than this run's flags describe")
    before = saved["args"]
    if training["trainer"]["batch"] and (args.batch_size, args.seed) != (before["batch_size"], before["seed"]):
        raise DataError(f"{path}: stopped within an epoch; --batch-size and --seed cannot change there")
    if training["ids"] != data.ids or training["splits"] != [[s.train, s.val, s.test] for s in splits]:
        raise DataError(f"{path}: a checkpoint of other crystals, or of another split of them")
    if saved["normalizers"] != described[finished]["normalizers"]:
        raise DataError(f"{path}: a checkpoint of other labels of these crystals")


def _named(tasks: Sequence[Mapping]) -> str:
    return ", ".join(f"{task['name']}:class" if task["classes"] else task["name"] for task in tasks)
