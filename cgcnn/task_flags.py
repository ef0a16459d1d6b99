"""Flags of what is learned: tasks, labels and losses; name, kind, default, help. Imports nothing heavy."""

from __future__ import annotations

import argparse

from cgcnn.flag_kinds import Pairs, at_least, choice, of_each, pair, ratio

TASKS = ("regression", "classification", "multi")


def add_tasks(group) -> None:
    """Flags of the tasks."""
    add = group.add_argument
    add("--task", choices=TASKS, default="regression", help="what the label columns are; multi: the last is a class")
    add("--targets", nargs="*", metavar="NAME[:class]", help="columns to predict (default: all)")
    add("--units", nargs="*", type=pair(str), default={}, action=Pairs, metavar="NAME=UNIT")
    add(
        "--transforms",
        "--transform",
        nargs="*",
        type=of_each("none", "log", "scaling", "n"),
        default={},
        action=Pairs,
        metavar="[NAME=]none|log|scaling|n",
        help="learn log10, or 1000 times, of a label; n: standardised even with --no-normalize; without NAME: of all",
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


def add_loss(group) -> None:
    """Flags of the loss."""
    add = group.add_argument
    number = at_least(0.0)
    losses = ("mse", "l1", "huber", "weighted")
    add(
        "--loss",
        type=choice(*losses, smooth_l1="huber"),
        choices=losses,
        default="mse",
        help="of regressions; weighted: the sum of the others (mse)",
    )
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
    add("--classification-weight", type=number, default=0.6, metavar="W", help="of the category in that loss (0.6)")
    add("--metal-weight", type=number, default=0.5, metavar="W", help="of a metal's gap loss (0.5)")
    add("--semiconductor-weight", type=number, default=0.5, metavar="W", help="of a semiconductor's (0.5)")
    add(
        "--cls-weight",
        type=number,
        default=0.5,
        metavar="W",
        help="of a class beside regressions, --task multi (0.5)",
    )
    add("--class-weights", choices=("none", "balanced"), default="none", help="balanced: rare classes weigh more")
    for k in (1, 2, 3):
        add(f"--aux-task{k}-weight", type=number, default=0.1, metavar="W", help=f"of auxiliary task {k} (0.1)")
