"""Every flag of the scripts, once: name, kind, default, help. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse

from cgcnn.flag_kinds import (
    Pairs,
    at_least,
    duration,
    pair,
    ratio,
    share,
)
from cgcnn.labels import DataError
from cgcnn.network_flags import NETWORKS, add_graph, add_learning, add_network

EXIT_BAD_INPUT = 2
EXIT_SOME_FAILED = 3
EXIT_STOPPED = 75  # sysexits: try again later; the run was saved and can be resumed
PARTS = ("train", "val", "test")
TASKS = ("regression", "classification", "multi")
# Flags that a preset sets; what the user gives wins.
PRESETS: dict[str, dict] = {
    # For a few hundred to a few thousand labels; README.md says what each part of it is worth.
    "accurate": {
        "atom_features": "json+properties",
        "environment": True,
        "global_features": "valence+slab",
        "auxiliary_tasks": True,
        "aux_task1_weight": 0.0,
        "aux_task2_weight": 0.2,
        "aux_task3_weight": 0.0,
        "loss": "l1",
        "optim": "AdamW",
        "lr": 0.006,
        "weight_decay": 0.01,
        "scheduler": "one-cycle",
        "batch_size": 32,
        "epochs": 120,
        "ensemble": 5,
    },
}


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
        help="data folder, or a JSON file of crystals and labels; then, as in the original code, max_num_nbr radius "
        "dmin step random_seed",
    )
    _add_setup(parser.add_argument_group("run"))
    _add_start(parser.add_argument_group("starting point and amount of data"))
    _add_comparison(parser.add_argument_group("comparison"))
    _add_tasks(parser.add_argument_group("tasks"))
    _add_loss(parser.add_argument_group("loss"))
    _add_data(parser.add_argument_group("data and splits"))
    add_graph(parser.add_argument_group("crystal graph"))
    add_network(parser.add_argument_group("network"))
    add_learning(parser.add_argument_group("learning"))
    return parser


def _add_setup(group) -> None:
    add = group.add_argument
    add("--config", metavar="FILE", help="TOML file of flags; every run writes its own to result/")
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
    add("--init-from", metavar="MODEL", help="start from the weights of this model, ours or original CGCNN")
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
        action=argparse.BooleanOptionalAction,
        default=False,
        help="with --init-from: heads start anew even where the tasks are the same",
    )
    add("--train-fraction", type=share, default=1.0, metavar="F", help="use this share of the training part (1)")
    add(
        "--learning-curve",
        nargs="+",
        type=share,
        metavar="F",
        help="a run for each of these shares of the training part: would more labels help?",
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


def _add_tasks(group) -> None:
    add = group.add_argument
    add(
        "--task",
        choices=TASKS,
        default="regression",
        help="what the label columns are; multi: the last is a class",
    )
    add("--targets", nargs="*", metavar="NAME[:class]", help="columns to predict (default: all)")
    add("--units", nargs="*", type=pair(str), default={}, action=Pairs, metavar="NAME=UNIT")
    add(
        "--transforms",
        nargs="*",
        type=pair(str),
        default={},
        action=Pairs,
        metavar="NAME=none|log|scaling",
        help="learn log10, or 1000 times, of a label",
    )
    add(
        "--auxiliary-tasks",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="learn ax.csv beside the targets",
    )
    add(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="standardise targets on the training part",
    )
    add(
        "--min-bandgap",
        type=at_least(0.0),
        default=0.015,
        metavar="EV",
        help="smallest gap of a semiconductor (0.015)",
    )
    add("--metal-threshold", type=ratio, default=0.5, metavar="P", help="p(metal) above it: gap 0 (0.5)")


def _add_loss(group) -> None:
    add = group.add_argument
    number = at_least(0.0)
    losses = ("mse", "l1", "huber", "weighted")
    add("--loss", choices=losses, default="mse", help="of regressions; weighted: the sum of the others (mse)")
    add(
        "--loss-weights",
        nargs=3,
        type=number,
        default=[0.4, 0.4, 0.2],
        metavar=("MSE", "L1", "HUBER"),
        help="in --loss weighted (0.4 0.4 0.2)",
    )
    add("--task1-weight", type=number, default=0.5, metavar="W", help="first regression of several (0.5)")
    add("--task2-weight", type=number, default=0.5, metavar="W", help="second regression (0.5)")
    add("--task-weights", nargs="*", type=pair(number), default={}, action=Pairs, metavar="NAME=W")
    add(
        "--adaptive-weights",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="target weights follow the losses",
    )
    add("--adaptive-weight-update", type=ratio, default=0.01, metavar="U", help="their step an epoch (0.01)")
    add(
        "--conditional-loss",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="gap loss by metal or semiconductor",
    )
    add(
        "--classification-weight",
        type=number,
        default=0.6,
        metavar="W",
        help="of the category in that loss (0.6)",
    )
    add("--metal-weight", type=number, default=0.5, metavar="W", help="of a metal's gap loss (0.5)")
    add("--semiconductor-weight", type=number, default=0.5, metavar="W", help="of a semiconductor's (0.5)")
    add(
        "--cls-weight",
        type=number,
        default=0.5,
        metavar="W",
        help="of a class beside regressions, --task multi (0.5)",
    )
    add(
        "--class-weights",
        choices=("none", "balanced"),
        default="none",
        help="balanced: rare classes weigh more",
    )
    for k in (1, 2, 3):
        add(
            f"--aux-task{k}-weight",
            type=number,
            default=0.1,
            metavar="W",
            help=f"of auxiliary task {k} (0.1)",
        )


def _add_data(group) -> None:
    add = group.add_argument
    for part, text in (("train", "what is left"), ("val", "0.1"), ("test", "0.1")):
        default = None if part == "train" else 0.1
        add(f"--{part}-ratio", type=ratio, default=default, metavar="R", help=f"share of crystals ({text})")
        add(f"--{part}-size", type=at_least(0), metavar="N", help="the same as a number")
    add("--split-file", metavar="CSV", help="table cif_id,split with train, val or test")
    add("--folds", type=at_least(0), default=0, metavar="K", help="K-fold cross-validation")
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
