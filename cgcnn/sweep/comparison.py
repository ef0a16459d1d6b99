"""One start of main.py --compare: a sweep that ends in a table of networks × edge features × atom features."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from cgcnn.dataset import load_dataset
from cgcnn.files import write_text
from cgcnn.flag_kinds import shown
from cgcnn.meaning import acts
from cgcnn.metrics import column_name, trivial_metrics
from cgcnn.prepare import splits_of_run
from cgcnn.report import write_table
from cgcnn.split_flags import DIVIDING
from cgcnn.sweep.axes import RATIO
from cgcnn.sweep.combination import Combination
from cgcnn.sweep.command import Sweep
from cgcnn.sweep.compare import AXES
from cgcnn.sweep.comparison_table import (
    NOTHING,
    Metric,
    Row,
    Spread,
    Table,
    as_csv,
    as_markdown,
    as_text,
    commands,
)
from cgcnn.sweep.entry import Entry
from cgcnn.sweep.summary import spreads
from cgcnn.tasks import CATEGORY, TARGET, Task

_TITLES = ("Model", "Edge features", "Atom features")
_STARS = {"edge-features": "learnable_edges", "atom-features": "learnable_atoms"}
# What decides labels and parts, and so what the training mean is worth.
_PARTS = (
    *("task", "targets", "units", "transforms", "conditional_loss", "on_bad_structure", "crystal_features"),
    *DIVIDING,
)


class Comparison(Sweep):
    """A sweep whose combinations, in the order asked for, are the rows of a table, written anew as each ends.

    Combinations that an earlier command of the same name asked for stand below them.
    """

    script = "main.py"

    def _read_data(self) -> None:
        super()._read_data()
        self._settled: dict[str, Namespace] = {}
        self._trivial: dict[str, dict[str, Spread]] = {}
        self._metrics: dict[str, Metric] = {}
        for one in self.plan.combinations:
            self._trivial_of(self._args(one))

    def _write(self) -> list[Path]:
        """The tables of the sweep and of the comparison; their paths."""
        written = super()._write()
        stem = self.flags.out_dir / "result" / self.flags.study
        page = self.stem.with_name(f"{self.stem.name}.html")
        paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("csv", "md")]
        self.flags.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.flags.folder / "table.lock"):  # other machines write it, too
            table = self._table(self.queue.entries())
            write_table(paths[0], as_csv(table))
            write_text(paths[1], as_markdown(table, page.name if page.exists() else None))
        return [*paths, *written]

    def _tell_result(self, entries: Sequence[Entry]) -> None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        table = self._table(entries)
        print(f"\n{as_text(table, width)}\n")
        if repeat := commands(table):
            print(f"the command of each row:\n{repeat}\n")

    def _table(self, entries: Sequence[Entry]) -> Table:
        asked = self.plan.combinations
        by_key = {entry.combination.key: entry for entry in entries}
        rows = [by_key.pop(one.key, Entry(one, "waiting")) for one in asked]
        rows += by_key.values()
        axes = dict.fromkeys([*AXES.values(), *(name for entry in rows for name in entry.combination.values)])
        splits = {args.folds or args.num_splits for args in (self._args(entry.combination) for entry in rows)}
        made = [self._row(entry, list(axes)) for entry in rows]
        return Table(self.flags.study, made, list(self._metrics.values()), len(asked), tuple(sorted(splits)))

    def _row(self, entry: Entry, axes: Sequence[str]) -> Row:
        one, args = entry.combination, self._args(entry.combination)
        facts = dict(entry.result.get("facts", {}))
        threads = str(facts.pop("threads", self.flags.threads))
        metrics = spreads(pd.DataFrame(entry.result.get("metrics", []))) if entry.state == "complete" else {}
        return Row(
            settings=dict(
                zip([*_TITLES, *axes[len(_TITLES) :]], (_cell(one, args, axis) for axis in axes), strict=True)
            ),
            command=shlex.join(["python", "main.py", *self.flags.command(one.values), "--threads", threads]),
            state=entry.state,
            metrics=metrics,
            trivial=self._trivial_of(args),
            score=metrics.get("Val_Score", (np.nan, np.nan)),
            facts=facts,
            folder=entry.result.get("folder"),
            lines=tuple(entry.result.get("lines", ())),
        )

    def _args(self, one: Combination) -> Namespace:
        if one.key not in self._settled:
            self._settled[one.key] = self.flags.settle(one.values)
        return self._settled[one.key]

    def _trivial_of(self, args: Namespace) -> dict[str, Spread]:
        """The metrics of a predictor that knows no structure, on the parts of a run of these flags."""
        key = json.dumps([getattr(args, name) for name in _PARTS])
        if key not in self._trivial:
            data = load_dataset(args, self.stop.check)
            tasks = [(k, task) for k, task in enumerate(data.tasks) if task.role in (TARGET, CATEGORY)]
            self._metrics |= {metric.column: metric for _, task in tasks for metric in _metrics(task)}
            rows = [
                {
                    column_name(task, name): value
                    for k, task in tasks
                    for name, value in trivial_metrics(
                        task, data.labels[split.train, k], data.labels[split.test, k]
                    ).items()
                }
                for split in splits_of_run(args, data)
            ]
            self._trivial[key] = spreads(pd.DataFrame(rows))
        return self._trivial[key]


def _metrics(task: Task) -> list[Metric]:
    if task.is_regression:
        return [Metric(column_name(task, "MAE"), f"{task.name} MAE", task.unit)]
    return [Metric(column_name(task, name), f"{task.name} {name}") for name in ("ACC", "AUC")]


def _cell(one: Combination, args: Namespace, axis: str) -> str:
    """The setting of a combination on an axis; features that are learned have a star."""
    if axis == RATIO:
        return shown(one.values.get(axis, NOTHING))
    name = axis.replace("-", "_")
    if not acts(args, name):
        return NOTHING
    return shown(getattr(args, name)) + "*" * getattr(args, _STARS.get(axis, ""), False)
