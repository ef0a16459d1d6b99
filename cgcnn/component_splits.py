"""Splits by the number of components: learn alloys of few elements, predict those of more, or the other way round.

Wang et al., doi:10.1038/s41524-022-00945-x; the names are those of the published code, where b0, b1 and b2 tested on
crystals of their training part: here every split is disjoint.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgcnn.labels import DataError, read_rows
from cgcnn.splits import PARTS, Split, SplitSettings

if TYPE_CHECKING:  # brings torch, and the names of the splits stand in --help
    from cgcnn.graph_table import GraphTable

# numbers of components in the training (and validation) part, and in the test part
BETWEEN: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "a1": ((2, 3, 4), (5,)),
    "a2": ((2, 3), (4, 5)),
    "a3": ((4, 5), (2, 3)),
}
# numbers of components of the crystals that are divided at random
WITHIN: dict[str, tuple[int, ...]] = {"a0": (2, 3, 4, 5), "b0": (4, 5), "b1": (2, 3), "b2": (2, 3, 4, 5)}
NAMES = tuple(sorted([*BETWEEN, *WITHIN]))
PUBLISHED = "a0_test"  # column of alloys.csv


def components_of(name: str) -> set[int]:
    """The numbers of components of all crystals in a split of this name."""
    return set(WITHIN[name]) if name in WITHIN else {number for part in BETWEEN[name] for number in part}


def num_components(table: GraphTable) -> np.ndarray:
    """Distinct elements in each of the B crystals of a table (B,); of a disordered site every one counts."""
    crystal = np.repeat(np.arange(len(table)), table.length["species"])
    pairs = np.unique(crystal * 256 + table.taken("numbers"))
    return np.bincount(pairs // 256, minlength=len(table))


def component_splits(
    name: str,
    components: Sequence[int],
    settings: SplitSettings,
    *,
    num_splits: int = 1,
    seed: int = 123,
    is_test: Sequence[bool | None] | None = None,
) -> list[Split]:
    """Splits of n crystals by their numbers of components (n,): one, or `num_splits` reshuffled ones.

    In the a family the validation part is a share of what is there to train on; b0, b1 and b2 are 80/10/10. is_test
    (n): the parts of a0, None for a crystal in neither. Raises DataError where a part is empty.
    """
    splits = []
    for k in range(num_splits):
        shuffle = random.Random(seed + k).shuffle
        if name in BETWEEN:
            rows, test = (_with(components, numbers) for numbers in BETWEEN[name])
            shuffle(rows)
        elif is_test is not None:
            rows = [row for row, tests in enumerate(is_test) if tests is False]
            test = [row for row, tests in enumerate(is_test) if tests]
            shuffle(rows)
        else:
            rows = _with(components, WITHIN[name])
            shuffle(rows)
            tenths = int(0.8 * len(rows)) + (int(0.1 * len(rows)) if name.startswith("b") else 0)
            rows, test = rows[:tenths], rows[tenths:]
        whole = len(rows) if name.startswith("a") else len(rows) + len(test)
        num_val = min(settings.num_val(whole), len(rows))
        split = Split(rows[num_val:], rows[:num_val], test)
        _check(name, split, components, has_val=settings.has_val)
        splits.append(split)
    return splits


def read_published(path: Path, ids: Sequence[str]) -> list[bool | None] | None:
    """Whether each of the ids is tested in the published a0; None for one that the table lacks.

    path: a table with a header, `cif_id` and the column a0_test of 0 and 1. Without that column: None. Raises
    DataError that names file and row for another value, an id twice, and a table without ids.
    """
    (_, header), *rows = read_rows(path)
    if PUBLISHED not in header:
        return None
    if "cif_id" not in header:
        raise DataError(f"{path}, row 1: a column {PUBLISHED}, but none that is called cif_id")
    found: dict[str, bool] = {}
    for line, cells in rows:
        named = dict(zip(header, cells, strict=False))
        crystal_id, value = named.get("cif_id", ""), named.get(PUBLISHED, "")
        if value not in ("0", "1"):
            raise DataError(f"{path}, row {line}: {PUBLISHED} of {crystal_id!r} is {value!r}, not 0 or 1")
        if crystal_id in found:
            raise DataError(f"{path}, row {line}: id {crystal_id!r} stands twice")
        found[crystal_id] = value == "1"
    return [found.get(crystal_id) for crystal_id in ids]


def left_out(split: Split, components: Sequence[int]) -> str | None:
    """A line on the crystals that are in no part, None where there are none."""
    inside = {row for part in PARTS for row in split[part]}
    counts = Counter(int(number) for row, number in enumerate(components) if row not in inside)
    if not counts:
        return None
    listed = ", ".join(f"{count} of {_components(number)}" for number, count in sorted(counts.items()))
    total = f"{counts.total()} crystal{'s' if counts.total() > 1 else ''}"
    return f"{total} in no part and left out: {listed}"


def _with(components: Sequence[int], numbers: Sequence[int]) -> list[int]:
    """Positions of the crystals with these numbers of components."""
    return [row for row, number in enumerate(components) if number in numbers]


def _check(name: str, split: Split, components: Sequence[int], *, has_val: bool) -> None:
    empty = [part for part in PARTS if not split[part] and (part != "val" or has_val)]
    if empty:
        counts = Counter(map(int, components))
        there = ", ".join(f"{count} of {_components(number)}" for number, count in sorted(counts.items()))
        parts = f"{', '.join(empty)} part{'s are' if len(empty) > 1 else ' is'} empty"
        raise DataError(f"--split {name}: the {parts}; the crystals are {there}")


def _components(number: int) -> str:
    return f"{number} component{'s' if number != 1 else ''}"
