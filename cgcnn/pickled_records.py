"""What a pickle says of objects of pymatgen and numpy, held without either library, and turned into plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

_NUMBERS = re.compile(r"[biuf](1|2|4|8|16)|\?|[US]\d{1,4}")
_DEEPEST = 12  # lists inside each other; no crystal comes near


class PickleError(ValueError):
    """What is wrong with a pickle, in words that follow its name."""


def plain(value: object, depth: int = 0) -> object:
    """A loaded value in dicts, lists, texts and numbers; a Structure as its pymatgen dict, the crystal alone.

    Raises PickleError for a record that is incomplete, or of something else.
    """
    if depth > _DEEPEST:
        raise PickleError("too many lists inside each other")
    if isinstance(value, HeldArray):
        return plain(value.content(), depth + 1)
    if isinstance(value, HeldStructure):
        return value.as_dict()
    if isinstance(value, Record):
        return value.number()
    if isinstance(value, Mapping):
        return {_key(key): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each, depth + 1) for each in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)


def _key(key: object) -> str:
    return key if isinstance(key, str) else str(plain(key))


def is_structure(value: object) -> bool:
    """Whether a loaded value is a Structure."""
    return isinstance(value, HeldStructure)


_NOTHING = MappingProxyType({})


class Record:
    """What a pickle says of an object of pymatgen: what it is made with, and its attributes."""

    __slots__ = ("args", "state")

    def __new__(cls, *args: object, **_: object) -> Record:
        record = super().__new__(cls)
        record.args, record.state = args, _NOTHING
        return record

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # of a class with slots
            state = {**state[0], **state[1]} if isinstance(state[0], dict) else state[1]
        self.state = state if isinstance(state, dict) else _NOTHING

    def attribute(self, *names: str) -> object:
        """The first of these attributes that is there. Raises PickleError for none."""
        for name in names:
            if self.state.get(name) is not None:
                return self.state[name]
        raise PickleError(f"a {type(self).__name__.removeprefix('Held')} without {names[0].strip('_')}")

    def number(self) -> float:
        """The value of a number with a unit. Raises PickleError for another record."""
        if self.args and isinstance(self.args[0], int | float):
            return self.args[0]
        raise PickleError(
            f"a {type(self).__name__.removeprefix('Held')}, where a structure, number or text is expected"
        )


class Quantity(Record):
    """A number with a unit, or a magnetic moment."""


class HeldLattice(Record):
    """`matrix`: its vectors as lists (3, 3), in Å."""

    def matrix(self) -> list:
        return _floats(self.attribute("_matrix"), (3, 3)).tolist()


class HeldElement(Record):
    """An element of the enumeration; its value is its symbol."""

    def symbol(self) -> str:
        return str(self.args[0]) if self.args else ""


class HeldSpecies(Record):
    """An element with an oxidation state."""

    def symbol(self) -> str:
        return _symbol(self.attribute("_el"))


class HeldDummy(Record):
    """A site that is held by no element."""

    def symbol(self) -> str:
        return str(self.attribute("_symbol"))


class HeldComposition(Record):
    def amounts(self) -> Mapping:
        data = self.attribute("_data", "_elmap")
        return data if isinstance(data, Mapping) else {}


class HeldSite(Record):
    def __setstate__(self, state: object) -> None:
        """Of what a site holds, the crystal alone is kept: a pickle has sites by the million."""
        super().__setstate__(state)
        found = self.state
        self.args = (found.get("_species"), found.get("_frac_coords", found.get("_fcoords")))
        self.state = _NOTHING
        if isinstance(state, dict):
            state.clear()

    def as_dict(self) -> dict:
        species, place = self.args if len(self.args) == 2 else (None, None)
        amounts = species.amounts() if isinstance(species, HeldComposition) else species
        if not isinstance(amounts, Mapping) or place is None:
            raise PickleError("a site without species or fractional coordinates")
        held = [{"element": _symbol(key), "occu": float(_floats(amount, ()))} for key, amount in amounts.items()]
        return {"species": held, "abc": _floats(place, (3,)).tolist()}


class HeldStructure(Record):
    def as_dict(self) -> dict:
        lattice, sites = self.attribute("_lattice"), self.attribute("_sites")
        if not isinstance(lattice, HeldLattice) or not isinstance(sites, list | tuple):
            raise PickleError("a Structure whose lattice or sites are none")
        if not all(isinstance(site, HeldSite) for site in sites):
            raise PickleError("a Structure with a site that is none")
        return {"lattice": {"matrix": lattice.matrix()}, "sites": [site.as_dict() for site in sites]}


def _symbol(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, HeldElement | HeldSpecies | HeldDummy):
        return key.symbol()
    raise PickleError("a site that is held by no element")


def _floats(value: object, shape: tuple[int, ...]) -> np.ndarray:
    found = plain(value)
    try:
        return np.array(found, dtype=float).reshape(shape)
    except (TypeError, ValueError):
        raise PickleError(f"coordinates that are no {' × '.join(map(str, shape))} numbers") from None


class DType(Record):
    """A numpy type: its code is in args, its byte order in the state."""

    def __setstate__(self, state: object) -> None:
        self.state = {"order": state[1]} if isinstance(state, tuple) and len(state) > 1 else {}

    @property
    def is_object(self) -> bool:
        return self.args[:1] in (("O",), ("O8",))

    def real(self) -> np.dtype:
        """Raises PickleError for a type that is no number and no text."""
        code = self.args[0] if self.args else ""
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise PickleError(f"an array of the type {str(code)[:20]!r}")
        order = self.state.get("order")
        try:
            return np.dtype(order + code if order in ("<", ">", "=") else code)
        except TypeError:
            raise PickleError(f"an array of the type {code!r}") from None


class HeldArray(Record):
    """A numpy array: shape, type, whether columns come first, and the bytes or objects in it."""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise PickleError("an array that is none")
        self.args = state

    def content(self) -> object:
        """Its values in lists, or one value. Raises PickleError where bytes and shape disagree."""
        if len(self.args) < 4:
            raise PickleError("an array without content")
        shape, dtype, by_column, data = self.args[-4:]
        if isinstance(data, str):  # of Python 2
            data = data.encode("latin1")
        if not isinstance(dtype, DType) or not isinstance(shape, tuple):
            raise PickleError("an array without shape or type")
        if dtype.is_object:
            if isinstance(data, list):
                return data if len(shape) else data[0] if data else None
            raise PickleError("an array of objects without objects")
        real = dtype.real()
        try:
            values = np.frombuffer(data, real)
            return values.reshape(shape, order="F" if by_column else "C").tolist()
        except (OverflowError, TypeError, ValueError):
            raise PickleError("an array whose bytes and shape disagree") from None
