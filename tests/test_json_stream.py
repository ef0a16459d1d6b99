"""A JSON text in parts: what is read does not depend on where they end, and faults are told with their place."""

import io
import json
import math

import pytest

from cgcnn.json_stream import JsonError, members

VALUES = [{"a": [1, 2.5, 'x\n é"]'], "b": None}, 123456, -1.5e-3, "s,]", [], {}, True]
CHUNKS = (1, 2, 7, 1000)


def read(text: str, **options) -> list:
    return list(members(io.StringIO(text), **options))


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("indent", [None, 2])
def test_list_object_and_lines(chunk, indent):
    assert read(json.dumps(VALUES, indent=indent), chunk=chunk) == [(None, value) for value in VALUES]
    named = {f"id {k}": value for k, value in enumerate(VALUES)}
    assert read(json.dumps(named, indent=indent), chunk=chunk) == list(named.items())
    lines = "\n".join(json.dumps(value) for value in VALUES) + "\n\n"
    assert read(lines, lines=True, chunk=chunk) == [(None, value) for value in VALUES]


@pytest.mark.parametrize("chunk", range(40, 90))
def test_a_value_may_be_cut_anywhere(chunk):
    entry = {"a": ["é\n" * 9, True, None, -1.25e-7], "b" * 70: {"c": {"d": [False, math.pi] * 20}}}
    text = json.dumps([entry] * 20, indent=20)
    assert read(text, chunk=chunk) == [(None, entry)] * 20


def test_nan_is_a_number_and_nothing_is_no_entry():
    assert math.isnan(read("[NaN]")[0][1])
    assert read("") == read(" \n") == read("[]") == read(" { } ") == read("", lines=True) == []


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "line 1, column 1: '[' or '{' expected, found '5'"),
        ("[1,]", "line 1, column 4: Expecting value"),
        ("[1 2]", "line 1, column 4: ',' or ']' expected, found '2'"),
        ("[1", "line 1, column 3: ',' or ']' expected, found the end"),
        ("{1: 2}", "line 1, column 2: '\"' expected, found '1'"),
        ('{"a" 1}', "line 1, column 6: ':' expected, found '1'"),
        ("[1] x", "line 1, column 5: more text behind the end"),
        ('[\n 1,\n  {"a": [1,\n}]', "line 4, column 1: Expecting value"),
        ("[" * 200_000, "line 1, column 2: too many brackets"),
        (f"[{'9' * 5000}]", "line 1, column 2: Exceeds the limit"),
    ],
)
def test_faults_have_a_place(text, message, chunk):
    with pytest.raises(JsonError) as caught:
        read(text, chunk=max(chunk, len(text) // 100))
    assert str(caught.value).startswith(message)


def test_values_before_a_fault_are_read():
    found = members(io.StringIO('[{"a": 1}, {"b": '))
    assert next(found) == (None, {"a": 1})
    with pytest.raises(JsonError):
        next(found)


class Counting(io.StringIO):
    """A text that knows the largest part, and how much in all, was asked for."""

    most = total = 0

    def read(self, size=-1):
        self.most = max(self.most, size)
        self.total += size
        return super().read(size)


def test_what_stands_behind_a_fault_is_not_read():
    text = Counting('[{"a" 1}' + ', {"a": 1}' * 2000 + "]")
    with pytest.raises(JsonError, match="line 1, column 7: Expecting ':'"):
        list(members(text, chunk=1000))
    assert text.total < 3000


def test_a_long_text_is_kept_in_parts():
    text = Counting("[" + ",".join(['{"a": "' + "x" * 90 + '"}'] * 2000) + "]")
    assert sum(1 for _ in members(text, chunk=1000)) == 2000
    assert text.most < 3000
