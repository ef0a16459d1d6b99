"""The commands behind the scripts: words → one call of the package → exit status, and a line for what went wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cgcnn.arguments import normalise, parse_training
from cgcnn.flags import EXIT_BAD_INPUT
from cgcnn.labels import DataError

if TYPE_CHECKING:
    from cgcnn.results import RunResult


def run_script(function: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Call a script's function; what the user did wrong becomes one line each on stderr and an exit status."""
    try:
        return function(sys.argv[1:] if argv is None else argv)
    except DataError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1


def train_command(argv: Sequence[str] | None = None) -> int:
    """main.py."""
    return run_script(_train, argv)


def train(args: argparse.Namespace) -> RunResult:
    """One run, those of a learning curve or a transfer study, or the test of a model."""
    if args.evaluate is not None:
        from cgcnn.evaluate import evaluate

        return evaluate(args)
    if args.transfer_study:
        from cgcnn.transfer_study import transfer_study

        return transfer_study(args)
    if args.learning_curve:
        from cgcnn.learning_curve import learning_curve

        return learning_curve(args)
    from cgcnn.experiment import run

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
    from cgcnn.sweep.compare import parse_comparison

    flags = parse_comparison(argv)
    from cgcnn.sweep.comparison import Comparison  # torch and optuna only after the flags are right

    return Comparison(flags, argv).run()


def _predict(argv: Sequence[str]) -> int:
    from cgcnn.screening.flags import parse_prediction
    from cgcnn.workers import warm_up

    args = parse_prediction(normalise(argv))
    warm_up(Path(args.cifpath), args.workers)
    from cgcnn.screening.command import predict_files  # torch only after the flags are right

    return predict_files(args)


def _sweep(argv: Sequence[str]) -> int:
    from cgcnn.sweep.flags import parse_sweep

    flags = parse_sweep(argv)
    from cgcnn.sweep.command import Sweep  # torch and optuna only after the flags are right

    return Sweep(flags, argv).run()
