"""What the columns of other people's tables mean: a column's name → the quantity that it stands for, and its unit."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_UNIT_NAMES = {
    **{"ev": "eV", "evatom": "eV", "mev": "meV", "mevatom": "meV", "j": "J", "joule": "J"},
    **{"ha": "hartree", "hartree": "hartree", "eh": "hartree", "au": "hartree", "ry": "Ry", "rydberg": "Ry"},
}
# A column with one of these words says something about the quantity, and is not the quantity.
_ABOUT = frozenset({"error", "err", "std", "sigma", "uncertainty", "type", "source", "ref", "reference", "method"})
_LONG = 6  # letters from which a word is found inside longer ones, as in `avgworkfunction`


@dataclass(frozen=True)
class Quantity:
    """What a column can hold: its name in our tables and in sentences, and the flag that chooses the column.

    tiers: whole names in lower case without signs, the surest first. words: one of them in a name is enough
    where no whole name is there.
    """

    name: str
    title: str
    flag: str
    tiers: tuple[frozenset[str], ...]
    words: frozenset[str] = frozenset()

    def rank(self, column: str) -> int | None:
        """0 for the surest name of this quantity, rising; None for a name that does not say it."""
        base, _ = split_unit(column)
        squashed, words = squash(base), _words(base)
        for rank, names in enumerate(self.tiers):
            if squashed in names:
                return rank
        said = self.words & words or any(len(word) > _LONG and word in squashed for word in self.words)
        return len(self.tiers) if said and not _ABOUT & words else None


def _names(*tiers: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(tier.split()) for tier in tiers)


ID = Quantity(
    "cif_id",
    "id",
    "--id-column",
    _names(
        "cifid",
        "id ids identifier uid uuid jid materialid materialsid mpid mpids structureid crystalid entryid compoundid "
        "taskid oqmdid icsdid codid filename file path cif ciffile ciffilename structurefile structure",
        "name material crystal compound entry formula composition label key title",
    ),
)
WORK = Quantity(
    "work_function",
    "work function",
    "--work-column",
    _names("workfunction wf phi φ workfunc workfn"),
    frozenset({"workfunction", "workfunc", "wf", "phi", "φ"}),
)
GAP = Quantity(
    "band_gap",
    "band gap",
    "--gap-column",
    _names("bandgap gap eg egap bandgapenergy energygap"),
    frozenset({"bandgap", "gap", "eg", "egap"}),
)
FORMATION = Quantity(
    "formation_energy",
    "formation energy",
    "--formation-column",
    _names("formationenergy eform hform heatofformation formationenthalpy"),
    frozenset({"formation", "formationenergy", "eform", "hform"}),
)
CATEGORY = Quantity(
    "category",
    "category",
    "--category-column",
    _names("category", "materialtype materialclass class type metallic ismetal metal issemiconductor"),
    frozenset({"category", "class", "metal", "metallic", "ismetal"}),
)
QUANTITIES = (ID, WORK, GAP, FORMATION, CATEGORY)


def is_name(cell: str) -> bool:
    """Whether a cell is the name of a quantity that this module knows."""
    return any(quantity.rank(cell) is not None for quantity in QUANTITIES)


def means_metal(column: str) -> bool:
    """Whether 1 or `true` in this column says metal, as `is_metal` does; in `category` 0 says it."""
    words = _words(column) | {squash(column)}
    return bool(words & {"metal", "ismetal", "metallic"}) and not words & {"semiconductor", "semi", "non"}


def split_unit(column: str) -> tuple[str, str | None]:
    """A column's name without its unit, and the unit (a key of EV) if it ends with one: `WF (meV)`, `gap_eV`."""
    name = re.sub(r"(?i)[\s_]*per[\s_]*atom", "", unicodedata.normalize("NFKC", column)).strip()
    match = re.fullmatch(r"(.+?)(?:\s*[(\[{]\s*(?:in )?([^)\]}]+)[)\]}]|[\s_/,.:-]+(?:in )?([A-Za-z]+))", name)
    unit = _UNIT_NAMES.get(squash(match[2] or match[3])) if match else None
    return (match[1], unit) if unit else (name, None)


def squash(name: str) -> str:
    """A name in lower case without blanks and signs, so that `Material ID` is `material_id`."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).lower()


def _words(name: str) -> frozenset[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name))
    return frozenset(word.lower() for word in re.findall(r"[^\W\d_]+", apart))
