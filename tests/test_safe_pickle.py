"""Pickles of crystals are read without pymatgen or numpy being called; whatever names anything else is refused."""

import builtins
import collections
import datetime
import io
import os
import pickle
import struct
import subprocess

import numpy as np
import pytest
from pymatgen.core import DummySpecies, Element, Lattice, Structure
from pymatgen.core.units import FloatWithUnit
from pymatgen.io.vasp import Poscar

from cgcnn.pickled_records import PickleError, plain
from cgcnn.safe_pickle import load


def read(content: bytes) -> object:
    return plain(load(io.BytesIO(content)))


@pytest.fixture
def disordered() -> Structure:
    species = [{"Fe": 0.5, "Co": 0.25}, "O2-", {"Na+": 0.5, "K": 0.5}]
    places = [[0, 0, 0], [0.5, 0.5, 0.25], [0.1, 0.2, 0.3]]
    return Structure(Lattice.hexagonal(3.1, 5.2), species, places, site_properties={"magmom": [1.0, 0.0, 0.5]})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_structure_of_every_protocol_is_the_crystal_that_pymatgen_describes(disordered, protocol):
    found = read(pickle.dumps(disordered, protocol))
    told = disordered.as_dict()
    assert found["lattice"]["matrix"] == np.array(told["lattice"]["matrix"]).tolist()
    assert [site["abc"] for site in found["sites"]] == [list(site["abc"]) for site in told["sites"]]
    for site, other in zip(found["sites"], told["sites"], strict=True):
        expected = [{"element": each["element"], "occu": each["occu"]} for each in other["species"]]
        assert site["species"] == expected


def test_a_site_of_no_element_keeps_its_symbol():
    structure = Structure(Lattice.cubic(4), [DummySpecies("X")], [[0, 0, 0]])
    assert read(pickle.dumps(structure))["sites"][0]["species"][0]["element"] == "X"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]], order="F"), [[1, 2], [3, 4]]),
        (np.array([1.0, 2.0], dtype=">f8"), [1.0, 2.0]),
        (np.array(["a", None], dtype=object), ["a", None]),
        (FloatWithUnit(2.0, "eV"), 2.0),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.deque([1, 2]), [1, 2]),
        ({"a": (1, 2.5, None, True, "x")}, {"a": [1, 2.5, None, True, "x"]}),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (bytearray(b"x"), "bytearray(b'x')"),
    ],
)
def test_numbers_arrays_and_collections(value, expected, protocol):
    assert read(pickle.dumps(value, protocol)) == expected


def test_numpy_names_before_and_after_version_2():
    content = pickle.dumps(np.arange(3.0), 2)
    for package in (b"numpy.core", b"numpy._core"):
        assert read(content.replace(b"numpy._core", package)) == [0.0, 1.0, 2.0]


def test_sites_of_older_pymatgen():
    old = b"".join(
        [
            *(b"\x80\x02", _global("pymatgen.core.structure", "Structure"), b")\x81}(U\x08_lattice"),
            *(_global("pymatgen.core.lattice", "Lattice"), b")\x81}U\x07_matrix]((G@\x10\0\0\0\0\0\0K\0K\0t"),
            *(b"(K\0K\4K\0t(K\0K\0K\4tesbU\x06_sites]", _global("pymatgen.core.sites", "PeriodicSite"), b")\x81}"),
            *(b"(U\x08_species}", _global("pymatgen.core.periodic_table", "Specie"), b")\x81}U\x03_el"),
            *(_global("pymatgen.core.periodic_table", "Element"), b"U\x02Na\x85RsbK\1sU\x08_fcoords](K\0K\0K\0eub"),
            b"aub.",
        ]
    )
    assert read(old) == {
        "lattice": {"matrix": [[4, 0, 0], [0, 4, 0], [0, 0, 4]]},
        "sites": [{"species": [{"element": "Na", "occu": 1.0}], "abc": [0, 0, 0]}],
    }


def test_an_element_as_python_3_11_wrote_it():
    by_name = b"\x80\x02" + _global("builtins", "getattr") + _global("pymatgen.core.periodic_table", "Element")
    element = load(io.BytesIO(by_name + b"U\x02Na\x86R."))
    assert element.symbol() == "Na"


class _Calls:
    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _stack_global(module: str, name: str) -> bytes:
    return b"".join(b"\x8c" + struct.pack("<B", len(word)) + word.encode() for word in (module, name)) + b"\x93"


@pytest.mark.parametrize(
    "function",
    [
        *(os.system, builtins.eval, builtins.exec, builtins.open, builtins.__import__, subprocess.Popen),
        *(np.load, np.fromfile, np.memmap, np.loadtxt, Structure.from_file, Structure.from_str, Poscar.from_file),
        *(pickle.loads, collections.namedtuple, Lattice.from_dict, Element.from_Z, setattr, type, map, io.FileIO),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_function_that_no_crystal_needs_is_refused_and_not_called(tmp_path, function, protocol, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps([{"structure": _Calls(function, "touch done", "w")}], protocol)
    with pytest.raises(PickleError, match=r"^refused: ") as caught:
        load(io.BytesIO(content))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pymatgen.core.structure", "Structure.from_file"),
        ("pymatgen.core.structure", "Structure.__init__.__globals__"),
        ("pymatgen.core.structure", "loadfn"),
        ("builtins", "object.__subclasses__"),
        ("builtins", "str.format"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "ndarray.dump"),
        ("numpy._core.multiarray", "fromfile"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "_sys.modules"),
        ("datetime", "sys.modules"),
        ("cgcnn.safe_pickle", "load"),
        ("cgcnn.safe_pickle", "_Maker"),
        ("os\n\x1b[31m", "system"),
    ],
)
def test_a_name_inside_another_and_of_the_reader_itself_is_refused(module, name):
    with pytest.raises(PickleError, match=r"^refused: it names ") as caught:
        load(io.BytesIO(b"\x80\x04" + _stack_global(module, name) + b"\x8c\x01x\x85R."))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "asked",
    [
        _global("builtins", "str") + b"U\x06format\x86R.",
        _global("pymatgen.core.periodic_table", "Element") + b"U\x0b__getattr__\x86R.",
        _global("pymatgen.core.structure", "Structure") + b"U\x02Na\x86R.",
    ],
)
def test_getattr_gives_elements_and_nothing_else(asked):
    with pytest.raises(PickleError, match="asks for an attribute by name"):
        load(io.BytesIO(b"\x80\x02" + _global("builtins", "getattr") + asked))


@pytest.mark.parametrize(
    "name",
    [
        ("_codecs", "encode"),
        ("builtins", "getattr"),
        ("builtins", "dict"),
        ("collections", "Counter"),
        ("datetime", "datetime"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "scalar"),
        ("pymatgen.core.structure", "Structure"),
    ],
)
@pytest.mark.parametrize("state", [b"}U\x08__init__K\1s", b"N}U\x08__init__K\1s\x86", b"N}U\x05_makeK\1s\x86"])
def test_build_does_not_change_what_a_name_stands_for(name, state):
    with pytest.raises(PickleError):
        load(io.BytesIO(b"\x80\x02" + _global(*name) + state + b"b."))
    assert read(pickle.dumps({"a": np.arange(2)}, 2)) == {"a": [0, 1]}


def test_the_state_of_a_record_is_no_more_than_that():
    state = {"as_dict": 1, "__class__": 2, "__setstate__": 3}
    content = b"\x80\x02" + _global("pymatgen.core.structure", "Structure") + b")\x81" + pickle.dumps(state, 2)[2:-1]
    with pytest.raises(PickleError, match="a Structure without lattice"):
        read(content + b"b.")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"data_crystal\n",
        pickle.dumps([1, 2, 3])[:-3],
        b"\x80\x02]b.",
        b"\x80\x02(K\1d.",
        b"\x80\x02P1\n.",
        b"\x80\x02K\1Q.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    ],
)
def test_what_is_no_whole_pickle_is_told_in_one_line(content):
    with pytest.raises(PickleError) as caught:
        load(io.BytesIO(content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.zeros(2, dtype="M8[s]"), "an array of the type 'M8'"),
        (np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]), "an array of the type 'V12'"),
        (Lattice.cubic(4), "a Lattice, where a structure, number or text is expected"),
        (Structure(Lattice.cubic(4), ["Na"], [[0, 0, 0]]).composition, "a Composition, where"),
    ],
)
def test_what_is_no_crystal_and_no_number_is_told(value, reason):
    with pytest.raises(PickleError, match=reason):
        read(pickle.dumps(value, 2))


def test_bytes_that_do_not_fit_the_shape():
    content = pickle.dumps(np.arange(3.0), 2).replace(b"K\x03\x85", b"K\x09\x85")
    with pytest.raises(PickleError, match="bytes and shape disagree"):
        read(content)


def test_a_list_in_itself_ends():
    endless: list = []
    endless.append(endless)
    with pytest.raises(PickleError, match="inside each other"):
        read(pickle.dumps(endless))
