"""The axes of a sweep: a flag of main.py and the values it takes, from NAME=VALUES words or a TOML file."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cgcnn.arguments import explicit, normalise, read_config, to_argv
from cgcnn.flag_kinds import shown
from cgcnn.flags import SEVERAL_RUNS, Parser, training_parser
from cgcnn.labels import DataError

# r → weights of semiconductors and metals in the band-gap loss whose mean is 1
RATIO = "sc-metal-ratio"
# The published sweep: one value an axis.
PUBLISHED = {
    "scheduler": "step",
    "pooling": "attention",
    "adaptive-weights": True,
    "conditional-loss": True,
    "classification-weight": 0.2,
    RATIO: 1.1,
    "metal-threshold": 0.7,
    "task2-weight": 0.2,
    "auxiliary-tasks": True,
    "aux-task1-weight": 0.11,
    "aux-task2-weight": 0.11,
    "aux-task3-weight": 0.05,
    "min-bandgap": 0.015,
    "lr": 0.011,
    "weight-decay": 0.0,
}
# What a sweep decides itself, or what is no setting of a single run.
NO_AXES = (
    *("help", "out_dir", "resume", "max_time", "run_name", "threads", "is_validate", "evaluate"),
    *SEVERAL_RUNS,
)
_SWITCH = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
_WEIGHTS = ("semiconductor_weight", "metal_weight")


@dataclass(frozen=True)
class Range:
    """All numbers from low to high; `is_log`: even on a logarithmic scale."""

    low: float
    high: float
    is_log: bool = False

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{':log' if self.is_log else ''}"


@dataclass(frozen=True)
class Axis:
    """name: of the flag, without dashes, or sc-metal-ratio. values: to be combined, or a range to draw from."""

    name: str
    values: tuple = ()
    range: Range | None = None

    @property
    def is_swept(self) -> bool:
        return self.range is not None or len(self.values) > 1


def flags_of(values: Mapping[str, object]) -> dict[str, object]:
    """axis → value as flags of main.py: flag → value."""
    flags = {name.replace("-", "_"): value for name, value in values.items() if name != RATIO}
    if RATIO in values:
        ratio = float(values[RATIO])
        semiconductor = 2 * ratio / (1 + ratio)
        flags |= dict(zip(_WEIGHTS, (semiconductor, 2 - semiconductor), strict=True))
    return flags


def describe(values: Mapping[str, object], names: Sequence[str] | None = None) -> str:
    """The values as a user types them: pooling=mean conditional-loss=on."""
    return " ".join(f"{name}={shown(value)}" for name, value in values.items() if names is None or name in names)


def published_axes(given: Sequence[str]) -> list[Axis]:
    """The published sweep, without the axes whose flags (`given`, with underscores) the user sets."""
    return [
        read_axis(name, [value])
        for name, value in PUBLISHED.items()
        if not set(flags_of({name: value})).intersection(given)
    ]


def read_axes(words: Sequence[str], path: str | None = None, *, flag: str = "--grid") -> list[Axis]:
    """The axes of the words of `flag` and of a TOML file (axis = value or list of values). Raises DataError."""
    axes = []
    for name, values in (read_config(Path(path)) if path else {}).items():
        if isinstance(values, Mapping):
            raise DataError(f"{path}: {name}: not a value or a list of values")
        axes.append(read_axis(name, values if isinstance(values, list) else [values], where=f"{path}: "))
    for word in words:
        name, equals, texts = word.partition("=")
        if not name or not equals:
            raise DataError(f"{flag}: {word!r} is not NAME=VALUE,VALUE… (the data folder stands before {flag})")
        axes.append(read_axis(name, texts.split(","), where=f"{flag} "))
    names = [axis.name for axis in axes]
    if twice := [name for k, name in enumerate(names) if name in names[:k]]:
        raise DataError(f"{flag}: {twice[0]} stands twice")
    if RATIO in names and (other := [axis.name for axis in axes if axis.name.replace("-", "_") in _WEIGHTS]):
        raise DataError(f"{flag}: {RATIO} and {other[0]} exclude each other")
    return axes


def read_axis(name: str, values: Sequence[object], *, where: str = "") -> Axis:
    """An axis of these values, each a text or what TOML makes of it. Raises DataError that names axis and value."""
    parser = training_parser()
    action = _action(parser, name, where)
    known = RATIO if action is None else action.dest.replace("_", "-")
    if not values:
        raise DataError(f"{where}{name}: no values")
    try:
        if len(values) == 1 and (range_ := _range(parser, action, values[0])):
            return Axis(known, range=range_)
        settled = [_settle(parser, action, value) for value in values]
    except DataError as error:
        said = str(error).replace("argument ", "", 1)
        raise DataError(f"{where}{name}={','.join(map(shown, values))}: {said}") from None
    return Axis(known, tuple(value for k, value in enumerate(settled) if value not in settled[:k]))


def _action(parser: Parser, name: str, where: str) -> argparse.Action | None:
    """The flag of this name in any spelling that main.py takes; None for sc-metal-ratio."""
    (flag,) = normalise([f"--{name.strip().lstrip('-')}"])
    if flag == f"--{RATIO}":
        return None
    flags = {option.lower(): action for action in parser._actions for option in action.option_strings}
    action = flags.get(flag.lower())
    if action is None:
        names = [*(option.removeprefix("--") for option in flags if option.startswith("--")), RATIO]
        close = difflib.get_close_matches(flag.removeprefix("--").lower(), names, 1)
        meant = f"; is it {close[0]}?" if close else f"; an axis is a flag of main.py (main.py --help), or {RATIO}"
        raise DataError(f"{where}{name}: no such axis{meant}")
    if action.dest in NO_AXES:
        raise DataError(f"{where}{name}: cannot be an axis of a sweep")
    return action


def _range(parser: Parser, action: argparse.Action | None, value: object) -> Range | None:
    """The range that a text such as 0.001..0.03:log or 2..5 is, if it is one. Raises DataError."""
    match = re.fullmatch(r"(.+?)\.\.(.+?)(:log)?", value.strip()) if isinstance(value, str) else None
    try:
        if not match or not all(math.isfinite(float(text)) for text in match.groups()[:2]):
            return None
    except ValueError:
        return None
    low, high = (_settle(parser, action, text) for text in match.groups()[:2])
    if isinstance(low, str | list | dict | bool):
        raise DataError("a range is for a flag that takes one number")
    if not low < high:
        raise DataError("a range goes from a smaller to a larger number")
    if match[3] and low <= 0:
        raise DataError("a logarithmic range starts above 0")
    return Range(low, high, bool(match[3]))


def _settle(parser: Parser, action: argparse.Action | None, value: object) -> object:
    """The value as main.py's own flag reads it. Raises DataError."""
    if action is None:
        return _ratio(value)
    if isinstance(action, argparse.BooleanOptionalAction):
        switch = value if isinstance(value, bool) else _SWITCH.get(str(value).strip().lower())
        if switch is None:
            raise DataError(f"{shown(value)!r} is neither on nor off")
        return switch
    flag = action.option_strings[-1]
    words = to_argv({action.dest: value}) if not isinstance(value, str) else [f"{flag}={value.strip()}"]
    if isinstance(value, str) and action.nargs:
        words = [flag, *value.split()]
    return explicit([".", *words])[action.dest]


def _ratio(value: object) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise DataError(f"{shown(value)!r} is not a number from 0")
    return number
