"""Tables that others wrote are read whatever their delimiter, header and encoding are, or refused with the row."""

import math

import pytest

from cgcnn.labels import DataError
from cgcnn.merge.sheets import read_sheet


@pytest.fixture
def sheet(tmp_path):
    """A function that writes a table and reads it."""

    def read(text: str, encoding: str = "utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return read_sheet(path)

    return read


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("id,gap\nSi,1.12\nGe,0.66\n", "commas"),
        ("id;gap\nSi;1,12\nGe;0,66\n", "semicolons"),
        ("Si;1,12\nGe;0,66\n", "semicolons"),
        ("id\tgap\nSi\t1.12\nGe\t0.66\n", "tabs"),
        ("id   gap\nSi   1.12\nGe   0.66\n", "spaces"),
        ("id,gap,\nSi,1.12,\nGe,0.66,\n", "commas"),
        ("# by hand\nid , gap\n\n Si , 1.12 \n,\nGe,0.66\n", "commas"),
        ("# id gap\nSi 1.12\nGe 0.66\n", "spaces"),
        ("#id,gap\n# measured\n#name,Eg\nSi,1.12\nGe,0.66\n", "commas"),
        ('id,gap\r\n"Si",1.12\r\n"Ge",0.66\r\n', "commas"),
    ],
)
def test_the_delimiter_is_found(text, delimiter, sheet):
    table = sheet(text)
    assert table.delimiter == delimiter
    assert table.cells(0) == ["Si", "Ge"]
    assert table.numbers(1) == [1.12, 0.66]
    assert table.has_header == ("id" in text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_spreadsheets(encoding, sheet):
    table = sheet("id\tlabel §\nSi\t4,85\nGe\t−5\n".replace("−", "-" if encoding == "cp1252" else "−"), encoding)
    assert table.names == ["id", "label §"]
    assert table.numbers(1) == [4.85, -5]


@pytest.mark.parametrize(
    ("text", "has_header"),
    [
        ("cif_id,work_function\nSi,4.85\n", True),
        ("Si,4.85\nGe,4.8\n", False),
        ("Si,nan\nGe,4.8\n", False),
        ("GaP,\nGaAs,1.4\n", False),
        ("1,2.5\n2,3.5\n", False),
        ("GaP,semiconductor\nCu,metal\n", False),
        ("uid,metal\nCu,1\n", True),
        ("thing,amount\nSi,4.85\n", True),
        (",id,gap\n0,Si,1.1\n", True),
    ],
)
def test_a_header_is_told_from_a_row(text, has_header, sheet):
    assert sheet(text).has_header == has_header


def test_blank_cells_are_missing_and_rows_are_counted_as_an_editor_does(sheet):
    table = sheet("id,gap\n\nSi,\nGe,n/a\nC,#N/A\nBN,?\nAlN,6\n")
    assert [line for line, _ in table.rows] == [3, 4, 5, 6, 7]
    assert [math.isnan(value) for value in table.numbers(1)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        ("category", ["0", "1", "1.0", ""], [0, 1, 1, None]),
        ("is_metal", ["1", "0", "True", "no"], [0, 1, 0, 1]),
        ("type", ["metal", "Semiconductor", "insulator", "-"], [0, 1, 1, None]),
        ("is_metal", ["metal", "semiconductor"], [0, 1]),
    ],
)
def test_categories_in_words_and_numbers(name, cells, expected, sheet):
    table = sheet(f"id,{name}\n" + "".join(f"c{k},{cell}\n" for k, cell in enumerate(cells)))
    assert [None if math.isnan(value) else value for value in table.categories(1)] == expected


def test_every_bad_cell_is_named_with_its_row(sheet):
    table = sheet("id,gap\nSi,high\nGe,0.66\nC,1_000\nB,inf\n")
    with pytest.raises(DataError) as raised:
        table.numbers(1)
    assert [line.partition("row ")[2] for line in str(raised.value).splitlines()] == [
        "2: gap 'high' is not a finite number",
        "4: gap '1_000' is not a finite number",
        "5: gap 'inf' is not a finite number",
    ]
    with pytest.raises(DataError, match=r"row 3: gap '0.66' is neither 0 or metal nor 1 or semiconductor"):
        table.categories(1)


def test_a_number_with_a_comma_is_none_where_commas_delimit(sheet):
    with pytest.raises(DataError, match="row 2: gap '1,120' is not a finite number"):
        sheet('id,gap\nSi,"1,120"\nGe,0.66\n').numbers(1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("Si\nGe\n", "one column only"),
        ("id,gap\n", "no rows below the header"),
        ("id,gap\nSi,1,2\nGe,0.7\n", "row 2: 3 columns, 2 expected"),
        ("id,gap\nSi,1\nGe\nC,5\n", "row 3: 1 columns, 2 expected"),
        ("PK\x03\x04", "a workbook; save the sheet as CSV"),
        ("a,b\0c\n", "not a text file"),
    ],
)
def test_what_is_no_table_is_refused(text, said, sheet):
    with pytest.raises(DataError, match=said):
        sheet(text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.csv: no such file"):
        read_sheet(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="is a directory"):
        read_sheet(tmp_path)
