"""Published sets of crystals in parts: --target-set NAME → folder, targets, units, epochs, batch size.

Sizes, units and settings: Taniai et al., Crystalformer, ICLR 2024 (openreview fxQiecl9HB), and its repository.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cgcnn.labels import DataError
from cgcnn.pickled_splits import part_file, part_files
from cgcnn.splits import PARTS, Split


@dataclass(frozen=True)
class TargetSet:
    """units: target → its unit. sizes: crystals in train, val and test. epochs, batch_size: of training."""

    units: Mapping[str, str]
    sizes: tuple[int, int, int]
    epochs: int
    batch_size: int


TARGET_SETS = {
    "jarvis__megnet": TargetSet({"e_form": "eV/atom", "bandgap": "eV"}, (60000, 5000, 4239), 500, 128),
    "jarvis__megnet-bulk": TargetSet({"bulk": "log10(GPa)"}, (4664, 393, 393), 500, 128),
    "jarvis__megnet-shear": TargetSet({"shear": "log10(GPa)"}, (4664, 392, 393), 500, 128),
    "dft_3d_2021": TargetSet(
        {"formation_energy": "eV/atom", "total_energy": "eV/atom", "opt_bandgap": "eV"}, (44578, 5572, 5572), 800, 256
    ),
    "dft_3d_2021-mbj_bandgap": TargetSet({"mbj_bandgap": "eV"}, (14537, 1817, 1817), 1600, 256),
    "dft_3d_2021-ehull": TargetSet({"ehull": "eV"}, (44296, 5537, 5537), 800, 256),
}


def target_set_flags(name: str, targets: Sequence[str] | None) -> dict:
    """The flags of a published set, for these of its targets or for all; none for a set of the user's own."""
    found = TARGET_SETS.get(name)
    if found is None:
        return {}
    targets = list(targets or found.units)
    units = {each: found.units[each] for each in targets if each in found.units}
    return {"targets": targets, "units": units, "epochs": found.epochs, "batch_size": found.batch_size}


def target_set_folder(data: Path, name: str) -> Path:
    """Where the parts of a set lie: data/NAME, or data itself. Raises DataError that says where they are expected."""
    for folder in (data / name, data):
        if part_files(folder):
            return folder
    expected = ", ".join(str(part_file(data / name, part)) for part in PARTS)
    raise DataError(f"--target-set {name}: no such files: {expected}; nothing is downloaded")


def other_than_published(name: str | None, split: Split) -> str | None:
    """A line that says where the crystals of a published set are not as many as published."""
    found = TARGET_SETS.get(name or "")
    sizes = tuple(len(split[part]) for part in PARTS)
    if found is None or sizes == found.sizes:
        return None
    here, there = (
        ", ".join(f"{size} {part}" for size, part in zip(each, PARTS, strict=True)) for each in (sizes, found.sizes)
    )
    return f"--target-set {name}: {here}; published with {there}"
