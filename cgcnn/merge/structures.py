"""The structure files beside label tables: which there are, and what their compositions say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgcnn.crystal import Crystal
from cgcnn.labels import DataError, raise_all
from cgcnn.merge.join import Finding, Keys
from cgcnn.structures import StructureError, find_structure_files, read_crystal


@dataclass(frozen=True)
class Structures:
    """The structure files of a folder, id → file."""

    folder: Path
    files: dict[str, Path]

    @property
    def names(self) -> Iterable[str]:
        return self.files.keys()

    def by_key(self, keys: Keys) -> dict[str, str]:
        """Key → id. Raises DataError for two files that only a suffix tells apart."""
        found: dict[str, str] = {}
        for name in self.names:
            if (key := keys.of(name)) is None:
                continue
            if key in found:
                raise DataError(f"{self.folder}: two files for one id: {found[key]} and {name}")
            found[key] = name
        return found


def find_structures(given: str | None, out: Path) -> Structures | None:
    """The structure files of --structures, or of the output folder if it has any. Raises DataError."""
    folder = Path(given) if given else out
    if not given and not out.is_dir():
        return None
    try:
        files = find_structure_files(folder)
    except StructureError as error:
        raise DataError(f"{folder}: {error}") from None
    if not files:
        if given:
            raise DataError(f"--structures {folder}: no structure files in it")
        return None
    return Structures(folder, files)


def compositions(
    files: Mapping[str, Path], ids: Mapping[str, str]
) -> tuple[dict[str, tuple[float, float]], list[Finding]]:
    """Electronegativity variance and first ionisation energy (eV) by key, and the files that cannot be read.

    Raises DataError if none can.
    """
    from tqdm import tqdm

    from cgcnn.global_features import composition_averages
    from cgcnn.graph_table import GraphTable

    crystals: dict[str, Crystal] = {}
    bad = []
    for key, path in tqdm(files.items(), desc="Reading structures", unit="crystal", disable=None, leave=False):
        try:
            crystals[key] = read_crystal(path)
        except StructureError as error:
            bad.append(Finding("bad_structure", ids[key], str(path), (), str(error)))
    if not crystals:
        raise_all([f"{finding.table}: {finding.detail}" for finding in bad])
    # Averages over a composition need its species only, no edges.
    held = list(crystals.values())
    lengths = np.array([len(crystal.numbers) for crystal in held])
    columns = {name: np.concatenate([getattr(c, name) for c in held]) for name in ("numbers", "occupancies")}
    starts = {"species": np.cumsum(lengths) - lengths}
    table = GraphTable(columns, starts, {"species": lengths}, [crystal.reduced_formula for crystal in held])
    return dict(zip(crystals, map(tuple, composition_averages(table).tolist()), strict=True)), bad
