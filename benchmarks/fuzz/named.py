"""Cases with a name: structures that no random change makes, and what stands in the place of a file."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fuzz.cases import FAULT, REFUSED, USED, Case, Outcome, judged
from benchmarks.fuzz.entries import ENTRIES, data_file, merge, store, structures, unpacked
from cgcnn.cif import lattice_from_parameters

CUBE = (4.0, 4.0, 4.0, 90.0, 90.0, 90.0)
NOBODY = 65534
PLACES = ("folder", "FIFO", "unreadable", "link to itself", "link to nothing", "link to /dev/zero")
Sites = Sequence[tuple[str, Sequence[float]]]


@dataclass(frozen=True)
class Structure:
    """cell: lengths and angles. sites: symbol and fractional coordinates. operations: of symmetry, in a CIF."""

    sites: Sites
    cell: Sequence[float] = CUBE
    operations: Sequence[str] = ("x,y,z",)
    expected: tuple[str, ...] = (REFUSED,)
    seconds: float = 10.0  # more where the size explains it
    formats: tuple[str, ...] = ("cif", "vasp", "json")
    share: float = 1.0  # occupancy of every site


def as_cif(one: Structure) -> str:
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{name} {value}" for name, value in zip(names, one.cell, strict=True))]
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{operation}'" for operation in one.operations)]
    lines += ["loop_", "_atom_site_type_symbol", "_atom_site_label"]
    lines += [*(f"_atom_site_fract_{axis}" for axis in "xyz"), "_atom_site_occupancy"]
    lines += [f"{symbol} {symbol}{k} {x} {y} {z} {one.share}" for k, (symbol, (x, y, z)) in enumerate(one.sites)]
    return "\n".join(lines) + "\n"


def _rows(cell: Sequence[float]) -> list[list[float]]:
    try:
        return lattice_from_parameters(list(cell[:3]), list(cell[3:])).tolist()
    except ValueError:
        return np.diag(cell[:3]).tolist()


def as_vasp(one: Structure) -> str:
    lines = ["made", "1.0", *(" ".join(map(str, row)) for row in _rows(one.cell))]
    lines += [" ".join(symbol for symbol, _ in one.sites), " ".join("1" for _ in one.sites), "direct"]
    return "\n".join([*lines, *(" ".join(map(str, place)) for _, place in one.sites)]) + "\n"


def as_json(one: Structure) -> str:
    sites = [{"species": [{"element": symbol, "occu": one.share}], "abc": list(place)} for symbol, place in one.sites]
    return json.dumps({"lattice": {"matrix": _rows(one.cell)}, "sites": sites})


FORMATS: dict[str, Callable[[Structure], str]] = {"cif": as_cif, "vasp": as_vasp, "json": as_json}
SALT: Sites = (("Na", (0, 0, 0)), ("Cl", (0.5, 0.5, 0.5)))
ANY = (USED, REFUSED)


def _grid(count: int, symbol: str = "Si") -> Sites:
    """So many atoms on a cubic grid."""
    edge = math.ceil(count ** (1 / 3))
    return [(symbol, (k % edge / edge, k // edge % edge / edge, k // edge**2 / edge)) for k in range(count)]


def _cube(length: float) -> tuple[float, ...]:
    return (length, length, length, 90.0, 90.0, 90.0)


STRUCTURES: dict[str, Structure] = {
    "a good one": Structure(SALT, expected=(USED,)),
    "coincident atoms": Structure((*SALT, ("K", (0, 0, 0)))),
    "10,000 atoms in one place": Structure([("Si", (0.1, 0.1, 0.1))] * 10_000, seconds=60),
    "10,000 atoms in two places": Structure([("Si", (0.1, 0.1, k % 2 / 2)) for k in range(10_000)], seconds=60),
    "zero volume": Structure(SALT, (4.0, 4.0, 4.0, 120.0, 120.0, 120.0)),
    "no length": Structure(SALT, (4.0, 4.0, 0.0, 90.0, 90.0, 90.0)),
    "0.02 Å thin": Structure(SALT, (1000.0, 1000.0, 0.02, 90.0, 90.0, 90.0), expected=ANY),
    "an angle of 0.1°": Structure(SALT, (4.0, 4.0, 4.0, 90.0, 90.0, 0.1), expected=ANY),
    "an angle of 179.9°": Structure(SALT, (4.0, 4.0, 4.0, 90.0, 90.0, 179.9), expected=ANY),
    "1e6 Å": Structure(SALT, _cube(1e6)),
    "1e4 Å": Structure(SALT, _cube(1e4), expected=ANY),
    "1e300 Å": Structure(SALT, _cube(1e300)),
    "1e-300 Å": Structure(SALT, _cube(1e-300)),
    "one atom in 500 Å": Structure(SALT[:1], _cube(500.0), expected=(USED,)),
    "one atom in 1e6 Å": Structure(SALT[:1], _cube(1e6), expected=ANY),
    "a wire of 1e6 Å": Structure(SALT, (4.0, 4.0, 1e6, 90.0, 90.0, 90.0), expected=ANY),
    "NaN coordinate": Structure((("Na", (math.nan, 0, 0)), *SALT[1:])),
    "infinite coordinate": Structure((("Na", (math.inf, 0, 0)), *SALT[1:])),
    "coordinate of 1e300": Structure((("Na", (1e300, 0, 0)), *SALT[1:]), expected=ANY),
    "NaN cell": Structure(SALT, (math.nan, 4.0, 4.0, 90.0, 90.0, 90.0)),
    "unknown element": Structure((("Xx", (0, 0, 0)), *SALT[1:])),
    "element of no letter": Structure((("7", (0, 0, 0)), *SALT[1:]), expected=ANY),  # pymatgen: nitrogen
    "no atoms": Structure(()),
    # refused where a network asks for their symmetry
    "10,000 atoms": Structure(_grid(10_000), _cube(54.0), expected=ANY, seconds=90),
    "10,000 atoms in 20 Å": Structure(_grid(10_000), _cube(20.0), expected=ANY, seconds=60),
    "10,000 atoms in 1e4 Å": Structure(_grid(10_000), _cube(1e4), expected=ANY, seconds=60),
    "1e5 symmetry operations": Structure(
        SALT, operations=[f"x+{k}/100000,y,z" for k in range(100_000)], formats=("cif",)
    ),
    "1e5 times the same operation": Structure(SALT, operations=["x,y,z"] * 100_000, formats=("cif",), expected=ANY),
    "1e5 operations that are none": Structure(SALT, operations=["x,y"] * 100_000, formats=("cif",)),
    "2,000 operations, 10 atoms": Structure(
        _grid(10), _cube(12.0), [f"x+{k}/2000,y,z" for k in range(2000)], formats=("cif",), seconds=90
    ),
    "500 operations, 10 atoms": Structure(
        _grid(10), _cube(12.0), [f"x+{k}/5000,y,z" for k in range(500)], formats=("cif",), expected=ANY, seconds=60
    ),
    "192 operations, 1,000 atoms": Structure(
        _grid(1000), _cube(25.0), [f"x+{k}/960,y,z" for k in range(192)], formats=("cif",)
    ),
    "10,000 atoms in a clump": Structure(
        [("Si", (x / 40, y / 40, z / 40)) for _, (x, y, z) in _grid(10_000)], _cube(200.0), seconds=60
    ),
    "1,000 atoms and some missing": Structure(
        _grid(1000)[::2] + _grid(1000)[1::4], _cube(25.0), ("x,y,z",), (USED,), 90
    ),
    "10,000 parts of one site": Structure([("Si", (0.1, 0.1, 0.1))] * 10_000, seconds=60, share=1e-4, expected=ANY),
}

_SITES = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
_CELL = as_cif(Structure(())).partition("loop_")[0]
TEXTS: dict[str, tuple[str, str]] = {
    "5,000 data blocks": ("cif", "".join(f"data_{k}\n_x 1\n" for k in range(5000))),
    "a text without end": ("cif", _CELL + _SITES + "Na 0 0 0\n;" + "x\n" * 100_000),
    "1e6 comments": ("cif", "# x\n" * 1_000_000 + as_cif(STRUCTURES["a good one"])),
    "a loop without values": ("cif", _CELL + _SITES),
    "1,000 columns": ("cif", _CELL + "loop_\n" + "".join(f"_c{k}\n" for k in range(1000)) + "1 " * 1_000_000),
    "1e9 atoms announced": ("vasp", "x\n1\n4 0 0\n0 4 0\n0 0 4\nNa\n1000000000\ndirect\n0 0 0\n"),
    "atoms below none": ("vasp", "x\n1\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n-1 2\ndirect\n0 0 0\n"),
    "a scale of 1e300": ("vasp", "x\n1e300\n4 0 0\n0 4 0\n0 0 4\nNa\n1\ndirect\n0 0 0\n"),
    "1e5 brackets": ("json", "[" * 100_000),
    "1e5 species on a site": (
        "json",
        json.dumps(
            {
                "lattice": {"matrix": np.diag((4, 4, 4)).tolist()},
                "sites": [{"species": [{"element": "Na", "occu": 1e-6}] * 100_000, "abc": [0, 0, 0]}],
            }
        ),
    ),
    "a number of 10,000 digits": ("json", '{"lattice": {"matrix": ' + "9" * 10_000 + '}, "sites": []}'),
}
NAMES: dict[str, bytes] = {
    "a name that is not UTF-8": b"b\xe4d.cif",
    "a name with a line break": b"b\nd.cif",
    "a name with an escape": b"b\x1b[2Jd.cif",
    "a name of 250 letters": b"b" * 246 + b".cif",
}


def cases() -> Iterator[tuple[str, str, float]]:
    """Kind, name and seconds of all of them."""
    for name, one in STRUCTURES.items():
        yield from (("named structure", f"{name}.{kind}", one.seconds) for kind in one.formats)
    yield from (("named structure", f"{name}.{kind}", 10.0) for name, (kind, _) in TEXTS.items())
    yield from (("odd name", name, 10.0) for name in (*NAMES, "a folder in itself"))
    yield from (("odd place", f"{place}: {kind}", 10.0) for kind in ENTRIES for place in PLACES)


def run_named(case: Case, good: Path, work: Path) -> Outcome:
    """Make it beside good files, and give it to its entry."""
    return NAMED[case.kind](case, good, work)


def _structure(case: Case, good: Path, work: Path) -> Outcome:
    name, _, kind = case.name.rpartition(".")
    one = STRUCTURES.get(name)
    folder = Path(shutil.copytree(good / "beside", work / "data"))
    target = folder / f"bad.{kind}"
    target.write_text(FORMATS[kind](one) if one else TEXTS[name][1])
    return _timed(lambda: structures(folder, target, case.rng), target.name, one.expected if one else ANY)


def _odd_name(case: Case, good: Path, work: Path) -> Outcome:
    """A good file under such a name: the others are used whatever becomes of it."""
    folder = Path(shutil.copytree(good / "beside", work / "data"))
    if case.name == "a folder in itself":
        target = folder / "loop"
        target.symlink_to(folder)
    else:
        target = Path(os.fsdecode(os.path.join(os.fsencode(folder), NAMES[case.name])))
        shutil.copy(next(folder.glob("*.cif")), target)
    return _timed(lambda: structures(folder, target, case.rng), "", ANY)


def _odd_place(case: Case, good: Path, work: Path) -> Outcome:
    """No file where an entry expects one."""
    place, _, kind = case.name.partition(": ")
    entry = ENTRIES[kind]
    folder = Path(shutil.copytree(good / entry.template, work / entry.template))
    sources = sorted(path for path in (good / (entry.pool or entry.template)).glob(entry.targets) if path.is_file())
    source = case.rng.choice(sources)
    target = folder / (source.name if entry.pool else source.relative_to(good / entry.template))
    target.unlink(missing_ok=True)
    if place == "folder":
        target.mkdir()
    elif place == "FIFO":
        os.mkfifo(target)
    elif place == "unreadable":
        shutil.copy(source, target)
    else:
        target.symlink_to({"link to itself": target.name, "link to nothing": "none"}.get(place, "/dev/zero"))
    # what is listed or kept may be left out or made anew; what is named has to be refused
    may_go_on = entry.call in (structures, store, unpacked, merge) or kind == "pickled parts"
    may_go_on |= place == "folder" and entry.call is data_file  # a data folder, without crystals
    name = target.name if entry.is_named and not may_go_on else ""
    expected = ANY if may_go_on else (REFUSED,)
    if place != "unreadable":
        return _timed(lambda: entry.call(folder, target, case.rng), name, expected)
    with _as_nobody(work, target):
        return _timed(lambda: entry.call(folder, target, case.rng), name, expected)


@contextmanager
def _as_nobody(work: Path, target: Path) -> Iterator[None]:
    """As a user who may not read the file: root may read all."""
    is_root = os.geteuid() == 0
    for folder, _, files in os.walk(work) if is_root else ():
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chmod(path, 0o777)
    target.chmod(0)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def _timed(call: Callable[[], list[str]], name: str, expected: tuple[str, ...]) -> Outcome:
    begun = time.monotonic()
    outcome = judged(call, name)
    outcome.seconds = time.monotonic() - begun
    if outcome.verdict not in (*expected, FAULT):
        outcome.said = f"wrong: {' or '.join(expected)} expected, but {outcome.verdict}: {outcome.said}"
        outcome.verdict = FAULT
    return outcome


NAMED = {"named structure": _structure, "odd name": _odd_name, "odd place": _odd_place}
