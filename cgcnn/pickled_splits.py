"""Folders DATA/<train|val|test>/raw/raw_data.pkl: where the parts lie, and the split that they are."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from cgcnn.splits import PARTS, Split


def part_file(folder: Path, part: str) -> Path:
    """Where the pickle of a part is expected."""
    return folder / part / "raw" / "raw_data.pkl"


def part_files(folder: Path) -> dict[str, Path]:
    """Part → its pickle, of those that are there; none in a data folder of another kind."""
    if (folder / "id_prop.csv").exists():
        return {}
    return {part: path for part in PARTS if (path := part_file(folder, part)).is_file()}


def split_of_parts(parts: Mapping[str, Container[str]], ids: Sequence[str]) -> Split:
    """The split that puts each of the ids into the first part that holds it; a part that is not there is empty."""
    rows: dict[str, list[int]] = {part: [] for part in PARTS}
    for row, crystal_id in enumerate(ids):
        part = next((part for part in PARTS if crystal_id in parts.get(part, ())), None)
        if part is not None:
            rows[part].append(row)
    return Split(rows["train"], rows["val"], rows["test"])
