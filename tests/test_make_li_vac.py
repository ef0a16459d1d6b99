"""`vacancy_data/`: the vacancy script, the folder's crystals and their table."""

import csv
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "vacancy_data"
sys.path.insert(0, str(FOLDER))

import make_li_vac  # noqa: E402
import make_vacancy_data  # noqa: E402
import vacancies  # noqa: E402

PRINTED = ["vacancy_data/make_li_vac.py", "NCA_LiVac0.cif", "--num_aug", "3", "--seed", "42"]
AUG_FILES = [f"NCA_LiVac0_aug{n}.cif" for n in range(3)]


def layered(alkali="Li"):
    cell = Lattice.hexagonal(2.82, 14.05)
    return Structure.from_spacegroup("R-3m", cell, [alkali, "Co", "O"], [[0, 0, 0.5], [0, 0, 0], [0, 0, 0.26]])


def rock_salt():
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.0), ["Li", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def averaged(species):
    """A cubic cell of eight sites that share the occupancies `species`, and eight Li."""
    corners = [[x, y, z] for x in (0, 0.5) for y in (0, 0.5) for z in (0, 0.5)]
    coords = corners + [[x + 0.25, y + 0.25, z + 0.25] for x, y, z in corners]
    return Structure(Lattice.cubic(6.0), [species] * 8 + ["Li"] * 8, coords)


def save(structure, path):
    path.write_text(make_li_vac.cif_text(structure))
    return path


def counts(structure):
    return Counter(site.specie.symbol for site in structure)


def assert_inequivalent(structures):
    matcher = StructureMatcher(stol=0.05, scale=False)
    assert not any(matcher.fit(a, b) for a, b in combinations(structures, 2))


def run_main(*arguments):
    return make_li_vac.main([str(argument) for argument in arguments])


@pytest.fixture
def pristine(tmp_path):
    return Path(shutil.copy(FOLDER / "NCA_LiVac0.cif", tmp_path))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# --- distinct vacancies ---------------------------------------------------------------------------


@pytest.mark.parametrize(("supercell", "n_vacancies"), [((2, 2, 1), 1), ((3, 2, 1), 5), (None, 2)])
def test_only_the_asked_atoms_are_missing(pristine, supercell, n_vacancies):
    average = make_li_vac.read_structure(pristine)
    results = vacancies.make_vacancies(average, 4, seed=1, n_vacancies=n_vacancies, supercell=supercell)
    assert len(results) == 4
    for structure in results:
        found = counts(structure)
        units = found["O"] // 2
        assert found["Li"] == units - n_vacancies
        assert sum(found[metal] for metal in ("Ni", "Co", "Al")) == units
        assert abs(found["Ni"] / units - 0.8) <= 0.05 + 1e-9
    assert_inequivalent(results)


@pytest.mark.parametrize(
    ("host", "supercell", "size", "expected"),
    [
        (layered(), (1, 1, 1), 1, 1),
        (layered(), (2, 2, 1), 2, 3),  # in a layer, in neighbouring layers near and far
        (rock_salt(), (2, 1, 1), 1, 1),
        (rock_salt(), (2, 1, 1), 4, 7),  # two of the eight symmetry classes of this cell are congruent
    ],
)
def test_all_inequivalent_choices_are_found_and_no_more(host, supercell, size, expected):
    results = vacancies.make_vacancies(host, expected, n_vacancies=size, supercell=supercell)
    assert_inequivalent(results)
    with pytest.raises(vacancies.VacancyError, match=rf"found {expected} distinct"):
        vacancies.make_vacancies(host, expected + 1, n_vacancies=size, supercell=supercell)


def test_more_choices_than_can_be_listed_are_drawn():
    results = vacancies.make_vacancies(layered(), 5, n_vacancies=9, supercell=(3, 3, 1))
    assert all(counts(structure) == {"Li": 18, "Co": 27, "O": 54} for structure in results)
    assert_inequivalent(results)


def test_the_default_supercell_grows_with_the_number_of_results():
    sizes = [len(vacancies.make_vacancies(layered(), n, n_vacancies=2)[0]) for n in (1, 3, 6)]
    assert sizes == sorted(set(sizes))


def test_fraction_is_the_nearest_whole_number():
    results = vacancies.make_vacancies(layered(), 2, fraction=0.25, supercell=(2, 2, 1))
    assert [counts(structure)["Li"] for structure in results] == [9, 9]
    assert counts(vacancies.make_vacancies(layered(), 1, fraction=0.5)[0]) == {"Li": 3, "Co": 6, "O": 12}


def test_more_results_of_a_seed_begin_with_the_fewer():
    few, many = (vacancies.make_vacancies(layered(), n, n_vacancies=3, supercell=(2, 2, 1)) for n in (2, 4))
    assert few == many[:2]


# --- partial occupancies --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("occupancies", "n_sites", "expected"),
    [
        ({"Ni": 0.8, "Co": 0.15, "Al": 0.05}, 20, {"Ni": 16, "Co": 3, "Al": 1, "": 0}),
        ({"Ni": 0.8, "Co": 0.15, "Al": 0.05}, 18, {"Ni": 14, "Co": 3, "Al": 1, "": 0}),
        ({"Ni": 0.98, "Mg": 0.02}, 12, {"Ni": 11, "Mg": 1, "": 0}),
        ({"O": 0.75}, 8, {"O": 6, "": 2}),
        ({"A": 1 / 3, "B": 1 / 3, "C": 1 / 3}, 3, {"A": 1, "B": 1, "C": 1, "": 0}),
    ],
)
def test_occupancies_become_whole_atoms(occupancies, n_sites, expected):
    assert vacancies.occupancy_counts(occupancies, n_sites, 0.1) == expected


@pytest.mark.parametrize("n_sites", [1, 2, 3])
def test_occupancies_that_do_not_fit_are_refused(n_sites):
    with pytest.raises(vacancies.VacancyError):
        vacancies.occupancy_counts({"Ni": 0.8, "Co": 0.15, "Al": 0.05}, n_sites, 0.1)


def test_order_sites_keeps_places_and_follows_the_seed():
    average = averaged({"Ni": 0.5, "Co": 0.25})
    first, again, other = (vacancies.order_sites(average, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert first.is_ordered
    assert counts(first) == {"Li": 8, "Ni": 4, "Co": 2}
    assert {tuple(site.frac_coords) for site in first} < {tuple(site.frac_coords) for site in average}


def test_the_draw_does_not_depend_on_the_order_of_the_sites():
    average = averaged({"Ni": 0.5, "Co": 0.5})
    backwards = Structure.from_sites(list(average)[::-1])
    assert vacancies.make_vacancies(average, 2) == vacancies.make_vacancies(backwards, 2)


def test_an_element_on_a_mixed_site_is_ordered_first(tmp_path):
    path = save(averaged({"Na": 0.5, "K": 0.5}), tmp_path / "mixed.cif")
    assert run_main(path, "--element", "Na", "--num-aug", 2, "--supercell", 1, 1, 1) == 0
    for number in range(2):
        result = make_li_vac.read_structure(tmp_path / f"mixed_aug{number}.cif")
        assert counts(result) == {"Li": 8, "Na": 3, "K": 4}


# --- command --------------------------------------------------------------------------------------


def test_same_seed_same_bytes_and_other_seed_other_bytes(pristine, tmp_path):
    for name, seed in (("a", 42), ("b", 42), ("c", 43)):
        assert run_main(pristine, "--num_aug", 3, "--seed", seed, "--out-dir", tmp_path / name) == 0
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert sorted(a) == AUG_FILES
    assert a == b
    assert a != c


def test_bytes_do_not_depend_on_the_hash_seed(pristine, tmp_path):
    for seed in ("1", "2"):
        command = [sys.executable, FOLDER / "make_li_vac.py", pristine, "--out-dir", tmp_path / seed]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_sodium(tmp_path):
    path = save(layered("Na"), tmp_path / "naco.cif")
    assert run_main(path, "--element", "Na", "--num_aug", 2, "--n-vacancies", 2) == 0
    missing = {c["O"] // 2 - c["Na"] for c in (counts(Structure.from_file(f)) for f in tmp_path.glob("*_aug*"))}
    assert missing == {2}


def test_printed_command_runs_and_changes_nothing():
    before = contents(FOLDER)
    result = subprocess.run([sys.executable, *PRINTED], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert all(name in result.stdout for name in AUG_FILES)
    assert contents(FOLDER) == before


def test_current_folder_comes_before_the_folder_of_the_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make_li_vac.find_input("NCA_LiVac0.cif") == FOLDER / "NCA_LiVac0.cif"
    shutil.copy(FOLDER / "NCA_LiVac0.cif", tmp_path)
    assert make_li_vac.find_input("NCA_LiVac0.cif") == Path("NCA_LiVac0.cif")


def test_a_differing_file_is_kept_without_force(pristine, tmp_path, capsys):
    precious = tmp_path / "NCA_LiVac0_aug1.cif"
    precious.write_text("precious")
    assert run_main(pristine) == 2
    assert "--force" in capsys.readouterr().err
    assert precious.read_text() == "precious"
    assert not (tmp_path / "NCA_LiVac0_aug0.cif").exists()
    assert run_main(pristine, "--force") == 0
    assert counts(make_li_vac.read_structure(precious))["Li"] == 17


def test_the_same_crystal_in_another_format_is_no_conflict(pristine, tmp_path):
    assert run_main(pristine) == 0
    written = tmp_path / "NCA_LiVac0_aug0.cif"
    reformatted = "# a comment\n" + re.sub(r"(\.\d{6})\d\d\b", r"\1", written.read_text())
    written.write_text(reformatted)
    assert run_main(pristine) == 0
    assert written.read_text() == reformatted


@pytest.mark.parametrize(
    ("before", "added"),
    [
        (None, "cif_id,formation_energy,defect_label\nNCA_LiVac0_aug0,,1\nNCA_LiVac0_aug1,,1\n"),
        ("id,defect_label,gap,e\nx,0,1,2", "\nNCA_LiVac0_aug0,1,,\nNCA_LiVac0_aug1,1,,\n"),
        ("id,e\r\nNCA_LiVac0_aug1,2.5\r\n", "NCA_LiVac0_aug0,\r\n"),
        ("x,1.5\n", "NCA_LiVac0_aug0,\nNCA_LiVac0_aug1,\n"),
    ],
)
def test_append_id_prop_keeps_what_is_there_and_repeats_no_id(pristine, tmp_path, before, added):
    table = tmp_path / "id_prop.csv"
    if before is not None:
        table.write_bytes(before.encode())
    for _ in range(2):
        assert run_main(pristine, "--num_aug", 2, "--append-id-prop") == 0
    assert table.read_bytes().decode() == (before or "") + added


def test_append_id_prop_to_a_given_file(pristine, tmp_path):
    table = tmp_path / "new" / "other.csv"
    assert run_main(pristine, "--num_aug", 1, "--append-id-prop", table) == 0
    assert table.read_text().endswith("NCA_LiVac0_aug0,,1\n")
    assert not (tmp_path / "id_prop.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.cif"], "no such file: missing.cif"),
        (["folder"], "no such file"),
        (["folder/NCA_LiVac0.cif"], "no such file"),
        (["garbage.cif"], "not a CIF with a crystal structure"),
        (["binary.cif"], "not a CIF with a crystal structure"),
        (["empty.cif"], "not a CIF with a crystal structure"),
        (["na.cif"], "na.cif: there is no Li in NaCoO2"),
        (["li.cif", "--element", "Xx"], "there is no Xx"),
        (["li.cif", "--n-vacancies", "13", "--supercell", "2", "2", "1"], "only 12 such atoms"),
        (["li.cif", "--n-vacancies", "9999"], "9999 vacancies asked for"),
        (["li.cif", "--num_aug", "3"], "not 3"),
        (
            ["li.cif", "--num_aug", "4", "--n-vacancies", "2", "--supercell", "2", "2", "1"],
            "found 3 distinct",
        ),
        (["li.cif", "--fraction", "0.5", "--supercell", "1", "1", "1"], "a fraction of 0.5 is not possible"),
        (["metal.cif", "--n-vacancies", "2", "--supercell", "1", "1", "1"], "no atom would be left"),
        (["nca.cif", "--supercell", "1", "1", "1"], "too small for the occupancies"),
        (["li.cif", "--num_aug", "0"], "--num_aug"),
        (["li.cif", "--num_aug", "many"], "--num_aug"),
        (["li.cif", "--seed", "-1"], "--seed"),
        (["li.cif", "--seed", "1.5"], "--seed"),
        (["li.cif", "--supercell", "2", "0", "1"], "--supercell"),
        (["li.cif", "--supercell", "2", "2"], "--supercell"),
        (["li.cif", "--n-vacancies", "-2"], "--n-vacancies"),
        (["li.cif", "--fraction", "0"], "--fraction"),
        (["li.cif", "--fraction", "nan"], "--fraction"),
        (["li.cif", "--fraction", "1.1"], "--fraction"),
        (["li.cif", "--fraction", "0.5", "--n-vacancies", "2"], "not allowed with"),
        (["nca.cif", "--append-id-prop", "folder"], "folder"),
        (["nca.cif", "--out-dir", "garbage.cif"], "garbage.cif"),
        ([], "cif"),
    ],
)
def test_an_error_is_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "garbage.cif").write_text("not a crystal\n")
    (tmp_path / "binary.cif").write_bytes(bytes(range(256)))
    (tmp_path / "empty.cif").touch()
    shutil.copy(FOLDER / "NCA_LiVac0.cif", tmp_path / "nca.cif")
    save(layered("Na"), tmp_path / "na.cif")
    save(layered(), tmp_path / "li.cif")
    save(Structure(Lattice.cubic(3.5), ["Li", "Li"], [[0, 0, 0], [0.5, 0.5, 0.5]]), tmp_path / "metal.cif")
    before = sorted(tmp_path.rglob("*"))
    try:
        status = run_main(*arguments)
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert message in err
    assert err.startswith("make_li_vac.py: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_help_answers_without_pymatgen():
    code = "import sys, make_li_vac as m\ntry: m.main(['-h'])\nfinally: assert 'pymatgen' not in sys.modules"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=FOLDER, check=True, capture_output=True)
    assert time.perf_counter() - start < 5  # under 1 s on an idle machine


# --- the folder -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    with (FOLDER / "id_prop.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def crystals():
    return {path.stem: make_li_vac.read_structure(path) for path in sorted(FOLDER.glob("*.cif"))}


def test_table_and_crystals_match(rows, crystals):
    ids = [row["cif_id"] for row in rows]
    assert list(rows[0]) == ["cif_id", "formation_energy", "defect_label"]
    assert len(ids) >= 40
    assert sorted(ids) == sorted(crystals)
    assert {f"{name}_LiVac0{end}" for name in ("NCA", "NCM811") for end in ("", "_aug0", "_aug1", "_aug2")} <= set(
        ids
    )
    assert all(len(structure) <= 110 for structure in crystals.values())


def test_labels_follow_from_the_crystals(rows, crystals):
    for row in rows:
        structure = crystals[row["cif_id"]]
        has_vacancies = structure.composition["Li"] < structure.composition["O"] / 2 - 1e-6
        assert int(row["defect_label"]) == has_vacancies
        energy = make_vacancy_data.toy_formation_energy(structure)
        assert float(row["formation_energy"]) == pytest.approx(energy, abs=1.1e-5)
    labels = Counter(row["defect_label"] for row in rows)
    assert min(labels["0"], labels["1"]) >= 0.3 * len(rows)


def test_no_crystal_comes_twice(crystals):
    ordered = [structure for structure in crystals.values() if structure.is_ordered]
    assert len(list(vacancies.distinct(ordered))) == len(ordered)


@pytest.mark.parametrize(
    ("name", "metals"),
    [("NCA", {"Ni": 0.8, "Co": 0.15, "Al": 0.05}), ("NCM811", {"Ni": 0.8, "Co": 0.1, "Mn": 0.1})],
)
def test_pristine_structures(crystals, name, metals):
    structure = crystals[f"{name}_LiVac0"]
    per_unit = {element.symbol: amount / 3 for element, amount in structure.composition.items()}
    assert per_unit == pytest.approx({"Li": 1, "O": 2, **metals})
    assert structure.get_space_group_info()[0] == "R-3m"
    assert structure.lattice.a == pytest.approx(2.86, abs=0.02)
    assert structure.lattice.c == pytest.approx(14.2, abs=0.05)


def test_rebuilding_gives_the_folder(tmp_path):
    assert make_vacancy_data.build_folder(tmp_path) == len(list(FOLDER.glob("*.cif")))
    for path in tmp_path.iterdir():
        assert make_li_vac.holds(FOLDER / path.name, path.read_text()), path.name
    with (tmp_path / "id_prop.csv").open("a") as stream:
        stream.write("mine,1,0\n")
    with pytest.raises(vacancies.VacancyError, match=r"id_prop\.csv exists and differs"):
        make_vacancy_data.build_folder(tmp_path)
