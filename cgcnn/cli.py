"""The commands behind the scripts: words → one call of the package → exit status, and a line for what went wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cgcnn import job
from cgcnn.arguments import normalise, parse_training
from cgcnn.flag_kinds import as_flag
from cgcnn.flags import EXIT_BAD_INPUT
from cgcnn.labels import DataError
from cgcnn.reading import one_line

if TYPE_CHECKING:
    from cgcnn.results import RunResult


def run_script(function: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Call a script's function; what the user did wrong becomes one line each on stderr and an exit status."""
    if hasattr(sys.stdout, "reconfigure"):  # what a terminal cannot show, or is no text at all, as its code
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return function(sys.argv[1:] if argv is None else argv)
    except DataError as error:
        for line in str(error).splitlines() if job.may_speak() else ():
            print(f"error: {line}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except UnicodeEncodeError as error:
        text = error.object[max(0, error.start - 40) : error.end + 40]
        print(f"error: {one_line(text)}: a name that is not in UTF-8; rename the file or folder", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if job.may_speak():
            print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1


def train_command(argv: Sequence[str] | None = None) -> int:
    """main.py."""
    return run_script(_train, argv)


def train(args: argparse.Namespace) -> RunResult:
    """One run, those of a learning curve or a transfer study, or the test of a model."""
    several = [name for name in ("evaluate", "transfer_study", "learning_curve") if getattr(args, name) is not None]
    if several:
        job.refuse_several(as_flag(several[0]))
    if args.evaluate is not None:
        from cgcnn.evaluate import evaluate

        return evaluate(args)
    if args.transfer_study:
        from cgcnn.transfer_study import transfer_study

        return transfer_study(args)
    if args.learning_curve:
        from cgcnn.learning_curve import learning_curve

        return learning_curve(args)
    from cgcnn.run import run

    return run(args)


def predict_command(argv: Sequence[str] | None = None) -> int:
    """predict.py."""
    return run_script(_predict, argv)


def sweep_command(argv: Sequence[str] | None = None) -> int:
    """grid_search.py."""
    return run_script(_sweep, argv)


def _train(argv: Sequence[str]) -> int:
    if any(word.partition("=")[0] == "--compare" for word in normalise(argv)):
        return _compare(argv)
    return train(parse_training(argv)).exit_status


def _compare(argv: Sequence[str]) -> int:
    job.refuse_several("--compare")
    from cgcnn.sweep.compare import parse_comparison

    flags = parse_comparison(argv)
    from cgcnn.sweep.comparison import Comparison  # torch and optuna only after the flags are right

    return Comparison(flags, argv).run()


def _predict(argv: Sequence[str]) -> int:
    job.refuse_several("predict.py")
    from cgcnn.screening.flags import parse_prediction
    from cgcnn.workers import warm_up

    args = parse_prediction(normalise(argv))
    if args.parallel == "loky":
        warm_up(Path(args.cifpath), args.workers)
    from cgcnn.screening.command import predict_files  # torch only after the flags are right

    return predict_files(args)


def _sweep(argv: Sequence[str]) -> int:
    job.refuse_several("grid_search.py")
    from cgcnn.sweep.flags import parse_sweep

    flags = parse_sweep(argv)
    from cgcnn.sweep.command import Sweep  # torch and optuna only after the flags are right

    return Sweep(flags, argv).run()
