"""Files → crystals: CIF, POSCAR and pymatgen's JSON, and where they lie in a folder."""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgcnn import cif
from cgcnn.cif import ATOMIC_NUMBERS, StructureError

if TYPE_CHECKING:
    from pymatgen.core import Structure

_SYMBOLS = {number: symbol for symbol, number in ATOMIC_NUMBERS.items() if symbol not in ("D", "T")}
_FORMULA_ORDER = {symbol: place for place, symbol in enumerate(cif.SYMBOLS_BY_ELECTRONEGATIVITY)}
# Occupancies that add up to 1 on paper may add up to a little more in floating point.
_FULL = 1 + 1e-6
# A disordered formula has up to so many atoms of an element, each amount this near. The product of the two is less
# than 1, so that no formula passes for a smaller one.
_MOST_ATOMS, _NEAR = 100, 0.005
_SUFFIXES = (".cif", ".json", ".vasp", ".poscar", ".contcar")
_VASP_NAME = re.compile(r"(?:POSCAR|CONTCAR)[._](.+)", flags=re.DOTALL)


@dataclass(frozen=True, eq=False)
class Crystal:
    """A periodic crystal of N sites that S species share; S = N where every site holds one element.

    lattice: (3, 3) float64 Å, rows a, b, c. frac_coords: (N, 3) float64, not always in [0, 1). numbers: (S,)
    uint8 atomic numbers, without oxidation states and isotopes. occupancies: (S,) float64 in (0, 1], how much
    of its site a species holds. site: (S,) int32 in 0..N-1, ascending.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    numbers: np.ndarray
    occupancies: np.ndarray
    site: np.ndarray

    @property
    def num_sites(self) -> int:
        return len(self.frac_coords)

    @property
    def is_ordered(self) -> bool:
        """Whether every site is full of one element."""
        return len(self.numbers) == self.num_sites and bool((np.abs(self.occupancies - 1) < 1e-8).all())

    @property
    def reduced_formula(self) -> str:
        """Elements by electronegativity with their amounts in `formula_unit`."""
        unit = formula_unit(self.numbers, self.occupancies)
        amounts = {_SYMBOLS[number]: amount for number, amount in unit.items()}
        order = sorted(amounts, key=lambda symbol: (_FORMULA_ORDER.get(symbol, math.inf), symbol))
        return "".join(f"{symbol}{amounts[symbol]:.8g}" if amounts[symbol] != 1 else symbol for symbol in order)

    def to_structure(self) -> Structure:
        """The same crystal as a pymatgen Structure."""
        from pymatgen.core import Structure

        species: list[dict[str, float]] = [{} for _ in range(self.num_sites)]
        rows = zip(self.site.tolist(), self.numbers.tolist(), self.occupancies.tolist(), strict=True)
        for site, number, occupancy in rows:
            species[site][_SYMBOLS[number]] = occupancy
        return Structure(self.lattice, species, self.frac_coords)

    @classmethod
    def from_structure(cls, structure: Structure) -> Crystal:
        """The crystal of a pymatgen Structure.

        Species of one element on one site (Fe2+ and Fe3+, H and D) become one; X next to other species is a
        vacancy. Raises StructureError where there is no usable crystal in it.
        """
        sites = [[(species.symbol, amount) for species, amount in site.species.items()] for site in structure]
        return _checked_crystal(structure.lattice.matrix, structure.frac_coords, sites)


def formula_unit(numbers: np.ndarray, occupancies: np.ndarray) -> dict[int, float]:
    """Atomic number → amount in one formula unit, the same for every cell of a crystal; S species as in Crystal.

    Where all sites are full: whole numbers without a common divisor. Otherwise the smallest whole numbers that
    are the amounts to 0.005, so that 0.333 counts as a third; where more than 100 atoms of an element would be
    needed, the amounts over the largest, to three digits.
    """
    totals = np.bincount(numbers, weights=occupancies)
    present = np.flatnonzero(totals)
    amounts = totals[present]
    if (np.abs(occupancies - 1) < 1e-6).all():
        unit = amounts / np.gcd.reduce(amounts.round().astype(int))
    else:
        shares = (amounts / amounts.max()).round(6)  # without what the order of a sum changes
        multiples = np.outer(np.arange(1, _MOST_ATOMS + 1), shares)
        whole = multiples.round()
        fits = ((np.abs(multiples - whole) < _NEAR) & (whole > 0)).all(axis=1)
        unit = whole[fits.argmax()] if fits.any() else np.array([float(f"{share:.3g}") for share in shares])
    return dict(zip(present.tolist(), unit.tolist(), strict=True))


def read_crystal(path: str | os.PathLike) -> Crystal:
    """The crystal in a CIF, a POSCAR or CONTCAR, or a JSON file of pymatgen's ``Structure.as_dict``.

    The sites of a CIF and their order are those of pymatgen's ``Structure.from_file``. Raises StructureError
    where the file cannot be read, is of another kind, or gives no usable crystal.
    """
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in _SUFFIXES and not name.startswith(("POSCAR", "CONTCAR")):
        raise StructureError(f"its suffix {suffix!r} is none of {' '.join(_SUFFIXES)}")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise StructureError(f"cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if not text or text.isspace():
        raise StructureError("the file is empty")
    if suffix == ".cif":
        return _read_cif(text)
    return _read_json(text) if suffix == ".json" else _read_poscar(text)


def find_structure_files(folder: str | os.PathLike) -> dict[str, Path]:
    """Id → structure file of a folder, sorted by id; see `find_structure_names`."""
    return {crystal_id: Path(name) for crystal_id, name in find_structure_names(folder).items()}


def find_structure_names(folder: str | os.PathLike) -> dict[str, str]:
    """Id → name of the structure file of a folder, sorted by id; a string takes a third of the memory of a Path.

    Files ``<id>.cif`` (or .json, .vasp, .poscar, .contcar, in any case; not atom_init.json), ``POSCAR_<id>``,
    ``POSCAR.<id>`` (or CONTCAR), and sub-folders ``<id>`` with a CONTCAR or else a POSCAR; no hidden ones.
    Raises StructureError if the folder cannot be listed or one id has two files.
    """
    found: dict[str, str] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                # The second is_dir follows links, a stat each: not for files by the hundred thousand.
                crystal_id = None if entry.is_dir(follow_symlinks=False) else _file_id(entry.name)
                file = entry.path
                if crystal_id is None and not entry.name.startswith(".") and entry.is_dir():
                    crystal_id, file = entry.name, _calculation_file(entry.path)
                if crystal_id is None or file is None:
                    continue
                if crystal_id in found:
                    names = sorted(os.path.relpath(name, folder) for name in (found[crystal_id], file))
                    raise StructureError(f"two files for {crystal_id}: {names[0]} and {names[1]}")
                found[crystal_id] = file
    except OSError as error:
        raise StructureError(f"the folder cannot be listed: {error.strerror}") from error
    return {crystal_id: found[crystal_id] for crystal_id in sorted(found)}


def _file_id(name: str) -> str | None:
    stem, suffix = os.path.splitext(name)
    if name.startswith(".") or name.lower() == "atom_init.json":
        return None
    if suffix.lower() in _SUFFIXES:
        return stem
    match = _VASP_NAME.fullmatch(name)
    return match.group(1) if match else None


def _calculation_file(folder: str) -> str | None:
    """A calculation's CONTCAR, or its POSCAR where there is none or an unfinished run left it empty."""
    files = [file for name in ("CONTCAR", "POSCAR") if os.path.isfile(file := os.path.join(folder, name))]
    return max(files, key=lambda file: os.path.getsize(file) > 0, default=None)


def _read_cif(text: str) -> Crystal:
    if (plain := cif.read_plain_cif(text)) is None:
        return Crystal.from_structure(_cif_structure(text))
    num_sites = len(plain[2])
    return Crystal(*plain, np.ones(num_sites), np.arange(num_sites, dtype=np.int32))


def _cif_structure(text: str) -> Structure:
    """The first structure of a CIF, as pymatgen's ``Structure.from_file`` gives it."""
    parser = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pymatgen.io.cif import CifParser

        # On files out of spec, IndexError, TypeError and others come through.
        try:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            parser = CifParser.from_str(text, occupancy_tolerance=_FULL, check_cif=False)
            return parser.parse_structures(primitive=False, on_error="ignore")[0]
        except Exception as error:
            cause = error
    if not re.search(r"^\s*data_", text, flags=re.MULTILINE):
        raise StructureError("not a CIF: it has no data_ block") from cause
    # pymatgen keeps the reason of each block, and then only says that there is no structure.
    reasons = [line for line in getattr(parser, "warnings", []) if line.startswith("No structure parsed")]
    reason = " ".join((reasons[-1].partition("\n")[2] if reasons else str(cause)).split())
    if total := re.match(r"Occupancy (\S+) exceeded", reason):
        reason = f"occupancies on one site add up to {float(total.group(1)):g}, more than 1"
    raise StructureError(f"no crystal can be read from this CIF: {reason}") from cause


def _read_poscar(text: str) -> Crystal:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Where a POSCAR names no elements, pymatgen would go on with H, He, Li, ...
        warnings.filterwarnings("error", message="Elements in POSCAR cannot be determined")
        from pymatgen.io.vasp.inputs import Poscar

        try:
            structure = Poscar.from_str(text.replace("\r\n", "\n"), read_velocities=False).structure
        except Exception as error:
            reason = " ".join(str(error).partition(". Defaulting")[0].split())
            raise StructureError(f"the POSCAR cannot be read: {reason}") from error
    return Crystal.from_structure(structure)


def _read_json(text: str) -> Crystal:
    """Read without pymatgen: its decoder would import and call whatever the file names."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StructureError(f"not JSON: {error}") from error
    try:
        content = content.get("structure", content)
        lattice, sites = content["lattice"], content["sites"]
        if (matrix := lattice.get("matrix")) is None:
            parameters = [float(lattice[name]) for name in ("a", "b", "c", "alpha", "beta", "gamma")]
            matrix = cif.lattice_from_parameters(parameters[:3], parameters[3:])
        matrix = np.array(matrix, dtype=float).reshape(3, 3)
        frac_coords = np.array([site["abc"] for site in sites], dtype=float).reshape(-1, 3)
        species = [[(each["element"], float(each["occu"])) for each in site["species"]] for site in sites]
    except StructureError:
        raise
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise StructureError("the JSON holds no pymatgen Structure") from error
    return _checked_crystal(matrix, frac_coords, species)


def _checked_crystal(lattice: np.ndarray, frac_coords: np.ndarray, sites: list[list[tuple[str, float]]]) -> Crystal:
    """Crystal of (symbol, occupancy) pairs, one list a site; raises StructureError if it cannot be one."""
    if not sites:
        raise StructureError("has no atom sites")
    if not np.isfinite(frac_coords).all():
        raise StructureError("a coordinate is not a finite number")
    reach = cif.MIN_DISTANCE * cif.inverse_spacings(lattice)
    held = [_elements(site) for site in sites]
    totals = [sum(site.values()) for site in held]
    for number, total in enumerate(totals, start=1):
        if not 0 < total <= _FULL:
            raise StructureError(f"occupancies on atom site {number} add up to {total:g}")
    for i, j in cif.close_pairs(frac_coords, reach):
        gap = frac_coords[i] - frac_coords[j]
        distance = np.linalg.norm((gap - np.rint(gap)) @ lattice)
        # Parts of one split site may all but coincide; what fills the same place twice may not.
        if distance < cif.MIN_DISTANCE and totals[i] + totals[j] > _FULL:
            raise StructureError(f"atoms {i + 1} and {j + 1} are {distance:.4f} Å apart")
    return Crystal(
        np.array(lattice, dtype=float),
        np.array(frac_coords, dtype=float),
        np.array([number for site in held for number in site], dtype=np.uint8),
        np.array([min(occupancy, 1.0) for site in held for occupancy in site.values()]),
        np.repeat(np.arange(len(held), dtype=np.int32), [len(site) for site in held]),
    )


def _elements(site: list[tuple[str, float]]) -> dict[int, float]:
    """Atomic number → occupancy on one site, vacancies left out."""
    held: dict[int, float] = {}
    for symbol, occupancy in site:
        if symbol == "X" and len(site) > 1:
            continue
        if symbol not in ATOMIC_NUMBERS:
            raise StructureError(f"unknown element {symbol!r}")
        if not occupancy > 0:
            raise StructureError(f"occupancy {occupancy:g} of {symbol} is not positive")
        number = ATOMIC_NUMBERS[symbol]
        held[number] = held.get(number, 0.0) + occupancy
    return held
