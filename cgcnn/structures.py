"""Files → crystals: CIF, POSCAR and pymatgen's JSON, and where they lie in a folder."""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgcnn import cif
from cgcnn.cif import StructureError
from cgcnn.crystal import FULL, Crystal, checked_crystal

if TYPE_CHECKING:
    from pymatgen.core import Structure

_SUFFIXES = (".cif", ".json", ".vasp", ".poscar", ".contcar")
_VASP_NAME = re.compile(r"(?:POSCAR|CONTCAR)[._](.+)", flags=re.DOTALL)


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
            parser = CifParser.from_str(text, occupancy_tolerance=FULL, check_cif=False)
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
        frac_coords = np.array([site["abc"] for site in sites], dtype=float).reshape(len(sites), 3)
        species = [[(str(each["element"]), float(each["occu"])) for each in site["species"]] for site in sites]
    except StructureError:
        raise
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise StructureError("the JSON holds no pymatgen Structure") from error
    return checked_crystal(matrix, frac_coords, species)
