"""Names of a run's files: its id, and the names that the published multi-task models of alloys have."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from cgcnn.labels import DataError
from cgcnn.meaning import acts

BEST = "_best"


def run_id(args: Namespace) -> str:
    """The name of a run, as the published scripts build it."""
    parts = [] if args.model == "cgcnn" else [args.model]
    parts += [args.scheduler, *([args.pooling] if acts(args, "pooling") else [])]
    parts.append("adaptive" if args.adaptive_weights else "fixed")
    if args.conditional_loss:
        ratio = args.semiconductor_weight / args.metal_weight if args.metal_weight else float("inf")
        parts.append(f"cond_cls{args.classification_weight:.2f}_ratio{ratio:.2f}_thresh{args.metal_threshold:.2f}")
    parts.append(f"task2w{args.task2_weight:.2f}_aux{'+' if args.auxiliary_tasks else '-'}")
    if args.auxiliary_tasks:
        parts += [f"aux{k}w{getattr(args, f'aux_task{k}_weight'):.2f}" for k in (1, 2, 3)]
    parts.append(f"minbg{args.min_bandgap}_lr{args.lr}_e{args.epochs}_wd{args.weight_decay}")
    if args.split:
        parts.append(args.split)
    if args.run_name:
        if not re.fullmatch(r"[\w.+-]+", args.run_name):
            raise DataError(f"--run-name {args.run_name!r}: letters, digits and . _ + - only")
        parts.append(args.run_name)
    return "_".join(parts)


def alloy_models(args: Namespace, targets: Sequence[str]) -> tuple[str, ...]:
    """The published names of a run with --split: the last epoch's network, and that which was best on validation.

    None without --split; the first alone without a validation part.
    """
    if not args.split:
        return ()
    stem = _stem(len(targets), "_".join(map(_plain, targets)), args.epochs, args.split)
    return (f"{stem}.pt", f"{stem}{BEST}.pt") if args.is_validate else (f"{stem}.pt",)


def find_alloy_model(folder: Path, given: Mapping[str, object]) -> Path:
    """The model of a published name in `folder` that flags describe, the best on validation before the last.

    given: flag → value, of those that the user gives; what is not among them may be anything. Raises DataError where
    there is none, or more than one.
    """
    targets = [_plain(word.removesuffix(":class")) for word in given.get("targets") or ()]
    number, names = (len(targets), "_".join(targets)) if targets else ("*", "*")
    pattern = _stem(number, names, given.get("epochs", "*"), given.get("split", "*"))
    found = sorted(folder.glob(f"{pattern}{BEST}.pt"))
    found = found or sorted(path for path in folder.glob(f"{pattern}.pt") if not path.stem.endswith(BEST))
    if not found:
        raise DataError(f"--evaluate: no model {pattern}.pt in {folder}; name its file")
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise DataError(f"--evaluate: {len(found)} models in {folder} could be meant, name one: {listed}")
    return found[0]


def _stem(number: object, names: str, epochs: object, split: object) -> str:
    return f"mtl_{number}_{names}_HEA_{epochs}_{split}"


def _plain(name: str) -> str:
    """A name of a column as a part of a file's name."""
    return re.sub(r"[^\w.+-]", "-", name)
