"""Every flag of the scripts, once: name, kind, default, help. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cgcnn import dask_client
from cgcnn.component_splits import NAMES as COMPONENT_SPLITS
from cgcnn.flag_kinds import address, at_least, duration, ratio, share
from cgcnn.labels import DataError
from cgcnn.network_flags import NETWORKS, add_crystalformer, add_element_network, add_graph, add_learning, add_network
from cgcnn.presets import PRESETS
from cgcnn.task_flags import add_loss, add_tasks

EXIT_BAD_INPUT = 2
EXIT_SOME_FAILED = 3
EXIT_STOPPED = 75  # sysexits: try again later; the run was saved and can be resumed
# Flags that ask for several runs: no settings of one.
SEVERAL_RUNS = ("learning_curve", "transfer_study", "compare", "compare_also")


class Parser(argparse.ArgumentParser):
    """argparse that raises DataError, so that a script and a Python call are told the same line."""

    def error(self, message: str):
        raise DataError(message)


def training_parser() -> Parser:
    """The flags of main.py."""
    parser = Parser(
        prog="main.py",
        allow_abbrev=False,
        description="Train, validate and test a crystal graph network on a folder of crystals and a table of labels.",
    )
    parser.add_argument(
        "data_options",
        nargs="+",
        metavar="DIR [OPTION ...]",
        help="data folder, also of pickled parts, or a JSON file or pickle of crystals and labels; then, as in the "
        "original code, max_num_nbr radius dmin step random_seed",
    )
    _add_setup(parser.add_argument_group("run"))
    _add_start(parser.add_argument_group("starting point and amount of data"))
    _add_comparison(parser.add_argument_group("comparison"))
    add_tasks(parser.add_argument_group("tasks"))
    add_loss(parser.add_argument_group("loss"))
    _add_data(parser.add_argument_group("data and splits"))
    add_graph(parser.add_argument_group("crystal graph"))
    add_network(parser.add_argument_group("network"))
    add_element_network(parser.add_argument_group("network ecnet"))
    add_crystalformer(parser.add_argument_group("network crystalformer"))
    add_learning(parser.add_argument_group("learning"))
    return parser


def _add_setup(group) -> None:
    add = group.add_argument
    add("--config", metavar="FILE", help="TOML or JSON file of flags; every run writes its own to result/")
    add("--preset", choices=sorted(PRESETS), help="a set of flags; those given beside it win")
    add("--out-dir", default=".", metavar="DIR", help="where result/ and checkpoints are written (default: .)")
    add("--run-name", default="", metavar="NAME", help="suffix of the run's id")
    add("--resume", metavar="PATH", help="continue the run saved in this checkpoint, with its flags")
    add(
        "--start-epoch",
        type=at_least(0),
        default=0,
        metavar="N",
        help="number of the first epoch (default: 0)",
    )
    add(
        "--evaluate",
        nargs="?",
        const="",
        metavar="MODEL",
        help="no training: test this model on the test part of its split, or of the split, targets and data of other "
        "flags (default: the file result/mtl_… of the flags)",
    )
    add("--max-time", type=duration, metavar="TIME", help="save and stop in time: 11h, 30m, 90s or 1-12:00:00")
    add("--seed", type=int, default=123, help="of splits, weights and order (default: 123)")
    add("--disable-cuda", action=argparse.BooleanOptionalAction, default=False, help="use the CPU")
    add("--threads", type=at_least(1), metavar="N", help="CPU threads (default: torch's choice)")
    add(
        "-j",
        "--workers",
        type=at_least(0),
        default=0,
        metavar="N",
        help="processes that make batches (default: 0)",
    )
    add(
        "-p",
        "--print-freq",
        type=at_least(1),
        default=10,
        metavar="N",
        help="batches a log line (default: 10)",
    )


def _add_start(group) -> None:
    add = group.add_argument
    add(
        "--init-from",
        "--fine-tune",
        metavar="MODEL",
        help="start from the weights of this model, ours or original CGCNN",
    )
    add(
        "--init-layers",
        type=at_least(0),
        metavar="N",
        help="with --init-from: take over the embedding and the first N convolutions only (default: everything)",
    )
    add(
        "--freeze-body",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="with --init-from: only the heads learn",
    )
    add(
        "--reset-heads",
        "--drop-towers",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="with --init-from: heads start anew even where the tasks are the same (default: --keep-towers)",
    )
    add("--train-fraction", type=share, default=1.0, metavar="F", help="use this share of the training part (1)")
    add(
        "--learning-curve",
        nargs="+",
        type=share,
        metavar="F",
        help="a run for each of these shares of the training part: would more labels help?",
    )
    add(
        "--transfer-study",
        nargs=2,
        choices=COMPONENT_SPLITS,
        metavar=("PARENT", "CHILD"),
        help="two of --split, such as b1 b0: the second learned directly and from a model of the first, towers kept, "
        "dropped, and alone to learn, for each of --num-splits seeds",
    )


def _add_comparison(group) -> None:
    add = group.add_argument
    add(
        "--compare",
        nargs="+",
        choices=NETWORKS,
        metavar="MODEL",
        help="a run for each of these networks with each of the --edge-features and --atom-features, which then take "
        "several, and one table of all; --jobs, --storage, --study, --retry-failed and --grace as in grid_search.py",
    )
    add(
        "--compare-also",
        nargs="+",
        metavar="FLAG=VALUE,…",
        help="with --compare: further flags and their values: residual=on,off pooling=mean,set2set",
    )


def _add_data(group) -> None:
    add, switch = group.add_argument, argparse.BooleanOptionalAction
    for part, text in (("train", "what is left"), ("val", "0.1"), ("test", "0.1")):
        default = None if part == "train" else 0.1
        add(f"--{part}-ratio", type=ratio, default=default, metavar="R", help=f"share of crystals ({text})")
        add(f"--{part}-size", type=at_least(0), metavar="N", help="the same as a number")
    add(
        "--target-set",
        metavar="NAME",
        help="the folder DIR/NAME of pickled train, val and test parts; of a published set also its targets, units, "
        "epochs and batch size",
    )
    add("--split-file", metavar="CSV", help="table cif_id,split with train, val or test")
    add("--folds", type=at_least(0), default=0, metavar="K", help="K-fold cross-validation")
    add(
        "--split",
        choices=COMPONENT_SPLITS,
        help="by the number of elements of a crystal: a0 80/20, the published parts where alloys.csv has them; a1 "
        "from 2, 3, 4 to 5; a2 from 2, 3 to 4, 5; a3 from 4, 5 to 2, 3, with a tenth of the training part to "
        "validate; b0 80/10/10 of 4, 5; b1 of 2, 3; b2 of all",
    )
    add("--split-type", type=int, choices=range(4), metavar="0..3", help="the same: b0 to b2")
    add("--processed-data", action=switch, default=False, help="with --split-type: a0 to a3")
    add("--is-validate", action=switch, default=True, help="without: no validation part, the last epoch's network")
    add("--group-by", choices=("none", "formula"), default="none", help="formula: none in two parts")
    add("--num-splits", type=at_least(1), default=1, metavar="N", help="repeat with another shuffle and seed")
    add(
        "--on-bad-structure",
        choices=("stop", "skip"),
        default="stop",
        help="list bad files, then stop or go on",
    )
    add("--cache-dir", metavar="DIR", help="where crystal graphs are kept (default: in the data folder)")
    add(
        "--verify-cache",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compare the content of every file",
    )
    add("--graph-jobs", type=int, default=-1, metavar="N", help="processes that build graphs (-1: one a core)")
    add_parallel(add, "builds graphs")


def add_parallel(add: Callable, what: str) -> None:
    """Flags of who does `what`."""
    add(
        "--parallel",
        choices=("loky", "dask"),
        default="loky",
        help=f"who {what}: processes of this machine, or the workers of a Dask cluster (loky)",
    )
    add("--scheduler-address", type=address, metavar="HOST:PORT", help="of the scheduler of --parallel dask")


def check_parallel(args: argparse.Namespace) -> None:
    """Raises DataError where a cluster is asked for that cannot be reached from here."""
    if args.parallel != "dask":
        return
    if not args.scheduler_address:
        raise DataError("--parallel dask needs --scheduler-address HOST:PORT, where `dask scheduler` runs")
    if not dask_client.is_installed():
        raise DataError('--parallel dask needs Dask, which is not installed: pip install "dask[distributed]"')
