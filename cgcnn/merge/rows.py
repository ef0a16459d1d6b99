"""Labels and structures by id → the rows of a data folder's tables, and what was found on the way."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cgcnn.labels import DataError
from cgcnn.merge.join import Finding, Keys, Labels, joined_keys, same
from cgcnn.merge.sources import Source
from cgcnn.merge.structures import Structures, compositions

_FEW = 5  # categories that contradict their gaps before that says that they are the wrong way round
_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Sources:
    """What the tables hold, by key; categories and formation energies where there are any."""

    keys: Keys
    work: Source
    gap: Source
    categories: Source | None
    formation: list[Source]

    @property
    def shared(self) -> list[str]:
        """Keys of both tables."""
        return joined_keys(self.work.labels, self.gap.labels, "inner")


@dataclass(frozen=True)
class Row:
    """A crystal: labels in eV (formation energy eV/atom), category 0 metal or 1 semiconductor; NaN where unknown."""

    cif_id: str
    work_function: float
    band_gap: float
    category: float
    electronegativity_variance: float
    formation_energy: float
    first_ionization_energy_avg: float


def join_sources(args: Namespace, sources: Sources, structures: Structures | None) -> tuple[list[Row], list[Finding]]:
    """A row for each crystal that is written, in the order of the first table, and all that should be known.

    Raises DataError where nothing is left to write.
    """
    work, gap = sources.work.labels, sources.gap.labels
    if not sources.shared:
        raise DataError(_nothing_shared(args, work, gap))
    # A clash in a table that holds both labels is found twice.
    findings = list(dict.fromkeys([*work.findings, *gap.findings]))
    findings += [*_one_sided(args, work, gap), *_case_ignored(sources)]
    keys = joined_keys(work, gap, args.how)
    ids = {key: work.ids.get(key) or gap.ids[key] for key in keys}
    composition: dict[str, tuple[float, float]] = {}
    if structures:
        names = structures.by_key(sources.keys)
        findings += _without_structure(keys, ids, names, structures)
        ids |= {key: names[key] for key in keys if key in names}
        files = {key: structures.files[names[key]] for key in keys if key in names}
        composition, bad = compositions(files, ids)
        keys = [key for key in keys if key in composition]
        findings += [*bad, *_unlabelled(structures, names, work, gap)]
    blank = {key for key in keys if math.isnan(work.of(key)) and math.isnan(gap.of(key))}
    findings += [Finding("no_label", ids[key]) for key in keys if key in blank]
    keys = [key for key in keys if key not in blank]
    if not keys:
        raise DataError("nothing to write: no id is left with a label" + " and a structure file" * bool(structures))
    category, contradicting = _categories(keys, ids, sources, args.metal_threshold)
    formation, differing = _formation(keys, ids, sources.formation)
    rows = [
        Row(ids[k], work.of(k), gap.of(k), category[k], variance, formation[k], ionisation)
        for k in keys
        for variance, ionisation in [composition.get(k, _UNKNOWN)]
    ]
    return rows, [*findings, *contradicting, *differing]


def _nothing_shared(args: Namespace, work: Labels, gap: Labels) -> str:
    def example(labels: Labels) -> str:
        key = next(iter(labels.ids), None)
        return f"{labels.ids[key]!r} (row {labels.row[key]})" if key else "clashes only"

    return (
        f"no ids in common: {args.work} has {example(work)}, {args.band} has {example(gap)}; "
        "--id-column chooses the columns"
    )


def _one_sided(args: Namespace, work: Labels, gap: Labels) -> list[Finding]:
    """Ids that the other table lacks, and does not hold as a clash."""
    what = "left out" if args.how == "inner" else "kept, the other label blank"
    pairs = (("only_in_work", args.work, work, gap), ("only_in_band", args.band, gap, work))
    return [
        Finding(kind, one.ids[key], path, (one.row[key],), what)
        for kind, path, one, other in pairs
        for key in one.ids
        if key not in other.ids and key not in other.clashes
    ]


def _case_ignored(sources: Sources) -> list[Finding]:
    """Ids of both tables that are not spelt alike: CO and Co can be two crystals."""
    work, gap = sources.work.labels, sources.gap.labels
    pairs = [(work.ids[key], gap.ids[key], key) for key in sources.shared]
    return [
        Finding("case_ignored", one, "both", (work.row[key], gap.row[key]), other)
        for one, other, key in pairs
        if one != other
    ]


def _without_structure(
    keys: Sequence[str], ids: Mapping[str, str], names: Mapping[str, str], structures: Structures
) -> list[Finding]:
    """The ids that have no structure file. Raises DataError if all have none."""
    missing = [key for key in keys if key not in names]
    if len(missing) == len(keys):
        example = next(iter(structures.files.values())).name
        raise DataError(
            f"none of the {len(keys)} ids has a structure file in {structures.folder}: "
            f"the tables have {ids[keys[0]]!r}, the folder has {example!r}"
        )
    return [Finding("no_structure", ids[key], str(structures.folder), (), "left out") for key in missing]


def _unlabelled(structures: Structures, names: Mapping[str, str], work: Labels, gap: Labels) -> list[Finding]:
    labelled = work.ids.keys() | gap.ids.keys() | work.clashes | gap.clashes
    unused = [name for key, name in names.items() if key not in labelled]
    return [Finding("unlabelled", name, str(structures.folder), (), "no row in either table") for name in unused]


def _categories(
    keys: Sequence[str], ids: Mapping[str, str], sources: Sources, threshold: float
) -> tuple[dict[str, float], list[Finding]]:
    """0 metal, 1 semiconductor by key: of the given table, else of the gap; and where the two contradict.

    Raises DataError where most of them do.
    """
    gaps = {key: sources.gap.labels.of(key) for key in keys}
    of_gap = {key: gap if math.isnan(gap) else float(gap > threshold) for key, gap in gaps.items()}
    if sources.categories is None:
        return of_gap, []
    given = sources.categories.labels
    findings = [
        replace(finding, kind="category_unclear")
        for finding in given.findings
        if finding.kind in ("clash", "duplicate_differs")
    ]
    category = {key: given.of(key) for key in keys}
    both = [key for key in keys if not math.isnan(category[key]) and not math.isnan(of_gap[key])]
    contradicting = [key for key in both if category[key] != of_gap[key]]
    if len(contradicting) > max(_FEW, len(both) / 2):
        raise DataError(
            f"{sources.categories.path}: {len(contradicting)} of {len(both)} categories contradict the band gap; "
            "0 is a metal and 1 a semiconductor: is it the right column (--category-column)?"
        )
    for key in contradicting:
        name = ("metal", "semiconductor")[int(category[key])]
        detail = f"{name}, but a band gap of {gaps[key]:.9g} eV"
        findings.append(Finding("contradiction", ids[key], sources.categories.path, (given.row[key],), detail))
    return {key: of_gap[key] if math.isnan(category[key]) else category[key] for key in keys}, findings


def _formation(
    keys: Sequence[str], ids: Mapping[str, str], sources: Sequence[Source]
) -> tuple[dict[str, float], list[Finding]]:
    """Formation energy (eV/atom) by key; NaN where no table has it or where they differ."""
    findings = [f for source in sources for f in source.labels.findings if f.kind == "duplicate_differs"]
    formation = {}
    for key in keys:
        found = [source.labels.of(key) for source in sources]
        known = [value for value in found if not math.isnan(value)]
        agree = all(same(value, known[0]) for value in known)
        formation[key] = known[0] if known and agree else math.nan
        if not agree:
            detail = " and ".join(f"{value:.9g} eV/atom" for value in known) + ": left blank"
            findings.append(Finding("formation_differs", ids[key], "both", (), detail))
    return formation, findings
