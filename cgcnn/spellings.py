"""How the published scripts spell their flags → how main.py does. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest

from cgcnn.flags import training_parser
from cgcnn.labels import DataError
from cgcnn.task_flags import TASKS

# Second names of a flag.
_ALIASES = {
    "--optimizer": "--optim",
    "--lr-sch": "--scheduler",
    "--loss-func": "--loss",
    "--n-epochs": "--epochs",
    "--save-path": "--out-dir",
    "--experiment-name": "--run-name",
    "--param": "--config",
    "--swa-epochs": "--swa",
}
_KEEP, _DROP = "--keep-towers", "--drop-towers"


def normalise(argv: Sequence[str]) -> list[str]:
    """Words of a command line as its parser knows them.

    Underscores for dashes, the second names of a flag, -p before a file for --config, True and False after a switch,
    --task with names of columns for --targets, --keep-towers for --no-reset-heads. Raises DataError for --keep-towers
    beside --drop-towers.
    """
    words = []
    for word, following in zip_longest(argv, argv[1:], fillvalue=""):
        if word == "-p" and following.endswith((".json", ".toml")):
            word = "--config"
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            flag = "--" + flag[2:].replace("_", "-")
            flag = _ALIASES.get(flag, flag)
        words.append(flag + equals + value)
    words = _columns(_switched(words))
    if _KEEP in words and _DROP in words:
        raise DataError(f"{_KEEP} and {_DROP} exclude each other")
    return ["--no-reset-heads" if word == _KEEP else word for word in words]


@cache
def _switches() -> frozenset[str]:
    """The flags of main.py that are on or off, without their opposites."""
    actions = [a for a in training_parser()._actions if isinstance(a, argparse.BooleanOptionalAction)]
    flags = {flag for action in actions for flag in action.option_strings if not flag.startswith("--no-")}
    return frozenset([*flags, _KEEP])


def _switched(words: Sequence[str]) -> list[str]:
    """--flag True → --flag, --flag False → --no-flag; the same for --flag=True."""
    settled: list[str] = []
    for word in words:
        flag, equals, value = word.partition("=")
        if equals and flag in _switches() and value.lower() in ("true", "false"):
            settled.append(_turned(flag, value))
        elif settled and settled[-1] in _switches() and word.lower() in ("true", "false"):
            settled.append(_turned(settled.pop(), word))
        else:
            settled.append(word)
    return settled


def _turned(flag: str, value: str) -> str:
    if value.lower() == "true":
        return flag
    return {_KEEP: "--reset-heads"}.get(flag, f"--no-{flag[2:]}")


def _columns(words: Sequence[str]) -> list[str]:
    """--task NAME … → --targets NAME …, where a name is no kind of task."""
    settled, k = [], 0
    while k < len(words):
        flag, equals, value = words[k].partition("=")
        k += 1
        if flag != "--task":
            settled.append(words[k - 1])
            continue
        values = [value] if equals else []
        while k < len(words) and not words[k].startswith("-"):
            values.append(words[k])
            k += 1
        if all(word in TASKS for word in values):
            settled += [flag, *values]
            continue
        if other := [word for word in words if word.partition("=")[0] == "--targets"]:
            raise DataError(f"--task {' '.join(values)} means {other[0]}: leave out one of them")
        settled += ["--targets", *values]
    return settled
