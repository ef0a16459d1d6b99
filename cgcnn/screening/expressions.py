"""Conditions and sums of the columns of a table, as a person writes them → functions of the columns.

`band_gap > 1 and work_function < 4`: names of columns, numbers, + - * /, abs(), comparisons, and, or, not,
parentheses; 'text' for columns that hold text; `backticks` round a name that is no word. Nothing is executed: the
expression is parsed, and each of its parts is looked up in the tables below.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cgcnn.labels import DataError

MAX_LENGTH = 10_000  # what is nested deeper than python can follow is longer
NUMBER, TEXT, TRUTH = "a number", "a text", "a condition"
_ARITHMETIC = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide}
_COMPARISONS = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_RISING, _FALLING = (ast.Lt, ast.LtE), (ast.Gt, ast.GtE)

Columns = Mapping[str, np.ndarray]
Evaluate = Callable[[Columns], np.ndarray]


@dataclass(frozen=True)
class Expression:
    """What a text means: the columns it needs, and what it does with them.

    sort: of a condition, the expression that is smallest where its first comparison of a name and a number is met
    best: `-band_gap` for `band_gap > 1`; None where there is none.
    """

    text: str
    columns: tuple[str, ...]
    evaluate: Evaluate
    sort: str | None = None

    def __call__(self, columns: Columns, count: int) -> np.ndarray:
        """Its value for every row of the columns (count,) → (count,)."""
        with np.errstate(all="ignore"):
            return np.broadcast_to(self.evaluate(columns), (count,))


def parse(
    text: str, columns: Mapping[str, str], *, wanted: str, texts: Sequence[str] = (), flag: str = ""
) -> Expression:
    """The expression that a text is.

    columns: what a name means, name → column; those of `texts` hold text. wanted: NUMBER or TRUTH. Raises DataError,
    naming `flag`, for what is no expression of these columns, or of another kind.
    """
    return _Parser(text, columns, texts, flag).expression(wanted)


class _Parser:
    def __init__(self, text: str, columns: Mapping[str, str], texts: Sequence[str], flag: str) -> None:
        self.text, self.columns, self.texts, self.flag = text, columns, texts, flag
        self.used: dict[str, None] = {}
        self.quoted: dict[str, str] = {}

    def expression(self, wanted: str) -> Expression:
        if len(self.text) > MAX_LENGTH:
            raise self._fault("too long")
        words = re.sub("`([^`]*)`", self._unquote, self.text).strip()
        try:
            tree = ast.parse(words, mode="eval").body
            kind, evaluate = self._node(tree)
        except DataError:
            raise
        except (SyntaxError, ValueError):
            hint = "; == compares" if re.search(r"[^=<>!]=[^=]", self.text) else ""
            raise self._fault(f"not an expression{hint}") from None
        except (RecursionError, MemoryError):
            raise self._fault("too deep") from None
        if kind != wanted:
            raise self._fault(f"is {kind}, {wanted} is expected")
        return Expression(self.text, tuple(self.used), evaluate, self._sort(tree))

    def _fault(self, reason: str) -> DataError:
        text = self.text if len(self.text) < 100 else f"{self.text[:100]}…"
        return DataError(f"{self.flag} {text!r}: {reason}")

    def _unquote(self, match: re.Match) -> str:
        word = f"_quoted_{len(self.quoted)}"
        self.quoted[word] = match.group(1)
        return word

    def _node(self, node: ast.expr) -> tuple[str, Evaluate]:
        """The kind of a part of the expression, and its function."""
        if isinstance(node, ast.Constant):
            return self._constant(node.value)
        if isinstance(node, ast.Name):
            return self._name(self.quoted.get(node.id, node.id))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            function = _ARITHMETIC[type(node.op)]
            left, right = self._part(node.left, NUMBER), self._part(node.right, NUMBER)
            return NUMBER, lambda columns: function(left(columns), right(columns))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign, part = (-1.0 if isinstance(node.op, ast.USub) else 1.0), self._part(node.operand, NUMBER)
            return NUMBER, lambda columns: sign * part(columns)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            part = self._part(node.operand, TRUTH)
            return TRUTH, lambda columns: ~part(columns)
        if isinstance(node, ast.BoolOp):
            combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            parts = [self._part(value, TRUTH) for value in node.values]
            return TRUTH, lambda columns: combine.reduce(np.broadcast_arrays(*(part(columns) for part in parts)))
        if isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
            return self._comparison(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "abs" and len(node.args) == 1:
            part = self._part(node.args[0], NUMBER)
            return NUMBER, lambda columns: np.abs(part(columns))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            raise self._fault("and, or instead of & and |")
        known = "numbers, names, + - * /, abs(), comparisons, and, or, not"
        raise self._fault(f"{ast.unparse(node)!r} is none of {known}")

    def _part(self, node: ast.expr, wanted: str) -> Evaluate:
        kind, evaluate = self._node(node)
        if kind != wanted:
            raise self._fault(f"{ast.unparse(node)!r} is {kind}, {wanted} is expected")
        return evaluate

    def _constant(self, value: object) -> tuple[str, Evaluate]:
        if isinstance(value, str):
            return TEXT, lambda columns: np.array(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) < 1e300 else math.inf
            return NUMBER, lambda columns: np.array(number)
        raise self._fault(f"{value!r} is neither a number nor a text")

    def _name(self, name: str) -> tuple[str, Evaluate]:
        if name not in self.columns:
            known = ", ".join(n for n in self.columns)
            raise self._fault(f"no column {name!r}; there are {known}")
        column = self.columns[name]
        self.used[column] = None
        return TEXT if column in self.texts else NUMBER, lambda columns: columns[column]

    def _sort(self, tree: ast.expr) -> str | None:
        """See `Expression`; only of comparisons that all have to be met."""
        parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
        for node in parts:
            if not isinstance(node, ast.Compare) or len(node.ops) > 1:
                continue
            name, number, rising = node.left, node.comparators[0], isinstance(node.ops[0], _RISING)
            if isinstance(name, ast.Constant):
                name, number, rising = number, name, not rising
            is_ordered = isinstance(node.ops[0], _RISING + _FALLING)
            if is_ordered and isinstance(name, ast.Name) and isinstance(number, ast.Constant | ast.UnaryOp):
                word = f"`{self.quoted[name.id]}`" if name.id in self.quoted else name.id
                return word if rising else f"-{word}"
        return None

    def _comparison(self, node: ast.Compare) -> tuple[str, Evaluate]:
        """a < b < c is a < b and b < c; text is only equal or not."""
        sides = [self._node(side) for side in (node.left, *node.comparators)]
        operators = [_COMPARISONS[type(op)] for op in node.ops]
        ordered = any(not isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
        kinds = {kind for kind, _ in sides}
        if len(kinds) > 1 or TRUTH in kinds or (ordered and TEXT in kinds):
            raise self._fault(f"{ast.unparse(node)!r} compares {' and '.join(sorted(kinds))}")

        def evaluate(columns: Columns) -> np.ndarray:
            values = [side(columns) for _, side in sides]
            found = [compare(a, b) for compare, (a, b) in zip(operators, pairwise(values), strict=True)]
            return found[0] if len(found) == 1 else np.logical_and.reduce(np.broadcast_arrays(*found))

        return TRUTH, evaluate
