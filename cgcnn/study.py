"""Runs that belong together: each in a folder of its own, not repeated if it is there, taken up if it was stopped."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from cgcnn.arguments import read_config
from cgcnn.experiment import run
from cgcnn.naming import run_id
from cgcnn.report import Outputs
from cgcnn.results import RunResult
from cgcnn.settings import write_config


class Study:
    """Several runs of main.py from one command."""

    def __init__(self, args: Namespace, say: Callable[[str], None] = print) -> None:
        self.args, self.say, self.begun = args, say, time.monotonic()

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
        return inside, run(flags, self.say)


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
    return inside.file("metrics.csv").exists() and inside.file("trained_model.pt").exists() and _is_of(inside, args)
