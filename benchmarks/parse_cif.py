"""Compare read_crystal with pymatgen on every CIF below some folders: same sites, and how much faster.

    python -m benchmarks.parse_cif FOLDER ... [--limit N]

One row a folder: files, share read without pymatgen, mismatches, milliseconds a file of each, their ratio.
All in one process: a folder is read into the disk cache, then by read_crystal, then by pymatgen. Mismatches
are listed below the table; the exit status is then 1.
"""

import argparse
import random
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from cgcnn.cif import StructureError, read_plain_cif
from cgcnn.crystal import Crystal
from cgcnn.structures import read_crystal

TOLERANCE = 1e-9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=int, help="files a folder, drawn at random (default: all)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    print("folder                files  fast % mismatch  ours ms pymatgen ms   ratio")
    totals, mismatches = np.zeros(5), []
    for folder in arguments.folders:
        files = sorted(folder.rglob("*.cif"))
        if arguments.limit is not None and arguments.limit < len(files):
            files = random.Random(0).sample(files, arguments.limit)
        counts, wrong = compare(files)
        print_row(folder.name, counts)
        totals += counts
        mismatches += wrong
    print_row("all", totals)
    print(*mismatches, sep="\n")
    return 1 if mismatches else 0


def compare(files: list[Path]) -> tuple[np.ndarray, list[str]]:
    """Files, those read without pymatgen, mismatches, seconds of each reader (5,); and a line a mismatch."""
    fast = sum(map(is_fast, files))
    ours, our_seconds = timed(read_crystal, files)
    theirs, their_seconds = timed(Structure.from_file, files)
    wrong = [
        f"{file}: {reason}" for file, a, b in zip(files, ours, theirs, strict=True) if (reason := difference(a, b))
    ]
    return np.array([len(files), fast, len(wrong), our_seconds, their_seconds]), wrong


def is_fast(file: Path) -> bool:
    try:
        return read_plain_cif(file.read_text(encoding="utf-8", errors="replace")) is not None
    except StructureError:
        return True


def timed(read: Callable[[Path], object], files: list[Path]) -> tuple[list[object], float]:
    """What ``read`` gives for each file, its exception where it raises one, and the seconds it took."""
    results: list[object] = []
    start = time.perf_counter()
    for file in files:
        try:
            results.append(read(file))
        except Exception as error:
            results.append(error)
    return results, time.perf_counter() - start


def difference(crystal: object, structure: object) -> str:
    """What differs between a crystal and pymatgen's structure, or their exceptions; empty if nothing."""
    if not isinstance(crystal, Crystal) or not isinstance(structure, Structure):
        both_failed = isinstance(crystal, Exception) and isinstance(structure, Exception)
        return "" if both_failed else f"{crystal!r} against {structure!r}"
    theirs = [
        (site, species.Z, occupancy)
        for site, held in enumerate(structure.species_and_occu)
        for species, occupancy in held.items()
    ]
    ours = zip(crystal.site.tolist(), crystal.numbers.tolist(), crystal.occupancies.tolist(), strict=True)
    if list(ours) != theirs:
        return "species"
    lattice_gap = np.abs(crystal.lattice - structure.lattice.matrix).max()
    coordinate_gap = np.abs(crystal.frac_coords - structure.frac_coords).max()
    if max(lattice_gap, coordinate_gap) > TOLERANCE:
        return f"lattice by {lattice_gap:.1e} Å, coordinates by {coordinate_gap:.1e}"
    return ""


def print_row(name: str, counts: np.ndarray) -> None:
    files, fast, wrong, ours, theirs = counts
    if files:
        print(
            f"{name:20} {files:6.0f} {100 * fast / files:7.1f} {wrong:8.0f} {1e3 * ours / files:8.3f} "
            f"{1e3 * theirs / files:11.2f} {theirs / ours:7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
