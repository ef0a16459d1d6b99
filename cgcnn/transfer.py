"""A network that starts from the weights of another: what fits is taken over, what does not is new."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cgcnn.checkpoint import TrainedModel
from cgcnn.labels import DataError
from cgcnn.tasks import Normalizer, Task, TaskSet

HEADS = "heads."


def take_over(
    network: nn.Module,
    tasks: TaskSet,
    normalizers: Mapping[str, Normalizer],
    source: TrainedModel,
    *,
    member: int = 0,
    layers: int | None = None,
    reset_heads: bool = False,
) -> list[str]:
    """Copy into `network` what fits of the source's network number `member`; lines that say what was and what is new.

    A layer fits if it has the same name and shape, a head if it has the same task: its last layer is rescaled
    from the source's mean and deviation to `normalizers`, so that the first prediction is the source's. layers:
    take over only the embedding and so many convolutions; what comes after them has learned the source's own tasks.
    Raises DataError where no layer fits, or the source has fewer convolutions.
    """
    origin = source.networks[member % len(source.networks)].state_dict()
    if layers is not None:
        origin = _first_layers(origin, layers)
    state = network.state_dict()
    taken: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(HEADS) and name in origin and origin[name].shape == value.shape:
            taken[name] = origin[name]
    if not source.is_original and not _same_elements(source.elements, network.elements):
        taken = {name: v for name, v in taken.items() if ".embedding." not in f".{name}" and name != "elements"}
    if not any(value.dim() > 1 for value in taken.values()):
        raise DataError("no layer of that model has the shape of this network's")
    keeps_heads = not reset_heads and layers is None
    heads = [task for task in tasks if _has_head(source.tasks, task)] if keeps_heads else []
    for task in heads:
        for name, value in _head(source, origin, task, normalizers).items():
            taken[f"{HEADS}{tasks.column(task.name)}.{name}"] = value
    network.load_state_dict({**state, **taken})
    kept, new = _parts(taken), _parts(set(state) - set(taken))
    kept += [f"head of {task.name}" for task in heads]
    new += [f"head of {task.name}" for task in tasks if task not in heads]
    return [f"taken over: {', '.join(kept)}", f"new: {', '.join(new) or 'nothing'}"]


def freeze_body(network: nn.Module) -> None:
    """Leave only the heads to learn."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(HEADS))


def _first_layers(state: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The parameters of the embedding, with the statistics of its input, and of the first convolutions."""
    named = {name: name.removeprefix("body.").split(".") for name in state}
    there = {int(words[1]) for words in named.values() if words[0] == "convs"}
    if count > len(there):
        raise DataError(f"--init-layers {count}: that model has {len(there)} convolutions")
    kept = {(part, str(k)) for part in ("convs", "edge_updates") for k in range(count)}
    return {
        name: state[name]
        for name, words in named.items()
        if words[0].startswith(("embedding", "environment", "elements", "expansion")) or tuple(words[:2]) in kept
    }


def _has_head(tasks: TaskSet, task: Task) -> bool:
    return task.name in tasks and tasks[task.name].kind == task.kind and tasks[task.name].classes == task.classes


def _head(
    source: TrainedModel, origin: Mapping[str, Tensor], task: Task, normalizers: Mapping[str, Normalizer]
) -> dict[str, Tensor]:
    """The parameters of a task's head, for the normaliser of this run."""
    prefix = f"{HEADS}{source.tasks.column(task.name)}."
    head = {name.removeprefix(prefix): value.clone() for name, value in origin.items() if name.startswith(prefix)}
    if not task.is_regression:
        return head
    before, now = source.normalizers[task.name], normalizers[task.name]
    if before.transform == now.transform:
        head["weight"] *= before.std / now.std
        head["bias"] = (head["bias"] * before.std + before.mean - now.mean) / now.std
    return head


def _same_elements(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _parts(names) -> list[str]:
    """Names of parameters → names of the layers that hold them, each once, heads left out."""
    layers = [name.removeprefix("body.").rpartition(".")[0] for name in sorted(names) if not name.startswith(HEADS)]
    top = [".".join(layer.split(".")[:2]) if layer.startswith("convs") else layer.split(".")[0] for layer in layers]
    return list(dict.fromkeys(layer for layer in top if layer))
