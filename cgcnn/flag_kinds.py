"""What a flag's value may be: text → value, with the sentence for what is none; and names and values back to text."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping

from cgcnn import augment

EVERY = "*"  # as in cgcnn/tasks.py, which imports torch


def as_flag(name: str) -> str:
    """The name of a value as a user types it: batch_size → --batch-size."""
    return f"--{name.replace('_', '-')}"


def shown(value: object) -> str:
    """A value as a user types it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)


def duration(text: str) -> float:
    """Seconds of 11h, 30m, 90s, 1d, 2:30:00 or 1-12:00:00."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip().lower())
    if match:
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", text.strip())
    if match:
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 11h, 30m, 90s or 1-12:00:00")


def address(text: str) -> str:
    """HOST:PORT, also after tcp:// or tls://."""
    if not re.fullmatch(r"(?:(?:tcp|tls)://)?(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as node17:8786")
    return text


class Pairs(argparse.Action):
    """NAME=VALUE words → one dictionary."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, dict(values))


class Augmentations(argparse.Action):
    """Words of `augmentation`, each kind once."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            augment.amounts(values)
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, values)


def augmentation(text: str) -> str:
    """KIND or KIND=AMOUNT, with the amount that it stands for."""
    try:
        return augment.read_kind(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def pair(kind: Callable) -> Callable[[str], tuple]:
    """NAME=VALUE → (name, kind(value))."""

    def convert(text: str) -> tuple:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
        return name, kind(value)

    return convert


def of_each(*kinds: str) -> Callable[[str], tuple[str, str]]:
    """NAME=KIND → (NAME, KIND), or KIND alone → (EVERY, KIND)."""

    def convert(text: str) -> tuple[str, str]:
        name, equals, kind = text.rpartition("=")
        if kind not in kinds or bool(name) != bool(equals):
            raise argparse.ArgumentTypeError(f"{text!r} is not KIND or NAME=KIND, with one of {', '.join(kinds)}")
        return name or EVERY, kind

    return convert


def at_least(low: float) -> Callable[[str], float]:
    """A finite number of the type of `low`, no smaller than it."""
    kind = type(low)

    def convert(text: str):
        try:
            number = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a{' whole' if kind is int else ''} number") from None
        if not low <= number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not {low} or more")
        return number

    return convert


def ratio(text: str) -> float:
    """A number from 0 to 1."""
    number = at_least(0.0)(text)
    if number > 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def share(text: str) -> float:
    """A number above 0, up to 1."""
    number = ratio(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 leaves nothing")
    return number


def below_one(text: str) -> float:
    """A number from 0 to below 1."""
    number = ratio(text)
    if number == 1:
        raise argparse.ArgumentTypeError("1 would never change the average; 0.999 is usual")
    return number


def choice(*names: str, **others: str) -> Callable[[str], str]:
    """One of these names, in any case, with dashes or underscores. others: second spelling → name."""
    by_lower = others | {_folded(name): name for name in names}

    def convert(text: str) -> str:
        if _folded(text) not in by_lower:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(names)}")
        return by_lower[_folded(text)]

    return convert


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
