"""What becomes of every file when the disk is full, a folder read-only, a process killed, shared, or its clock wrong.

    python -m benchmarks.faults DIR --matrix [--crystals 16] [--cases train merge]
    python -m benchmarks.faults DIR --kills 50 --out RESULTS.csv

The first prints a table, write × fault; it needs root, for a small disk. The second kills commands at random moments.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.faults.cells import FAULTS

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a process that forks may not have threads


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="a data folder with two labels a crystal")
    parser.add_argument("--matrix", action="store_true", help="print the table, what is wrong to stderr")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="kill so many times")
    parser.add_argument("--out", type=Path, help="a row for every kill")
    parser.add_argument("--crystals", type=int, default=16, help="of the folder, where a part will do (16)")
    parser.add_argument("--cases", nargs="+", help="commands of the matrix, such as train, merge, sweep")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, metavar="FAULT", help=f"of {', '.join(FAULTS)}")
    args = parser.parse_args()
    if not args.matrix and not args.kills:
        parser.error("--matrix, --kills N or both")
    if args.kills and not args.out:
        parser.error("--kills needs --out")
    from benchmarks.faults import cases, kills, matrix

    is_good = True
    with tempfile.TemporaryDirectory(prefix="cgcnn-faults-") as name:
        scratch = Path(name)
        with contextlib.redirect_stdout(sys.stderr):
            inputs = cases.make_inputs(args.folder, scratch, args.crystals)
        if args.matrix:
            chosen = [case for case in cases.all_cases(inputs) if not args.cases or case.name in args.cases]
            made = matrix.make_matrix(chosen, scratch, args.faults or FAULTS)
            print(made.markdown())
            is_good = not made.wrong()
        if args.kills:
            table = kills.make_kills(args.folder, inputs, scratch, args.kills, args.out)
            print(kills.summary(table))
            is_good &= (table["status"] == 0).all() and not table["differences"].any() and not table["damaged"].any()
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
