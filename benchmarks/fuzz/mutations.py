"""A good file → a broken one: bytes, lines, cells, encodings, and the values inside JSON, pickles and checkpoints.

Everything is drawn from one random.Random, so that a seed repeats it.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable

NUMBERS = (
    *("nan", "inf", "-inf", "1e400", "-1e308", "1e308", "5e-324", "1e-9", "0", "-1", "1000000", "1_000"),
    "9" * 400,
)
WORDS = (
    *("", "x", "−1", "1,5", "0x10", "?", ".", "'", '"', "#", "None", "true", "é", "\x1b[31m", "\u202e"),
    *("一" * 40, "a" * 5000),
)
DEEP = 3_000  # brackets inside each other: more than Python's json follows
LONG = 300_000  # characters of a very long line


def flip_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes become others."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20)) if found else 0):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 4)) if found else 0):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def cut_out(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 5, 50, 500)) :]


def repeat_part(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    part = data[start : start + rng.choice((1, 10, 100))]
    return data[:start] + part * rng.choice((2, 3, 50)) + data[start + len(part) :]


def insert_noise(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.randbytes(rng.choice((1, 4, 64))) + data[start:]


def empty(data: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"", b"\n", b" \r\n\t ", b"\xef\xbb\xbf", b"\0"))


def change_lines(data: bytes, rng: random.Random) -> bytes:
    """A line twice, gone, or in the place of another."""
    lines = data.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    change = rng.choice(("twice", "gone", "swapped"))
    if change == "twice":
        lines.insert(other, lines[one])
    elif change == "gone":
        del lines[one]
    else:
        lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def change_cell(data: bytes, rng: random.Random) -> bytes:
    """A word between blanks, commas or colons becomes a number that is none, or another word."""
    text = data.decode("utf-8", "replace")
    marks = " ,:;=\t\n"
    places = [k for k, letter in enumerate(text) if letter not in marks and (k == 0 or text[k - 1] in marks)]
    if not places:
        return data
    start = rng.choice(places)
    end = next((k for k in range(start, len(text)) if text[k] in marks), len(text))
    return (text[:start] + rng.choice(NUMBERS + WORDS) + text[end:]).encode("utf-8", "surrogatepass")


def long_line(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    part = rng.choice((b"x", b"1", b" ", b",", b"[", b'"', b"1 ")) * LONG
    return data[:start] + part + data[start:]


def other_encoding(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: text.encode("utf-16"),
        lambda: text.encode("utf-16-le"),
        lambda: text.encode("utf-32"),
        lambda: b"\xef\xbb\xbf" + data,
        lambda: data.replace(b"e", b"\xe9"),
        lambda: data.replace(b"\n", b"\0\n", 1),
        lambda: data.replace(b"\n", b"\r"),
        lambda: data.replace(b"\n", b"\r\n"),
        lambda: data.replace(b",", b";"),
        lambda: data.replace(b" ", "\u00a0".encode()),
    )
    return rng.choice(kinds)()


def change_json(data: bytes, rng: random.Random) -> bytes:
    """A value inside becomes another; the text stays JSON, NaN and Infinity apart."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return flip_bytes(data, rng)
    if rng.random() < 0.1:
        return nested(data, rng)
    return json.dumps(change_tree(tree, rng, ODD)).encode()


def nested(data: bytes, rng: random.Random) -> bytes:
    """One of its values deep inside brackets, or nothing but brackets."""
    left, right = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    deep = left * DEEP + b"1" + right * rng.choice((0, DEEP))
    start = data.find(b":") + 1
    return deep if not start or rng.random() < 0.5 else data[:start] + deep + b"," + data[start:]


BYTES = (flip_bytes, flip_bits, truncate, cut_out, repeat_part, insert_noise, empty)
TEXT = (*BYTES, change_lines, change_cell, change_cell, change_cell, long_line, other_encoding)
JSON = (*TEXT, change_json, change_json, change_json, change_json, change_json, nested)

ODD: tuple[object, ...] = (
    *(None, True, False, 0, -1, 10**6, 10**30, 10**400, 0.5, 1e308, 1e-308, float("nan"), float("inf")),
    *("", "x", "1e400", "\0", "\x1b[2J", "a" * 5000, "é一"),
    *([], {}, [[]], [None], [[1, 2], [3]], {"a": 1}, {"": None}, [0] * 50, [1e308] * 3, "NaN"),
)


def change_tree(tree: object, rng: random.Random, odd: tuple[object, ...]) -> object:
    """One to three values of nested dicts and lists are replaced by odd ones, left out or put there twice."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = [(held, key) for held in _containers(tree) for key in _keys(held)]
        if not places:
            return copy.deepcopy(rng.choice(odd))
        held, key = rng.choice(places)
        change = rng.choice(("odd", "odd", "odd", "gone", "twice", "other"))
        if change == "gone":
            del held[key]
        elif change == "twice" and isinstance(held, list):
            held.insert(key, held[key])
        elif change == "twice":
            held[rng.choice(("", "structure", "\n", str(key) * 2))] = held[key]
        elif change == "other":
            one, place = rng.choice(places)
            held[key] = copy.deepcopy(one.get(place) if isinstance(one, dict) else (one[place : place + 1] or [0])[0])
        else:
            held[key] = copy.deepcopy(rng.choice(odd))
    return tree


def _containers(tree: object) -> list[dict | list]:
    """All dicts and lists in a tree, those near the root as often as those of a long list of numbers."""
    found, waiting = [], [tree]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            found.append(here)
            waiting += here.values()
        elif isinstance(here, list):
            found.append(here)
            waiting += here[:20]
    return found


def _keys(held: dict | list) -> list:
    return list(held)[:20] if isinstance(held, dict) else list(range(min(len(held), 20)))


def mutated(data: bytes, rng: random.Random, kinds: tuple[Callable, ...]) -> tuple[bytes, str]:
    """A file after one to three of these changes, and their names."""
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(kinds)
        data = change(data, rng)
        names.append(change.__name__)
    return data, " ".join(names)
