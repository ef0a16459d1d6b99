"""The flags of grid_search.py: its own, and those of main.py, which every trial gets. Imports nothing heavy."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cgcnn.arguments import explicit, normalise, parse_training, to_argv
from cgcnn.flag_kinds import as_flag, at_least, duration
from cgcnn.flags import SEVERAL_RUNS, Parser, training_parser
from cgcnn.labels import DataError
from cgcnn.meaning import acts
from cgcnn.sweep.axes import Axis, flags_of, published_axes, read_axes

SAMPLERS = ("grid", "random", "tpe")
_OWN = {
    "sampler": "grid",
    "trials": None,
    "jobs": 1,
    "storage": None,
    "study": None,
    "retry_failed": False,
    "grace": 60.0,
}
# Flags of main.py that a sweep takes for itself, or has no use for.
_TAKEN = {"out_dir": ".", "max_time": None, "threads": None}
_REFUSED = {
    **dict.fromkeys(SEVERAL_RUNS, "is several runs, and a trial is one"),
    "resume": "a sweep goes on when the same command is started again",
    "start_epoch": "trials start at the first epoch, or where they were stopped",
    "evaluate": "trains nothing, and a trial is a training",
    "compare": "is for main.py; here --grid model=… does the same",
    "compare_also": "is for main.py; here --grid does the same",
}


@dataclass(frozen=True)
class SweepFlags:
    """A sweep as the user asks for it.

    words: data folder and flags of main.py that every trial has. is_published: the axes are not the user's. trials:
    None, or how many to draw. storage: a database URL, None for a file in result/. grace, max_time: seconds.
    threads: of a trial.
    """

    words: tuple[str, ...]
    axes: tuple[Axis, ...]
    is_published: bool
    seed: int
    sampler: str
    trials: int | None
    jobs: int
    storage: str | None
    study: str
    retry_failed: bool
    grace: float
    out_dir: Path
    max_time: float | None
    threads: int

    @property
    def folder(self) -> Path:
        """Where the trials' folders lie."""
        return self.out_dir / "result" / f"sweep_{self.study}"

    def command(self, values: Mapping[str, object]) -> list[str]:
        """The words of main.py for one combination, axis → value, without flags that mean nothing in it."""
        return meaningful([*self.words, *to_argv(flags_of(values))])

    def settle(self, values: Mapping[str, object]) -> Namespace:
        """All flags of that trial. Raises DataError for a combination that main.py refuses."""
        return parse_training(self.command(values))


def meaningful(words: Sequence[str]) -> list[str]:
    """The words of main.py without flags that have no effect beside the others."""
    given = explicit(words)
    args = parse_training(words, strict=False)
    options = given.pop("data_options")
    return [*options, *to_argv({name: value for name, value in given.items() if acts(args, name)})]


def sweep_parser() -> Parser:
    """Flags of grid_search.py: all of main.py's, then those of the sweep."""
    parser = training_parser()
    parser.prog = "grid_search.py"
    parser.description = (
        "Run main.py for every combination of some flags, and put the results into one table. Starting the same "
        "command again continues; starting it on several machines with one --storage shares the work."
    )
    add = parser.add_argument_group("sweep (the flags above are passed on to every trial)").add_argument
    add(
        "--grid",
        nargs="+",
        metavar="FLAG=VALUE,…",
        help="axes: pooling=mean,attention lr=0.005,0.011; on/off for a switch; sc-metal-ratio sets both weights; "
        "lr=0.001..0.03:log to draw from (default: the published sweep)",
    )
    add("--grid-file", metavar="TOML", help="axes as a file: pooling = ['mean', 'attention']")
    add("--sampler", choices=SAMPLERS, help="grid: every combination; random, tpe: --trials of them (grid)")
    add("--trials", type=at_least(1), metavar="N", help="combinations to draw (with random, tpe)")
    add_worker_flags(add)
    return parser


def add_worker_flags(add: Callable) -> None:
    """Who runs the trials, and under which name."""
    add("--jobs", type=at_least(1), metavar="N", help="trials at once on this machine (1)")
    add("--storage", metavar="URL", help="database of the sweep (default: result/sweep_<name>.db)")
    add("--study", metavar="NAME", help="name of the sweep (default: that of the data folder)")
    add("--retry-failed", action="store_true", help="run failed trials once more")
    add("--grace", type=duration, metavar="TIME", help="a worker silent for so long counts as dead (60s)")


def parse_sweep(argv: Sequence[str]) -> SweepFlags:
    """The command line of grid_search.py. Raises DataError for what is no flag, no axis, or no value of it."""
    given = explicit(normalise(argv), parser=sweep_parser())
    refuse_other_runs(given)
    axes = read_axes(given.pop("grid", ()), given.pop("grid_file", None))
    return settle_sweep(given, axes)


def refuse_other_runs(given: Container[str]) -> None:
    """Raises DataError for a flag that a trial cannot have."""
    for name, reason in _REFUSED.items():
        if name in given:
            raise DataError(f"{as_flag(name)}: {reason}")


def settle_sweep(given: Mapping[str, object], axes: Sequence[Axis]) -> SweepFlags:
    """The sweep of these flags, as a parser found them, over these axes; without any: the published ones."""
    given = dict(given)
    own = {name: given.pop(name, default) for name, default in (_OWN | _TAKEN).items()}
    words = [*given.pop("data_options"), *to_argv(given)]
    if not Path(words[0]).exists():
        raise DataError(f"{words[0]}: no such folder or data file")
    base = parse_training(words, strict=False)
    if not base.is_validate:
        raise DataError("--no-is-validate: a sweep chooses by the validation score")
    parser = training_parser()
    changed = [name for name, value in vars(base).items() if value != parser.get_default(name)]
    refuse_other_runs(changed)  # in a configuration file, too
    is_published = not axes
    axes = axes or published_axes([*given, *changed])
    for axis in axes:
        if both := set(flags_of({axis.name: 1})).intersection(given):
            raise DataError(f"{as_flag(both.pop())} is a flag and an axis ({axis.name}): leave out one")
    _check_sampler(own["sampler"], own["trials"], axes)
    own["threads"] = own["threads"] or max(1, _cores() // own["jobs"])
    own["study"] = own["study"] or default_study(words[0])
    if not re.fullmatch(r"[\w.+-]+", own["study"]):
        raise DataError(f"--study {own['study']!r}: letters, digits and . _ + - only")
    own["out_dir"] = Path(own["out_dir"])
    return SweepFlags(tuple(words), tuple(axes), seed=base.seed, is_published=is_published, **own)


def default_study(data: str) -> str:
    """The name of a sweep that is given none."""
    return re.sub(r"[^\w.+-]", "_", Path(data).resolve().name)


def _check_sampler(sampler: str, trials: int | None, axes: Sequence[Axis]) -> None:
    if sampler == "grid":
        if ranges := [axis for axis in axes if axis.range]:
            raise DataError(f"--grid {ranges[0].name}={ranges[0].range}: a range needs --sampler random or tpe")
        if trials is not None:
            raise DataError("--trials is for --sampler random or tpe; grid runs every combination")
    elif trials is None:
        raise DataError(f"--sampler {sampler} needs --trials N")


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
