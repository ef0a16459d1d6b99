"""Runs and tables of predictions → figures for a paper, a line of metrics a task, a comparison of runs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cgcnn.arguments import read_config
from cgcnn.cli import run_script
from cgcnn.flags import Parser
from cgcnn.labels import DataError

if TYPE_CHECKING:
    from cgcnn.predicted import Guesses, Predicted

ENDING = "_predictions"
SIDE_BY_SIDE = 6  # parity plots in one figure


@dataclass(frozen=True)
class Table:
    """What was predicted: a name for its files, the table it stands in, its tasks and their classes."""

    name: str
    path: Path
    tasks: list[Predicted]
    classes: list[Guesses]


@dataclass(frozen=True)
class Plan:
    """One figure to be drawn: its file without ending, its panels and its size in cm."""

    stem: str
    panels: list[Callable]
    width: float
    height: float
    columns: int = 1


def plot_command(argv: Sequence[str] | None = None) -> int:
    """plot_gap_predictions.py."""
    return run_script(_plot, argv)


def plotting_parser() -> Parser:
    """The flags of plot_gap_predictions.py."""
    parser = Parser(
        prog="plot_gap_predictions.py",
        allow_abbrev=False,
        description="Figures of predictions beside their labels: parity, residuals, error over the target, classes.",
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="a run's id or output folder, or a table of main.py or predict.py (default: the newest run in result/)",
    )
    parser.add_argument("--out", default="result/figures", metavar="DIR", help="(default: result/figures)")
    parser.add_argument("--task", action="append", metavar="NAME", help="this task alone; may stand several times")
    return parser


def _plot(argv: Sequence[str]) -> int:
    args = plotting_parser().parse_args(argv)
    paths = [find_table(word) for word in args.runs] or [newest_run(Path("result"))]
    tables = [_read(path, name, args.task) for path, name in zip(paths, names(paths), strict=True)]
    _check_tasks(args.task, tables)
    out = Path(args.out)
    plans = [(table, plan_figures(table)) for table in tables]
    files = [out / f"{plan.stem}.{kind}" for _, some in plans for plan in some for kind in ("png", "pdf")]
    from cgcnn.report import move_aside

    if line := move_aside([file for file in files if file.exists()], out / "previous"):
        print(line)
    for table, some in plans:
        _draw(table, some, out)
    if len(tables) > 1:
        print(f"\n{comparison(tables)}")
    return 0


def find_table(word: str, here: Path = Path("result")) -> Path:
    """The table of predictions that RUN means. Raises DataError where there is none, or more than one."""
    path = Path(word)
    if path.is_file():
        return path
    if path.is_dir():
        for folder in (path / "result", path):
            if (folder / "predictions").is_dir():
                return newest_run(folder)
        if (path / "test_results.csv").is_file():
            return path / "test_results.csv"
        raise DataError(f"{word}: no run in this folder (result/predictions/ or test_results.csv)")
    runs = _runs(here)
    found = [run for run in runs if _id(run) == word] or [run for run in runs if word in _id(run)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(_id(run) for run in found[:5]) + (", …" if len(found) > 5 else "")
        raise DataError(f"{word}: {len(found)} runs in {here} have this in their id: {listed}")
    raise DataError(f"{word}: no such file or folder, and no run of this id in {here / 'predictions'}")


def newest_run(result: Path) -> Path:
    """The newest table in result/predictions/. Raises DataError where there is none."""
    runs = _runs(result)
    if not runs:
        raise DataError(f"{result / 'predictions'}: no run here; train one with main.py, or name a folder or a table")
    return max(runs, key=lambda path: path.stat().st_mtime)


def names(paths: Sequence[Path]) -> list[str]:
    """A name for each table's files: the run's id or the file's name, with the folder where two would be the same."""
    plain = [_id(path) for path in paths]
    twice = {name for name, count in Counter(plain).items() if count > 1}
    long = [f"{_home(path).name}_{name}" if name in twice else name for path, name in zip(paths, plain, strict=True)]
    again = {name for name, count in Counter(long).items() if count > 1}
    return [f"{name}_{k}" if name in again else name for k, name in enumerate(long, start=1)]


def plan_figures(table: Table) -> list[Plan]:
    """The figures of one table: every regression and class, and the first SIDE_BY_SIDE parity plots together."""
    from cgcnn import plots, prediction_plots

    plans = []
    regressions = [one for one in table.tasks if one.task.is_regression and len(one)]
    regressions.sort(key=lambda one: "gap" not in one.task.name)
    for one in regressions:
        for kind, panel, height in (
            ("parity", prediction_plots.parity, 7.2),
            ("residuals", prediction_plots.residuals, 6.5),
            ("error", prediction_plots.error_over_target, 6.5),
        ):
            stem = f"{table.name}_{_plain(one.task.name)}_{kind}"
            plans.append(Plan(stem, [partial(panel, predicted=one)], plots.COLUMN, height))
    if len(regressions) > 1:
        beside = [partial(prediction_plots.parity, predicted=one) for one in regressions[:SIDE_BY_SIDE]]
        columns = 2 if len(beside) in (2, 4) else 3
        height = 0.82 * plots.PAGE / columns
        plans.append(Plan(f"{table.name}_parity", beside, plots.PAGE, height, columns))
    for guessed in table.classes:
        stem = f"{table.name}_{_plain(guessed.name)}"
        confusion = partial(prediction_plots.confusion, guessed=guessed)
        plans.append(Plan(f"{stem}_confusion", [confusion], plots.COLUMN, 7.2))
        if prediction_plots.has_roc(guessed):
            roc = partial(prediction_plots.roc, guessed=guessed)
            plans.append(Plan(f"{stem}_roc", [roc], plots.COLUMN, 7.2))
    return plans


def comparison(tables: Sequence[Table]) -> str:
    """The metrics of several runs, task by task."""
    rows = [(task, table.name, values) for table in tables for task, values in _metrics(table)]
    order = list(dict.fromkeys(task for task, _, _ in rows))
    columns = list(dict.fromkeys(what for _, _, values in rows for what in values))
    cells = [["task", *columns, "run"]]
    for task, name, values in sorted(rows, key=lambda row: order.index(row[0])):
        cells.append([task, *(_text(values[what]) if what in values else "" for what in columns), name])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = (str.ljust, *[str.rjust] * len(columns), str.ljust)
    lines = ("  ".join(side(c, w) for c, w, side in zip(row, widths, sides, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def _read(path: Path, name: str, chosen: Sequence[str] | None) -> Table:
    from cgcnn.predicted import classes_of, read_predictions

    config = path.parent.parent / f"{_id(path)}_config.toml"
    flags = read_config(config) if config.is_file() else {}
    tasks = read_predictions(path, units=flags.get("units"), classes=flags.get("task") == "classification")
    wanted = [one for one in tasks if not chosen or one.task.name in chosen]
    classes = [g for g in classes_of(tasks) if not chosen or g.task in chosen]
    return Table(name, path, wanted, [g for g in classes if len(g.target)])


def _check_tasks(chosen: Sequence[str] | None, tables: Sequence[Table]) -> None:
    """Raises DataError for a --task that no table has, and for a table that has none of them."""
    there = {one.task.name for table in tables for one in table.tasks}
    for name in chosen or ():
        if name not in there:
            raise DataError(f"--task {name}: no such task in {', '.join(str(s.path) for s in tables)}")
    for table in tables:
        if not table.tasks:
            raise DataError(f"{table.path}: none of the tasks {', '.join(chosen or ())}")


def _draw(table: Table, plans: Sequence[Plan], out: Path) -> None:
    """Say how good the predictions are, then draw them."""
    from cgcnn import plots, prediction_plots

    print(table.path)
    for name, values in _metrics(table):
        print(f"  {name}: " + "  ".join(f"{what} {_text(value)}" for what, value in values.items()))
    for one in table.tasks:
        if one.num_lost:
            print(f"  {one.task.name}: {one.num_lost} crystals with a label have no prediction, and are left out")
    for guessed in table.classes:
        if not prediction_plots.has_roc(guessed):
            print(f"  {guessed.name}: one class only, so no ROC")
    print(f"  {len(plans)} figures in {out}, each .png and .pdf:")
    for plan in plans:
        drawn = plots.panels(plan.panels, columns=plan.columns, width=plan.width, height=plan.height)
        plots.save(drawn, out / plan.stem)
        print(f"    {plan.stem}")


def _metrics(table: Table) -> list[tuple[str, dict[str, float]]]:
    """Task and unit → its count and metrics."""
    rows = []
    for one in table.tasks:
        if one.task.is_regression and len(one):
            unit = f" ({one.task.unit})" if one.task.unit else ""
            metrics = one.metrics()
            rows.append((f"{one.task.name}{unit}", {"n": len(one), "MAE": metrics["MAE"], "R²": metrics["R^2"]}))
        elif not len(one):
            rows.append((one.task.name, {"n": 0}))
    for guessed in table.classes:
        rows.append((guessed.name, {"n": len(guessed.target), "ACC": guessed.accuracy, "AUC": guessed.auc}))
    return rows


def _text(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "–" if math.isnan(value) else f"{value:.4f}"


def _runs(result: Path) -> list[Path]:
    return sorted((result / "predictions").glob(f"*{ENDING}.csv"))


def _id(path: Path) -> str:
    return path.stem.removesuffix(ENDING)


def _home(path: Path) -> Path:
    """The output folder of a run's table, or the folder of another."""
    folder = path.resolve().parent
    return folder.parent.parent if folder.name == "predictions" else folder


def _plain(name: str) -> str:
    """A task's name as part of a file's."""
    return re.sub(r"[^\w.+-]", "_", name)
