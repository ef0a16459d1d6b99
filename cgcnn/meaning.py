"""Flags that mean something only beside another one: what has no effect is refused. Imports nothing heavy."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable

from cgcnn.flags import training_parser

_CSG = ("csgcnn", "csgann", "csginn")
# flag → the flag that decides whether it acts, the values with which it does, and why only with these
_NEEDS: dict[str, tuple[str, tuple, str]] = {
    "residual": ("model", _CSG, "the convolution of cgcnn adds what it starts from already"),
    "num_heads": ("model", ("csgann",), "no other network has attention heads"),
    "num_rbf": ("edge_features", ("rbf",), "it is the number of its centres"),
    "dmin": ("edge_features", ("gaussian",), "it places Gaussians"),
    "step": ("edge_features", ("gaussian",), "it places Gaussians"),
    "loss_weights": ("loss", ("weighted",), "they are its parts"),
}


def acts(args: Namespace, name: str) -> bool:
    """Whether the flag of this name has an effect in a run of these settled flags, whatever its value."""
    if name not in _NEEDS:
        return True
    other, values, _ = _NEEDS[name]
    return getattr(args, other) in values


def meaningless(args: Namespace, given: Iterable[str]) -> dict[str, str]:
    """Those of the flags `given` that have no effect in a run of these settled flags: name → why, one line."""
    found, parser = {}, training_parser()
    for name in given:
        if name not in _NEEDS or getattr(args, name) == parser.get_default(name):
            continue
        if not acts(args, name):
            other, values, why = _NEEDS[name]
            flag, needs = (f"--{word.replace('_', '-')}" for word in (name, other))
            chosen = " or ".join(values)
            found[name] = f"{flag} means nothing with {needs} {getattr(args, other)}, only with {chosen}: {why}"
    return found
