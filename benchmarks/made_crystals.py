"""As many crystals as one asks for, from real ones: cells strained, elements replaced by similar ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import gemmi
import numpy as np

from cgcnn.crystal import Crystal
from cgcnn.files import replacing
from cgcnn.structures import StructureError, find_structure_files, read_crystal

STRAIN = 0.02  # deviation of each component
SHARE_REPLACED = 0.5  # of the elements of a crystal
SIMILAR = (
    *("Li Na K Rb Cs", "Be Mg Ca Sr Ba", "F Cl Br I", "O S Se Te", "N P As Sb Bi", "B Al Ga In Tl", "C Si Ge Sn Pb"),
    *("Sc Y La Ce Pr Nd Sm Gd Tb Dy Ho Er Tm Lu", "Ti Zr Hf", "V Nb Ta", "Cr Mo W", "Mn Tc Re", "Fe Ru Os"),
    *("Co Rh Ir", "Ni Pd Pt", "Cu Ag Au", "Zn Cd Hg"),
)
GROUP_OF = {symbol: group.split() for group in SIMILAR for symbol in group.split()}
_SITE_TAGS = ("type_symbol", "label", "fract_x", "fract_y", "fract_z", "occupancy")
LABELS = ("volume_per_atom", "mean_atomic_number")  # Å³; what is learned does not matter here


def read_sources(folders: Sequence[Path]) -> list[Crystal]:
    """The ordered crystals of some folders of structure files. Raises OSError for a folder without any."""
    crystals = []
    for folder in folders:
        try:
            files = find_structure_files(folder)
        except StructureError as error:
            raise OSError(f"{folder}: {error}") from None
        found = [crystal for path in files.values() if (crystal := _ordered(path))]
        if not found:
            raise OSError(f"{folder}: no ordered crystals")
        crystals += found
    return crystals


def made(sources: Sequence[Crystal], count: int, *, seed: int = 0) -> Iterator[tuple[str, Crystal]]:
    """Ids and crystals, taken from the sources in turn; the first of them are the same for every count."""
    for k in range(count):
        yield f"made-{k:07}", varied(sources[k % len(sources)], np.random.default_rng((seed, k)))


def varied(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """The crystal under a random strain, some elements replaced, and the cell scaled with their covalent radii."""
    chosen = np.arange(119, dtype=np.uint8)
    for number in np.unique(crystal.numbers):
        symbol = gemmi.Element(int(number)).name
        if symbol in GROUP_OF and rng.random() < SHARE_REPLACED:
            chosen[number] = gemmi.Element(str(rng.choice(GROUP_OF[symbol]))).atomic_number
    numbers = chosen[crystal.numbers]
    strain = rng.normal(0, STRAIN, (3, 3))
    lattice = crystal.lattice @ (np.eye(3) + (strain + strain.T) / 2)
    scale = _mean_radius(numbers) / _mean_radius(crystal.numbers)
    return Crystal(lattice * scale, crystal.frac_coords, numbers, crystal.occupancies, crystal.site)


def write_json_lines(path: Path, crystals: Iterator[tuple[str, Crystal]]) -> None:
    """One JSON-lines data file, an entry a crystal, with its labels."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for crystal_id, crystal in crystals:
            entry = {"id": crystal_id, "structure": _as_dict(crystal), **labels(crystal)}
            file.write(json.dumps(entry, separators=(",", ":")) + "\n")


def write_folder(folder: Path, crystals: Iterator[tuple[str, Crystal]]) -> None:
    """A data folder, a CIF a crystal; its table comes last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [",".join(("cif_id", *LABELS))]
    for crystal_id, crystal in crystals:
        (folder / f"{crystal_id}.cif").write_text(cif_text(crystal), encoding="utf-8")
        rows.append(",".join([crystal_id, *(repr(value) for value in labels(crystal).values())]))
    with replacing(folder / "id_prop.csv") as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")


def labels(crystal: Crystal) -> dict[str, float]:
    """Name → number of each of LABELS."""
    volume = abs(float(np.linalg.det(crystal.lattice))) / crystal.num_sites
    return dict(zip(LABELS, (round(volume, 6), round(float(crystal.numbers.mean()), 6)), strict=True))


def cif_text(crystal: Crystal) -> str:
    """An ordered crystal as a CIF in P1; its cell is turned into the standard orientation."""
    lengths = np.linalg.norm(crystal.lattice, axis=1)
    units = crystal.lattice / lengths[:, None]
    angles = [math.degrees(math.acos(float(units[i] @ units[j]))) for i, j in ((1, 2), (0, 2), (0, 1))]
    lines = ["data_made", "_symmetry_space_group_name_H-M   'P 1'"]
    lines += [f"_cell_length_{name}   {x:.8f}" for name, x in zip("abc", lengths, strict=True)]
    lines += [f"_cell_angle_{name}   {x:.8f}" for name, x in zip(("alpha", "beta", "gamma"), angles, strict=True)]
    lines += ["loop_", " _symmetry_equiv_pos_site_id", " _symmetry_equiv_pos_as_xyz", "  1  'x, y, z'", "loop_"]
    lines += [
        f" _atom_site_{name}" for name in ("type_symbol", "label", "fract_x", "fract_y", "fract_z", "occupancy")
    ]
    symbols = [gemmi.Element(int(number)).name for number in crystal.numbers]
    for k, (symbol, (x, y, z)) in enumerate(zip(symbols, crystal.frac_coords.tolist(), strict=True)):
        lines.append(f"  {symbol}  {symbol}{k}  {x:.8f}  {y:.8f}  {z:.8f}  1")
    return "\n".join(lines) + "\n"


def _ordered(path: Path) -> Crystal | None:
    try:
        crystal = read_crystal(path)
    except StructureError:
        return None
    return crystal if crystal.is_ordered else None


def _mean_radius(numbers: np.ndarray) -> float:
    return float(np.mean([gemmi.Element(int(number)).covalent_r for number in numbers]))


def _as_dict(crystal: Crystal) -> dict:
    """As pymatgen's Structure.as_dict, without what can be computed."""
    sites = [
        {"species": [{"element": gemmi.Element(int(number)).name, "occu": 1}], "abc": place}
        for number, place in zip(crystal.numbers, crystal.frac_coords.round(8).tolist(), strict=True)
    ]
    return {"lattice": {"matrix": crystal.lattice.round(8).tolist()}, "sites": sites}
