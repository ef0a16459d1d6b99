"""Remove Li (or another element) at random from a crystal and write each distinct result as a CIF.

    python vacancy_data/make_li_vac.py NCA_LiVac0.cif --num_aug 3 --seed 42

A bare file name is looked up in the current folder, then beside this script. Sites with partial
occupancies are first put in a seeded order in a supercell. No two results are the same crystal.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from vacancies import VacancyError, make_vacancies

if TYPE_CHECKING:  # pymatgen is imported where it is used, so that --help answers at once
    from pymatgen.core import Structure

ID_PROP = "id_prop.csv"
ID_PROP_HEADER = ["cif_id", "formation_energy", "defect_label"]
VACANCY_LABEL = "1"


def find_input(name: str) -> Path:
    """Path of the CIF `name`; a bare name is looked up in the current folder, then beside this script."""
    path = Path(name)
    beside_script = Path(__file__).parent / name
    if not path.is_file() and path.name == name and beside_script.is_file():
        return beside_script
    if not path.is_file():
        raise VacancyError(f"no such file: {name}")
    return path


def read_structure(source: Path | TextIO) -> Structure:
    """First structure of a CIF (Å), partial occupancies kept and oxidation states dropped."""
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structure = CifParser(source, occupancy_tolerance=1.01).parse_structures(primitive=False)[0]
        except Exception as error:  # the parser raises a dozen kinds on malformed text
            raise VacancyError(f"not a CIF with a crystal structure: {source}") from error
    structure.remove_oxidation_states()
    return structure


def cif_text(structure: Structure, symprec: float | None = None) -> str:
    """CIF of `structure` (Å): every site in P1, or the space group found within `symprec` (Å)."""
    from pymatgen.io.cif import CifWriter

    return str(CifWriter(structure, symprec=symprec, refine_struct=False))


def holds(path: Path, text: str) -> bool:
    """Whether the file holds `text`, or for a CIF the same sites as another pymatgen version writes them."""
    if path.read_bytes() == text.encode():
        return True
    try:
        return path.suffix == ".cif" and read_structure(path) == read_structure(io.StringIO(text))
    except VacancyError:
        return False


def write_files(texts: Mapping[Path, str], *, force: bool = False) -> None:
    """Write every text or none: without `force`, VacancyError if a file exists with other content."""
    wanted = {path: text for path, text in texts.items() if not (path.exists() and holds(path, text))}
    taken = [str(path) for path in wanted if path.exists()]
    if taken and not force:
        raise VacancyError(f"{taken[0]} exists and differs; use --force to overwrite, or --out-dir")
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")


def rows_to_append(text: str, cif_ids: Sequence[str]) -> str:
    """What to add at the end of the id_prop.csv `text` so that it lists `cif_ids`, each once.

    A column named defect_label receives 1, every other label stays blank: it is not known here.
    """
    rows = [row for row in csv.reader(text.splitlines()) if row]
    header = rows[0] if rows else ID_PROP_HEADER
    known = {row[0].strip() for row in rows}
    added = [] if rows else [header]
    for cif_id in cif_ids:
        if cif_id not in known:
            labels = [VACANCY_LABEL if name.strip() == "defect_label" else "" for name in header[1:]]
            added.append([cif_id, *labels])
    end = "\r\n" if "\r\n" in text else "\n"
    out = io.StringIO()
    csv.writer(out, lineterminator=end).writerows(added)
    return (end if added and text and not text.endswith("\n") else "") + out.getvalue()


class OneLineParser(argparse.ArgumentParser):
    """Argument parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def whole_number(least: int) -> Callable[[str], int]:
    """Parser of an int that is at least `least`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def part(text: str) -> float:
    """Parse a fraction that is above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return value


def build_parser() -> OneLineParser:
    """The command line."""
    parser = OneLineParser(prog="make_li_vac.py", description=__doc__.splitlines()[0])
    positive = whole_number(1)
    parser.add_argument("cif", help="CIF to start from; a bare name may also lie beside this script")
    parser.add_argument("--num_aug", "--num-aug", type=positive, default=3, metavar="N", help="results (default 3)")
    parser.add_argument(
        "--seed", type=whole_number(0), default=42, help="the same seed gives the same files (default 42)"
    )
    parser.add_argument(
        "--supercell",
        type=positive,
        nargs=3,
        metavar=("A", "B", "C"),
        help="default: the smallest that holds the occupancies and has N distinct results",
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--n-vacancies", type=positive, default=1, metavar="K", help="atoms to remove (default 1)")
    amount.add_argument("--fraction", type=part, metavar="F", help="fraction of the atoms to remove")
    parser.add_argument("--element", default="Li", help="element to remove (default Li)")
    parser.add_argument("--out-dir", type=Path, metavar="DIR", help="default: beside the input")
    parser.add_argument(
        "--append-id-prop",
        nargs="?",
        const="",
        metavar="PATH",
        help="add the results to id_prop.csv (default: beside them), with defect_label 1 and no other label",
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files that differ")
    return parser


def run(args: argparse.Namespace) -> None:
    """Make the vacancies that `args` ask for, write them and report each on stdout."""
    source = find_input(args.cif)
    structure = read_structure(source)
    try:
        results = make_vacancies(
            structure,
            args.num_aug,
            seed=args.seed,
            element=args.element,
            n_vacancies=args.n_vacancies,
            fraction=args.fraction,
            supercell=args.supercell and tuple(args.supercell),
        )
    except VacancyError as error:
        raise VacancyError(f"{source}: {error}") from None
    out_dir = args.out_dir or source.parent
    paths = [out_dir / f"{source.stem}_aug{number}.cif" for number in range(len(results))]
    texts = dict(zip(paths, map(cif_text, results), strict=True))
    if args.append_id_prop is not None:
        table = Path(args.append_id_prop) if args.append_id_prop else out_dir / ID_PROP
        old = table.read_bytes().decode("utf-8-sig", "replace") if table.exists() else ""
    write_files(texts, force=args.force)
    if args.append_id_prop is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("a", encoding="utf-8", newline="") as stream:
            stream.write(rows_to_append(old, [path.stem for path in paths]))
    for path, structure in zip(paths, results, strict=True):
        print(f"{path}: {structure.formula}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 after one line on stderr."""
    args = build_parser().parse_args(argv)
    try:
        run(args)
    except (VacancyError, OSError) as error:
        print(f"make_li_vac.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
