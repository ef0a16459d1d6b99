"""Build the crystals and the id_prop.csv of this folder from a space group, cells and occupancies.

    python vacancy_data/make_vacancy_data.py --out-dir DIR

The formation energies are an illustration, not DFT: see `toy_formation_energy`.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
from make_li_vac import ID_PROP, ID_PROP_HEADER, cif_text, read_structure, write_files
from pymatgen.core import Lattice, Structure
from vacancies import Supercell, VacancyError, distinct, make_vacancies, order_sites

OXYGEN_Z = 0.258  # metal–O 1.97 Å, Li–O 2.10 Å
AUG_COUNT, AUG_SEED = 3, 42
ORDERED: dict[Supercell, int] = {(2, 2, 1): 3, (3, 2, 1): 6, (4, 2, 1): 2, (3, 3, 1): 1}
# (supercell, seed, vacancies, crystals)
VACANT: list[tuple[Supercell, int, int, int]] = [
    ((2, 2, 1), 1, 1, 2),
    ((2, 2, 1), 2, 2, 2),
    ((2, 2, 1), 3, 4, 2),
    ((2, 2, 1), 4, 6, 2),
    ((3, 2, 1), 5, 3, 2),
    ((3, 2, 1), 6, 6, 2),
    ((4, 2, 1), 7, 3, 1),
    ((3, 3, 1), 8, 3, 1),
]

BOND_LENGTH, PAIR_LENGTH = 2.4, 3.2  # Å
BOND_ENERGY = {"Li": -0.86, "Ni": -0.52, "Co": -0.75, "Mn": -1.00, "Al": -1.59}  # eV per bond to O
CHARGE = {"Li": 1.0, "Ni": 2.8, "Co": 3.0, "Mn": 4.0, "Al": 3.0}  # e
REPULSION = 0.15  # eV Å / e²


@dataclass(frozen=True)
class Host:
    """A layered oxide LiMO2, R-3m: name, hexagonal a and c in Å, share of each metal on the M site."""

    name: str
    a: float
    c: float
    metals: tuple[tuple[str, float], ...]

    def structure(self) -> Structure:
        """The average structure of 12 sites: Li on 3b, metals on 3a, O on 6c."""
        species = ["Li", dict(self.metals), "O"]
        places = [[0, 0, 0.5], [0, 0, 0], [0, 0, OXYGEN_Z]]
        return Structure.from_spacegroup("R-3m", Lattice.hexagonal(self.a, self.c), species, places)


HOSTS = (
    Host("NCA", 2.863, 14.18, (("Ni", 0.80), ("Co", 0.15), ("Al", 0.05))),
    Host("NCM811", 2.873, 14.21, (("Ni", 0.80), ("Co", 0.10), ("Mn", 0.10))),
)


def toy_formation_energy(structure: Structure) -> float:
    """Illustrative energy in eV/atom; sites with partial occupancies count with their averages.

    A sum over cation–O bonds, and a screened repulsion of neighbouring cations, which makes the
    energy depend on which metals surround a vacancy and on how the vacancies lie to each other:
    E = (Σ_bonds b(cation) + Σ_pairs k q q' / d) / atoms. The parameters are chosen to give about
    -1.5 eV/atom for the pristine oxides and to cost about 4 eV for a vacancy.
    """

    def site_means(table: dict[str, float]) -> np.ndarray:
        values = [sum(table.get(e.symbol, 0.0) * x for e, x in site.species.items()) for site in structure]
        return np.array(values)

    bond, charge, oxygen = site_means(BOND_ENERGY), site_means(CHARGE), site_means({"O": 1.0})
    i, j, _, distance = structure.get_neighbor_list(PAIR_LENGTH)
    bonds = np.sum((bond[i] * oxygen[j])[distance < BOND_LENGTH])
    pairs = np.sum(REPULSION * charge[i] * charge[j] / distance) / 2
    return float((bonds + pairs) / structure.composition.num_atoms)


def build_crystals() -> dict[str, tuple[str, float, int]]:
    """cif_id → CIF text, toy formation energy (eV/atom), defect label (1 with Li vacancies, else 0)."""
    crystals = {}

    def add(cif_id: str, structure: Structure, label: int, symprec: float | None = None) -> None:
        energy = toy_formation_energy(structure)
        crystals[cif_id] = cif_text(structure, symprec), energy, label

    for host in HOSTS:
        pristine = f"{host.name}_LiVac0"
        add(pristine, host.structure(), 0, symprec=1e-3)
        # Read back, so that make_li_vac.py makes the same from the file.
        average = read_structure(io.StringIO(crystals[pristine][0]))
        for n, structure in enumerate(make_vacancies(average, AUG_COUNT, seed=AUG_SEED)):
            add(f"{pristine}_aug{n}", structure, 1)
        for size, number in ORDERED.items():
            orders = (order_sites(average * size, random.Random(seed)) for seed in count())
            for n, structure in enumerate(islice(distinct(orders), number)):
                add(f"{host.name}_{'x'.join(map(str, size))}_ordered{n}", structure, 0)
        for size, seed, vacancies, number in VACANT:
            made = make_vacancies(average, number, seed=seed, n_vacancies=vacancies, supercell=size)
            for n, structure in enumerate(made):
                add(f"{host.name}_{'x'.join(map(str, size))}_vac{vacancies}_{n}", structure, 1)
    return crystals


def build_folder(out_dir: Path, *, force: bool = False) -> int:
    """Write the CIFs and id_prop.csv; VacancyError if other content is in the way. Returns the crystals."""
    crystals = build_crystals()
    texts = {out_dir / f"{cif_id}.cif": text for cif_id, (text, _, _) in crystals.items()}
    rows = [f"{cif_id},{energy:.5f},{label}" for cif_id, (_, energy, label) in crystals.items()]
    texts[out_dir / ID_PROP] = "\n".join([",".join(ID_PROP_HEADER), *rows, ""])
    write_files(texts, force=force)
    return len(crystals)


def main() -> int:
    """Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).parent, help="default: this folder")
    parser.add_argument("--force", action="store_true", help="overwrite existing files that differ")
    args = parser.parse_args()
    try:
        print(f"{build_folder(args.out_dir, force=args.force)} crystals in {args.out_dir}")
    except (VacancyError, OSError) as error:
        print(f"make_vacancy_data.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
