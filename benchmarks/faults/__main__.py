"""What becomes of every file when the disk is full, a folder read-only, a process killed, shared, or its clock wrong.

    python -m benchmarks.faults DIR --matrix [--crystals 16] [--cases train merge]
    python -m benchmarks.faults DIR --kills 50 --out RESULTS.csv

The first prints a table, write × fault; it needs root, for a small disk. The second kills commands at random moments.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a process that forks may not have threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a data folder with two labels a crystal")
    parser.add_argument("--matrix", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--crystals", type=int, default=16, help="of the folder, but for building and predicting")
    parser.add_argument("--cases", nargs="+", help="of the matrix, by name")
    parser.add_argument("--faults", nargs="+", help="of the matrix, by name")
    args = parser.parse_args()
    if args.kills and not args.out:
        parser.error("--kills needs --out")
    from benchmarks.faults import cases, kills, matrix

    is_good = True
    with tempfile.TemporaryDirectory(prefix="cgcnn-faults-") as name:
        scratch = Path(name)
        inputs = cases.make_inputs(args.folder, scratch, args.crystals)
        if args.matrix:
            chosen = [case for case in cases.all_cases(inputs) if not args.cases or case.name in args.cases]
            made = matrix.make_matrix(chosen, scratch, args.faults or matrix.FAULTS)
            print(made.markdown())
            is_good = not made.wrong()
        if args.kills:
            table = kills.make_kills(args.folder, inputs, scratch, args.kills, args.out)
            print(kills.summary(table))
            is_good &= (table["status"] == 0).all() and not table["differences"].any() and not table["damaged"].any()
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
