"""CIF text → arrays, through gemmi, for plain P1 files: no symmetry, every site full of one element.

The sites and their order are those of ``pymatgen.core.Structure.from_file``. A file is read here only where
that is sure; symmetry, disorder, oxidation states, magnetism and files out of spec are left to pymatgen.
Tags are those of the core CIF dictionary (https://www.iucr.org/resources/cif/dictionaries/cif_core).
"""

import math
import re
from collections.abc import Iterator

import gemmi
import numpy as np

from cgcnn.reading import one_line

ATOMIC_NUMBERS = {gemmi.Element(z).name: z for z in range(1, 119)} | {"D": 1, "T": 1}

# pymatgen orders the sites of a CIF by Pauling electronegativity, then by symbol. Elements without an
# electronegativity (He, Ne, Ar, Z > 103) have no place in that order, and D and T none of their own.
SYMBOLS_BY_ELECTRONEGATIVITY = tuple(
    re.findall(
        "[A-Z][a-z]?",
        "FrCsKRbBaRaNaSrLiCaAcLaTbYbCePmPrNdSmEuGdDyYHoErTmLuPuAmBkCfCmEsFmHfLrMdNoThMgZrNpScUPaTaTiMnBe"
        "NbAlTlVZnCrCdInGaFeCoCuReSiTcNiAgSnHgPoGeBiBSbTeMoAsPAtHIrOsPdRnRuPtRhPbWAuCSeSXeIBrKrNClOF",
    )
)
_RANK = {symbol: rank for rank, symbol in enumerate(SYMBOLS_BY_ELECTRONEGATIVITY)}
_NUMBER_OF_RANK = np.array([ATOMIC_NUMBERS[symbol] for symbol in SYMBOLS_BY_ELECTRONEGATIVITY], dtype=np.uint8)

MIN_DISTANCE = 0.01
"""Å; a thinner cell has no volume to speak of, and two atoms this close are one atom written twice."""

LARGEST_CELL = 1e5
"""Å; no cell of a crystal has a longer edge, and products of longer ones overflow."""

FARTHEST_WRAPPED = 1e6
"""Cells; the place of an atom that lies farther away is not known to the 1e-4 Å that bonds need."""

# pymatgen merges sites less than 1e-4 apart in all fractional coordinates; a little more covers rounding.
_MERGE_REACH = 1.1e-4
PAIRS_AT_ONCE = 2_000_000
_IDEAL_FRACTIONS = (1 / 3, 2 / 3)
_IDEAL_TOLERANCE = 1e-4

_CELL_TAGS = [f"_cell_length_{axis}" for axis in "abc"]
_CELL_TAGS += [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
_CELL_SETTINGS = {"_symmetry_cell_setting", "_space_group_crystal_system"}
_FRACT_TAGS = [f"_atom_site_fract_{axis}" for axis in "xyz"]
_SYMMETRY_TAG = re.compile(r"_(symmetry|space_group).*(xyz|h[-_]m|hall|int_tables_number|it_number)")
_P1_NAMES = {"p1", "1", "?", "."}
_BEYOND_P1 = ("_atom_type_oxidation_number", "_space_group_magn", "_space_group_symop_magn", "_atom_site_mom")

_LETTERS = re.compile("[A-Za-z]*")
# pymatgen drops these, or takes them for one atom of the group, or for tungsten and vanadium.
_NOT_ONE_ATOM = ("OH", "Wat", "wat", "WAT", "NO3", "Vac", "VAC")


class StructureError(ValueError):
    """A file that does not give a usable crystal; the message is one line, without the path."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(str(message)))


def lattice_from_parameters(lengths: list[float], angles: list[float]) -> np.ndarray:
    """Cell lengths (Å) and angles (degrees) → (3, 3) rows a, b, c in Å, with c along z and a in the xz plane.

    Raises StructureError where no cell has these parameters.
    """
    if not all(0 < length < np.inf for length in lengths) or not all(0 < angle < 180 for angle in angles):
        raise StructureError(f"no cell has lengths {lengths} Å and angles {angles} degrees")
    a, b, c = lengths
    radians = np.radians(angles)
    cos_alpha, cos_beta, cos_gamma = np.cos(radians)
    sin_alpha, sin_beta, _ = np.sin(radians)
    cos_gamma_star = (cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta)
    # Through the angle, not sqrt(1 - cos²): distances then agree with pymatgen's to the last bit.
    gamma_star = np.arccos(min(max(cos_gamma_star, -1.0), 1.0))
    return np.array(
        [
            [a * sin_beta, 0.0, a * cos_beta],
            [-b * sin_alpha * np.cos(gamma_star), b * sin_alpha * np.sin(gamma_star), b * cos_alpha],
            [0.0, 0.0, c],
        ]
    )


def inverse_spacings(lattice: np.ndarray) -> np.ndarray:
    """(3,) 1/Å: one over the distances between opposite faces of the (3, 3) cell; StructureError if flat."""
    if not np.isfinite(lattice).all():
        raise StructureError("the cell is not finite")
    if (longest := np.abs(lattice).max()) > LARGEST_CELL:
        raise StructureError(f"the cell is {longest:.3g} Å long, more than any crystal's")
    try:
        with np.errstate(all="ignore"):
            spacings = np.linalg.norm(np.linalg.inv(lattice), axis=0)
    except np.linalg.LinAlgError:
        spacings = np.array([np.inf])
    if not spacings.max() <= 1 / MIN_DISTANCE:
        raise StructureError("the cell has no volume")
    return spacings


def close_pairs(frac_coords: np.ndarray, reach: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs i < j of sites (N, 3) within ``reach`` (3,) of an image in all three coordinates, in parts (P,), (P,)."""
    # In blocks of rows, so that ten thousand sites, in one place at worst, do not take gigabytes.
    rows = max(1, PAIRS_AT_ONCE // max(1, len(frac_coords)))
    for start in range(0, len(frac_coords), rows):
        block = frac_coords[start : start + rows]
        gap = np.subtract.outer(block[:, 0], frac_coords[:, 0])
        gap -= np.rint(gap)
        i, j = np.nonzero(np.abs(gap) < reach[0])
        i, j = i[i + start < j], j[i + start < j]
        if len(i):
            gap = block[i] - frac_coords[j]
            near = (np.abs(gap - np.rint(gap)) < reach).all(axis=1)
            if near.any():
                yield i[near] + start, j[near]


def read_plain_cif(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Lattice (3, 3) Å, fractional coordinates (N, 3) in [0, 1) and atomic numbers (N,) of a plain P1 CIF.

    None where pymatgen has to read it. Raises StructureError where nobody can, or where pymatgen would read
    something else than the file says without a word: an unknown symbol as the element of its first letter, a
    coordinate '.' as 0, a group of atoms as one atom or none.
    """
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError):
        return None
    blocks = [_tags(block) for block in document]
    block = next((tags for tags in blocks if "_atom_site_label" in tags or _FRACT_TAGS[0] in tags), None)
    if block is None:
        raise StructureError("has no atom sites")
    symbols, frac_coords, ordered = _atom_sites(block)
    cell = _cell(block)

    ranks = {symbol: _RANK.get(_LETTERS.match(symbol).group(), -1) for symbol in set(symbols)}
    if len(blocks) > 1 or cell is None or not ordered or min(ranks.values()) < 0 or not _is_p1(block):
        return None
    lattice = lattice_from_parameters(cell[:3], cell[3:])
    reach = np.maximum(_MERGE_REACH, MIN_DISTANCE * inverse_spacings(lattice))

    for ideal in _IDEAL_FRACTIONS:
        np.copyto(frac_coords, ideal, where=np.abs(frac_coords / ideal - 1) <= _IDEAL_TOLERANCE)
    frac_coords -= np.floor(frac_coords)
    if next(close_pairs(frac_coords, reach), None) is not None:
        return None
    site_ranks = np.array([ranks[symbol] for symbol in symbols])
    order = np.argsort(site_ranks, kind="stable")
    return lattice, frac_coords[order], _NUMBER_OF_RANK[site_ranks[order]]


def _tags(block: gemmi.cif.Block) -> dict[str, list[str]]:
    """Lower-case tag → raw values, quotes included; a value outside a loop is a list of one."""
    tags: dict[str, list[str]] = {}
    for item in block:
        if (loop := item.loop) is not None:
            values, names = loop.values, loop.tags
            tags.update((name.lower(), values[k :: len(names)]) for k, name in enumerate(names))
        elif (pair := item.pair) is not None:
            tags[pair[0].lower()] = [pair[1]]
            # pymatgen would take each letter of the one label for a site.
            if pair[0].lower() in _FRACT_TAGS:
                raise StructureError("its atom sites are not in a loop_")
    return tags


def _atom_sites(block: dict[str, list[str]]) -> tuple[list[str], np.ndarray, bool]:
    """Symbols (N), fractional coordinates (N, 3) as written, and whether each site is full of one element."""
    if any(tag not in block for tag in _FRACT_TAGS):
        raise StructureError("its atom sites have no fractional coordinates")
    is_typed = "_atom_site_type_symbol" in block
    if not is_typed and "_atom_site_label" not in block:
        raise StructureError("its atom sites have no symbols")
    symbols = [_unquoted(raw) for raw in block["_atom_site_type_symbol" if is_typed else "_atom_site_label"]]
    if not symbols:
        raise StructureError("has no atom sites")
    labels = block.get("_atom_site_label", symbols)
    occupancies = block.get("_atom_site_occupancy", ["1"] * len(symbols))
    columns = [block[tag] for tag in _FRACT_TAGS]
    if any(len(column) != len(symbols) for column in [labels, occupancies, *columns]):
        raise StructureError("its atom sites are not in one loop")

    # '0.8Nb + 0.2Zr', several elements in one symbol: the Pauling file's way of writing disorder.
    is_mixed = is_typed and any(" + " in symbol for symbol in symbols)
    if not is_mixed:
        for symbol in set(symbols):
            _check_symbol(symbol, is_typed)
    coordinates = [_floats(column, labels, "coordinate") for column in columns]
    if (farthest := max(max(map(abs, column)) for column in coordinates)) > FARTHEST_WRAPPED:
        raise StructureError(f"an atom lies {farthest:.3g} cells away from its cell")
    # '?' is an occupancy that nobody determined: full, as for pymatgen.
    shares = _floats(["1" if raw == "?" else raw for raw in occupancies], labels, "occupancy")
    if min(shares) < 0:
        raise StructureError(f"occupancy {min(shares):g} is negative")
    return symbols, np.array(coordinates).T, not is_mixed and all(share == 1 for share in shares)


def _cell(block: dict[str, list[str]]) -> list[float] | None:
    """Lengths (Å) and angles (degrees); None where pymatgen may fill some in from the crystal system."""
    missing = [tag for tag in _CELL_TAGS if len(block.get(tag, [])) != 1]
    if not missing:
        return [_floats(block[tag], [tag], "value")[0] for tag in _CELL_TAGS]
    if missing == _CELL_TAGS or not _CELL_SETTINGS & block.keys():
        raise StructureError(f"has no unit cell: {missing[0]} is missing")
    return None


def _is_p1(block: dict[str, list[str]]) -> bool:
    """Whether the block has no symmetry but the identity, no magnetism and no oxidation states."""
    for tag, values in block.items():
        if tag.startswith(_BEYOND_P1):
            return False
        if _SYMMETRY_TAG.match(tag):
            allowed = {"x,y,z"} if "xyz" in tag else _P1_NAMES
            if {re.sub(r"[\s_+'\"]", "", value).lower() for value in values} - allowed or len(values) != 1:
                return False
    return True


def _check_symbol(symbol: str, is_typed: bool) -> None:
    letters = _LETTERS.match(symbol).group()
    if symbol.startswith(_NOT_ONE_ATOM):
        raise StructureError(f"atom site {symbol!r} is not one atom of one element")
    # X is a vacancy. In a label, unlike in a type symbol, letters after the element may be anything.
    is_element = letters[:2].title() in ATOMIC_NUMBERS or letters == "X"
    if not is_element and (is_typed or letters[:1].upper() not in ATOMIC_NUMBERS):
        raise StructureError(f"unknown element {letters or symbol!r}")


def _unquoted(raw: str) -> str:
    return gemmi.cif.as_string(raw) if raw[0] in "'\";" else raw


def _floats(column: list[str], labels: list[str], what: str) -> list[float]:
    """Raw values as numbers, uncertainties left out; StructureError names the atom of a bad one."""
    try:
        numbers = list(map(float, column))
        if all(map(math.isfinite, numbers)):
            return numbers
    except ValueError:
        pass
    numbers = []
    for raw, label in zip(column, labels, strict=True):
        try:
            number = float(_unquoted(raw).partition("(")[0])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise StructureError(f"{what} {raw} of {_unquoted(label)} is not a finite number")
        numbers.append(number)
    return numbers
