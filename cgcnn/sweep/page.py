"""The page of a sweep: one self-contained HTML file with the sortable table, the best row and the figure."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

import cgcnn
from cgcnn.files import write_text
from cgcnn.sweep.combination import FLAG_COLUMNS
from cgcnn.sweep.entry import Entry
from cgcnn.sweep.summary import SCORE, best_row, ranking

_VERSIONS = ("torch", "optuna", "pandas", "pymatgen")
# What stands in front of all other columns, where it is known.
_FIRST = (SCORE, "Avg WF-MAE", "Avg BG-MAE", "Material Type ACC", "Seconds")


def write_page(path: Path, title: str, command: str, entries: Sequence[Entry], table: pd.DataFrame, svg: str) -> None:
    """Write the page. command: that which goes on with the sweep; svg: the figure, empty if there is none."""
    best = best_row(table)
    values = [_values(entry, path.parent) for entry in entries]
    axes, results = _columns(entries, table)
    states = [entry.state for entry in entries]
    page = Environment(loader=PackageLoader("cgcnn"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters["number"] = _number
    text = page.get_template("sweep.html").render(
        title=title,
        command=command,
        time=time.strftime("%Y-%m-%d %H:%M:%S"),
        versions={"cgcnn": cgcnn.__version__, "Python": platform.python_version()}
        | {name: version(name) for name in _VERSIONS},
        counts={state: states.count(state) for state in dict.fromkeys(states)},
        columns=[*axes, *results],
        rows=[
            {
                "cells": [table.iloc[k][column] for column in (*axes, *results)],
                "best": k == best,
                "state": states[k],
                **values[k],
            }
            for k in range(len(table))
        ],
        best=None if best is None else {**values[best], "cells": table.iloc[best][results].to_dict()},
        all=[column for column in table if table[column].notna().any()],
        table=table,
        svg=Markup(svg),
    )
    write_text(path, text)


def _columns(entries: Sequence[Entry], table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """What is seen at once: columns of the axes that differ, and of the results."""
    axes = dict.fromkeys(name for entry in entries for name in entry.combination.values)
    names = [FLAG_COLUMNS.get(axis.replace("-", "_"), axis) for axis in axes]
    names = [name for name in names if table[name].nunique(dropna=False) > 1]
    results = dict.fromkeys((SCORE, *_FIRST[1:-1], *ranking(table), _FIRST[-1]))
    deviations = {name: f"Std {name.removeprefix('Avg ')}" for name in results}
    shown = [column for name in results for column in (name, deviations[name])]
    return names, [name for name in shown if name in table and table[name].notna().any()]


def _values(entry: Entry, start: Path) -> dict[str, object]:
    folder = entry.result.get("folder")
    here = folder is not None and (start.parent / folder).is_dir()
    reports = sorted((start.parent / folder / "result").glob("*_report.html")) if here else []
    return {
        "name": str(entry.combination),
        "folder": folder,
        "link": Path("..", folder).as_posix() if here else None,
        "report": Path("..", reports[-1].relative_to(start.parent)).as_posix() if reports else None,
        "lines": entry.result.get("lines", []),
        "state": entry.state,
    }


def _number(value: object) -> str:
    """As a table shows it: four digits of a measured number, nothing for what is not known."""
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "on" if value else "off"
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
