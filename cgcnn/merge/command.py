"""merge_work_band.py: a table of work functions and one of band gaps → the label tables of a data folder."""

from __future__ import annotations

from argparse import BooleanOptionalAction, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cgcnn.arguments import normalise
from cgcnn.cli import run_script
from cgcnn.files import is_writable
from cgcnn.flag_kinds import at_least, choice
from cgcnn.flags import EXIT_SOME_FAILED, Parser
from cgcnn.labels import DataError
from cgcnn.merge.units import EV

_TINY_GAP = 0.01  # eV

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from cgcnn.merge.rows import Sources


def merge_parser() -> Parser:
    """The flags of merge_work_band.py."""
    parser = Parser(
        prog="merge_work_band.py",
        allow_abbrev=False,
        description="Join a table of work functions and a table of band gaps into id_prop.csv, all.csv and ax.csv.",
    )
    add = parser.add_argument
    add("work", metavar="WORK.csv", help="a table with ids and work functions: commas, semicolons or tabs")
    add("band", metavar="BAND.csv", help="a table with ids and band gaps; may be the same file")
    add("--categories", metavar="CSV", help="a table with ids and categories: 0 metal, 1 semiconductor")
    add("--out", default=".", metavar="DIR", help="folder of the tables, best that of the CIFs (default: .)")
    add("--structures", metavar="DIR", help="folder of the structure files (default: that of --out)")
    add("--how", choices=("inner", "outer"), default="inner", help="ids of both tables, or of either (inner)")
    add(
        "--id-column",
        nargs="+",
        default=[],
        metavar="NAME",
        help="column of the ids: one name for all tables, or one each; a number counts from 1 (default: guessed)",
    )
    add("--work-column", metavar="NAME", help="column of the work function (default: guessed)")
    add("--gap-column", metavar="NAME", help="column of the band gap (default: guessed)")
    add("--category-column", metavar="NAME", help="column of the category (default: guessed)")
    add("--formation-column", metavar="NAME", help="column of the formation energy in either table, for ax.csv")
    add(
        "--work-unit", type=choice(*EV), metavar="UNIT", help=f"one of {', '.join(EV)} (default: the header's, or eV)"
    )
    add("--gap-unit", type=choice(*EV), metavar="UNIT", help="likewise")
    add("--metal-threshold", type=at_least(0.0), default=0.0, metavar="EV", help="largest gap of a metal (0)")
    add("--duplicates", choices=("first", "mean"), help="label of an id whose rows differ (default: left blank)")
    add(
        "--force",
        action=BooleanOptionalAction,
        default=False,
        help="replace tables that are there; the old ones move to result/previous/",
    )
    return parser


def merge_command(argv: Sequence[str] | None = None) -> int:
    """merge_work_band.py."""
    return run_script(lambda words: merge_files(merge_parser().parse_args(normalise(words))), argv)


def merge_files(args: Namespace) -> int:
    """Read, join and write as the flags say, print what was done; the exit status. Raises DataError."""
    from cgcnn.merge import report
    from cgcnn.merge.rows import join_sources
    from cgcnn.merge.structures import find_structures

    out = Path(args.out)
    old = _old_tables(out, report.TABLES, force=args.force)
    structures = find_structures(args.structures, out)
    sources, notes = _read_sources(args, structures.names if structures else ())
    report.print_sources(args, sources, structures, notes)
    rows, findings = join_sources(args, sources, structures)
    report.print_findings(args, findings, len(sources.shared))
    if not is_writable(out):
        raise DataError(f"--out {out}: cannot be written")
    if old:
        from cgcnn.report import move_aside

        print(f"\n{move_aside(old, out / 'result' / 'previous')}")
    report.write_tables(out, rows, findings, with_auxiliary=structures is not None)
    report.print_written(args, sources, structures, rows)
    lost = sum(finding.kind in report.LOST for finding in findings)
    if lost:
        why = f"rows or files are not clear, see above (exit status {EXIT_SOME_FAILED})"
        print(f"\nlabels or crystals missing: {lost}; {why}")
    report.print_next(args, structures, rows)
    return EXIT_SOME_FAILED if lost else 0


def _old_tables(out: Path, names: Sequence[str], *, force: bool) -> list[Path]:
    """Tables in the folder that would be overwritten. Raises DataError without --force."""
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out}: not a folder")
    old = [out / name for name in names if (out / name).exists()]
    if old and not force:
        there = ", ".join(path.name for path in old)
        raise DataError(f"{out} already has {there}; --force moves them away first, --out DIR writes elsewhere")
    return old


def _read_sources(args: Namespace, structures: Iterable[str]) -> tuple[Sources, list[str]]:
    """All tables, columns chosen and numbers checked, and lines to be read; structures: ids. Raises DataError."""
    from cgcnn.merge.join import Keys
    from cgcnn.merge.quantities import GAP, WORK
    from cgcnn.merge.rows import Sources
    from cgcnn.merge.sources import read_categories, read_formation, read_ids, read_source

    paths = [args.work, args.band, *([args.categories] if args.categories else [])]
    ids = args.id_column * len(paths) if len(args.id_column) == 1 else args.id_column or [None] * len(paths)
    if len(ids) != len(paths):
        raise DataError(f"--id-column: one name, or one for each of {', '.join(paths)}; {len(ids)} given")
    tables = [read_ids(Path(path), name) for path, name in zip(paths, ids, strict=True)]
    once = {Path(table.path).resolve(): table for table in tables}
    keys = Keys.of_tables([table.ids for table in once.values()], structures)
    twice = args.duplicates
    work = read_source(tables[0], WORK, keys, column=args.work_column, unit=args.work_unit, duplicates=twice)
    gap = read_source(tables[1], GAP, keys, column=args.gap_column, unit=args.gap_unit, duplicates=twice)
    categories = None
    if args.categories:
        categories = read_categories(tables[2], keys, column=args.category_column, duplicates=twice)
    beside = tables[: 1 if args.work == args.band else 2]
    formation, notes = read_formation(beside, keys, column=args.formation_column, duplicates=twice)
    tiny = sum(args.metal_threshold < value < _TINY_GAP for value in gap.labels.values.values())
    if tiny and not args.categories:
        notes.append(
            f"{args.band}: gaps above {args.metal_threshold:g} and below {_TINY_GAP} eV count as semiconductors: "
            f"{tiny} of them (--metal-threshold {_TINY_GAP}: metals)"
        )
    return Sources(keys, work, gap, categories, formation), [*work.warnings, *gap.warnings, *notes]
