"""The flags of predict.py. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cgcnn.flag_kinds import at_least, ratio
from cgcnn.flags import Parser, add_parallel, check_parallel
from cgcnn.labels import DataError


def parse_prediction(words: Sequence[str]) -> argparse.Namespace:
    """The flags of predict.py in `words`; `words` itself is one of them. Raises DataError."""
    words = list(words)
    # argparse would take -band_gap for flags
    for k in range(len(words) - 1, 0, -1):
        if words[k - 1] == "--sort":
            words[k - 1 : k + 1] = [f"--sort={words[k]}"]
    args = prediction_parser().parse_intermixed_args(words)
    if args.coverage is not None and args.calibrate is None:
        raise DataError("--coverage needs --calibrate")
    check_parallel(args)
    if args.parallel == "dask" and args.workers is not None:
        raise DataError("--workers means nothing with --parallel dask: a cluster has its own workers")
    if args.scheduler_address and args.parallel != "dask":
        raise DataError("--scheduler-address means nothing with --parallel loky, only with dask")
    args.coverage = 0.9 if args.coverage is None else args.coverage
    args.words = words
    return args


def prediction_parser() -> Parser:
    """What predict.py takes."""
    parser = Parser(
        prog="predict.py",
        allow_abbrev=False,
        description="Predict any number of crystals with one trained model, or with the mean of several.",
    )
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="model_best.pth.tar, *_trained_model.pt, or original weights; several are averaged",
    )
    parser.add_argument(
        "cifpath", metavar="CIFPATH", help="a structure file, a folder of them or of pickled parts, or a data file"
    )
    _add_run(parser.add_argument_group("run"))
    _add_trust(parser.add_argument_group("how sure"))
    _add_more(parser.add_argument_group("more to read, and less"))
    return parser


def _add_run(group) -> None:
    add = group.add_argument
    add("--output", default="test_results.csv", metavar="CSV", help="(default: test_results.csv)")
    add("--resume-output", action="store_true", help="go on where a stopped or killed run of the same command was")
    add(
        "-j",
        "--workers",
        type=at_least(0),
        metavar="N",
        help="processes that read structures (default: one a core, none for a few files)",
    )
    add_parallel(add, "reads structures")
    add("-b", "--batch-size", type=at_least(1), default=256, metavar="N", help="(256)")
    add(
        "--crystal-features",
        metavar="TABLE.csv",
        help="what the model has to know of the crystals beside their structure: a table of these columns, with the "
        "ids first, beside the crystals or in the working folder",
    )
    add("--cache-dir", metavar="DIR", help="where a data file is unpacked (default: beside it)")
    add("--disable-cuda", action=argparse.BooleanOptionalAction, default=False, help="use the CPU")
    add(
        "--threads",
        type=at_least(1),
        metavar="N",
        help="CPU threads of the network (default: torch's choice, fewer beside --workers)",
    )


def _add_trust(group) -> None:
    add = group.add_argument
    add(
        "--calibrate",
        metavar="CSV",
        help="targets and predictions of held-out crystals: adds <task>_low and <task>_high",
    )
    add("--coverage", type=_coverage, metavar="C", help="share of true values that these hold (0.9)")


def _add_more(group) -> None:
    add = group.add_argument
    add("--embeddings", metavar="NPZ", help="write the crystals' vectors before the heads: ids, vectors")
    add("--atom-contributions", metavar="CSV", help="write a row an atom: attention and scores")
    add("--element-features", metavar="CSV", help="of ecnet: write a row an element of a crystal: its state")
    add("--where", metavar="EXPR", help="shortlist what meets it: 'band_gap > 1 and work_function < 4'")
    add("--top", type=at_least(1), metavar="N", help="keep the best N of the shortlist")
    add("--sort", metavar="EXPR", help="best is smallest: band_gap_std; -band_gap: largest (default: from --where)")


def _coverage(text: str) -> float:
    number = ratio(text)
    if number in (0, 1):
        raise argparse.ArgumentTypeError("neither 0 nor 1 can be promised; 0.9 is usual")
    return number
