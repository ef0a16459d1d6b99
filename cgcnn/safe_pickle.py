"""Pickles of pymatgen Structures, read without running anything that they name.

A pickle may name any function of any module, and unpickling calls it. Here a name is looked up in a short table, and
those of pymatgen and numpy stand for records of our own, which only hold what the pickle gives them: neither library
is called or imported for it, and a pickle of any of their versions is read by any other.
"""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NoReturn

from cgcnn.cif import ATOMIC_NUMBERS
from cgcnn.pickled_records import (
    DType,
    HeldArray,
    HeldComposition,
    HeldDummy,
    HeldElement,
    HeldLattice,
    HeldSite,
    HeldSpecies,
    HeldStructure,
    PickleError,
    Quantity,
    Record,
)


def load(file: BinaryIO) -> object:
    """The object in a pickle; Structures and arrays are records, which `plain` turns into plain values.

    Raises PickleError for what is no whole pickle, and for one that names anything but crystals, numbers and
    collections, before any of it is called.
    """
    try:
        return _Unpickler(file, encoding="latin1").load()
    except (PickleError, OSError):
        raise
    except EOFError:
        raise PickleError("not a whole pickle: it ends too early") from None
    except MemoryError:
        raise PickleError("not a pickle of crystals: it asks for more memory than there is") from None
    except Exception as error:  # a broken pickle raises whatever its last operation happens to
        raise PickleError(f"not a pickle of crystals ({' '.join(str(error).split())[:100]})") from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            said = f"{module}.{name}".encode("ascii", "backslashreplace").decode()[:100]
            raise PickleError(
                f"refused: it names {said!r}, which is no part of a crystal; nothing of it was run"
            ) from None


class _Maker:
    """A function that a pickle may call; BUILD cannot change it, as it could a function's defaults."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable) -> None:
        self._make = make

    def __call__(self, *args: object) -> object:
        return self._make(*args)

    def __setstate__(self, state: object) -> NoReturn:
        raise PickleError("refused: it changes a function; nothing of it was run")


def _reconstructed(cls: type, _: object, value: object = None) -> Record:
    """What protocols 0 and 1 call for an object of a class, its base and the base's value, and numpy for an array."""
    if isinstance(cls, type) and issubclass(cls, Record):
        return cls(value)
    raise PickleError("it makes an object of another kind")


def _from_buffer(data: object, dtype: object, shape: tuple, order: str = "C") -> HeldArray:
    array = HeldArray()
    array.args = (shape, dtype, order == "F", bytes(data) if isinstance(data, bytearray) else data)
    return array


def _scalar(dtype: DType, data: object) -> object:
    """A number or text; what is another, such as a date, stays a record, for what needs it to refuse."""
    held = _from_buffer(data.encode("latin1") if isinstance(data, str) else data, dtype, ())
    try:
        return held.content()
    except PickleError:
        return held


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """How protocols below 3 spell bytes."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise PickleError("bytes in another spelling")
    return text.encode("latin1")


def _member(cls: type, name: str) -> HeldElement:
    """How Python 3.11 wrote a member of an enumeration: getattr of its class; of no other class here."""
    if cls is not HeldElement or not isinstance(name, str) or name not in ATOMIC_NUMBERS:
        raise PickleError("refused: it asks for an attribute by name; nothing of it was run")
    return HeldElement(name)


def _names() -> Iterator[tuple[str, Sequence[str], object]]:
    core = "pymatgen.core"
    yield f"{core}.structure", ("Structure", "IStructure"), HeldStructure
    yield f"{core}.lattice", ("Lattice",), HeldLattice
    yield f"{core}.sites", ("Site", "PeriodicSite"), HeldSite
    yield f"{core}.composition", ("Composition",), HeldComposition
    yield f"{core}.periodic_table", ("Element",), HeldElement
    yield f"{core}.periodic_table", ("Species", "Specie"), HeldSpecies
    yield f"{core}.periodic_table", ("DummySpecies", "DummySpecie"), HeldDummy
    yield f"{core}.units", ("FloatWithUnit", "Unit"), Quantity
    yield "pymatgen.electronic_structure.core", ("Spin", "Magmom"), Quantity
    yield "numpy", ("dtype",), DType
    yield "numpy", ("ndarray",), HeldArray
    for package in ("numpy.core", "numpy._core"):  # before and after numpy 2
        yield f"{package}.multiarray", ("_reconstruct",), _Maker(_reconstructed)
        yield f"{package}.multiarray", ("scalar",), _Maker(_scalar)
        yield f"{package}.numeric", ("_frombuffer",), _Maker(_from_buffer)
    for module in ("copy_reg", "copyreg"):
        yield module, ("_reconstructor",), _Maker(_reconstructed)
    yield "_codecs", ("encode",), _Maker(_encoded)
    yield "collections", ("OrderedDict", "Counter"), dict
    yield "collections", ("defaultdict",), _Maker(lambda *_: {})
    yield "collections", ("deque",), _Maker(lambda *_: [])
    for name in ("datetime", "date", "time", "timedelta", "timezone"):
        yield "datetime", (name,), getattr(datetime, name)
    for module in ("builtins", "__builtin__"):
        yield module, ("getattr",), _Maker(_member)
        for kind in (object, dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, complex, bool):
            yield module, (kind.__name__,), kind
        yield module, ("long",), int
        yield module, ("unicode",), str


_ADMITTED = {(module, name): found for module, names, found in _names() for name in names}
