"""Runs that belong together: each in a folder of its own, not repeated if it is there, taken up if it was stopped."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cgcnn.arguments import read_config
from cgcnn.naming import run_id
from cgcnn.report import Outputs, move_aside, write_table
from cgcnn.results import RunResult
from cgcnn.run import run
from cgcnn.settings import write_config


class Study:
    """Several runs of main.py from one command. last: the result of the last that was not there already."""

    def __init__(self, args: Namespace, say: Callable[[str], None] = print) -> None:
        self.args, self.say, self.begun = args, say, time.monotonic()
        self.last: RunResult | None = None

    def run(self, flags: Namespace, title: str) -> tuple[Outputs, RunResult | None]:
        """A run of these flags, whose `out_dir` is its own: its files, and its result, None if it was there already.

        With another exit status than 0 it was stopped, and the study with it: the same command goes on.
        """
        if self.args.max_time is not None:
            flags.max_time = max(self.args.max_time - (time.monotonic() - self.begun), 0.0)
        inside = Outputs(Path(flags.out_dir), run_id(flags))
        if _is_done(inside, flags):
            return inside, None
        self.say(f"\n=== {title}")
        checkpoint = inside.top("checkpoint.pth.tar")
        flags.resume = str(checkpoint) if checkpoint.exists() and _is_of(inside, flags) else None
        self.last = run(flags, self.say)
        return inside, self.last

    def write(self, path: Path, table: pd.DataFrame) -> None:
        """The table of all runs; where some of them are new, one that is there already is moved aside."""
        if self.last and path.exists():
            self.say(move_aside([path], path.parent / "previous"))
        write_table(path, table)


def _is_of(inside: Outputs, args: Namespace) -> bool:
    """Whether the run in a folder is one of these flags."""
    config = inside.file("config.toml")
    if not config.exists():
        return False
    expected = config.with_suffix(".expected")
    write_config(expected, args)
    same = read_config(config) == read_config(expected)
    expected.unlink()
    return same


def _is_done(inside: Outputs, args: Namespace) -> bool:
    """Whether a run of these flags has written all that a study reads; baselines.csv is the last of it."""
    needed = ("trained_model.pt", "metrics.csv", "baselines.csv")
    return all(inside.file(name).exists() for name in needed) and _is_of(inside, args)
