"""What --where and --sort take: what an expression means, and the line that says why a text is none."""

import numpy as np
import pytest

from cgcnn.labels import DataError
from cgcnn.screening.expressions import NUMBER, TRUTH, parse

COLUMNS = {
    "band_gap": "band_gap_pred",
    "band_gap_pred": "band_gap_pred",
    "work_function": "work_function_pred",
    "E form": "E form_pred",
    "flag": "flag",
}
VALUES = {
    "band_gap_pred": np.array([0.0, 0.5, 1.5, 2.5, np.nan]),
    "work_function_pred": np.array([4.0, 5.0, 3.0, 4.5, 3.0]),
    "E form_pred": np.array([-1.0, 0.0, 1.0, 2.0, 3.0]),
    "flag": np.array(["", "far", "", "element Pu", ""]),
}


def value(text: str, wanted: str = TRUTH) -> list:
    return parse(text, COLUMNS, wanted=wanted, texts=("flag",), flag="--where")(VALUES, 5).tolist()


def rows(text: str) -> list[int]:
    return [k for k, met in enumerate(value(text)) if met]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("band_gap > 1", [2, 3]),
        ("band_gap>1 and work_function<4", [2]),
        ("band_gap_pred >= 0.5 or work_function == 4", [0, 1, 2, 3]),
        ("not band_gap > 1", [0, 1, 4]),
        ("0.5 <= band_gap <= 1.5", [1, 2]),
        ("0.5 <= band_gap < 2 < work_function", [1, 2]),
        ("(band_gap > 1 or work_function > 4.2) and not `E form` > 1", [1, 2]),
        ("2 * band_gap + 1 > work_function - -0.5", [2, 3]),
        ("abs(`E form` - 1) / 2 <= 0.5", [1, 2, 3]),
        ("work_function != 3", [0, 1, 3]),
        ("flag == ''", [0, 2, 4]),
        ("flag != 'far' and band_gap < 9", [0, 2, 3]),
        ("1 / band_gap > 1", [0, 1]),
        ("1 < 2", [0, 1, 2, 3, 4]),
        ("  band_gap > 1\n", [2, 3]),
        ("band_gap > 1e400", []),
    ],
)
def test_conditions(text, found):
    assert rows(text) == found


def test_numbers():
    assert value("-work_function / 2", NUMBER) == [-2, -2.5, -1.5, -2.25, -1.5]
    assert value("3", NUMBER) == [3.0] * 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gap > 1", "no column 'gap'; there are band_gap, band_gap_pred, work_function, E form, flag"),
        ("band_gap = 1", "not an expression; == compares"),
        ("band_gap > ", "not an expression"),
        ("band_gap > 1)", "not an expression"),
        ("", "not an expression"),
        ("band_gap > 1; work_function", "not an expression"),
        ("band_gap", "is a number, a condition is expected"),
        ("band_gap and work_function > 1", "'band_gap' is a number, a condition is expected"),
        ("not band_gap", "'band_gap' is a number"),
        ("(band_gap > 1) + 1 > 2", "'band_gap > 1' is a condition, a number is expected"),
        ("band_gap > 1 & work_function < 4", "and, or instead of & and |"),
        ("band_gap > '1'", "compares a number and a text"),
        ("flag < 'far'", "compares a text"),
        ("flag > 1", "compares a number and a text"),
        ("(band_gap > 1) == (work_function > 1)", "compares a condition"),
        ("band_gap ** 9 > 1", "'band_gap ** 9' is none of"),
        ("band_gap in (1, 2)", "is none of"),
        ("True", "True is neither a number nor a text"),
        ("band_gap > 1j", "neither a number"),
        ("abs(band_gap, 1) > 1", "is none of"),
        ("`E form > 1", "not an expression"),
        ("`no such` > 1", "no column 'no such'"),
        ("band_gap.__class__ > 1", "'band_gap.__class__' is none of"),
        ("__import__('os').system('touch executed') == 0", "is none of"),
        ("(lambda: 1)() > 0", "is none of"),
        ("[band_gap for band_gap in flag] == 1", "is none of"),
        ("band_gap if band_gap else 1", "is none of"),
        ("(band_gap := 1) > 0", "is none of"),
        ("band_gap > 1 and " + "(" * 5000 + "1 < 2" + ")" * 5000, "--where"),
        ("not " * 20000 + "band_gap > 1", "--where"),
        ("\0", "--where"),
    ],
)
def test_what_is_no_condition_gets_one_line(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="--where") as error:
        value(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "sort"),
    [
        ("band_gap > 1 and work_function < 4", "-band_gap"),
        ("work_function < 4 and band_gap > 1", "work_function"),
        ("1 < band_gap", "-band_gap"),
        ("4 >= work_function", "work_function"),
        ("`E form` <= -1", "`E form`"),
        ("flag == '' and band_gap > 1", "-band_gap"),
        ("not band_gap > 1", None),
        ("band_gap > 1 or work_function < 4", None),
        ("band_gap == 1", None),
        ("0 < band_gap < 1", None),
        ("band_gap > work_function", None),
    ],
)
def test_what_a_condition_says_of_the_best(text, sort):
    assert parse(text, COLUMNS, wanted=TRUTH, texts=("flag",)).sort == sort
