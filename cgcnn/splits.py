"""Training, validation and test part: disjoint, seeded, written down."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cgcnn.files import write_text
from cgcnn.labels import DataError, read_rows

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Positions (0 … n−1) of the crystals in each part."""

    train: list[int]
    val: list[int]
    test: list[int]

    def __getitem__(self, part: str) -> list[int]:
        return getattr(self, part)

    def shortened(self, share: float, seed: int) -> Split:
        """With a share of the training part, at least one crystal; a smaller share is part of a larger one."""
        if share == 1:
            return self
        order = self.train[:]
        random.Random(seed).shuffle(order)
        return replace(self, train=order[: max(1, round(share * len(order)))])

    def write(self, path: Path, ids: Sequence[str]) -> None:
        """A table `cif_id,split` that --split-file reads again."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["cif_id", "split"])
        writer.writerows((ids[k], part) for part in PARTS for k in self[part])
        write_text(path, text.getvalue())


@dataclass(frozen=True)
class SplitSettings:
    """How crystals are divided; a size (crystals) takes the place of a ratio where it is given.

    A ratio of training crystals of None means all that validation and test leave. has_val: whether there is a
    validation part at all.
    """

    train_ratio: float | None = None
    val_ratio: float = 0.1
    test_ratio: float = 0.1
    train_size: int | None = None
    val_size: int | None = None
    test_size: int | None = None
    folds: int = 0
    group_by_formula: bool = False
    has_val: bool = True

    def num_val(self, count: int) -> int:
        """Crystals in the validation part, of `count`."""
        return _part_size(self.val_size, self.val_ratio, count) if self.has_val else 0

    def sizes(self, count: int) -> tuple[int, int, int]:
        """Crystals in each part, of `count`. Raises DataError where they do not fit, or a part is empty."""
        for name in ("train_ratio", "val_ratio", "test_ratio"):
            ratio = getattr(self, name)
            if ratio is not None and not 0 <= ratio <= 1:
                raise DataError(f"--{name.replace('_', '-')} {ratio:g} is not between 0 and 1")
        val = self.num_val(count)
        test = _part_size(self.test_size, self.test_ratio, count)
        wanted = self.train_size if self.train_ratio is None or self.train_size is not None else None
        if wanted is None and self.train_ratio is not None:
            wanted = _part_size(None, self.train_ratio, count)
            only_ratios = self.val_size is None and self.test_size is None
            share = self.train_ratio + self.test_ratio + (self.val_ratio if self.has_val else 0)
            if only_ratios and abs(share - 1) < 1e-9:
                wanted = count - val - test  # three ratios that make 1 leave no crystal out
        train = count - val - test if wanted is None else wanted
        if train + val + test > count:
            raise DataError(
                f"the split asks for {train} training + {val} validation + {test} test crystals, "
                f"but there are {count}"
            )
        if train < 1 or (val < 1 and self.has_val):
            raise DataError(
                f"the split leaves {max(train, 0)} training and {val} validation crystals of {count}; "
                "each part needs at least one"
            )
        return train, val, test


def make_splits(
    formulas: Sequence[str], settings: SplitSettings, *, num_splits: int = 1, seed: int = 123
) -> list[Split]:
    """Splits of n crystals by their reduced formulas (n): `folds` of them, or `num_splits` reshuffled ones.

    With `group_by_formula` no formula is in two parts. Raises DataError where a part would be empty.
    """
    groups = _groups(formulas, by_formula=settings.group_by_formula)
    if settings.folds:
        return _folds(groups, settings, seed)
    train, val, test = settings.sizes(len(formulas))
    splits = []
    for k in range(num_splits):
        shuffled = groups[:]
        random.Random(seed + k).shuffle(shuffled)
        parts, left = _deal(shuffled, {"test": test, "val": val}, keep=1)
        if test + val + train < len(formulas):
            parts |= _deal(left, {"train": train})[0]
        else:
            parts["train"] = [i for group in left for i in group]
        split = Split(parts["train"], parts["val"], parts["test"])
        splits.append(_checked(split, needs_test=test > 0, needs_val=settings.has_val))
    return splits


def read_split(path: Path, ids: Sequence[str], *, needs_val: bool = True) -> tuple[Split, list[str]]:
    """A split from a table `cif_id,split`, and the ids (of `ids`) that it does not name, which are left out.

    needs_val: whether a validation part must be there. Raises DataError for a part other than train, val and test, an
    id twice, and parts that are empty.
    """
    rows = read_rows(path)
    if rows[0][1][:2] != ["cif_id", "split"]:
        raise DataError(f"{path}, row {rows[0][0]}: the header cif_id,split is expected")
    position = {crystal_id: k for k, crystal_id in enumerate(ids)}
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    named: set[str] = set()
    for line, cells in rows[1:]:
        crystal_id, part = cells[:2] if len(cells) > 1 else (cells[0], "")
        if part not in parts:
            raise DataError(f"{path}, row {line}: {part!r} is not train, val or test")
        if crystal_id in named:
            raise DataError(f"{path}, row {line}: id {crystal_id!r} stands twice")
        named.add(crystal_id)
        if crystal_id in position:
            parts[part].append(position[crystal_id])
    split = Split(parts["train"], parts["val"], parts["test"])
    try:
        _checked(split, needs_test=False, needs_val=needs_val)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return split, [crystal_id for crystal_id in ids if crystal_id not in named]


def _folds(groups: list[list[int]], settings: SplitSettings, seed: int) -> list[Split]:
    count = sum(map(len, groups))
    if settings.folds < 2 or settings.folds > len(groups):
        what = "formulas" if settings.group_by_formula else "crystals"
        raise DataError(f"--folds {settings.folds}: from 2 to the number of {what} ({len(groups)}) are possible")
    shuffled = groups[:]
    random.Random(seed).shuffle(shuffled)
    folds: list[list[list[int]]] = [[] for _ in range(settings.folds)]
    sizes = [0] * settings.folds
    for group in shuffled:  # each to the smallest fold so far, so that large groups do not unbalance them
        smallest = sizes.index(min(sizes))
        folds[smallest].append(group)
        sizes[smallest] += len(group)
    splits = []
    for k, fold in enumerate(folds):
        rest = [group for other, groups_of in enumerate(folds) if other != k for group in groups_of]
        random.Random(seed + 1 + k).shuffle(rest)
        parts, left = _deal(rest, {"val": settings.num_val(count)}, keep=1)
        train = [i for group in left for i in group]
        split = Split(train, parts["val"], [i for group in fold for i in group])
        splits.append(_checked(split, needs_test=True, needs_val=settings.has_val))
    return splits


def _part_size(size: int | None, ratio: float, count: int) -> int:
    if size is not None:
        if size < 0:
            raise DataError(f"a part of {size} crystals is not possible")
        return size
    return max(1, int(ratio * count)) if ratio > 0 else 0


def _groups(formulas: Sequence[str], *, by_formula: bool) -> list[list[int]]:
    if not by_formula:
        return [[k] for k in range(len(formulas))]
    groups: dict[str, list[int]] = {}
    for k, formula in enumerate(formulas):
        groups.setdefault(formula, []).append(k)
    return list(groups.values())


def _deal(
    groups: list[list[int]], sizes: dict[str, int], *, keep: int = 0
) -> tuple[dict[str, list[int]], list[list[int]]]:
    """Whole groups to the parts until each has its size; what is over, at least `keep` groups, comes back."""
    left = list(groups)
    parts = {}
    wanting = sum(size > 0 for size in sizes.values()) + keep
    for part, size in sizes.items():
        wanting -= size > 0
        spare = len(left) - wanting  # one group at least for each part to come
        limit = size + max(1, size // 10)
        members: list[int] = []
        skipped = []
        for group in left:
            if spare > 0 and len(members) < size and len(members) + len(group) <= limit:
                members += group
                spare -= 1
            else:
                skipped.append(group)
        if not members and size and spare > 0:  # every group is too large: the smallest of them
            members = min(skipped, key=len)
            skipped.remove(members)
        parts[part], left = members, skipped
    return parts, left


def _checked(split: Split, *, needs_test: bool, needs_val: bool = True) -> Split:
    needed = {"train": True, "val": needs_val, "test": needs_test}
    empty = [part for part in PARTS if needed[part] and not split[part]]
    if empty:
        raise DataError(f"the {' and '.join(empty)} part of the split is empty")
    return split
