"""The example data: complete, consistent with its own tables, physically sane, and reproducible."""

import csv
import importlib.util
import re
from pathlib import Path

import pytest
from pymatgen.core import Composition, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

REPO = Path(__file__).resolve().parents[1]
ROOT_DIR = REPO / "root_dir"
DATA = REPO / "data"
GENERATED_TABLES = ["all.csv", "ax.csv", "id_prop.csv", "sources.csv"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("make_root_dir", ROOT_DIR / "make_root_dir.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def structures() -> dict[str, Structure]:
    return {path.stem: Structure.from_file(path) for path in ROOT_DIR.glob("*.cif")}


@pytest.fixture(scope="module")
def materials() -> dict[str, dict[str, str]]:
    return {row["cif_id"]: row for row in rows_of(ROOT_DIR / "materials.csv")}


def test_tables_and_cifs_name_the_same_crystals(structures):
    assert len(structures) >= 120
    for name in ("id_prop.csv", "all.csv", "ax.csv", "materials.csv"):
        ids = [row["cif_id"] for row in rows_of(ROOT_DIR / name)]
        assert len(ids) == len(set(ids)), name
        assert set(ids) == set(structures), name


def test_crystals_have_the_composition_and_prototype_of_their_id(structures, materials):
    for cif_id, structure in structures.items():
        formula, prototype = cif_id.split("_", 1)
        assert structure.is_ordered
        assert structure.composition.reduced_composition == Composition(formula).reduced_composition, cif_id
        assert materials[cif_id]["prototype"] == prototype


def test_crystals_have_the_space_group_of_their_prototype(structures, materials):
    expected = {row["prototype"]: row["space_group"] for row in rows_of(ROOT_DIR / "prototypes.csv")}
    for cif_id, structure in structures.items():
        symbol = SpacegroupAnalyzer(structure, symprec=0.01).get_space_group_symbol()
        assert symbol == expected[materials[cif_id]["prototype"]], cif_id


def test_nearest_neighbours_are_neither_too_close_nor_too_far(structures):
    for cif_id, structure in structures.items():
        _, _, _, distances = structure.get_neighbor_list(6.0)
        # The shortest bond here is C-O in calcite (1.28), the longest Cs-Cs in the metal (5.32).
        assert 1.25 < distances.min() < 5.4, cif_id


@pytest.mark.parametrize(
    ("cif_id", "density"),
    [
        ("Cu_fcc", 8.96),
        ("Fe_bcc", 7.87),
        ("Mg_hcp", 1.74),
        ("Ga_alpha_Ga", 5.91),
        ("U_alpha_U", 19.05),
        ("Bi_A7", 9.79),
        ("Sn_beta_Sn", 7.29),
        ("Si_diamond", 2.33),
        ("Se_trigonal_Se", 4.81),
        ("P_black_P", 2.69),
        ("NaCl_rocksalt", 2.165),
        ("GaAs_zincblende", 5.32),
        ("TiO2_rutile", 4.25),
        ("TiO2_anatase", 3.89),
        ("SiO2_quartz", 2.65),
        ("Al2O3_corundum", 3.99),
        ("FeS2_pyrite", 5.01),
        ("Cu2O_cuprite", 6.10),
        ("CaCO3_calcite", 2.71),
        ("ZrSiO4_zircon", 4.67),
        ("SrTiO3_perovskite", 5.11),
        ("Bi2Te3_tetradymite", 7.86),
        ("LaB6_CaB6", 4.72),
        ("Nb3Sn_A15", 8.92),
    ],
)
def test_density_is_the_handbook_one(structures, cif_id, density):
    assert structures[cif_id].density == pytest.approx(density, rel=0.02)


def test_metals_have_no_gap_and_the_others_have_one():
    gaps = {row["cif_id"]: row["band_gap"] for row in rows_of(ROOT_DIR / "id_prop.csv")}
    categories = {row["cif_id"]: row["category"] for row in rows_of(ROOT_DIR / "all.csv")}
    assert set(categories.values()) == {"0", "1"}
    for cif_id, category in categories.items():
        if category == "0":
            assert float(gaps[cif_id]) == 0, cif_id
        elif gaps[cif_id]:
            assert float(gaps[cif_id]) > 0, cif_id


def test_every_figure_has_a_source(materials):
    sources = {(row["cif_id"], row["quantity"]): row for row in rows_of(ROOT_DIR / "sources.csv")}
    assert all(row["source"].strip() and row["unit"] for row in sources.values())
    for row in rows_of(ROOT_DIR / "ax.csv"):
        assert (row["cif_id"], "lattice_a") in sources
        for quantity in ("work_function", "band_gap"):
            source = sources.get((row["cif_id"], quantity), {"value": ""})
            assert row[quantity] == source["value"]
        assert bool(row["formation_energy"]) == ((row["cif_id"], "formation_energy") in sources)
        # A citation left behind after its figure was removed would claim a source for nothing.
        material = materials[row["cif_id"]]
        assert bool(row["work_function"]) == bool(material["work_function_source"])


def test_columns_of_the_auxiliary_table():
    table = {row["cif_id"]: row for row in rows_of(ROOT_DIR / "ax.csv")}

    # NaCl: Pauling 0.93 and 3.16, first ionisation 5.1391 and 12.9676 eV, enthalpy -411.2 kJ/mol.
    salt = table["NaCl_rocksalt"]
    assert float(salt["electronegativity_variance"]) == pytest.approx(((3.16 - 0.93) / 2) ** 2, abs=1e-4)
    assert float(salt["first_ionization_energy_avg"]) == pytest.approx((5.1391 + 12.9676) / 2, abs=1e-3)
    assert float(salt["formation_energy"]) == pytest.approx(-411.2 / 96.485 / 2, abs=1e-4)

    # Al2O3: 2/5 of 1.61 and 3/5 of 3.44; 5.9858 and 13.6181 eV.
    alumina = table["Al2O3_corundum"]
    assert float(alumina["electronegativity_variance"]) == pytest.approx(0.4 * 0.6 * 1.83**2, abs=1e-4)
    assert float(alumina["first_ionization_energy_avg"]) == pytest.approx(0.4 * 5.9858 + 0.6 * 13.6181, abs=1e-3)

    copper = table["Cu_fcc"]
    assert float(copper["electronegativity_variance"]) == 0
    assert float(copper["formation_energy"]) == 0


def test_electronegativity_variance_is_blank_when_undefined(builder):
    variance, ionisation = builder.composition_features(Composition("ArNe"))
    assert variance is None
    assert ionisation == pytest.approx((15.7596 + 21.5645) / 2, abs=1e-3)


def same_text(one: Path, other: Path) -> bool:
    """Whether two files say the same, numbers to 1e-8: processors round the last digit differently."""
    texts = [path.read_text(encoding="utf-8") for path in (one, other)]
    number = r"\d+\.\d+"
    values = [list(map(float, re.findall(number, text))) for text in texts]
    return re.sub(number, "", texts[0]) == re.sub(number, "", texts[1]) and values[0] == pytest.approx(
        values[1], rel=1e-9, abs=1.1e-8
    )


def test_the_script_reproduces_the_folder(builder, tmp_path):
    builder.main(["--out", str(tmp_path)])
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {path.name for path in ROOT_DIR.glob("*.cif")} | set(GENERATED_TABLES)
    for name in written:
        assert same_text(tmp_path / name, ROOT_DIR / name), name


def test_the_script_reproduces_the_samples(builder, tmp_path, materials):
    builder.main(["--samples", str(tmp_path)])
    for folder in ("sample-regression", "sample-classification"):
        written = {path.name for path in (tmp_path / folder).iterdir()}
        assert written == {path.name for path in (DATA / folder).iterdir() if path.name != ".cgcnn_cache"}
        for name in written:
            assert same_text(tmp_path / folder / name, DATA / folder / name), name
    with (DATA / "sample-classification" / "id_prop.csv").open(newline="", encoding="utf-8") as handle:
        labels = dict(csv.reader(handle))
    assert 24 <= len(labels) <= 30
    assert sorted(labels.values()) == ["0"] * (len(labels) // 2) + ["1"] * (len(labels) // 2)
    assert all(materials[cif_id]["category"] == label for cif_id, label in labels.items())
