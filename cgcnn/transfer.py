"""A network that starts from the weights of another: what fits is taken over, what does not is new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cgcnn.checkpoint import TrainedModel
from cgcnn.labels import DataError
from cgcnn.reference import FirstGuess
from cgcnn.tasks import Normalizer, Task, TaskSet

HEADS, REFERENCE = "heads.", "reference."
CONVOLUTIONS = ("convs", "blocks")  # of crystal graph networks, of ECNet


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

    A layer fits if it has the same name and shape, a head if it has the same task too: its last layer is rescaled
    from the source's mean and deviation to `normalizers`, and its first guess with it, so that the first prediction
    is the source's. layers: take over only the embedding and so many convolutions; what comes after them has learned
    the source's own tasks. Raises DataError where no layer fits, or the source has fewer convolutions.
    """
    of_source = source.networks[member % len(source.networks)]
    origin = of_source.state_dict()
    if layers is not None:
        origin = _first_layers(origin, layers)
    keeps_heads = not reset_heads and layers is None
    taken = _body(network, source, origin, with_trunk=keeps_heads)
    heads = _Heads(source, of_source, network, normalizers, taken)
    common = [task for task in tasks if keeps_heads and _has_head(source.tasks, task)]
    reasons = {task.name: why for task in common if (why := heads.why_new(task))}
    kept_tasks = [task for task in common if task.name not in reasons]
    given_up = [task.name for task in kept_tasks if heads.gives_up_a_guess(task)]
    for task in kept_tasks:
        taken |= heads.taken_over(task)
    new_layers = set(network.state_dict()) - set(taken)
    network.load_state_dict({**network.state_dict(), **taken})
    kept = _parts(taken) + [f"head of {task.name}" for task in kept_tasks]
    new = _parts(new_layers) + [f"head of {task.name}" for task in tasks if task not in kept_tasks]
    lines = [f"taken over: {', '.join(kept)}", f"new: {', '.join(new) or 'nothing'}"]
    lines += [f"the head of {name} is new: {why}" for name, why in reasons.items()]
    if given_up:
        lines.append(
            f"as in that model, not counted from the composition: {', '.join(given_up)} (--reset-heads: they are)"
        )
    return lines


def freeze_body(network: nn.Module) -> None:
    """Leave only what belongs to the tasks to learn."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(network.head_layers))


def _first_layers(state: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The parameters of the embedding, with the statistics of its input, and of the first convolutions."""
    named = {name: name.removeprefix("body.").split(".") for name in state}
    there = {int(words[1]) for words in named.values() if words[0] in CONVOLUTIONS}
    if count > len(there):
        raise DataError(f"--init-layers {count}: that model has {len(there)} convolutions")
    kept = {(part, str(k)) for part in (*CONVOLUTIONS, "edge_updates") for k in range(count)}
    return {
        name: state[name]
        for name, words in named.items()
        if words[0].startswith(("embedding", "environment", "elements", "expansion")) or tuple(words[:2]) in kept
    }


def _body(
    network: nn.Module, source: TrainedModel, origin: Mapping[str, Tensor], *, with_trunk: bool
) -> dict[str, Tensor]:
    """What fits outside the heads; with_trunk: and in layers that heads share. Raises DataError if nothing does."""
    others = (REFERENCE, HEADS) if with_trunk else (REFERENCE, *network.head_layers)
    taken = {
        name: origin[name]
        for name, value in network.state_dict().items()
        if not name.startswith(others) and name in origin and origin[name].shape == value.shape
    }
    if not source.is_original and not _same_elements(source.elements, network.elements):
        of_elements = ("body.embedding.", "elements")
        taken = {name: value for name, value in taken.items() if not name.startswith(of_elements)}
    if not _same_numbers_of_crystals(source, network):
        taken = {name: value for name, value in taken.items() if not name.startswith(("join.", "global_"))}
    if not any(value.dim() > 1 for value in taken.values()):
        raise DataError("no layer of that model has the shape of this network's")
    return taken


def _has_head(tasks: TaskSet, task: Task) -> bool:
    return task.name in tasks and tasks[task.name].kind == task.kind and tasks[task.name].classes == task.classes


@dataclass(frozen=True, eq=False)
class _Heads:
    """Heads of a source's network, to be those of another, which has `taken` over what comes before them."""

    source: TrainedModel
    origin: nn.Module
    network: nn.Module
    normalizers: Mapping[str, Normalizer]
    taken: Mapping[str, Tensor]

    def why_new(self, task: Task) -> str:
        """Why the head of a task that both have cannot give the source's predictions here; "" if it can."""
        state, prefix = self.network.state_dict(), f"{HEADS}{self.network.tasks.column(task.name)}."
        shapes = {name: value.shape for name, value in state.items() if name.startswith(prefix)}
        shared = [name for name in state if name.startswith(self.network.head_layers) and not name.startswith(HEADS)]
        if {name: value.shape for name, value in self._head(task).items()} != shapes:
            return "it has layers of other shapes"
        if any(name not in self.taken for name in shared):
            return "the layers that heads share are new"
        if not task.is_regression:
            return ""
        before, now = self.origin.reference.read(task.name), self.network.reference.read(task.name)
        if before.is_extensive != now.is_extensive:
            return f"that model's {'grows' if before.is_extensive else 'does not grow'} with the cell (--extensive)"
        has_guess = bool(before.coefficients.any())
        if has_guess and not self.network.reference.is_used:
            return "that model's is counted from the composition, this one is not (--reference)"
        if has_guess and self.source.normalizers[task.name].transform != self.normalizers[task.name].transform:
            return "that model's is counted from the composition under another transform"
        return ""

    def gives_up_a_guess(self, task: Task) -> bool:
        """Whether this network has a first guess of a task, and the source's head is to stand on none."""
        one, other = (network.reference for network in (self.network, self.origin))
        return task.is_regression and bool(
            one.read(task.name).coefficients.any() and not other.read(task.name).coefficients.any()
        )

    def taken_over(self, task: Task) -> dict[str, Tensor]:
        """The parameters of a task's head, for the normaliser of this run; its first guess becomes the source's."""
        head = self._head(task)
        if not task.is_regression:
            return head
        before, now = self.source.normalizers[task.name], self.normalizers[task.name]
        if before.transform != now.transform:
            return head
        ratio, guess = before.std / now.std, self.origin.reference.read(task.name)
        offset = (guess.offset * before.std + before.mean - now.mean) / now.std
        weight, bias = list(head)[-2:]  # of the last layer: a state has its layers in their order
        head[weight] *= ratio
        head[bias] *= ratio
        if self.network.reference.is_used:  # where heads are added up over elements, a bias would count several times
            guess = FirstGuess(guess.coefficients * ratio, offset, guess.atoms)
            self.network.reference.write({task.name: guess})
        else:
            head[bias] += offset
        return head

    def _head(self, task: Task) -> dict[str, Tensor]:
        """The source's parameters of this task, under the names that they have here."""
        before, now = (f"{HEADS}{one.tasks.column(task.name)}." for one in (self.source, self.network))
        return {
            now + name.removeprefix(before): value.clone()
            for name, value in self.origin.state_dict().items()
            if name.startswith(before)
        }


def _same_elements(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _same_numbers_of_crystals(source: TrainedModel, network: nn.Module) -> bool:
    """Whether both join the same numbers of whole crystals, which the shapes of their layers cannot tell."""
    kinds, names = source.config.get("global_features", ""), source.config.get("crystal_features", ())
    return (kinds, tuple(names)) == (network.config.global_features, tuple(network.config.crystal_features))


def _parts(names) -> list[str]:
    """Names of parameters → names of the layers that hold them, each once, heads left out."""
    body = [name.removeprefix("body.") for name in sorted(names) if not name.startswith((REFERENCE, HEADS))]
    layers = [name.rpartition(".")[0] for name in body]
    top = [".".join(layer.split(".")[: 2 if layer.startswith(CONVOLUTIONS) else 1]) for layer in layers]
    return list(dict.fromkeys(layer for layer in top if layer))
