"""The flags of main.py --compare: networks × edge features × atom features, as a sweep. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cgcnn.arguments import SEVERAL, explicit, normalise, parse_training, to_argv
from cgcnn.flag_kinds import as_flag
from cgcnn.flags import Parser, training_parser
from cgcnn.labels import DataError
from cgcnn.sweep.axes import Axis, read_axes, read_axis
from cgcnn.sweep.flags import SweepFlags, add_worker_flags, default_study, refuse_other_runs, settle_sweep

# flag of a comparison → the axis of its values, in the order in which the table lists them
AXES = {"compare": "model", "edge_features": "edge-features", "atom_features": "atom-features"}
SUFFIX = "_comparison"  # of the sweep's name, so that none of grid_search.py is taken for it
# Flags that say who runs a trial, and where, not what it is.
_OWN = ("jobs", "storage", "study", "retry_failed", "grace", "max_time", "out_dir", "threads")
_PLACE = "the data folder or file stands before --compare"


def comparison_parser() -> Parser:
    """The flags of main.py, those of AXES with several values, and those that say who runs the trials."""
    parser = training_parser()
    parser.description = (
        "Train every combination of networks, edge features and atom features once, and put the results into one "
        "table. Starting the same command again continues."
    )
    for action in parser._actions:
        if action.option_strings and action.option_strings[0] in SEVERAL:
            action.nargs = "+"
    add_worker_flags(parser.add_argument_group("comparison: who runs it").add_argument)
    return parser


def parse_comparison(argv: Sequence[str]) -> SweepFlags:
    """The command line of main.py --compare as a sweep. Raises DataError."""
    try:
        given = explicit(normalise(argv), parser=comparison_parser())
    except DataError as error:
        swallowed = [word for word in argv if os.path.exists(word) and repr(word) in str(error)]
        hint = f" ({_PLACE})" if swallowed or "required: DIR" in str(error) else ""
        raise DataError(f"{error}{hint}") from None
    asked = {name: given.pop(name, None) for name in AXES}
    also = given.pop("compare_also", ())
    refuse_other_runs(given)
    trial = {name: value for name, value in given.items() if name not in _OWN}
    base = parse_training([*trial.pop("data_options"), *to_argv(trial)], strict=False)
    axes = [_axis(flag, asked[flag] or [getattr(base, flag)]) for flag in AXES]
    axes += _further(also)
    name = given.get("study") or default_study(given["data_options"][0])
    return settle_sweep(given | {"study": name.removesuffix(SUFFIX) + SUFFIX}, axes)


def _axis(flag: str, values: Sequence[str]) -> Axis:
    if twice := [value for k, value in enumerate(values) if value in values[:k]]:
        raise DataError(f"{as_flag(flag)}: {twice[0]} stands twice")
    return read_axis(AXES[flag], values, where=f"{as_flag(flag)}: ")


def _further(words: Sequence[str]) -> list[Axis]:
    """The axes of --compare-also."""
    axes = read_axes(words, flag="--compare-also")
    for axis in axes:
        if axis.name in AXES.values():
            raise DataError(f"--compare-also {axis.name}: --compare, --edge-features and --atom-features say it")
        if axis.range:
            raise DataError(f"--compare-also {axis.name}={axis.range}: a table needs single values")
    return axes
