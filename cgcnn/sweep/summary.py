"""The table of a sweep: a row a combination, settings and results, as the published sweep names its columns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cgcnn.files import remove_parts
from cgcnn.flag_kinds import shown
from cgcnn.report import write_table
from cgcnn.sweep.combination import FLAG_COLUMNS, SETTING_COLUMNS
from cgcnn.sweep.entry import Entry

SCORE = "Validation Score"
METRIC_COLUMNS = (
    "Avg WF-MAE",
    "Avg WF-R^2",
    "Avg BG-MAE",
    "Avg BG-R^2",
    "Material Type ACC",
    "Material Type Loss",
)
_SHORT = {"WorkFunc": "WF", "BandGap": "BG"}
_CATEGORY = "MaterialType"


def new_stem(result: Path) -> Path:
    """result/all_combinations_summary_<time>, a name that no other summary has, taken by an empty CSV."""
    result.mkdir(parents=True, exist_ok=True)
    remove_parts(result, "all_combinations_summary_*")
    second = time.time()
    while True:
        stem = result / f"all_combinations_summary_{time.strftime('%Y%m%d_%H%M%S', time.localtime(second))}"
        try:
            open(f"{stem}.csv", "x").close()
            return stem
        except FileExistsError:
            second += 1


def summary_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """All combinations: the published columns, then deviations, other tasks, other axes, state and whereabouts.

    Metrics are those of the test part, mean and standard deviation over the splits (blank for one split).
    """
    rows = [_row(entry) for entry in entries]
    names = list(dict.fromkeys(name for row in rows for name in row))
    last = [SCORE, f"Std {SCORE}", "State", "Seconds", "Folder", "Host", "Last Lines"]
    axes = [name for name in names if name.startswith("axis ")]
    first = [*SETTING_COLUMNS, *METRIC_COLUMNS]
    std = [f"Std {name.removeprefix('Avg ')}" for name in METRIC_COLUMNS]
    other = [name for name in names if name not in {*first, *std, *axes, *last}]
    columns = [*first, *(name for name in std if name in names), *other, *axes, *last]
    table = pd.DataFrame(rows, columns=columns)
    return table.rename(columns={name: name.removeprefix("axis ") for name in axes})


def write_summary(stem: Path, table: pd.DataFrame) -> list[Path]:
    """`stem`.csv and its sorted copies; the paths."""
    tables = {f"{stem}.csv": table}
    for column in ranking(table)[:2]:
        ascending = not column.endswith("-ACC")
        path = f"{stem}_by_{column.removeprefix('Avg ').replace('/', '_')}.csv"
        tables[path] = table.sort_values(column, ascending=ascending, kind="stable", na_position="last")
    for path, content in tables.items():
        write_table(Path(path), content)
    return [Path(path) for path in tables]


def ranking(table: pd.DataFrame) -> list[str]:
    """The columns by which combinations can be ranked: the MAE of a regression or ACC of a class, if any has one."""
    columns = [name for name in table if name.startswith("Avg ") and name.endswith(("-MAE", "-ACC"))]
    return [name for name in columns if table[name].notna().any()]


def best_row(table: pd.DataFrame) -> int | None:
    """Position of the combination that is best on validation; the test part has no say."""
    scores = table[SCORE].to_numpy(dtype=float)
    return None if np.isnan(scores).all() else int(np.nanargmin(scores))


def headline(entry: Entry) -> str:
    """A combination's result in a few words: score 0.712, WF-MAE 0.551, BG-MAE 1.207."""
    means = {name: mean for name, (mean, _) in _metrics(entry.result.get("metrics", [])).items()}
    shown_ = [name for name in means if name.startswith("Avg ") and name.endswith(("-MAE", "-ACC"))]
    return ", ".join([f"score {entry.score:.4g}", *(f"{n.removeprefix('Avg ')} {means[n]:.4g}" for n in shown_[:2])])


def spreads(table: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Column → mean and standard deviation over the rows, one a split; NaN for one alone."""
    several = len(table) > 1
    return {name: (table[name].mean(), table[name].std(ddof=0) if several else np.nan) for name in table}


def _row(entry: Entry) -> dict[str, object]:
    one = entry.combination
    row: dict[str, object] = dict(one.settings)
    for name, (mean, deviation) in _metrics(entry.result.get("metrics", [])).items():
        row |= {name: mean, f"Std {name.removeprefix('Avg ')}": deviation}
    axes = {name: None if name in one.idle else _plain(value) for name, value in one.values.items()}
    row |= {f"axis {name}": value for name, value in axes.items() if name.replace("-", "_") not in FLAG_COLUMNS}
    return row | {
        "State": entry.state,
        "Seconds": round(entry.seconds, 1) if entry.seconds else np.nan,
        "Folder": entry.result.get("folder"),
        "Host": entry.result.get("host"),
        "Last Lines": " | ".join(entry.result.get("lines", [])) or None,
    }


def _metrics(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Column → mean and standard deviation over the splits, from the rows of a metrics.csv."""
    found = spreads(pd.DataFrame(list(rows)).drop(columns="Split", errors="ignore"))
    return {
        _column(name): spread
        for name, spread in found.items()
        if not name.startswith("Val_") or name.endswith(("_Score", "_MAE", "_ACC"))
    }


def _column(metric: str) -> str:
    """WorkFunc_MAE → Avg WF-MAE, MaterialType_ACC → Material Type ACC, Val_BandGap_MAE → Validation BG-MAE."""
    task, _, what = metric.removeprefix("Val_").rpartition("_")
    named = f"Material Type {what}" if task == _CATEGORY else f"{_SHORT.get(task, task)}-{what}"
    if metric == "Val_Score":
        return SCORE
    if metric.startswith("Val_"):
        return f"Validation {named}"
    return named if task == _CATEGORY else f"Avg {named}"


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float) else shown(value)
