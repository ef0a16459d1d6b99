"""What predict.py says: before, what the columns will mean; after, what is where, and the best of it."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from cgcnn.flags import EXIT_SOME_FAILED
from cgcnn.report import move_aside
from cgcnn.screening.calibration import Interval
from cgcnn.screening.columns import TEXT_COLUMNS, UNLIKE, short_names
from cgcnn.screening.contributions import adds_up
from cgcnn.screening.ensemble import Ensemble
from cgcnn.screening.long_tables import count_rows
from cgcnn.screening.shortlist import SHOWN, Shortlist, as_text

# names of the outputs: the flags that ask for them, where there is one
TABLE, FAILED, ATOMS, EMBEDDINGS = "--output", "failed", "--atom-contributions", "--embeddings"
ELEMENTS = "--element-features"


def announce(ensemble: Ensemble, intervals: Mapping[str, Interval], args: Namespace) -> None:
    """How many networks, how wide the intervals are, and whether the scores of atoms add up."""
    if ensemble.num_networks > 1:
        of = f" of {len(ensemble.models)} models" if len(ensemble.models) > 1 else ""
        print(f"mean and standard deviation of {ensemble.num_networks} networks{of}")
    if len(ensemble.models) > 1 and ensemble.unnamed:
        print("their targets have no names: that they are one quantity is not checked")
    for name, interval in intervals.items():
        unit = ensemble.tasks[name].unit
        held = f"{100 * args.coverage:g} % of crystals like the {interval.count} of {args.calibrate}"
        print(f"{name}: {interval}{f' {unit}' if unit else ''} holds {held}")
    if args.atom_contributions and not all(
        adds_up(network, model.normalizers) for model in ensemble.models for network in model.networks
    ):
        print(f"{ATOMS}: more than a linear layer follows the pooling; scores do not add up to the prediction")


def report(files: Mapping[str, Path], rate: float | None) -> int:
    """Say how many crystals are in the files, and how many structures a second it took; the exit status."""
    predicted, unlike = count_rows(files[TABLE], UNLIKE)
    print(f"{predicted} crystals predicted: {files[TABLE]}{f' ({rate:.0f} structures/s)' if rate else ''}")
    if unlike:
        print(f"{unlike} of them are unlike the training set: see its column {UNLIKE}")
    for name in (ATOMS, ELEMENTS, EMBEDDINGS):
        if name in files:
            print(f"{name[2:].replace('-', ' ')}: {files[name]}")
    if not files[FAILED].exists():
        return 0
    print(f"{count_rows(files[FAILED])[0]} crystals failed, with the reason in {files[FAILED]}")
    return EXIT_SOME_FAILED


def write_shortlist(shortlist: Shortlist, table: Path, ensemble: Ensemble) -> None:
    """Write the shortlist of a table beside it, and print its first rows."""
    path = table.with_name(f"{table.stem}_shortlist.csv")
    if path.exists() and (line := move_aside([path], path.parent / "result" / "previous")):
        print(line)
    count, rows = shortlist.write(table, path)
    meet = f" of {count} that meet --where" if shortlist.where and shortlist.top else ""
    best = shortlist.sort.text.strip() if shortlist.sort else ""
    by = (
        f", largest {best[1:]} first"
        if re.fullmatch(r"-[\w ]+", best)
        else f", smallest {best} first"
        if best
        else ""
    )
    kept = count if shortlist.top is None else min(count, shortlist.top)
    print(f"{kept} crystals{meet}{by}: {path}")
    asked = {name for part in (shortlist.where, shortlist.sort) if part for name in part.columns}
    asked |= {"cif_id", UNLIKE, *short_names(ensemble.tasks, unnamed=ensemble.unnamed).values()}
    if len(rows) > 1:
        print(as_text(rows, [name for name in rows[0] if name in asked], TEXT_COLUMNS))
    if kept > SHOWN:
        print(f"… {kept - SHOWN} more")
