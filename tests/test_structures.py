"""Files → crystals: as pymatgen reads them, mostly without it, and one clear line where nobody can."""

import json
import os
import random
import subprocess
import sys
import tarfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import DummySpecies, Element, Lattice, Species, Structure

from cgcnn.cif import SYMBOLS_BY_ELECTRONEGATIVITY, close_pairs, lattice_from_parameters, read_plain_cif
from cgcnn.crystal import Crystal
from cgcnn.structures import StructureError, find_structure_files, read_crystal

SHARED = Path(__file__).parents[2] / "shared" / "data"
CELL = """_cell_length_a 4.1
_cell_length_b 5.2(3)
_cell_length_c 6.3
_cell_angle_alpha 80
_cell_angle_beta 95.5
_cell_angle_gamma 118.25
"""
IDENTITY = "_symmetry_space_group_name_H-M 'P 1'\nloop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
INVERSION = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'-x, -y, -z'\n"
LABEL_LOOP = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
LOOP = LABEL_LOOP.replace("loop_\n", "loop_\n_atom_site_type_symbol\n")
OCCUPIED = LOOP + "_atom_site_occupancy\n"
ATOMS = LOOP + "Cl Cl1 0.5 0.5 0.5\nNa Na1 0 0 0\n"


def cif(atoms: str = ATOMS, *, cell: str = CELL, symmetry: str = IDENTITY) -> str:
    return f"data_x\n{cell}{symmetry}{atoms}"


def write(folder: Path, content: str | bytes, name: str = "x.cif") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def species_rows(structure: Structure) -> list[tuple[int, int, float]]:
    return [(i, e.Z, occ) for i, site in enumerate(structure) for e, occ in site.species.items()]


def assert_same(crystal: Crystal, structure: Structure) -> None:
    rows = zip(crystal.site.tolist(), crystal.numbers.tolist(), crystal.occupancies.tolist(), strict=True)
    assert list(rows) == species_rows(structure)
    np.testing.assert_allclose(crystal.lattice, structure.lattice.matrix, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(crystal.frac_coords, structure.frac_coords)
    assert crystal.lattice.dtype == crystal.frac_coords.dtype == crystal.occupancies.dtype == np.float64
    assert (crystal.numbers.dtype, crystal.site.dtype) == (np.uint8, np.int32)


def pymatgen_reads(path: Path) -> Structure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Structure.from_file(path)


PLAIN = {
    "plain": cif(),
    "no symmetry given": cif(symmetry=""),
    "only a space group": cif(symmetry="_symmetry_space_group_name_H-M 'P 1'\n_symmetry_Int_Tables_number 1\n"),
    "identity in capitals": cif(symmetry="_space_group_symop_operation_xyz 'X,Y,+Z'\n"),
    "charges": cif(LOOP + "O2- O1 0.5 0.5 0.5\nNa+ Na1 0 0 0\nFe3+ Fe1 0.2 0.2 0.2\n"),
    "labels only": cif(LABEL_LOOP + "Cl1 .5 .5 .5\nC2 0 0 0\nNa_a 0.25 0.25 0.25\n"),
    "uncertainties": cif(LOOP + "Cl Cl1 0.1234(5) 0.5(12) 0.25(3\nNa Na1 0 0 0\n"),
    "nearly ideal": cif(LOOP + "Cl Cl1 0.3333 0.6667 0.66665\nNa Na1 -0.3333 0.3334 0.33337\n"),
    "outside the cell": cif(LOOP + "Cl Cl1 -0.1 1.5 -3.25\nNa Na1 -1e-17 2 1E0\n"),
    "undetermined occupancy": cif(OCCUPIED + "Cl Cl1 0.5 0.5 0.5 ?\nNa Na1 0 0 0 1.000(1)\n"),
    "quotes and comments": cif("# a comment\n" + LOOP + "'Cl' 'Cl 1' 0.5 '0.5' 0.5 # here\n\"Na\" Na1 0 0 0\n"),
    "a label with a prime": cif(LOOP + "O O1' 0.5 0.5 0.5\nO O1\" 0 0 0\n"),
    "the same label twice": cif(LOOP + "Cl A 0.5 0.5 0.5\nNa A 0 0 0\nCl A 0.5 0.5 0\n"),
    "equal electronegativity": cif(LOOP + "Ni Ni1 0 0 0\nAg Ag1 .5 0 0\nTc Tc1 0 .5 0\nAg Ag2 0 0 .5\n"),
    "text field": cif("_publ_section_title\n;\nloop_ of data\n;\n" + ATOMS),
    "windows": cif().replace("\n", "\r\n"),
}

BEYOND = {
    "symmetry operations": cif(symmetry=INVERSION),
    "a space group's name": cif(symmetry="_symmetry_space_group_name_H-M 'P -1'\n"),
    "a space group's number": cif(symmetry="_space_group_IT_number 2\n"),
    "identity under another name": cif(symmetry=IDENTITY.replace("P 1", "P -1")),
    "partial": cif(OCCUPIED + "Cl Cl1 0.5 0.5 0.5 0.25\nNa Na1 0 0 0 1\n"),
    "two species on a site": cif(OCCUPIED + "Cl Cl1 0 0 0 0.5\nNa Na1 0 0 0 0.5\nLi Li1 .5 .5 .5 0.3\n"),
    "an empty site": cif(OCCUPIED + "Cl Cl1 0.5 0.5 0.5 0\nNa Na1 0 0 0 1\n"),
    "parts of a site nearly together": cif(OCCUPIED + "Cl Cl1 0 0 0 0.5\nNa Na1 0.99995 0 0 0.5\n"),
    "oxidation states": cif(
        LOOP + "O2- O1 0 0 0\nFe2+ Fe1 .5 0 0\nFe3+ Fe2 0 .5 0\n"
        "loop_\n_atom_type_symbol\n_atom_type_oxidation_number\nO2- -2\nFe2+ 2\nFe3+ 3\n"
    ),
    "no electronegativity": cif(LOOP + "Ar Ar1 0.5 0.5 0.5\nNa Na1 0 0 0\n"),
    "deuterium": cif(LOOP + "D D1 0.5 0.5 0.5\nO O1 0 0 0\nH H1 0 0 0.5\n"),
    "letters after the element": cif(LABEL_LOOP + "CA1 0 0 0\nOW1 0.5 0.5 0.5\nna1 0.5 0 0\n"),
    "a block without atoms": "data_global\n_journal_year 1999\n" + cif(),
    "two blocks": cif() + cif(LOOP + "Li Li1 0 0 0\n").replace("data_x", "data_y"),
    "cell from the crystal system": cif(cell="_symmetry_cell_setting cubic\n_cell_length_a 4\n", symmetry=INVERSION),
    "out of spec": cif() + "_cell_length_a 4.1\n",
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_plain_cif_as_pymatgen(text, tmp_path):
    path = write(tmp_path, text)
    assert read_plain_cif(text) is not None
    crystal = read_crystal(path)
    assert crystal.is_ordered
    assert_same(crystal, pymatgen_reads(path))


@pytest.mark.parametrize("text", BEYOND.values(), ids=BEYOND)
def test_other_cif_through_pymatgen(text, tmp_path, capfd):
    path = write(tmp_path, text)
    assert read_plain_cif(text) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crystal = read_crystal(path)
    assert capfd.readouterr() == ("", "")
    assert_same(crystal, pymatgen_reads(path))


def test_plain_cif_without_pymatgen(tmp_path):
    write(tmp_path, cif())
    structure = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    write(tmp_path, json.dumps(structure.as_dict()), "y.json")
    script = (
        "import sys; from cgcnn.structures import read_crystal; a, b = map(read_crystal, sys.argv[1:]); "
        "print(a.reduced_formula, b.reduced_formula, 'pymatgen' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "x.cif"), str(tmp_path / "y.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout.split() == ["NaCl", "NaCl", "False"]


def test_order_of_sites_is_pymatgens():
    assert list(SYMBOLS_BY_ELECTRONEGATIVITY) == [
        e.symbol for e in sorted(set(map(Element, SYMBOLS_BY_ELECTRONEGATIVITY)))
    ]
    assert len(SYMBOLS_BY_ELECTRONEGATIVITY) == 100


NUMBER_FORMATS = st.sampled_from(["{:.8f}", "{:.4f}", "{:.3f}(2)", "{:+.6f}", "{:.5e}", "{!r}", "{:g}"])


@st.composite
def random_cif(draw) -> str:
    lengths = [draw(st.floats(2, 30)) for _ in range(3)]
    angles = [draw(st.floats(65, 115)) for _ in range(3)]
    tags = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"]
    values = zip(tags, lengths + angles, strict=True)
    cell = "".join(f"_cell_{tag} {draw(NUMBER_FORMATS).format(value)}\n" for tag, value in values)
    coordinate = st.one_of(st.floats(-2, 2), st.sampled_from([0.0, -0.0, 1.0, 1 / 3, 0.6667, -1e-12, 0.5]))
    symbol = st.sampled_from(["Na", "Cl", "O", "H", "Fe3+", "O2-", "Pu", "Ag", "Ni", "Li", "S"])
    rows = [
        f"{draw(symbol)} A{k} " + " ".join(draw(NUMBER_FORMATS).format(draw(coordinate)) for _ in range(3))
        for k in range(draw(st.integers(1, 8)))
    ]
    return cif(LOOP + "\n".join(rows) + "\n", cell=cell)


@settings(max_examples=60, deadline=None)
@given(text=random_cif())
def test_random_p1_as_pymatgen(text, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("random"), text)
    try:
        expected = pymatgen_reads(path)
    except ValueError:
        with pytest.raises(StructureError):
            read_crystal(path)
        return
    try:
        crystal = read_crystal(path)
    except StructureError as error:
        assert "apart" in str(error)
        return
    assert_same(crystal, expected)


def some_of_archive(archive: Path, number: int) -> list[tuple[str, bytes]]:
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.name.endswith(".cif")]
        chosen = random.Random(0).sample(members, min(number, len(members)))
        return [(Path(member.name).name, tar.extractfile(member).read()) for member in chosen]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
def test_data_sets_as_pymatgen(tmp_path):
    files = [(path.name, path.read_bytes()) for path in sorted((SHARED / "cgcnn_original").rglob("*.cif"))]
    for archive in sorted(SHARED.glob("*.tar.xz")):
        files += some_of_archive(archive, 25)
    for name, content in files:
        path = write(tmp_path, content, name)
        assert_same(read_crystal(path), pymatgen_reads(path))


ERRORS = {
    "empty": (" \n", "empty"),
    "not a CIF": ("what is this", "not a CIF"),
    "only a header": ("data_x\n", "has no atom sites"),
    "no atoms": (cif(""), "has no atom sites"),
    "an empty loop": (cif(LOOP), "has no atom sites"),
    "cut off": (cif()[:-3], "no crystal can be read"),
    "Cartesian only": (cif(ATOMS.replace("fract", "Cartn")), "no fractional coordinates"),
    "no symbols": (
        cif("loop_\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n0 0 0\n"),
        "symbols",
    ),
    "one atom outside a loop": (
        cif("_atom_site_label Cu1\n" + "".join(f"_atom_site_fract_{x} 0\n" for x in "xyz")),
        "not in a loop_",
    ),
    "an unknown element": (cif(ATOMS.replace("Na Na1", "Xx Xx1")), "unknown element 'Xx'"),
    "an unknown element's label": (cif(LABEL_LOOP + "Qq1 0 0 0\n"), "unknown element 'Qq'"),
    "no element": (cif(ATOMS.replace("Na Na1", "? Na1")), "unknown element '?'"),
    "only a vacancy": (cif(ATOMS.replace("Na Na1", "X X1")), "unknown element 'X'"),
    "a vacancy by name": (cif(ATOMS.replace("Na Na1", "Va Va1")), "unknown element 'Va'"),
    "a vacancy's label": (cif(LABEL_LOOP + "Vac1 0 0 0\n"), "not one atom"),
    "a group of atoms": (cif(LABEL_LOOP + "OH1 0 0 0\n"), "not one atom"),
    "no number": (cif(ATOMS.replace("Na1 0", "Na1 x")), "coordinate x of Na1 is not a finite number"),
    "a question mark": (cif(ATOMS.replace("Na1 0", "Na1 ?")), "coordinate ? of Na1"),
    "a dot": (cif(ATOMS.replace("Na1 0", "Na1 ."), symmetry=INVERSION), "coordinate . of Na1"),
    "NaN": (cif(ATOMS.replace("Na1 0", "Na1 nan")), "coordinate nan of Na1"),
    "infinity": (cif(ATOMS.replace("Na1 0", "Na1 1e999")), "coordinate 1e999 of Na1"),
    "a cell length": (cif(cell=CELL.replace("4.1", "NaN")), "value NaN of _cell_length_a"),
    "no cell": (cif(cell=""), "has no unit cell"),
    "half a cell": (cif(cell=CELL.partition("\n")[2]), "_cell_length_a is missing"),
    "a length of zero": (cif(cell=CELL.replace("4.1", "0")), "no cell has lengths"),
    "impossible angles": (cif(cell=CELL.replace("118.25", "179.9")), "no volume"),
    "a flat cell": (cif(cell=CELL.replace("4.1", "1e-5")), "no volume"),
    "too thin a cell": (cif(cell=CELL.replace("4.1", "1e-200")), "no volume"),
    "a flat cell with symmetry": (cif(cell=CELL.replace("4.1", "1e-5"), symmetry=INVERSION), "no crystal"),
    "one atom twice": (cif(LOOP + "Na Na1 0 0 0\nNa Na2 1 0 0\n"), "add up to 2, more than 1"),
    "too full": (cif(OCCUPIED + "Na Na1 0 0 0 1.5\n"), "add up to 1.5"),
    "too full together": (cif(OCCUPIED + "Na A 0 0 0 0.6\nLi B 0 0 0 0.6\n"), "add up to 1.2"),
    "no operation": (cif(symmetry="_symmetry_equiv_pos_as_xyz 1\n"), "atoms 1 and 2 are 0.0000 Å apart"),
    "a negative occupancy": (cif(OCCUPIED + "Na A 0 0 0 -0.6\n"), "negative"),
    "a dot for occupancy": (cif(OCCUPIED + "Na A 0 0 0 .\n"), "occupancy . of A"),
    "atoms too close": (cif(LOOP + "Na Na1 0 0 0\nNa Na2 0.0015 0 0\n"), "atoms 1 and 2 are 0.0061 Å apart"),
}


@pytest.mark.parametrize(("text", "message"), ERRORS.values(), ids=ERRORS)
def test_unusable_cif(text, message, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(StructureError) as error:
            read_crystal(write(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(StructureError, match="cannot be read: No such file"):
        read_crystal(tmp_path / "no.cif")
    (tmp_path / "folder.cif").mkdir()
    with pytest.raises(StructureError, match="cannot be read: Is a directory"):
        read_crystal(tmp_path / "folder.cif")
    with pytest.raises(StructureError, match=r"'\.xyz' is none of \.cif"):
        read_crystal(tmp_path / "x.xyz")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root and Windows may read every file")
def test_forbidden_file(tmp_path):
    write(tmp_path, cif()).chmod(0)
    with pytest.raises(StructureError, match="cannot be read: Permission denied"):
        read_crystal(tmp_path / "x.cif")


def test_encodings(tmp_path):
    accented = "_publ_author_name 'Curé'\n"
    expected = read_crystal(write(tmp_path, cif()))
    for symmetry in (IDENTITY, INVERSION):
        text = cif(accented + ATOMS, symmetry=symmetry)
        for content in (text.encode(), text.encode("latin-1"), b"\xef\xbb\xbf" + text.encode()):
            np.testing.assert_array_equal(read_crystal(write(tmp_path, content)).frac_coords, expected.frac_coords)
    assert read_crystal(write(tmp_path, cif(symmetry=INVERSION).replace("\n", "\r"), "Y.CIF")).num_sites == 2


def test_partial_and_shared_sites(tmp_path):
    crystal = read_crystal(write(tmp_path, BEYOND["two species on a site"]))
    assert not crystal.is_ordered and crystal.num_sites == 2
    held = {(crystal.site[k], crystal.numbers[k]): crystal.occupancies[k] for k in range(3)}
    li = int(crystal.site[list(crystal.numbers).index(3)])
    assert held == {(li, 3): 0.3, (1 - li, 11): 0.5, (1 - li, 17): 0.5}
    assert crystal.reduced_formula == "Na5Li3Cl5"
    # A sum that is 1 on paper and 1.0000000000000002 in floating point.
    text = cif(OCCUPIED + "Na A 0 0 0 0.9\nLi B 0 0 0 0.05\nK C 0 0 0 0.05\n")
    assert read_crystal(write(tmp_path, text)).occupancies.sum() == pytest.approx(1)


POSCAR = "NaCl\n2.0\n2 0 0\n0 2 0\n0 0 2\nNa Cl\n1 1\n{mode}\n0 0 0\n{last}\n"


@pytest.mark.parametrize("name", ["x.vasp", "x.POSCAR", "x.contcar", "POSCAR", "CONTCAR_x", "POSCAR.x"])
def test_poscar(name, tmp_path):
    path = write(tmp_path, POSCAR.format(mode="Direct", last="-0.5 0.5 0.5 T F T"), name)
    # VASP takes the elements from here, but a POTCAR may belong to another calculation.
    write(tmp_path, "PAW_PBE Li_sv 10Sep2004\n", "POTCAR")
    crystal = read_crystal(path)
    assert crystal.numbers.tolist() == [11, 17]
    np.testing.assert_array_equal(crystal.frac_coords, [[0, 0, 0], [-0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(crystal.lattice, 4 * np.eye(3))
    cartesian = read_crystal(write(tmp_path, POSCAR.format(mode="Cartesian", last="-1 1 1"), name))
    np.testing.assert_allclose(cartesian.frac_coords, crystal.frac_coords, atol=1e-15)


def test_unusable_poscar(tmp_path):
    good = POSCAR.format(mode="Direct", last="0.5 0.5 0.5")
    for content, message in {
        good.replace("Na Cl\n", ""): "Elements in POSCAR cannot be determined$",
        good.replace("Na Cl\n", "Na Xx\n"): "unknown element 'Xx'",
        good.replace("0.5 0.5 0.5", "0 0 0.002"): "atoms 1 and 2 are 0.0080 Å apart",
        good.replace("0.5 0.5 0.5", "0 0 nan"): "not a finite number",
        good.replace("0.5 0.5 0.5", ""): "the POSCAR cannot be read",
        good.replace("0 0 2\n", "0 2 0\n"): "no volume",
        "NaCl\n": "the POSCAR cannot be read",
    }.items():
        with pytest.raises(StructureError, match=message):
            read_crystal(write(tmp_path, content, "POSCAR"))


def test_json(tmp_path):
    lattice = Lattice.from_parameters(4, 5, 6, 80, 90, 100)
    mixed = {Species("Fe", 2): 0.25, Species("Fe", 3): 0.5, "O": 0.2}
    structure = Structure(lattice, [mixed, {"Na": 0.5, DummySpecies("X"): 0.5}], [[0, 0, 0], [1.5, -0.5, 0]])
    crystal = read_crystal(write(tmp_path, json.dumps(structure.as_dict()), "x.json"))
    assert crystal.site.tolist() == [0, 0, 1]
    assert crystal.numbers.tolist() == [26, 8, 11]
    assert crystal.occupancies.tolist() == [0.75, 0.2, 0.5]
    np.testing.assert_array_equal(crystal.frac_coords, structure.frac_coords)
    np.testing.assert_array_equal(crystal.lattice, lattice.matrix)

    content = structure.as_dict()
    del content["lattice"]["matrix"]
    again = read_crystal(write(tmp_path, json.dumps({"structure": content, "energy": -1}), "x.json"))
    np.testing.assert_allclose(again.lattice, lattice.matrix, atol=1e-12)
    for name in ("numbers", "occupancies", "site", "frac_coords"):
        np.testing.assert_array_equal(getattr(again, name), getattr(crystal, name))


def json_of(species: list[dict], abc: list[list[float]]) -> str:
    sites = [{"species": [held], "abc": xyz} for held, xyz in zip(species, abc, strict=True)]
    return json.dumps({"lattice": {"matrix": (4 * np.eye(3)).tolist()}, "sites": sites})


def test_unusable_json(tmp_path):
    na = {"element": "Na", "occu": 1}
    for content, message in {
        "{": "not JSON",
        "[1, 2]": "no pymatgen Structure",
        '{"sites": []}': "no pymatgen Structure",
        json_of([], []): "no atom sites",
        json_of([na], [[0, 0]]): "no pymatgen Structure",
        json_of([na], [[0, 0, 0, 0.5, 0.5, 0.5]]): "no pymatgen Structure",
        json_of([na], [[0, 0, float("nan")]]): "not a finite number",
        json_of([na], [[0, 0, 1e5]]): r"an atom lies 1e\+05 cells away from its cell",
        json_of([na, na], [[0, 0, 0], [1, 0, 0.001]]): "atoms 1 and 2 are 0.0040 Å apart",
        json_of([{"element": "Na", "occu": 1.1}], [[0, 0, 0]]): "atom site 1 add up to 1.1",
        json_of([{"element": "Na", "occu": -1}], [[0, 0, 0]]): "not positive",
        json_of([{"element": "X", "occu": 1}], [[0, 0, 0]]): "unknown element 'X'",
        json_of([{"element": ["Na"], "occu": 1}], [[0, 0, 0]]): "unknown element",
        json_of([na], [[0, 0, 0]]).replace("4.0", "NaN"): "not finite",
    }.items():
        with pytest.raises(StructureError, match=message):
            read_crystal(write(tmp_path, content, "x.json"))


def test_parts_of_a_split_site_may_be_close(tmp_path):
    half = {"element": "Na", "occu": 0.5}
    assert read_crystal(write(tmp_path, json_of([half, half], [[0, 0, 0], [0, 0, 0.001]]), "x.json")).num_sites == 2


def test_close_pairs():
    coordinates = np.random.default_rng(0).random((1200, 3))
    coordinates[[3, 1100]] = [[0.0001, 0.5, 0.99995], [0.99995, 0.5, 1.00001]]
    reach = np.array([2e-4, 1e-4, 1e-4])
    assert [(i.tolist(), j.tolist()) for i, j in close_pairs(coordinates, reach)] == [([3], [1100])]
    assert list(close_pairs(coordinates, reach / 2)) == []


@given(st.tuples(*[st.floats(1, 50)] * 3), st.tuples(*[st.floats(50, 130)] * 3))
def test_lattice_from_parameters(lengths, angles):
    expected = Lattice.from_parameters(*lengths, *angles).matrix
    np.testing.assert_allclose(lattice_from_parameters(list(lengths), list(angles)), expected, atol=1e-12)


def test_find_structure_files(tmp_path):
    expected = {
        "a": "a.cif",
        "b.1": "b.1.CIF",
        "c": "c.vasp",
        "d": "d.json",
        "e": "POSCAR_e",
        "mp-1.2": "CONTCAR.mp-1.2",
        "f": "f/CONTCAR",
        "g": "g/POSCAR",
        "h": "h/POSCAR",
        "i": "i.Contcar",
        "POSCAR_j": "POSCAR_j.vasp",
    }
    others = [
        ".hidden.cif",
        ".hidden/POSCAR",
        "atom_init.json",
        "id_prop.csv",
        "POSCAR",
        "k/OUTCAR",
        "f/POSCAR",
    ]
    for name in [*expected.values(), *others]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, "something", name)
    write(tmp_path, "", "h/CONTCAR")
    found = find_structure_files(tmp_path)
    assert found == {crystal_id: tmp_path / name for crystal_id, name in expected.items()}
    assert list(found) == sorted(found)

    (tmp_path / "linked").symlink_to(tmp_path / "g")
    assert find_structure_files(str(tmp_path))["linked"] == tmp_path / "linked" / "POSCAR"
    write(tmp_path, "", "POSCAR_a")
    with pytest.raises(StructureError, match=r"two files for a: POSCAR_a and a\.cif"):
        find_structure_files(tmp_path)
    with pytest.raises(StructureError, match="cannot be listed: No such file"):
        find_structure_files(tmp_path / "nowhere")


# what the fuzzer found


def test_a_cell_longer_than_any_is_refused(tmp_path):
    content = json_of([{"element": "Na", "occu": 1}], [[0, 0, 0]])
    for length in ("1000000.0", "1e300"):
        with pytest.raises(StructureError, match=r"the cell is 1e\+\d+ Å long, more than any crystal's"):
            read_crystal(write(tmp_path, content.replace("4.0", length), "x.json"))


def test_a_coordinate_that_means_nothing_is_refused(tmp_path):
    with pytest.raises(StructureError, match=r"an atom lies 1e\+300 cells away"):
        read_crystal(write(tmp_path, cif(LOOP + "Na Na1 1e300 0 0\n")))
    assert read_crystal(write(tmp_path, cif(LOOP + "Na Na1 1234.25 0 0\n"))).frac_coords[0, 0] == 0.25


def test_many_atoms_in_one_place_take_little_memory(tmp_path):
    na = {"element": "Na", "occu": 1}
    path = write(tmp_path, json_of([na] * 5000, [[0.1, 0.1, 0.1]] * 5000), "x.json")
    tracemalloc.start()
    with pytest.raises(StructureError, match=r"atoms 1 and 2 are 0\.0000 Å apart"):
        read_crystal(path)
    assert tracemalloc.get_traced_memory()[1] < 400e6
    tracemalloc.stop()


def test_a_site_of_thousands_of_parts_is_refused(tmp_path):
    part = {"element": "Na", "occu": 1e-4}
    with pytest.raises(StructureError, match="more than 100 parts of one split site"):
        read_crystal(write(tmp_path, json_of([part] * 5000, [[0.1, 0.1, 0.1]] * 5000), "x.json"))


def operations(count: int) -> str:
    return "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'x+{k}/{count},y,z'\n" for k in range(count))


def test_more_symmetry_than_a_crystal_has_is_refused(tmp_path):
    with pytest.raises(StructureError, match="1001 symmetry operations; no space group has more than 192"):
        read_crystal(write(tmp_path, cif(symmetry=operations(1001))))
    atoms = LOOP + "".join(f"Na Na{k} 0 0 {k / 150}\n" for k in range(150))
    with pytest.raises(StructureError, match="192 symmetry operations of 150 atom sites are too many places"):
        read_crystal(write(tmp_path, cif(atoms, symmetry=operations(192))))
    assert read_crystal(write(tmp_path, cif(LOOP + "Na Na1 0 0 0\n", symmetry=operations(192)))).num_sites == 192
    with pytest.raises(StructureError, match="a line of 30000 characters; the format has at most 2048"):
        read_crystal(write(tmp_path, cif(symmetry=INVERSION) + '"' * 30_000 + "\n"))
    for text in ("1" * 10_000, "x" + " " * 10_000 + ",y,z"):
        with pytest.raises(StructureError, match="a symmetry operation of 100"):
            read_crystal(write(tmp_path, cif(symmetry=INVERSION + f"'{text}'\n")))


def test_a_poscar_that_announces_atoms_it_has_not(tmp_path):
    cell = "x\n1\n4 0 0\n0 4 0\n0 0 4\n"
    for counts, message in {
        "Na\n1000000000\ndirect\n0 0 0\n": "1000000000 atoms are announced, but the file has 9 lines",
        "1000000000\ndirect\n0 0 0\n": "1000000000 atoms are announced",
        "Na Cl\n1 1\ndirect\n0 0 0\n": "it ends too early, or has no atoms",
        "Na\n1\ndirect\n0 0 x\n": "could not convert|Cannot parse",
    }.items():
        with pytest.raises(StructureError, match=message):
            read_crystal(write(tmp_path, cell + counts, "POSCAR"))


def test_reasons_are_in_words_of_the_format(tmp_path):
    charged = "_atom_type_oxidation_number 1\n"
    for content, message in {
        cif(LOOP + "Na Na1 0 0 0\nNa Na2 0 0\n"): "the values of a loop_ do not fill its columns",
        cif(charged + "loop_\nx y\n" + ATOMS): "a loop_ has no columns",
    }.items():
        with pytest.raises(StructureError, match=message):
            read_crystal(write(tmp_path, content))
    for content, message in {
        "[" * 100_000: "not JSON: too many brackets inside each other$",
        '{"lattice": ' + "9" * 5000 + "}": r"not JSON: Exceeds the limit \(4300 digits\)[^;]*$",
    }.items():
        with pytest.raises(StructureError, match=message):
            read_crystal(write(tmp_path, content, "x.json"))


def test_a_name_that_cannot_be_printed_gives_an_id_that_can(tmp_path):
    for name in (b"b\xe4d.cif", b"b\nd.cif", b"b\x1bd.cif"):
        with open(os.path.join(os.fsencode(tmp_path), name), "w") as file:
            file.write(cif())
    found = find_structure_files(tmp_path)
    assert sorted(found) == sorted([r"b\udce4d", r"b\nd", r"b\x1bd"])
    assert all(read_crystal(path).num_sites == 2 for path in found.values())
