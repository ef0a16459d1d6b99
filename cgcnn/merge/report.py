"""What merge_work_band.py writes and prints: four tables, and the lines that say what became of every id."""

from __future__ import annotations

import csv
import math
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from cgcnn.files import replacing
from cgcnn.labels import AUXILIARY_NAMES
from cgcnn.merge.join import Finding
from cgcnn.merge.rows import Row, Sources
from cgcnn.merge.structures import Structures

REPORT = "merge_report.csv"
TABLES = ("id_prop.csv", "all.csv", "ax.csv", REPORT)
# Kinds of findings by which a label or a crystal is lost that the user can save.
LOST = ("clash", "duplicate_differs", "bad_structure")
_SHOWN = 4  # ids a line


def write_tables(out: Path, rows: Sequence[Row], findings: Sequence[Finding], *, with_auxiliary: bool) -> None:
    """id_prop.csv, all.csv, ax.csv if asked for, and merge_report.csv; each whole or not at all."""
    labels = [(row.cif_id, _number(row.work_function), _number(row.band_gap)) for row in rows]
    _write(out / "id_prop.csv", [("cif_id", "work_function", "band_gap"), *labels])
    _write(out / "all.csv", [("cif_id", "category"), *((row.cif_id, _number(row.category)) for row in rows)])
    if with_auxiliary:
        auxiliary = [tuple(_number(getattr(row, name), digits=6) for name in AUXILIARY_NAMES) for row in rows]
        body = [(*label, *values) for label, values in zip(labels, auxiliary, strict=True)]
        _write(out / "ax.csv", [("cif_id", "work_function", "band_gap", *AUXILIARY_NAMES), *body])
    lines = [(f.kind, f.cif_id, f.table, " ".join(map(str, f.rows)), f.detail) for f in findings]
    _write(out / REPORT, [("kind", "cif_id", "table", "rows", "detail"), *lines])


def _number(value: float, *, digits: int = 9) -> str:
    return "" if math.isnan(value) else f"{value + 0.0:.{digits}g}"  # + 0.0: no -0


def _write(path: Path, rows: Iterable[Sequence[str]]) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def print_sources(args: Namespace, sources: Sources, structures: Structures | None, notes: Iterable[str]) -> None:
    """How each table was understood, before anything is done with it."""
    lines = [("work function", sources.work), ("band gap", sources.gap), ("category", sources.categories)]
    lines += [("formation", source) for source in sources.formation]
    for title, source in lines:
        if source:
            print(f"{title:<14} {source.read_as}")
    if structures:
        print(f"{'structures':<14} {structures.folder}: {len(structures.files)} files")
    guessed = [name for name in ("id", "work", "gap") if not getattr(args, f"{name}_column")]
    if guessed:
        print(f"{'':<14} columns were guessed; {', '.join(f'--{name}-column' for name in guessed)} choose others")
    for note in notes:
        print(f"warning: {note}")


def print_findings(args: Namespace, findings: Sequence[Finding], shared: int) -> None:
    """How many ids match, and each kind of finding with its number and the first few of its ids."""
    where = args.structures or args.out
    kept = "kept, without" if args.how == "outer" else "left out; --how outer keeps them without"
    sentences = {
        "only_in_work": f"only in {args.work}: {kept} band gap",
        "only_in_band": f"only in {args.band}: {kept} work function",
        "case_ignored": "matched although upper and lower case differ",
        "clash": "left out, because another differs from it only in case, folder or suffix: rename or remove one",
        "no_structure": f"left out, because {where} has no structure file of this name",
        "bad_structure": "left out, because the structure file cannot be read",
        "no_label": "left out, because no label is known",
        "duplicate_differs": "in several rows that differ: label left blank (--duplicates first or mean fills it)",
        "duplicate_settled": f"in several rows that differ: {args.duplicates} taken",
        "duplicate_equal": "in several equal rows: taken as one",
        "category_unclear": "with a category that is not clear: the band gap decides",
        "contradiction": "with a category that contradicts the band gap: the category stands",
        "formation_differs": "with two formation energies that differ: left blank in ax.csv",
        "unlabelled": f"with a structure file in {where}, but in neither table",
    }
    print()
    _count(shared, "in both tables")
    for kind, sentence in sentences.items():
        if found := [finding for finding in findings if finding.kind == kind]:
            _count(len(found), sentence)
            print("\n".join(_examples(found)))


def _count(number: int, sentence: str) -> None:
    print(f"{number:>6} {'id ' if number == 1 else 'ids'} {sentence}")


def _examples(findings: Sequence[Finding]) -> list[str]:
    """The first few: ids on one line, or a line each where rows or reasons have to be told."""
    indent = " " * 11
    shown = findings[:_SHOWN]
    more = len(findings) - len(shown)
    if findings[0].kind == "case_ignored":
        return [indent + ", ".join(f"{f.cif_id} = {f.detail}" for f in shown) + ", …" * bool(more)]
    if findings[0].kind in ("only_in_work", "only_in_band", "no_structure", "no_label", "unlabelled"):
        return [indent + ", ".join(f.cif_id for f in shown) + ", …" * bool(more)]
    lines = []
    for finding in shown:
        word = "row" if len(finding.rows) == 1 else "rows"
        rows = f", {word} {', '.join(map(str, finding.rows))}" if finding.rows else ""
        lines.append(f"{indent}{finding.cif_id}: {finding.detail}  ({finding.table}{rows})")
    return [*lines, *([f"{indent}… and {more} more"] if more else [])]


def print_written(args: Namespace, sources: Sources, structures: Structures | None, rows: Sequence[Row]) -> None:
    """What each file holds."""
    work, gap = ([not math.isnan(getattr(row, name)) for row in rows] for name in ("work_function", "band_gap"))
    both = sum(a and b for a, b in zip(work, gap, strict=True))
    parts = {"with both labels": both, "without work function": sum(gap) - both, "without band gap": sum(work) - both}
    labels = ", ".join(f"{number} {what}" for what, number in parts.items() if number)
    metals, semiconductors = (sum(row.category == c for row in rows) for c in (0.0, 1.0))
    unknown = len(rows) - metals - semiconductors
    how = f"metal: gap of {args.metal_threshold:g} eV" + (" or less" if args.metal_threshold else "")
    how = f"from {args.categories}, else {how}" if sources.categories else how
    print(f"\nwritten to {args.out}")
    print(f"  id_prop.csv       {_plural(len(rows), 'crystal')}: {labels}")
    known = f"{_plural(metals, 'metal')}, {_plural(semiconductors, 'semiconductor')}"
    print(f"  all.csv           {known}{f', {unknown} blank' if unknown else ''} ({how})")
    print(f"  ax.csv            {_auxiliary(args, sources, structures, rows)}")
    print(f"  {REPORT}  every id named or counted above, with its rows")


def print_next(args: Namespace, structures: Structures | None, rows: Sequence[Row]) -> None:
    """The command that trains on the folder, and what it needs before."""
    first = ""
    if structures is None:
        first = f"put the structure files into {args.out}, then "
    elif structures.folder.resolve() != Path(args.out).resolve():
        first = f"copy the structure files from {structures.folder} to {args.out}, then "
    conditional = " --conditional-loss" if any(not math.isnan(row.category) for row in rows) else ""
    auxiliary = " --auxiliary-tasks" if structures else ""
    print(f"\nnext: {first}python main.py {args.out}{conditional}{auxiliary}")


def _auxiliary(args: Namespace, sources: Sources, structures: Structures | None, rows: Sequence[Row]) -> str:
    if structures is None:
        return f"not written: no structure files in {args.out} (--structures DIR says where they are)"
    known = sum(not math.isnan(row.formation_energy) for row in rows)
    formation = f"known for {known}" if sources.formation else "in neither table, left blank"
    return f"electronegativity variance, first ionisation energy: computed; formation energy: {formation}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
