"""Two label tables → one: which ids are the same crystal, and what to make of an id that stands twice."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

_SUFFIX = re.compile(r"(\.(cif|json|vasp|poscar|contcar))+$", flags=re.IGNORECASE)
_VASP_NAME = re.compile(r"(?:POSCAR|CONTCAR)[._](.+)", flags=re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """Something that the user should know of an id: a row of merge_report.csv."""

    kind: str
    cif_id: str
    table: str = ""
    rows: tuple[int, ...] = ()
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Labels:
    """One column by key, what an id is matched on: the id as written, its number (NaN if blank), its first row.

    clashes: keys that different ids of this table share; they are in none of the others.
    """

    ids: dict[str, str] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    row: dict[str, int] = field(default_factory=dict)
    clashes: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def of(self, key: str) -> float:
        return self.values.get(key, math.nan)


@dataclass(frozen=True)
class Keys:
    """What ids are matched on: without folder, suffix and case, but for ids that only case tells apart.

    distinct: folded id → its spellings, each a crystal of its own (C2DB has 2BiIN-1 and 2BiIn-1).
    """

    distinct: dict[str, set[str]]

    @classmethod
    def of_tables(cls, tables: Sequence[Iterable[str]], structures: Iterable[str] = ()) -> Keys:
        """Two spellings are two crystals if the structure files have both, or two of the tables."""
        held = [_spellings(ids) for ids in tables]
        of_files = _spellings(structures)
        distinct: dict[str, set[str]] = {}
        for folded in set(chain(of_files, *held)):
            sets = [found[folded] for found in held if len(found.get(folded, ())) > 1]
            files = of_files.get(folded, set())
            if len(files) > 1 or len(sets) > 1:
                distinct[folded] = set().union(files, *sets)
        return cls(distinct)

    def of(self, text: str) -> str | None:
        """The key of an id; None where it could be any of several that only case tells apart."""
        plain = plain_id(text)
        folded = _folded(plain)
        if folded not in self.distinct:
            return folded
        return plain if plain in self.distinct[folded] else None

    def candidates(self, text: str) -> list[str]:
        return sorted(self.distinct.get(_folded(plain_id(text)), ()))


def plain_id(text: str) -> str:
    """An id without folder and suffix, as a structure file of this name gives it: `cifs/NaCl.cif` → `NaCl`."""
    parts = [part for part in re.split(r"[/\\]", unicodedata.normalize("NFC", text).strip()) if part] or [""]
    if parts[-1] in ("CONTCAR", "POSCAR") and len(parts) > 1:
        parts.pop()
    name = _SUFFIX.sub("", parts[-1])
    match = _VASP_NAME.fullmatch(name)
    return match[1] if match else name


def _folded(plain: str) -> str:
    return unicodedata.normalize("NFKC", plain).casefold()


def _spellings(ids: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for text in ids:
        plain = plain_id(text)
        found.setdefault(_folded(plain), set()).add(plain)
    return found


def collect(
    table: str, rows: Iterable[tuple[int, str, float]], keys: Keys, *, label: str, duplicates: str | None = None
) -> Labels:
    """The label of each id from (row, id, number or NaN) rows; table and label: what findings call them.

    Rows of one id whose known numbers are equal are one. Where they differ the label is NaN, or with `first`
    that of the first row, with `mean` the mean over the rows. Different ids with one key are left out.
    """
    groups: dict[str, list[tuple[int, str, float]]] = {}
    labels = Labels()
    for line, text, value in rows:
        if (key := keys.of(text)) is None:
            detail = f"could be {' or '.join(keys.candidates(text))}"
            labels.findings.append(Finding("clash", text, table, (line,), detail))
        else:
            groups.setdefault(key, []).append((line, text.strip(), value))
    for key, group in groups.items():
        lines = tuple(line for line, _, _ in group)
        first_row = {text: line for line, text, _ in reversed(group)}
        if len(first_row) > 1:
            detail = " and ".join(f"{text} (row {line})" for text, line in reversed(first_row.items()))
            labels.clashes.add(key)
            labels.findings.append(Finding("clash", plain_id(group[0][1]), table, lines, detail))
            continue
        labels.ids[key] = plain_id(group[0][1])
        labels.row[key] = lines[0]
        labels.values[key], kind, detail = _settled([value for *_, value in group], duplicates)
        if kind:
            labels.findings.append(Finding(kind, labels.ids[key], table, lines, f"{label} {detail}"))
    return labels


def _settled(values: Sequence[float], duplicates: str | None) -> tuple[float, str, str]:
    """The value of an id that stands in several rows, the kind of finding it is and what was done."""
    known = [value for value in values if not math.isnan(value)]
    first = known[0] if known else math.nan
    if len(values) == 1:
        return first, "", ""
    listed = ", ".join("blank" if math.isnan(value) else f"{value:.9g}" for value in values)
    if all(same(value, first) for value in known):
        return first, "duplicate_equal", listed
    if duplicates == "first":
        return first, "duplicate_settled", f"{listed} → {first:.9g}"
    if duplicates == "mean":
        mean = math.fsum(known) / len(known)
        return mean, "duplicate_settled", f"{listed} → {mean:.9g}"
    return math.nan, "duplicate_differs", f"{listed} → blank"


def same(one: float, other: float) -> bool:
    """Whether two labels are one but for rounding in the last digits."""
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def joined_keys(work: Labels, gap: Labels, how: str) -> list[str]:
    """Keys of both tables (`inner`) or of either (`outer`), in the order of the first table, clashes left out."""
    clashes: Collection[str] = work.clashes | gap.clashes
    if how == "inner":
        return [key for key in work.ids if key in gap.ids and key not in clashes]
    return [key for key in chain(work.ids, (key for key in gap.ids if key not in work.ids)) if key not in clashes]
