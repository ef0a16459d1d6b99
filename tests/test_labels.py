"""Label tables: every spelling that is meant, and for every other one the file and the row of the fault."""

import math

import numpy as np
import pytest

from cgcnn.labels import AUXILIARY_NAMES, DataError, raise_all, read_auxiliary, read_categories, read_labels

NAN = math.nan


@pytest.fixture
def table(tmp_path):
    """A function that writes a table, text or bytes, and returns its path."""

    def write(content: str | bytes, name: str = "id_prop.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


# --- id_prop.csv --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names", "ids", "values"),
    [
        ("a,1\nb,2.5\n", ["target"], ["a", "b"], [[1], [2.5]]),
        ("a,1,2\nb,3,4", ["target_1", "target_2"], ["a", "b"], [[1, 2], [3, 4]]),
        ("cif_id,gap\na,1\n", ["gap"], ["a"], [[1]]),
        ("id,work function,gap\na,1,-2e-3\n", ["work function", "gap"], ["a"], [[1, -0.002]]),
        ("cif_id,gap\r\na,1\r\nb,2\r\n", ["gap"], ["a", "b"], [[1], [2]]),
        ("cif_id,gap\ra,1\rb,2\r", ["gap"], ["a", "b"], [[1], [2]]),
        ("\ufeffcif_id,gap\na,1\n", ["gap"], ["a"], [[1]]),
        ("\ufeffa,1\n", ["target"], ["a"], [[1]]),
        ("\n\ncif_id,gap\n\na,1\n , \n\n", ["gap"], ["a"], [[1]]),
        (" cif_id , gap \n a , 1 \n", ["gap"], ["a"], [[1]]),
        ('"cif_id","gap"\n"a","1"\n"b, c","2"\n', ["gap"], ["a", "b, c"], [[1], [2]]),
        ('"two\nlines",1\nb,2\n', ["target"], ["two\nlines", "b"], [[1], [2]]),
        ("tab\tin it,1\nx\u2028y,2\nv\x0bw,3\n", ["target"], ["tab\tin it", "x\u2028y", "v\x0bw"], [[1], [2], [3]]),
        ("Zn²⁺,1\n中文,2\n", ["target"], ["Zn²⁺", "中文"], [[1], [2]]),
        ("1000041,1\n007,2\n7,3\n", ["target"], ["1000041", "007", "7"], [[1], [2], [3]]),
        ("a,,1\nb,nan,2\nc,NaN,3\n", ["target_1", "target_2"], ["a", "b", "c"], [[NAN, 1], [NAN, 2], [NAN, 3]]),
    ],
)
def test_tables_as_they_are_written(table, text, names, ids, values):
    found = read_labels(table(text))
    assert found.names == names
    assert found.ids == ids
    np.testing.assert_array_equal(found.values, values)
    assert found.has_header == (not names[0].startswith("target"))


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "NA", "n/a", "None", "null", "-"])
def test_a_missing_label_is_masked_wherever_it_stands(table, cell):
    for text in (f"a,1\nb,{cell}\n", f"b,{cell}\na,1\n", f"cif_id,gap\nb,{cell}\na,1\n"):
        found = read_labels(table(text))
        assert sorted(found.ids) == ["a", "b"]
        assert np.isnan(found.values[found.ids.index("b")]).all()
        assert found.values[found.ids.index("a")].tolist() == [1]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cif_id,Na\nGe,1\n", ["Na"]),  # a column named as a missing label is written
        ("ID,none\nGe,1\n", ["none"]),
        ("Name,Na,gap\nGe,1,2\n", ["Na", "gap"]),
        ("crystal,Na,gap\nGe,1,2\n", ["Na", "gap"]),
        ("crystal,gap\nGe,1\n", ["gap"]),
        ("material_id,0,1\nGe,1,2\n", ["0", "1"]),
        ("id\nGe\n", []),
        ("crystal,Na\nGe,1\n", None),  # as `b,NA`: a crystal without label
        ("crystal,Na,-\nGe,1,2\n", None),
        ("crystal,1,gap\nGe,1,2\n", "row 1: target_2 'gap' is not a finite number"),
        ("crystal,gap,\nGe,1,2\n", "row 1: a column name is blank"),
        ("Si,NA\nGe,1\n", None),
        ("Si,4.8x\nGe,1\n", "row 1: target '4.8x' is not a finite number"),
        ("Si,4.8x,\nGe,1,2\n", "row 1: target_1 '4.8x' is not a finite number"),
        ("Si,gap\nGe,1\n", "row 1: target 'gap' is not a finite number"),
        ("Si\nGe\n", None),
        ("id,1\nGe,2\n", ["1"]),
    ],
)
def test_whether_the_first_row_is_a_header(table, text, names):
    """A list of names: it is; None: it holds a crystal; a text: it does, with a fault."""
    path, known_ids = table(text), {"Si", "Ge"}
    if isinstance(names, str):
        with pytest.raises(DataError) as caught:
            read_labels(path, known_ids=known_ids)
        assert str(caught.value).startswith(f"{path}, {names}")
        return
    found = read_labels(path, labels_needed=False, known_ids=known_ids)
    assert found.has_header == (names is not None)
    assert len(found.ids) == (1 if found.has_header else 2)
    assert names is None or found.names == names


def test_a_crystal_named_as_the_id_column_is_one_if_it_has_a_file(table):
    assert read_labels(table("id,1\nGe,2\n"), known_ids={"id"}).ids == ["id", "Ge"]


@pytest.mark.parametrize("row", [1, 2, 3])
def test_the_ragged_row_is_named_wherever_it_stands(table, row):
    rows = ["Ge,0.66", "NaCl,8.9", "C,5.5"]
    rows[row - 1 : row - 1] = ["Si,4,85"]  # a decimal comma
    path = table("\n".join(rows))
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert str(caught.value) == f"{path}, row {row}: 3 columns, 2 expected"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Si\t4.8\nGe\t0.66\n", "tabs"),
        ("cif_id\tgap\nSi\t4.8\n", "tabs"),
        ("cif_id;gap\nSi;4.8\nGe;0.66\n", "semicolons"),
        ("cif_id;gap\nSi;1,12\nGe;0,66\n", "semicolons"),
    ],
)
def test_another_separator_is_told(table, text, name):
    for read in (read_labels, lambda path: read_categories(path, ["Si"]), lambda path: read_auxiliary(path, ["Si"])):
        path = table(text)
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}, row 1: one column, ")
        assert str(caught.value).endswith(f"; separated by {name}? commas are expected")


def test_names_for_a_table_without_header(table):
    assert read_labels(table("a,1,2\n"), names=("x", "y")).names == ["x", "y"]
    assert read_labels(table("id,p,q\na,1,2\n"), names=("x", "y")).names == ["p", "q"]
    with pytest.raises(DataError, match=r"id_prop\.csv: 3 label columns, but 2 names"):
        read_labels(table("a,1,2,3\n"), names=("x", "y"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "id_prop.csv: empty"),
        ("\n \n,\n", "id_prop.csv: empty"),
        ("cif_id,gap\n", "id_prop.csv: no rows below the header"),
        ("a\nb\n", "row 1: an id and at least one label expected"),
        ("cif_id,gap\na\n", "row 2: 1 columns, 2 expected"),
        ("cif_id,gap\na,1,2\n", "row 2: 3 columns, 2 expected"),
        ("cif_id,gap\na,1\n\nb,x\n", "row 4: gap 'x' is not a finite number"),
        ("cif_id,gap\na,1\nb,inf\n", "row 3: gap 'inf' is not a finite number"),
        ("a,1\nb,-Infinity\n", "row 2: target '-Infinity' is not a finite number"),
        ("a,1\nb,1;5\n", "row 2: target '1;5' is not a finite number"),
        ("a,1\nb,2\na,3\n", "row 3: id 'a' stands in row 1 already"),
        ("a,1\n a ,3\n", "row 2: id 'a' stands in row 1 already"),
        ("a,1\n,3\n", "row 2: no id"),
        ("id,gap,gap\na,1,2\n", "row 1: a column name is blank or stands twice"),
        ('"a\nb",1\nc,x\n', "row 3: target 'x'"),
        ("a,1\nb,0,5\n", "row 2: 3 columns, 2 expected"),
        ("cif_id,énergie\na,1\n".encode("latin-1"), "id_prop.csv: not a text file in UTF-8 (byte 7)"),
        (b"\x89PNG\r\n", "not a text file"),
        ("a," + "1" * 200_000, "row 1: field larger"),
    ],
)
def test_faults_name_the_file_and_the_row(table, content, message):
    path = table(content)
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_all_faults_are_told_at_once(table):
    with pytest.raises(DataError) as caught:
        read_labels(table("cif_id,x,y\na,1,p\nb,1\na,q,r\nc,1,2\n"))
    lines = str(caught.value).splitlines()
    assert [line.partition("row ")[2][:1] for line in lines] == ["2", "3", "4", "4", "4"]


def test_many_faults_are_cut_short(table):
    with pytest.raises(DataError) as caught:
        read_labels(table("cif_id,x\n" + "".join(f"{k},no\n" for k in range(25))))
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "… and 15 more"


def test_raise_all():
    raise_all([])
    with pytest.raises(DataError, match=r"^one$"):
        raise_all(["one"])


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        read_labels(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="directory"):
        read_labels(tmp_path)


# --- all.csv ------------------------------------------------------------------------------------------


def test_categories(table):
    path = table("id,type,more\nb,1,x\na,0\nc, 1.0 \nother,7\n", "all.csv")
    category, warning = read_categories(path, ["a", "b", "c"])
    assert category.tolist() == [0, 1, 1]
    assert warning is None


def test_categories_that_are_missing_are_masked_and_counted(table):
    path = table("id,type\na,0\nb,2\nc,metal\nd,\ne\nf,0.5\n", "all.csv")
    category, warning = read_categories(path, list("abcdefg"))
    np.testing.assert_array_equal(category, [0] + [NAN] * 6)
    assert "6 of 7 crystals" in warning
    assert str(path) in warning
    assert "\n" not in warning


def test_no_category_at_all(table, tmp_path):
    with pytest.raises(DataError, match=r"all\.csv: no category 0 or 1 for any"):
        read_categories(table("id,type\nx,0\n", "all.csv"), ["a"])
    with pytest.raises(DataError, match=r"all\.csv: no such file"):
        read_categories(tmp_path / "nowhere" / "all.csv", ["a"])
    with pytest.raises(DataError, match=r"all\.csv: empty"):
        read_categories(table("", "all.csv"), ["a"])


# --- ax.csv -------------------------------------------------------------------------------------------


def test_auxiliary_by_position(table):
    path = table("id,x,y,p,q,r,s\nb,9,9,4,5,6,9\na,,,1,,3\nz,0,0,0,0,0,0\n", "ax.csv")
    np.testing.assert_array_equal(read_auxiliary(path, ["a", "b", "c"]), [[1, NAN, 3], [4, 5, 6], [NAN] * 3])


def test_auxiliary_by_name(table):
    energy, variance, ionisation = AUXILIARY_NAMES[1], AUXILIARY_NAMES[0], AUXILIARY_NAMES[2]
    path = table(f"id,{ionisation},{energy},{variance}\na,3,2,1\n", "ax.csv")
    np.testing.assert_array_equal(read_auxiliary(path, ["a"]), [[1, 2, 3]])


def test_auxiliary_faults(table):
    with pytest.raises(DataError) as caught:
        read_auxiliary(table("id,x,y,p,q,r\na,1,2,3\nb,,,1,bad,3\nc,,,1,2,3\nd,,,1,2,inf\n", "ax.csv"), ["a"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("ax.csv, row 2: 4 columns, at least 6 expected")
    assert lines[1].endswith("ax.csv, row 3: 'bad' is not a finite number")
    assert lines[2].endswith("ax.csv, row 5: 'inf' is not a finite number")


@pytest.mark.parametrize("cell", ["1e308", "-1e31", "9" * 400])
def test_a_number_that_single_precision_does_not_hold_is_refused(table, cell):
    with pytest.raises(DataError, match=r"id_prop\.csv, row 2: gap .* is not a finite number"):
        read_labels(table(f"cif_id,gap\na,{cell}\n"))
    assert read_labels(table("cif_id,gap\na,1e30\n")).values[0, 0] == 1e30
