"""What moves the weights: the optimisers that --optim offers, and which weights their decay pulls at."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from cgcnn.fitting import FitSettings

OPTIMISERS: dict[str, Callable[[list[dict], FitSettings], torch.optim.Optimizer]] = {
    "SGD": lambda groups, s: torch.optim.SGD(groups, lr=s.schedule.lr, momentum=s.momentum, fused=True),
    "Adam": lambda groups, s: torch.optim.Adam(groups, lr=s.schedule.lr, betas=tuple(s.betas), fused=True),
    "AdamW": lambda groups, s: torch.optim.AdamW(groups, lr=s.schedule.lr, betas=tuple(s.betas), fused=True),
}
_STATE = {"SGD": {"momentum_buffer"}, "Adam": {"step", "exp_avg", "exp_avg_sq"}}  # what they keep of a weight
_NORMALISATIONS = (nn.BatchNorm1d, nn.LayerNorm, nn.GroupNorm)


def optimiser(model: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """The optimiser of the weights that learn, as the settings describe it."""
    return OPTIMISERS[settings.optimizer](decay_groups(model, settings), settings)


def restore(optimizer: torch.optim.Optimizer, state: Mapping) -> None:
    """Put a saved state into an optimiser, whose momentum and decay stay those of the flags.

    Raises TypeError, ValueError, KeyError or AttributeError for what is no state of this optimiser.
    """
    taken = ("params", "lr")  # the rate of the last step is what its epoch tells
    own = [{name: value for name, value in group.items() if name not in taken} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, options in zip(optimizer.param_groups, own, strict=True):
        group.update(options)
        if not isinstance(group["lr"], int | float):
            raise TypeError("a rate is no number")
    needed = _STATE["SGD" if isinstance(optimizer, torch.optim.SGD) else "Adam"]
    for weight, kept in optimizer.state.items():
        if not isinstance(weight, torch.Tensor) or (kept and set(kept) != needed):
            raise ValueError("the state of the optimiser is that of another")
        for value in kept.values():
            if value is not None and value.shape not in (weight.shape, torch.Size()):
                raise ValueError(f"the optimiser keeps {tuple(value.shape)} numbers of {tuple(weight.shape)} weights")


def decay_groups(model: nn.Module, settings: FitSettings) -> list[dict]:
    """The weights that learn, and the decay of each group.

    One group with the decay of the settings; where biases are spared, a second one without decay has these and the
    scales of normalisations.
    """
    if settings.decay_biases or not settings.weight_decay:
        return [{"params": list(_learning(model).values()), "weight_decay": settings.weight_decay}]
    spared = {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        # the biases of a recurrent layer are bias_ih_l0 and the like
        if name.startswith("bias") or isinstance(module, _NORMALISATIONS)
    }
    learning = _learning(model)
    groups = [
        {"params": [p for name, p in learning.items() if name not in spared], "weight_decay": settings.weight_decay},
        {"params": [p for name, p in learning.items() if name in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _learning(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
