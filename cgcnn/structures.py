"""Files → crystals: CIF, POSCAR and pymatgen's JSON, and where they lie in a folder."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgcnn import cif
from cgcnn.cif import StructureError
from cgcnn.crystal import FULL, Crystal, checked_crystal
from cgcnn.reading import printable, read_bytes

if TYPE_CHECKING:
    from pymatgen.core import Structure

# pymatgen compares all places that operations give with each other: ten times as many take a hundred times as long.
MAX_OPERATIONS, MAX_PLACES, MAX_OPERATION_LENGTH = 1_000, 20_000, 200
MAX_LINE = 20_000  # characters; pymatgen takes minutes to find the quotes in a much longer one
_OPERATION_TAG = re.compile(r"(symmetry|symop).*[._]xyz$")
# What pymatgen says of files out of spec, where that is about its own code.
_REASONS = (
    (r"not a multiple of n=|zip\(\) argument", "the values of a loop_ do not fill its columns"),
    (r"modulo by zero|division by zero", "a loop_ has no columns"),
    (r"^'?_\w+'?$|^KeyError", "a column of its atom sites is missing"),
    (r"object|index out of range|subscriptable|NoneType|unpack", "it is out of the format"),
)
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
        data = read_bytes(path)
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
    ``POSCAR.<id>`` (or CONTCAR), and sub-folders ``<id>`` with a CONTCAR or else a POSCAR; no hidden ones. What
    cannot be printed of a name stands as its code in the id. Raises StructureError if the folder cannot be listed or
    one id has two files.
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
                crystal_id = printable(crystal_id)
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
            if (longest := max(map(len, text.split("\n")))) > MAX_LINE:
                raise StructureError(f"a line of {longest} characters; the format has at most 2048")
            parser = CifParser.from_str(text, occupancy_tolerance=FULL, check_cif=False)
            _check_operations(parser.as_dict())
            return parser.parse_structures(primitive=False, on_error="ignore")[0]
        except StructureError:
            raise
        except Exception as error:
            cause = error
    if not re.search(r"^\s*data_", text, flags=re.MULTILINE):
        raise StructureError("not a CIF: it has no data_ block") from cause
    # pymatgen keeps the reason of each block, and then only says that there is no structure.
    reasons = [line for line in getattr(parser, "warnings", []) if line.startswith("No structure parsed")]
    reason = " ".join((reasons[-1].partition("\n")[2] if reasons else str(cause)).split())
    if total := re.match(r"Occupancy (\S+) exceeded", reason):
        reason = f"occupancies on one site add up to {float(total.group(1)):g}, more than 1"
    reason = next((words for pattern, words in _REASONS if re.search(pattern, reason)), reason)
    raise StructureError(f"no crystal can be read from this CIF: {reason}") from cause


def _check_operations(blocks: Mapping[str, Mapping[str, object]]) -> None:
    """Raises StructureError for more symmetry than a crystal has; blocks: name → tag → values, as pymatgen's."""
    for block in blocks.values():
        found = [_as_list(held) for tag, held in block.items() if _OPERATION_TAG.search(tag)]
        if (longest := max((len(one) for held in found for one in held), default=0)) > MAX_OPERATION_LENGTH:
            raise StructureError(f"a symmetry operation of {longest} characters")
        operations, sites = max(map(len, found), default=1), len(_as_list(block.get("_atom_site_fract_x", [])))
        if operations > MAX_OPERATIONS:
            raise StructureError(f"{operations} symmetry operations; no space group has more than 192")
        if operations > 1 and operations * sites > MAX_PLACES:
            raise StructureError(f"{operations} symmetry operations of {sites} atom sites are too many places")


def _as_list(held: object) -> list[str]:
    return [str(one) for one in held] if isinstance(held, list) else [str(held)]


def _read_poscar(text: str) -> Crystal:
    _check_announced(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Where a POSCAR names no elements, pymatgen would go on with H, He, Li, ...
        warnings.filterwarnings("error", message="Elements in POSCAR cannot be determined")
        from pymatgen.io.vasp.inputs import Poscar

        try:
            structure = Poscar.from_str(text.replace("\r\n", "\n"), read_velocities=False).structure
        except Exception as error:
            reason = " ".join(str(error).partition(". Defaulting")[0].split())
            if isinstance(error, IndexError) or not reason:
                reason = "it ends too early, or has no atoms"
            raise StructureError(f"the POSCAR cannot be read: {reason}") from error
    return Crystal.from_structure(structure)


def _check_announced(text: str) -> None:
    """Raises StructureError for more atoms than there are lines: pymatgen would make room for them first."""
    lines = text.splitlines()
    for line in lines[5:7]:  # without and with a line of symbols above the numbers
        words = line.split()
        if words and all(word.isdecimal() and len(word) < 100 for word in words):
            if (announced := sum(map(int, words))) > len(lines):
                raise StructureError(f"{announced} atoms are announced, but the file has {len(lines)} lines")
            return


def _read_json(text: str) -> Crystal:
    """Read without pymatgen: its decoder would import and call whatever the file names."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise StructureError("not JSON: too many brackets inside each other") from error
    except ValueError as error:  # of a number of thousands of digits, how to change Python's limit comes last
        raise StructureError(f"not JSON: {str(error).partition(';')[0]}") from error
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
