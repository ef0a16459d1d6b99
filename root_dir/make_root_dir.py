"""Build the example data set: crystal structures, labels and their sources, from three small tables.

`materials.csv` holds one row per crystal (prototype, lattice, labels, where each figure comes from),
`prototypes.csv` the space group and sites of each structure type, `references.csv` the full citations.
Run without options to rewrite the folder this script is in:

    python root_dir/make_root_dir.py
    python root_dir/make_root_dir.py --samples data   (the two sample folders instead)
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.groups import SpaceGroup

HERE = Path(__file__).resolve().parent

EV_PER_KJ_PER_MOL = 1 / 96.485

# Rows are the primitive vectors in terms of the conventional ones.
PRIMITIVE = {
    "P": np.eye(3),
    "F": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "I": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
    "C": np.array([[1, -1, 0], [1, 1, 0], [0, 0, 2]]) / 2,
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}

# quantity in sources.csv -> column with the figure, unit, column with the source
LABELS = {
    "work_function": ("work_function_eV", "eV", "work_function_source"),
    "band_gap": ("band_gap_eV", "eV", "band_gap_source"),
    "formation_energy": ("formation_enthalpy_kJ_per_mol", "kJ/mol", "formation_enthalpy_source"),
}


def read_table(name: str) -> list[dict[str, str]]:
    """Rows of one of the input tables."""
    with (HERE / name).open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows as CSV with the same line ends on every platform."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)


def coordinate(text: str, parameters: dict[str, float]) -> float:
    """Value of a coordinate such as `1/3`, `u` or `2x`."""
    factor, name = re.fullmatch(r"(\d*(?:/\d+)?)([a-z]\w*)?", text).groups()
    return float(Fraction(factor or "1")) * (parameters[name] if name else 1.0)


@cache
def space_group(symbol: str) -> SpaceGroup:
    """Space group by symbol, kept because building one takes longer than all the rest of a crystal."""
    return SpaceGroup(symbol)


def lattice_of(material: dict[str, str], crystal_system: str) -> Lattice:
    """Conventional lattice: lengths from the table, angles from the crystal system."""
    a = float(material["a"])
    b = float(material["b"] or a)
    c = float(material["c"] or a)
    gamma = 120 if crystal_system in ("hexagonal", "trigonal") else 90
    return Lattice.from_parameters(a, b, c, 90, 90, gamma)


def orbit(group: SpaceGroup, position: list[float]) -> list[tuple[float, ...]]:
    """Positions equivalent to one site, in an order that does not depend on how the group was generated."""
    # Rounding before wrapping keeps 0.99999999 and 0 from being two ways to write one position.
    return sorted(tuple(np.round(point, 9) % 1.0) for point in group.get_orbit(position, tol=1e-4))


def build_structure(material: dict[str, str], prototype: dict[str, str]) -> Structure:
    """Primitive cell of one crystal; the letters A, B, C of the prototype are its elements in order."""
    elements = dict(zip("ABC", re.findall(r"[A-Z][a-z]?", material["formula"]), strict=False))
    parameters = {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", material["parameters"])}
    group = space_group(prototype["space_group"])
    conventional = lattice_of(material, group.crystal_system)
    lattice = Lattice(PRIMITIVE[group.symbol[0]] @ conventional.matrix)
    species, coords = [], []
    for site in prototype["sites"].split("; "):
        letter, *position = site.split()
        for point in orbit(group, [coordinate(text, parameters) for text in position]):
            frac = lattice.get_fractional_coords(conventional.get_cartesian_coords(point))
            frac = np.round(frac, 9) % 1.0
            # A fixed reduction, not a search, so that the cell cannot depend on a tolerance or a version.
            if all(np.abs((frac - other + 0.5) % 1.0 - 0.5).max() > 1e-4 for other in coords):
                species.append(elements[letter])
                coords.append(frac)
    return Structure(lattice, species, coords)


def composition_features(composition: Composition) -> tuple[float | None, float]:
    """Variance of Pauling electronegativity and mean first ionisation energy (eV), both over atoms."""
    fractions = composition.fractional_composition
    ionisation = sum(x * element.ionization_energies[0] for element, x in fractions.items())
    if any(np.isnan(element.X) for element in fractions):
        return None, ionisation
    mean = sum(x * element.X for element, x in fractions.items())
    return sum(x * (element.X - mean) ** 2 for element, x in fractions.items()), ionisation


def formation_energy(material: dict[str, str]) -> float | None:
    """Formation enthalpy in eV per atom, from the tabulated one in kJ per mole of formula units."""
    enthalpy = material["formation_enthalpy_kJ_per_mol"]
    if not enthalpy:
        return None
    return float(enthalpy) * EV_PER_KJ_PER_MOL / Composition(material["formula"]).num_atoms


def ax_row(material: dict[str, str]) -> list[str]:
    """Row of ax.csv: the two measured labels and three composition-level ones."""
    variance, ionisation = composition_features(Composition(material["formula"]))
    extra = (variance, formation_energy(material), ionisation)
    # Adding 0.0 turns the -0.0 of a rounded negative number into 0.0.
    numbers = ["" if value is None else f"{round(value, 4) + 0.0:.4f}" for value in extra]
    return [material["cif_id"], material["work_function_eV"], material["band_gap_eV"], *numbers]


def source_rows(material: dict[str, str], citations: dict[str, str]) -> list[list[str]]:
    """Rows of sources.csv for one crystal, one per figure."""
    cif_id = material["cif_id"]
    lattice_source = citations[material["lattice_source"]]
    rows = [[cif_id, f"lattice_{x}", material[x], "angstrom", lattice_source] for x in "abc" if material[x]]
    for quantity, (column, unit, source) in LABELS.items():
        if material[column]:
            rows.append([cif_id, quantity, material[column], unit, citations[material[source]]])
    return rows


def write_crystals(out: Path, materials: list[dict[str, str]]) -> None:
    """Write one CIF per crystal, in P1 with every site explicit."""
    prototypes = {row["prototype"]: row for row in read_table("prototypes.csv")}
    out.mkdir(parents=True, exist_ok=True)
    for material in materials:
        structure = build_structure(material, prototypes[material["prototype"]])
        path = out / f"{material['cif_id']}.cif"
        path.write_text(str(CifWriter(structure)), encoding="utf-8", newline="\n")


def write_root_dir(out: Path) -> None:
    """Write every generated file of the example folder into `out`."""
    materials = read_table("materials.csv")
    citations = {row["key"]: row["citation"] for row in read_table("references.csv")}
    write_crystals(out, materials)
    measured = ("work_function", "band_gap")
    extra = ("electronegativity_variance", "formation_energy", "first_ionization_energy_avg")
    labels = [[m["cif_id"], m["work_function_eV"], m["band_gap_eV"]] for m in materials]
    write_table(out / "id_prop.csv", [("cif_id", *measured), *labels])
    write_table(out / "all.csv", [("cif_id", "category"), *([m["cif_id"], m["category"]] for m in materials)])
    write_table(out / "ax.csv", [("cif_id", *measured, *extra), *map(ax_row, materials)])
    sources = [row for material in materials for row in source_rows(material, citations)]
    write_table(out / "sources.csv", [("cif_id", "quantity", "value", "unit", "source"), *sources])


def write_samples(out: Path) -> None:
    """Write the two small single-task folders into `out`."""
    materials = [row for row in read_table("materials.csv") if row["in_samples"] == "yes"]
    for folder, column in (("sample-regression", "band_gap_eV"), ("sample-classification", "category")):
        write_crystals(out / folder, materials)
        write_table(out / folder / "id_prop.csv", ([m["cif_id"], m[column]] for m in materials))


def main(argv: list[str] | None = None) -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write (default: this one)")
    parser.add_argument("--samples", type=Path, help="write only the two sample folders, into this folder")
    args = parser.parse_args(argv)
    if args.samples:
        write_samples(args.samples)
    else:
        write_root_dir(args.out)


if __name__ == "__main__":
    main()
