"""Which column of a table holds a quantity: by the flag, by its name, or because no other can."""

from __future__ import annotations

from collections.abc import Sequence

from cgcnn.labels import DataError
from cgcnn.merge.quantities import CATEGORY, GAP, ID, QUANTITIES, WORK, Quantity, squash
from cgcnn.merge.sheets import Sheet

_SHOWN = 3


def choose_column(sheet: Sheet, quantity: Quantity, given: str | None = None, *, taken: int | None = None) -> int:
    """The column of a table that holds a quantity: the one given by name or number, else the one named like it.

    taken: the column of the ids. Raises DataError where none or several could be meant, with the flag to say it.
    """
    if given is not None:
        return _given_column(sheet, quantity, given)
    free = [k for k in range(len(sheet.names)) if k != taken]
    holding = [k for k in free if _can_hold(sheet, k, quantity)]
    ranks = {k: quantity.rank(sheet.names[k]) for k in free if sheet.has_header}
    named = {k: rank for k, rank in ranks.items() if rank is not None}
    # A column of this name without one number is still meant: its rows are what is wrong.
    named = {k: rank for k, rank in named.items() if k in holding} or named
    candidates = [k for k, rank in named.items() if rank == min(named.values())]
    if not candidates:
        candidates = _unnamed_candidates(sheet, quantity, holding)
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise DataError(_nothing(sheet, quantity))
    listed = ", ".join(f"{k + 1}: {_described(sheet, k)}" for k in candidates)
    raise DataError(
        f"{sheet.path}: several columns could be the {quantity.title} ({listed}); "
        f"choose with {quantity.flag}, by name or number"
    )


def find_column(sheet: Sheet, quantity: Quantity, given: str | None = None) -> int | None:
    """Like choose_column for a quantity that need not be there and is known by its name only: None without it.

    Raises DataError where several columns have such a name.
    """
    if given is not None:
        return _match(sheet, given)
    named = any(quantity.rank(name) is not None and sheet.is_numeric(k) for k, name in enumerate(sheet.names))
    return choose_column(sheet, quantity) if named and sheet.has_header else None


def other_candidates(sheet: Sheet, quantity: Quantity, chosen: int) -> list[str]:
    """Names of further columns with numbers that sound like the quantity."""
    return [
        name
        for k, name in enumerate(sheet.names)
        if sheet.has_header and k != chosen and quantity.rank(name) is not None and sheet.is_numeric(k)
    ]


def _given_column(sheet: Sheet, quantity: Quantity, given: str) -> int:
    if (column := _match(sheet, given)) is not None:
        return column
    there = ", ".join(repr(name) for name in sheet.names)
    raise DataError(f"{quantity.flag} {given}: {sheet.path} has no such column; there are {there}")


def _match(sheet: Sheet, given: str) -> int | None:
    """The column of this name, as it is or but for signs and case, or of this number."""
    for same in (str, squash):
        found = [k for k, name in enumerate(sheet.names) if same(name) == same(given)]
        if len(found) == 1:
            return found[0]
    return int(given) - 1 if given.isdecimal() and 1 <= int(given) <= len(sheet.names) else None


def _can_hold(sheet: Sheet, column: int, quantity: Quantity) -> bool:
    if quantity is ID:
        return True
    return sheet.holds_categories(column) if quantity is CATEGORY else sheet.is_numeric(column)


def _unnamed_candidates(sheet: Sheet, quantity: Quantity, holding: Sequence[int]) -> list[int]:
    """Columns that could hold the quantity by what is in them, where no name says so."""
    if sheet.has_header:
        others = [other for other in QUANTITIES if other is not quantity]
        holding = [k for k in holding if sheet.names[k] and all(o.rank(sheet.names[k]) is None for o in others)]
    if quantity is not ID:
        return list(holding)
    texts = [k for k in holding if not sheet.is_numeric(k) and not sheet.holds_categories(k)]
    return texts or ([] if sheet.has_header else [0])


def _nothing(sheet: Sheet, quantity: Quantity) -> str:
    there = ", ".join(repr(name) for name in sheet.names)
    swapped = [
        other.title
        for other in (WORK, GAP)
        if other is not quantity and quantity in (WORK, GAP) and any(other.rank(n) is not None for n in sheet.names)
    ]
    hint = f" (it has a {swapped[0]}: are the two tables swapped?)" if swapped else ""
    return f"{sheet.path}: no column for the {quantity.title}{hint}; there are {there}; choose with {quantity.flag}"


def _described(sheet: Sheet, column: int) -> str:
    values = [cell for cell in sheet.cells(column) if cell][:_SHOWN]
    return f"{sheet.names[column]!r} with {', '.join(values)} …"
