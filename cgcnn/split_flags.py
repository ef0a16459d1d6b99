"""Which flags divide the crystals, where several could: the uppermost wins, two at once are refused."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from cgcnn.component_splits import NAMES
from cgcnn.flag_kinds import as_flag
from cgcnn.labels import DataError
from cgcnn.pickled_splits import part_files
from cgcnn.splits import PARTS

_SIZES = {part: (f"{part}_ratio", f"{part}_size") for part in PARTS}
# Flags that decide which crystals are in which part.
DIVIDING = (
    *("split", "split_file", "folds", "group_by", "num_splits", "seed", "train_fraction", "is_validate"),
    *(name for names in _SIZES.values() for name in names),
)
# flag → what it settles, and the flags that would then be ignored
_SETTLES = {
    "folds": ("the training and test parts", (*_SIZES["train"], *_SIZES["test"])),
    "split_file": ("the parts", (*(name for names in _SIZES.values() for name in names), "group_by")),
    "split": ("the parts", (*_SIZES["train"], *_SIZES["test"], "split_file", "folds", "group_by")),
}


def named_split(layer: Mapping[str, object]) -> dict:
    """Flags with --split for what --split-type and --processed-data say. Raises DataError where they disagree."""
    flags = {name: value for name, value in layer.items() if name not in ("split_type", "processed_data")}
    kind = layer.get("split_type")
    if kind is None:
        return flags
    name = f"{'a' if layer.get('processed_data') else 'b'}{kind}"
    said = f"--split-type {kind} {'with' if name[0] == 'a' else 'without'} --processed-data"
    if name not in NAMES:
        raise DataError(f"{said} would be {name}, and there is none; --split-type 3 --processed-data is a3")
    if flags.get("split", name) != name:
        raise DataError(f"--split {flags['split']} and {said}, which is {name}, disagree: leave out one of them")
    return flags | {"split": name}


def lay_over(flags: dict, layer: Mapping[str, object]) -> None:
    """Put a layer of flags over `flags`: a way to divide, or a size of a part, takes the place of the one below."""
    for part, (ratio, size) in _SIZES.items():
        if ratio in layer and size in layer and layer[size] is not None:
            raise DataError(f"--{part}-ratio and --{part}-size exclude each other")
        if size in layer and layer[size] is not None:
            flags.pop(ratio, None)
        elif ratio in layer:
            flags.pop(size, None)
    if layer.get("split"):
        for name in ("split_file", "folds", "group_by"):
            flags.pop(name, None)
    elif layer.get("split_file") or layer.get("folds"):
        flags.pop("split", None)
    flags.update({name: value for name, value in layer.items() if name != "data_options"})


def check_splitting(args: Namespace, given: Mapping[str, object], *, strict: bool = True) -> None:
    """Raises DataError for a flag of the command line that would be ignored; written configurations hold them all.

    strict: also for --processed-data alone, which waits for an axis of a sweep otherwise.
    """
    for name, (parts, others) in _SETTLES.items():
        ignored = [as_flag(other) for other in others if given.get(other, "none") != "none"]
        if getattr(args, name) and ignored:
            raise DataError(f"{as_flag(name)} {getattr(args, name)} settles {parts}: leave out {', '.join(ignored)}")
    divides = (*(name for names in _SIZES.values() for name in names), "group_by")
    ignored = [as_flag(name) for name in divides if given.get(name, "none") not in ("none", None)]
    if ignored and not (args.split_file or args.folds or args.split) and part_files(Path(args.data_options[0])):
        raise DataError(
            f"{args.data_options[0]} has its own train, val and test folders: leave out {', '.join(ignored)}, "
            "or divide it anew with --split-file, --folds or --split"
        )
    if strict and given.get("processed_data") and given.get("split_type") is None and not given.get("split"):
        raise DataError("--processed-data says what --split-type 0, 1, 2 or 3 means, and there is none")
    if args.split and args.split[0] == "b" and given.get("processed_data"):
        raise DataError(f"--split {args.split} is without --processed-data, which means the a family")
    if args.is_validate:
        return
    if ignored := [as_flag(name) for name in _SIZES["val"] if given.get(name) is not None]:
        raise DataError(f"--no-is-validate leaves no validation part: leave out {', '.join(ignored)}")
    if args.patience:
        raise DataError(f"--patience {args.patience} watches the validation part, and --no-is-validate has none")
