"""Columns are found by the names that people give them; where several could be meant, none is taken."""

import pytest

from cgcnn.labels import DataError
from cgcnn.merge.columns import choose_column, find_column, other_candidates
from cgcnn.merge.quantities import CATEGORY, FORMATION, GAP, ID, WORK, split_unit
from cgcnn.merge.sheets import read_sheet


@pytest.fixture
def sheet(tmp_path):
    """A function that writes a table with these names and two rows, ids first, and reads it."""

    def read(*names: str, rows: str = ""):
        path = tmp_path / "t.csv"
        numbers = ",".join("1.5" for _ in names[1:])
        path.write_text(",".join(names) + "\n" + (rows or f"Si,{numbers}\nGe,{numbers}\n"), encoding="utf-8")
        return read_sheet(path)

    return read


@pytest.mark.parametrize(
    ("quantity", "name"),
    [
        *((WORK, name) for name in ("work_function", "WorkFunction", "WF", "phi", "Φ (eV)", "work function [meV]")),
        *((WORK, name) for name in ("wf_eV", "Work-Function/eV", "avg_workfunction", "WF top")),
        *((GAP, name) for name in ("band_gap", "gap", "Eg", "E_g (eV)", "bandgap", "gap_pbe", "BandGapHSE")),
        *((GAP, name) for name in ("optb88vdw_bandgap", "Band gap (HSE06)", "gap direct")),
        *((FORMATION, name) for name in ("formation_energy_per_atom", "Eform", "hform", "heat of formation")),
    ],
)
def test_names_of_a_quantity(quantity, name, sheet):
    assert choose_column(sheet("id", "volume", name), quantity, taken=0) == 2


@pytest.mark.parametrize(
    "name", ["cif_id", "ID", "Material ID", "mp-id", "uid", "jid", "filename", "CIF file", "Name"]
)
def test_names_of_ids(name, sheet):
    assert choose_column(sheet("rank", name, "phi", rows="1,Si,4\n2,Ge,5\n"), ID) == 1


@pytest.mark.parametrize(
    "name", ["work_function_error", "gap_source", "phi std", "energy_above_hull", "egg", "gapped"]
)
def test_names_that_are_none(name):
    assert WORK.rank(name) is None and GAP.rank(name) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("WF (meV)", ("WF", "meV")),
        ("gap_eV", ("gap", "eV")),
        ("Φ/Ha", ("Φ", "hartree")),
        ("phi [in Ry]", ("phi", "Ry")),
        ("formation_energy (eV/atom)", ("formation_energy", "eV")),
        ("formation_energy_per_atom", ("formation_energy", None)),
        ("band gap (HSE)", ("band gap (HSE)", None)),
        ("work_function", ("work_function", None)),
    ],
)
def test_units_in_names(name, expected):
    assert split_unit(name) == expected


def test_the_surest_name_wins_and_the_others_are_told(sheet):
    table = sheet("material_id", "cif_id", "gap_hse", "band_gap", "band_gap_source")
    assert choose_column(table, ID) == 1
    assert choose_column(table, GAP, taken=1) == 3
    assert other_candidates(table, GAP, 3) == ["gap_hse"]


def test_several_candidates_are_listed_with_the_flag(sheet):
    with pytest.raises(DataError) as raised:
        choose_column(sheet("id", "gap_pbe", "gap_hse"), GAP, taken=0)
    assert str(raised.value).endswith(
        "several columns could be the band gap (2: 'gap_pbe' with 1.5, 1.5 …, 3: 'gap_hse' with 1.5, 1.5 …); "
        "choose with --gap-column, by name or number"
    )
    with pytest.raises(DataError, match=r"could be the id .*--id-column"):
        choose_column(sheet("uid", "material_id", "gap"), ID)


def test_a_flag_chooses_by_name_or_number(sheet):
    table = sheet("id", "gap_pbe", "Gap HSE")
    assert choose_column(table, GAP, "gap_pbe") == 1
    assert choose_column(table, GAP, "gap-hse") == 2
    assert choose_column(table, GAP, "3") == 2
    with pytest.raises(
        DataError, match=r"--gap-column 4: .* has no such column; there are 'id', 'gap_pbe', 'Gap HSE'"
    ):
        choose_column(table, GAP, "4")


def test_without_a_name_the_only_possible_column_is_taken(sheet):
    assert choose_column(sheet("id", "target"), WORK, taken=0) == 1
    assert choose_column(sheet("Si", "4.85"), WORK, taken=0) == 1
    assert choose_column(sheet("Si", "4.85"), ID) == 0
    assert choose_column(sheet("4.85", "Si", rows="4.8,Ge\n"), ID) == 1
    assert choose_column(sheet("Si", "metal", rows="Ge,semiconductor\n"), ID) == 0
    assert choose_column(sheet("id", "what", rows="Si,semiconductor\n"), CATEGORY, taken=0) == 1
    with pytest.raises(DataError, match="several columns could be the work function"):
        choose_column(sheet("Si", "4.85", "1.1"), WORK, taken=0)


def test_a_column_of_another_quantity_is_never_taken(sheet):
    with pytest.raises(DataError, match="it has a band gap: are the two tables swapped"):
        choose_column(sheet("id", "band_gap"), WORK, taken=0)
    assert find_column(sheet("id", "band_gap"), FORMATION) is None


def test_a_named_column_is_meant_even_if_it_holds_text(sheet):
    assert choose_column(sheet("id", "gap", "volume", rows="Si,high,3\n"), GAP, taken=0) == 1
