"""The page of a run that a person opens: result, settings, learning curves, errors, timing, in one HTML file."""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

import cgcnn
from cgcnn.arguments import parse_training, to_argv
from cgcnn.files import write_text
from cgcnn.flag_kinds import shown
from cgcnn.flags import training_parser
from cgcnn.report import timing_summary

if TYPE_CHECKING:
    from cgcnn.experiment import Experiment

_NOT_REPEATED = ("data_options", "config", "resume", "max_time")


def write_report(
    run: Experiment,
    metrics: pd.DataFrame,
    baselines: pd.DataFrame,
    tables: Sequence[pd.DataFrame],
    graph_seconds: float,
    averaged: pd.DataFrame,
) -> None:
    """result/{run_id}_report.html of a run that has ended; says where it is, or why there is none.

    metrics: a row a split, see `report.metric_row`. baselines: see `report.baseline_table`. tables: of the test
    parts, one a split. averaged: see `tested.comparison_table`.
    """
    path = run.out.file("report.html")
    try:
        write_text(path, render("report.html", **_context(run, metrics, baselines, tables, graph_seconds, averaged)))
    except OSError:  # a full disk: what the user was promised is not there
        raise
    except Exception as error:  # whatever drawing stumbles over, the run itself is written and stays good
        run.say(f"no report: {type(error).__name__}: {error}")
        return
    run.say(f"report: {path}")


def render(template: str, **context: object) -> str:
    """A page from cgcnn/templates; what stands in the context is escaped, unless it is Markup."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cgcnn"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**context)


def _context(
    run: Experiment,
    metrics: pd.DataFrame,
    baselines: pd.DataFrame,
    tables: Sequence[pd.DataFrame],
    graph_seconds: float,
    averaged: pd.DataFrame,
) -> dict[str, object]:
    from cgcnn import task_sections  # brings matplotlib

    changed, flags = _settings(run)
    return {
        "run_id": run.out.run_id,
        "head": _head(run),
        "changed": changed,
        "flags": flags,
        "timing": _timing(run, graph_seconds),
        "files": _files(run),
        "commands": _commands(run),
        "num_splits": len(tables),
        "num_networks": run.args.ensemble,
        **task_sections.sections(run, metrics, baselines, tables),
        "averaged": task_sections.averaged_weights(averaged),
    }


def _head(run: Experiment) -> list[tuple[str, str]]:
    """What was trained, on what, when and with which versions."""
    data, args = run.data, run.args

    def size(part: str) -> str:
        sizes = sorted({len(split[part]) for split in run.splits})
        return " to ".join(str(n) for n in dict.fromkeys((sizes[0], sizes[-1])))

    crystals = f"{len(data.ids)}: {size('train')} training, {size('val')} validation, {size('test')} test"
    crystals += f", in each of {len(run.splits)} splits" if len(run.splits) > 1 else ""
    crystals += f"; {len(data.failed)} more could not be used" if data.failed else ""
    states = len(run.done[0].states)
    model = f"{args.model}, mean of {states} networks" if states > 1 else args.model
    versions = [("Python", platform.python_version()), ("cgcnn", cgcnn.__version__)]
    versions += [(name, _version(package)) for name, package in (("PyTorch", "torch"), ("pymatgen", "pymatgen"))]
    return [
        ("data", args.data_options[0]),
        ("crystals", crystals),
        ("network", f"{model}, on {run.device}"),
        ("date", time.strftime("%Y-%m-%d %H:%M")),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions)),
        *(("note", note) for note in [*data.notes, *_duplicates(run)]),
    ]


def _duplicates(run: Experiment) -> list[str]:
    """That the test part holds crystals of the training part, if it does."""
    path = run.out.file("near_duplicates.csv")
    if not path.exists() or not (count := int((pd.read_csv(path)["part"] == "test").sum())):
        return []
    where = " of all splits" if len(run.splits) > 1 else ""
    return [f"near-duplicates of training crystals in the test part{where}: {count} (see {path.name})"]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "–"


def _settings(run: Experiment) -> tuple[list[dict], list[dict]]:
    """The flags that differ from their default, and all of them."""
    parser, flags = training_parser(), []
    for name, value in vars(run.args).items():
        if name != "data_options":
            flag = to_argv({name: 0})[0].partition("=")[0]
            default = parser.get_default(name)
            flags.append({"flag": flag, "value": _shown(value), "default": _shown(default), "same": value == default})
    return [flag for flag in flags if not flag["same"]], flags


def _shown(value: object) -> str:
    return "–" if value is None else shown(value) or "–"


def _timing(run: Experiment, graph_seconds: float) -> dict[str, object]:
    """Seconds of the run's parts, and of the epochs of each split."""
    rows = []
    for k, done in enumerate(run.done, start=1):
        summary = timing_summary(done.history)
        cells = [f"{summary[name]:.2f}" for name in ("total", "mean", "fastest", "slowest")]
        rows.append([str(k), str(len(done.history)), *cells])
    training = sum(epoch.seconds for done in run.done for epoch in done.history)
    total = time.monotonic() - run.begun
    parts = [("data and graphs", graph_seconds), ("training", training), ("whole run, up to this page", total)]
    return {"rows": rows, "parts": [(name, f"{seconds:.1f} s") for name, seconds in parts]}


def _files(run: Experiment) -> list[dict[str, str]]:
    """What the run has written: path below the output folder, the link from this page, size."""
    folder = run.out.result
    logs = sorted((folder / "log").glob(f"{run.out.run_id}_split*.log"), key=lambda path: path.stat().st_mtime)
    files = []
    own = run.out.file("report.html")
    for path in [*(path for path in run.out.files() if path != own), *logs[-len(run.splits) :]]:
        link = path.relative_to(folder) if path.is_relative_to(folder) else Path("..") / path.name
        shown = path.relative_to(run.out.folder)
        files.append({"path": shown.as_posix(), "link": link.as_posix(), "size": _size(path.stat().st_size)})
    return files


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(count / 1e3, 0.1):.1f} kB"


def _commands(run: Experiment) -> list[str]:
    """What repeats the run: with the written configuration, and with flags alone."""
    args, parser = run.args, training_parser()
    start = ["python", "main.py", args.data_options[0]]
    changed = {
        name: value
        for name, value in vars(args).items()
        if name not in _NOT_REPEATED and value != parser.get_default(name)
    }
    # a default of main.py that the network, a preset or the model of --init-from would change
    again = vars(parse_training([args.data_options[0], *to_argv(changed)]))
    changed |= {
        name: value for name, value in vars(args).items() if name not in _NOT_REPEATED and value != again[name]
    }
    out = ["--out-dir", args.out_dir] if args.out_dir != "." else []
    configuration = str(run.out.file("config.toml"))
    return [shlex.join([*start, "--config", configuration, *out]), shlex.join([*start, *to_argv(changed)])]
