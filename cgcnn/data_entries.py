"""What an entry of a JSON data file says: an id, a structure as a file that can be read again, labels."""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cgcnn.labels import LARGEST, parse_number
from cgcnn.reading import printable

ID_KEYS = ("id", "material_id", "cif_id", "file_id", "jid", "name")
STRUCTURE_KEYS = ("structure", "final_structure", "cif", "atoms")
LABEL_KEYS = ("targets", "properties")
MAX_FAULTS = 10_000  # of one key that are kept: a key that is never a number is no label, and has none


class EntryError(ValueError):
    """What is wrong with an entry, in words that follow its number."""


def entry_id(key: str | None, entry: object) -> str:
    """The id of an entry: the key it stands under, or the first of ID_KEYS. Raises EntryError for none."""
    if not isinstance(entry, Mapping):
        raise EntryError(f"{_kind(entry)}, where an object with a structure is expected")
    found = key
    if found is None:
        given = [entry.get(name) for name in ID_KEYS]
        texts = [str(each) for each in given if isinstance(each, str | int) and not isinstance(each, bool)]
        found = next((text for text in texts if text.strip()), "")
    found = found.strip()
    if not found:
        raise EntryError(f"no id ({', '.join(ID_KEYS[:-1])} or {ID_KEYS[-1]})")
    if not found.isprintable():
        raise EntryError(f"its id {found[:60]!r} has characters that cannot be printed")
    return found


def structure_file(entry: Mapping) -> tuple[str, bytes]:
    """Suffix and content of the structure as a file; `read_crystal` tells what is wrong with the content.

    `structure` or `final_structure` is pymatgen's dict, `cif` the text of a CIF, `atoms` JARVIS's dict. Raises
    EntryError for an entry that has none, and for atoms that are none.
    """
    for name in STRUCTURE_KEYS:
        content = entry.get(name)
        if isinstance(content, EntryError):  # what a reader of the entries has found out
            raise content
        if not content:
            continue
        if isinstance(content, str):
            is_json = content.lstrip().startswith("{")
            return (".json" if is_json else ".cif"), content.encode("utf-8", "replace")
        if name == "atoms" and isinstance(content, Mapping) and "lattice_mat" in content:
            content = _from_jarvis(content)
        return ".json", json.dumps(content, separators=(",", ":")).encode()
    raise EntryError("no structure, cif or atoms")


def is_data(key: str | None, entry: object) -> bool:
    """Whether a file that begins so holds entries: another may be one structure, as pymatgen writes it."""
    return key is None or (isinstance(entry, Mapping) and not entry.keys().isdisjoint(STRUCTURE_KEYS))


class Labels:
    """The labels of the entries as they come.

    Those under `targets` or `properties`, where an entry has such an object, otherwise the keys beside the
    structure; a key is a label where it is a number, true or false in some entry.
    """

    def __init__(self) -> None:
        self._inner: dict[str, _Column] = {}
        self._outer: dict[str, _Column] = {}
        self._count = 0

    def add(self, entry: Mapping, number: int, crystal_id: str) -> None:
        """The labels of the next entry; its number and id are for faults."""
        inner = next((entry[name] for name in LABEL_KEYS if isinstance(entry.get(name), Mapping)), {})
        outer = {name: value for name, value in entry.items() if name not in (*ID_KEYS, *STRUCTURE_KEYS)}
        for columns, found in ((self._inner, inner), (self._outer, outer)):
            for name, value in found.items():
                columns.setdefault(name, _Column()).add(self._count, value, number, crystal_id)
        self._count += 1

    def columns(self) -> dict[str, np.ndarray]:
        """Name → numbers (n,) of all n entries, NaN where missing; without names that are among the faults."""
        bad = self._bad_names()
        found = {name.strip(): column for name, column in self._chosen().items()}
        return {name: column.padded(self._count) for name, column in found.items() if name not in bad}

    def faults(self) -> list[tuple[float, str]]:
        """(number of the entry, line) of each label that is no number; what is wrong with all of them comes last."""
        faults = []
        for key, column in self._chosen().items():
            name = printable(key)
            for number, crystal_id, shown in column.faults:
                faults.append((number, f"entry {number} ({crystal_id}): {name} {shown} is not a finite number"))
            if more := column.num_faults - len(column.faults):
                faults.append((math.inf, f"{more} more entries: {name} is not a finite number"))
        for name in self._bad_names():
            faults.append((math.inf, f"the label name {name!r} is blank, cannot be printed, or stands twice"))
        return faults

    def _bad_names(self) -> list[str]:
        names = Counter(name.strip() for name in self._chosen())
        return [name for name, count in names.items() if count > 1 or not name or not name.isprintable()]

    def _chosen(self) -> dict[str, _Column]:
        inner = {name: column for name, column in self._inner.items() if column.is_label}
        return inner or {name: column for name, column in self._outer.items() if column.is_label}


@dataclass
class _Column:
    """A key of the entries: its numbers so far, whether it is a label, the first of what in it is no number."""

    values: array = field(default_factory=lambda: array("d"))
    is_label: bool = False
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    num_faults: int = 0

    def add(self, row: int, value: object, entry: int, crystal_id: str) -> None:
        self.is_label |= isinstance(value, int | float)
        number = _number(value)
        if number is None:
            self.num_faults += 1
            if len(self.faults) < MAX_FAULTS:
                shown = repr(value) if isinstance(value, str | float) else _kind(value)
                self.faults.append((entry, crystal_id, shown if len(shown) <= 60 else f"{shown[:60]}…"))
            return
        self.values.extend([math.nan] * (row - len(self.values)))
        self.values.append(number)

    def padded(self, count: int) -> np.ndarray:
        return np.array([*self.values, *[math.nan] * (count - len(self.values))])


def _number(value: object) -> float | None:
    """A label as a number, NaN for a missing one, None for what is neither."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        return parse_number(value.strip())
    if not isinstance(value, int | float):
        return None
    try:
        return None if abs(number := float(value)) > LARGEST else number
    except OverflowError:
        return None


def _from_jarvis(atoms: Mapping) -> dict:
    """The atoms of a JARVIS entry as pymatgen's dict. Raises EntryError for what is none."""
    try:
        lattice = np.array(atoms["lattice_mat"], dtype=float).reshape(3, 3)
        places = np.array(atoms["coords"], dtype=float)
        if places.shape != (len(atoms["elements"]), 3):
            raise ValueError("not three coordinates an element")
        if atoms.get("cartesian"):
            places = places @ np.linalg.inv(lattice)
        sites = [
            {"species": [{"element": str(symbol).strip(), "occu": 1}], "abc": place}
            for symbol, place in zip(atoms["elements"], places.tolist(), strict=True)
        ]
    except (KeyError, OverflowError, TypeError, ValueError, np.linalg.LinAlgError):
        raise EntryError("its atoms have no lattice_mat (3, 3), elements (N) and coords (N, 3)") from None
    return {"lattice": {"matrix": lattice.tolist()}, "sites": sites}


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return next(name for kind, name in _KINDS.items() if isinstance(value, kind))


_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
