"""merge_work_band.py: two tables as people have them become a folder that main.py trains on; nothing is hidden."""

import csv
from pathlib import Path

import pytest
from helpers import FCC, copy_folder, finished, read_rows, refused, run, script, table, train, write_cif

from cgcnn.merge.command import merge_command

WORK = "id,WF (eV)\nCU.cif,4.65\nAl,4.28\nSi,4.85\nGe,4.8\n"
GAP = "material_id;gap;Eform (eV/atom)\nCu;0;0\nAl.cif;0;0\nSi.cif;1,12;0\nC.cif;5,47;0,01\n"
NAMES = ("id_prop.csv", "all.csv", "ax.csv", "merge_report.csv")


@pytest.fixture
def folder(tmp_path) -> Path:
    """The two tables, and four structures in data/."""
    (tmp_path / "work.csv").write_text(WORK, encoding="utf-8")
    (tmp_path / "gap.csv").write_text(GAP, encoding="utf-8")
    (tmp_path / "data").mkdir()
    for symbol in ("Cu", "Al", "Si", "C"):
        write_cif(tmp_path / "data" / f"{symbol}.cif", [(symbol, place) for place in FCC])
    return tmp_path


def merge(folder: Path, *words: object, status: int = 0) -> str:
    """merge_work_band.py on the two tables, into data/; what it printed."""
    ran = run(merge_command, folder / "work.csv", folder / "gap.csv", "--out", folder / "data", *words)
    assert ran.status == status, ran
    assert not ran.err
    return ran.out


def refusal(folder: Path, *words: object) -> str:
    """The same, which must be refused without a file written."""
    before = sorted(folder.rglob("*"))
    lines = refused(merge_command, folder / "work.csv", folder / "gap.csv", "--out", folder / "data", *words)
    assert sorted(folder.rglob("*")) == before
    return lines


def report(folder: Path) -> dict[str, list[str]]:
    """kind → ids, from merge_report.csv."""
    found: dict[str, list[str]] = {}
    for row in csv.DictReader((folder / "data" / "merge_report.csv").open(encoding="utf-8")):
        found.setdefault(row["kind"], []).append(row["cif_id"])
    return found


def test_ids_of_both_tables_with_the_spelling_of_the_structures(folder):
    out = merge(folder)
    assert read_rows(folder / "data" / "id_prop.csv") == [
        ["cif_id", "work_function", "band_gap"],
        ["Cu", "4.65", "0"],
        ["Al", "4.28", "0"],
        ["Si", "4.85", "1.12"],
    ]
    assert read_rows(folder / "data" / "all.csv")[1:] == [["Cu", "0"], ["Al", "0"], ["Si", "1"]]
    assert report(folder) == {"only_in_work": ["Ge"], "only_in_band": ["C"], "case_ignored": ["CU"]}
    assert "     3 ids in both tables" in out
    assert f"     1 id  only in {folder / 'work.csv'}: left out; --how outer keeps them without band gap" in out
    assert "id in 'material_id', 0 to 5.47 eV in 'gap'" in out
    assert out.endswith(f"next: python main.py {folder / 'data'} --conditional-loss --auxiliary-tasks\n")


def test_outer_keeps_what_one_table_has(folder):
    out = merge(folder, "--how", "outer")
    assert read_rows(folder / "data" / "id_prop.csv")[4:] == [["C", "", "5.47"]]
    assert report(folder)["no_structure"] == ["Ge"]
    assert "4 crystals: 3 with both labels, 1 without work function" in out


def test_auxiliary_labels_are_computed_or_taken(folder):
    write_cif(folder / "data" / "Si.cif", [("Na" if k < 2 else "Cl", place) for k, place in enumerate(FCC)])
    merge(folder)
    ax = table(folder / "data" / "ax.csv", index_col=0)
    assert list(ax) == [
        "work_function",
        "band_gap",
        "electronegativity_variance",
        "formation_energy",
        "first_ionization_energy_avg",
    ]
    assert ax.loc["Cu"].tolist() == pytest.approx([4.65, 0, 0, 0, 7.7264], rel=1e-4)
    # Na 0.93 and 5.139 eV, Cl 3.16 and 12.968 eV
    assert ax.loc["Si"].tolist()[2:] == pytest.approx([((3.16 - 0.93) / 2) ** 2, 0, (5.139 + 12.968) / 2], rel=1e-3)


def test_formation_energies_that_differ_are_left_blank(folder):
    (folder / "work.csv").write_text("id,wf,hform\nCu,4.65,0\nAl,4.28,-0.5\nSi,4.85,\n", encoding="utf-8")
    merge(folder)
    assert table(folder / "data" / "ax.csv").formation_energy.isna().tolist() == [False, True, False]
    assert report(folder)["formation_differs"] == ["Al"]


def test_without_structures_there_is_no_ax(folder):
    for path in (folder / "data").iterdir():
        path.unlink()
    out = merge(folder)
    assert not (folder / "data" / "ax.csv").exists()
    assert "ax.csv            not written: no structure files in" in out
    # The id of the table of work functions, where no file spells it.
    assert [row[0] for row in read_rows(folder / "data" / "id_prop.csv")[1:]] == ["CU", "Al", "Si"]


def test_structures_elsewhere(folder):
    ran = run(
        *(merge_command, folder / "work.csv", folder / "gap.csv", "--out", folder / "new"),
        *("--structures", folder / "data"),
    )
    assert ran.status == 0
    assert {path.name for path in (folder / "new").iterdir()} == set(NAMES)
    assert (
        f"next: copy the structure files from {folder / 'data'} to {folder / 'new'}, then python main.py" in ran.out
    )


def test_categories_of_a_table_before_those_of_the_gap(folder):
    (folder / "classes.csv").write_text("uid,is_metal\ncu,1\nSi,1\n", encoding="utf-8")
    out = merge(folder, "--categories", folder / "classes.csv")
    assert read_rows(folder / "data" / "all.csv")[1:] == [["Cu", "0"], ["Al", "0"], ["Si", "0"]]
    assert report(folder)["contradiction"] == ["Si"]
    assert "Si: metal, but a band gap of 1.12 eV" in out


def test_categories_the_wrong_way_round_are_refused(folder):
    symbols = ["H", "B", "C", "N", "O", "F", "P", "S"]
    (folder / "work.csv").write_text("id,wf\n" + "".join(f"{s},4.5\n" for s in symbols), encoding="utf-8")
    (folder / "gap.csv").write_text("id,gap\n" + "".join(f"{s},5\n" for s in symbols), encoding="utf-8")
    (folder / "classes.csv").write_text("id,class\n" + "".join(f"{s},0\n" for s in symbols), encoding="utf-8")
    for symbol in symbols:
        write_cif(folder / "data" / f"{symbol}.cif", [(symbol, place) for place in FCC])
    said = refusal(folder, "--categories", folder / "classes.csv")
    assert "8 of 8 categories contradict the band gap; 0 is a metal and 1 a semiconductor" in said


def test_threshold_and_unit(folder):
    (folder / "gap.csv").write_text("id,gap (meV)\nCu,5\nAl,0\nSi,1120\n", encoding="utf-8")
    assert "--metal-threshold 0.01: metals" in merge(folder)
    assert [row[1] for row in read_rows(folder / "data" / "all.csv")[1:]] == ["1", "0", "1"]
    out = merge(folder, "--force", "--metal-threshold", 0.01)
    assert [row[1] for row in read_rows(folder / "data" / "all.csv")[1:]] == ["0", "0", "1"]
    assert table(folder / "data" / "id_prop.csv").band_gap.tolist() == [0.005, 0, 1.12]
    assert "(× 0.001: given in meV)" in out


def test_unknown_gaps_have_no_category(folder):
    (folder / "gap.csv").write_text("id,gap\nCu,0\nAl,\nSi,1.12\n", encoding="utf-8")
    merge(folder)
    assert read_rows(folder / "data" / "all.csv")[2] == ["Al", ""]


@pytest.mark.parametrize(("words", "status", "expected"), [((), 3, ""), (("--duplicates", "mean"), 0, "4.7")])
def test_rows_that_differ_are_blank_unless_the_flag_settles_them(words, status, expected, folder):
    (folder / "work.csv").write_text(WORK + "CU.cif,4.75\nSi,4.85\n", encoding="utf-8")
    out = merge(folder, *words, status=status)
    assert read_rows(folder / "data" / "id_prop.csv")[1] == ["Cu", expected, "0"]
    assert f"CU: work function 4.65, 4.75 → {expected or 'blank'}  ({folder / 'work.csv'}, rows 2, 6)" in out
    assert report(folder)["duplicate_equal"] == ["Si"]


def test_a_clash_is_left_out_and_told(folder):
    (folder / "gap.csv").write_text("id,gap\nCu,0\ncu.cif,0\nSi,1.12\n", encoding="utf-8")
    out = merge(folder, status=3)
    assert [row[0] for row in read_rows(folder / "data" / "id_prop.csv")[1:]] == ["Si"]
    assert "Cu: Cu (row 2) and cu.cif (row 3)" in out
    assert "labels or crystals missing: 1; rows" in out and "(exit status 3)" in out
    assert report(folder)["only_in_work"] == ["Al", "Ge"]


def test_a_structure_that_cannot_be_read_is_left_out_with_its_reason(folder):
    (folder / "data" / "Al.cif").write_text("nothing", encoding="utf-8")
    out = merge(folder, status=3)
    assert [row[0] for row in read_rows(folder / "data" / "id_prop.csv")[1:]] == ["Cu", "Si"]
    assert "Al: not a CIF: it has no data_ block" in out


def test_ids_without_any_label_are_left_out(folder):
    (folder / "work.csv").write_text("id,wf\nCu,\nAl,4.28\n", encoding="utf-8")
    (folder / "gap.csv").write_text("id,gap\nCu,\nAl,0\n", encoding="utf-8")
    merge(folder)
    assert report(folder)["no_label"] == ["Cu"]


def test_one_table_may_hold_both(folder):
    (folder / "both.csv").write_text("id,gap,wf\nCu,0,4.65\nSi,1.12,4.85\nSI,1.12,4.85\n", encoding="utf-8")
    both = folder / "both.csv"
    ran = run(merge_command, both, both, "--out", folder / "data")
    assert read_rows(folder / "data" / "id_prop.csv")[1:] == [["Cu", "4.65", "0"]]
    assert report(folder)["clash"] == ["Si"]
    assert ran.status == 3


def test_nothing_is_overwritten_without_force(folder):
    merge(folder)
    first = (folder / "data" / "id_prop.csv").read_bytes()
    said = refusal(folder, "--how", "outer")
    assert f"{folder / 'data'} already has {', '.join(NAMES)}; --force" in said
    out = merge(folder, "--how", "outer", "--force")
    (previous,) = (folder / "data" / "result" / "previous").iterdir()
    assert {path.name for path in previous.iterdir()} == set(NAMES)
    assert (previous / "id_prop.csv").read_bytes() == first != (folder / "data" / "id_prop.csv").read_bytes()
    assert str(previous) in out


def test_an_input_in_the_folder_is_read_before_it_is_replaced(folder):
    (folder / "data" / "all.csv").write_text("id,category\nSi,0\n", encoding="utf-8")
    merge(folder, "--categories", folder / "data" / "all.csv", "--force")
    assert ["Si", "0"] in read_rows(folder / "data" / "all.csv")


@pytest.mark.parametrize(
    ("work", "gap", "said"),
    [
        ("id,wf\nx,4.5\n", None, "no ids in common: {w} has 'x' (row 2), {g} has 'Cu' (row 2); --id-column chooses"),
        ("id,wf\nCu,4650\nAl,4280\n", None, "{w}, 'wf': as eV, the median work function is 4465 eV"),
        ("id,wf\nCu,4650\nAl,4280\n", None, "they look like meV, × 0.001 to eV (median 4.46 eV): --work-unit meV"),
        ("id,wf\nCu,4.65\nAl,-1\n", None, "{w}: a work function cannot be negative: row 3 (-1)"),
        ("id,wf\nCu,4.65\nAl,four\n", None, "{w}, row 3: wf 'four' is not a finite number"),
        ("id,wf\nCu,4.65\n,4.28\n", None, "{w}, row 3: no id"),
        ("id,wf\nCu,\nAl,\n", None, "{w}: no number in 'wf'"),
        (GAP, WORK, "{w}: no column for the work function (it has a band gap: are the two tables swapped?)"),
        (None, "id,gap\nCu,0\nAl,99\nSi,1\nC,5\n", "{g}: no band gap is above 20 eV: row 3 (99)"),
        (None, "id,gap\nCu,0\nAl,-0.1\n", "{g}: a band gap cannot be negative: row 3 (-0.1)"),
        (None, "id,gap_pbe,gap_hse\nCu,0,0\nAl,1,2\n", "{g}: several columns could be the band gap (2: 'gap_pbe'"),
        (None, "", "{g}: empty"),
    ],
)
def test_bad_tables_are_refused_in_one_line(work, gap, said, folder):
    for name, text in (("work.csv", work), ("gap.csv", gap)):
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
    lines = refusal(folder)
    assert said.format(w=folder / "work.csv", g=folder / "gap.csv") in lines
    assert lines.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--structures", "nowhere"), "nowhere: the folder cannot be listed"),
        (("--structures", "."), "--structures .: no structure files in it"),
        (("--id-column", "id", "material_id", "more"), "--id-column: one name, or one for each of"),
        (("--id-column", "id"), "--id-column id: "),
        (("--gap-column", "nothing"), "--gap-column nothing: "),
        (("--formation-column", "nothing"), "--formation-column nothing: no table has a column"),
        (("--work-unit", "volt"), "'volt' is not one of eV, meV, hartree, Ry, J"),
        (("--metal-threshold", "-1"), "-1 is not 0.0 or more"),
        (("--categories", "nothing.csv"), "nothing.csv: no such file"),
    ],
)
def test_bad_flags_are_refused_in_one_line(words, said, folder, monkeypatch):
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder / "empty")
    lines = refusal(folder, *words)
    assert said in lines
    assert lines.count("\n") == 1


def test_no_structure_of_these_names(folder):
    for symbol in ("Cu", "Al", "Si", "C"):
        (folder / "data" / f"{symbol}.cif").rename(folder / "data" / f"{symbol}_fcc.cif")
    said = refusal(folder)
    assert "none of the 3 ids has a structure file in" in said
    assert "the tables have 'CU', the folder has 'Al_fcc.cif'" in said


def test_columns_and_units_by_flag(folder):
    (folder / "work.csv").write_text("uid,key,phi,x\n1,Cu,1,0.171\n2,Si,1,0.178\n", encoding="utf-8")
    words = ("--id-column", "key", "1", "--work_column", "x", "--work-unit", "hartree", "--gap-column", "2")
    merge(folder, *words)
    assert table(folder / "data" / "id_prop.csv").work_function.tolist() == pytest.approx([4.653, 4.844], abs=1e-3)


def test_what_is_merged_trains(tmp_path):
    """Two tables made of root_dir, shuffled and spoilt; then main.py with every loss, as the last line says."""
    data = copy_folder("root_dir", tmp_path / "data", take=slice(2, 122, 4))
    rows = read_rows(data / "id_prop.csv")[1:]
    for name in ("id_prop.csv", "all.csv", "ax.csv"):
        (data / name).unlink()
    work = "".join(f"{k},{i.upper()}.cif,{wf}\n" for k, (i, wf, _) in enumerate(reversed(rows)) if wf)
    gap = "".join(f"cifs/{i}\t{float(gap) * 1000:g}\n" for i, _, gap in rows[1:] + rows[2:4] if gap)
    (tmp_path / "work.csv").write_text(f",filename,WF\n{work}", encoding="utf-8")
    (tmp_path / "gap.csv").write_text(f"uid\tEg (meV)\n{gap}", encoding="utf-8")
    words = (tmp_path / "work.csv", tmp_path / "gap.csv", "--out", data, "--how", "outer")
    ran = finished(script("merge_work_band.py", *words, folder=tmp_path))
    assert ran.status == 0, ran.err
    assert set(table(data / "id_prop.csv").cif_id) == {row[0] for row in rows if row[1] or row[2]}
    for k, flags in enumerate(((), ("--conditional-loss", "--auxiliary-tasks"))):
        train(data, tmp_path / f"run{k}", "--epochs", 1, "--test-ratio", 0.2, *flags)
        assert (tmp_path / f"run{k}" / "model_best.pth.tar").exists()
