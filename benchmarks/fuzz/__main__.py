"""Broken input at scale: what becomes of thousands of damaged files at every entry of the package.

    python -m benchmarks.fuzz --count 2000 --seed 0 --out RESULTS.csv [--commands 50] [--keep FAULTS]

Good inputs of every kind are made; a file of them is broken and given to the entry that reads it, one after another
in a worker process with little memory. What must hold: only the documented exception; a line a fault, which can be
printed and names the file; good files beside it are used; no more than 10 s beyond what the size explains, nor 2 GiB.
A row an input goes to RESULTS.csv; the exit status is 1 where there was a fault.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.fuzz import named
from benchmarks.fuzz.cases import FAULT, REFUSED, USED, Case, Outcome
from benchmarks.fuzz.commands import COMMANDS
from benchmarks.fuzz.entries import ENTRIES
from benchmarks.fuzz.good_inputs import prepare
from benchmarks.fuzz.workers import Worker

COLUMNS = ("number", "kind", "name", "source", "changes", "verdict", "seconds", "peak_mib", "said")
OWN_PROCESSES = 8  # of the commands
SECONDS_A_COMMAND = 60.0


def plan(count: int, commands: int, seed: int) -> list[Case]:
    """All named cases, `commands` whole commands, and so many mutations that there are `count` inputs at least."""
    cases = [Case(k, seed, *each) for k, each in enumerate(named.cases())] if count else []
    for k in range(commands):
        kind = "process" if k < OWN_PROCESSES else "command"
        cases.append(Case(len(cases), seed, kind, seconds=SECONDS_A_COMMAND))
    rng = random.Random(seed)
    kinds = list(ENTRIES)
    drawn = rng.choices(kinds, [ENTRIES[kind].weight for kind in kinds], k=max(0, count - len(cases)))
    return cases + [Case(len(cases) + k, seed, kind) for k, kind in enumerate(drawn)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="inputs (2000)")
    parser.add_argument("--commands", type=int, default=50, help="of them whole commands (50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="RESULTS.csv")
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="these cases alone")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="cases of these kinds alone")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a copy of the folder of each fault")
    args = parser.parse_args()
    cases = plan(args.count, args.commands, args.seed)
    cases = [c for c in cases if args.only is None or c.number in args.only]
    cases = [c for c in cases if args.kinds is None or c.kind in args.kinds]
    with tempfile.TemporaryDirectory() as scratch, open(args.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        good, work = Path(scratch, "good"), Path(scratch, "work")
        Path(scratch).chmod(0o755)
        good.mkdir()
        prepare(good)
        worker = Worker(good, work)
        done: list[tuple[Case, Outcome]] = []
        for case in cases:
            outcome = worker.run(case)
            done.append((case, outcome))
            writer.writerow(_row(case, outcome, scratch))
            if outcome.verdict == FAULT:
                said = outcome.said.strip().replace(scratch, "")
                print(f"{case.number} {case.kind} {case.name} [{outcome.source}; {outcome.changes}]\n  {said}\n")
                sys.stdout.flush()
                if args.keep and case.kind not in ("odd place", "odd name"):  # FIFOs, links to /dev/zero
                    shutil.copytree(work, args.keep / f"{args.seed}_{case.number}", symlinks=True, dirs_exist_ok=True)
        worker.end()
    report(done)
    return 1 if any(outcome.verdict == FAULT for _, outcome in done) else 0


def _row(case: Case, outcome: Outcome, scratch: str) -> list[object]:
    said = outcome.said.replace(scratch, "").encode("utf-8", "backslashreplace").decode()
    measured = f"{outcome.seconds:.3f}", f"{outcome.peak:.0f}"
    return [case.number, case.kind, case.name, outcome.source, outcome.changes, outcome.verdict, *measured, said]


def report(done: list[tuple[Case, Outcome]]) -> None:
    """How many of each kind were used and refused, the slowest and the largest."""
    found = Counter((case.kind, outcome.verdict) for case, outcome in done)
    print(f"{'input':22} {'all':>6} {USED:>8} {REFUSED:>8} {FAULT + 's':>8}")
    for kind in dict.fromkeys(["named structure", *sorted({case.kind for case, _ in done})]):
        counts = [found[kind, verdict] for verdict in (USED, REFUSED, FAULT)]
        print(f"{kind:22} {sum(counts):6} {counts[0]:8} {counts[1]:8} {counts[2]:8}")
    totals = [sum(outcome.verdict == verdict for _, outcome in done) for verdict in (USED, REFUSED, FAULT)]
    print(f"{'all':22} {len(done):6} {totals[0]:8} {totals[1]:8} {totals[2]:8}")
    for what, unit, kinds in (("seconds", "s", "entries"), ("peak", "MiB", "entries"), ("seconds", "s", "commands")):
        some = [each for each in done if (each[0].kind in COMMANDS) == (kinds == "commands")]
        if some:
            case, outcome = max(some, key=lambda each: getattr(each[1], what))
            value = f"{getattr(outcome, what):.2f} {unit}"
            print(f"most {what}, {kinds}: {value} ({case.number} {case.kind} {case.name}{outcome.source})")


if __name__ == "__main__":
    sys.exit(main())
