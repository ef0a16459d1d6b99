"""The beginning of a run: say what it works on, write down its splits, and which crystals are left out or twins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from cgcnn import augment, report
from cgcnn.duplicates import duplicate_rows

if TYPE_CHECKING:
    from cgcnn.experiment import Experiment


def announce(run: Experiment, seconds: float) -> None:
    """Say how much data there is, what is left out and what is learned; seconds: what the graphs took."""
    data, split = run.data, run.splits[0]
    length = {name: data.table.length[name].sum() for name in ("atoms", "edges", "bins")}
    parts = f"{length['bins']} entries of radial histograms" if length["bins"] else f"{length['edges']} edges"
    run.say(
        f"{len(data.ids)} crystals, {length['atoms']} atoms, {parts}, ready in {seconds:.1f} s; "
        f"{len(split.train)} train, {len(split.val)} validation, {len(split.test)} test"
        + (f", {len(run.splits)} splits" if len(run.splits) > 1 else "")
    )
    for note in data.notes:
        run.say(note)
    for crystal_id, reason in list(data.failed.items())[:10]:
        run.say(f"  {crystal_id}: {reason}")
    kinds = augment.amounts(run.args.augment)
    for line in augment.without_effect(kinds, data.table.length["atoms"][split.train]):
        run.say(line)
    run.say(f"tasks: {', '.join(f'{t.name} ({t.kind})' for t in data.tasks)}; on {run.device}")
    run.say(f"run {run.out.run_id}")


def record_data(run: Experiment) -> None:
    """Write which crystals are left out and why, the parts of each split, and the near-duplicates between them."""
    if run.data.failed:
        path = run.out.file("failed.csv")
        report.write_failed(path, run.data.failed)
        run.say(f"{len(run.data.failed)} crystals are left out, with the reason in {path}")
    for k, split in enumerate(run.splits):
        split.write(run.out.file(f"split{k + 1}_ids.csv"), run.data.ids)
    _warn_of_duplicates(run)


def _warn_of_duplicates(run: Experiment) -> None:
    """Crystals outside the training part that are also in it, which makes a test error too small."""
    rows = [
        {"split": k, **row}
        for k, split in enumerate(run.splits, start=1)
        for row in duplicate_rows(run.data.table, split, run.data.ids)
    ]
    if rows:
        path = run.out.file("near_duplicates.csv")
        report.write_table(path, pd.DataFrame(rows))
        parts = ", ".join(f"{sum(row['part'] == part for row in rows)} {part}" for part in ("val", "test"))
        run.say(
            f"near-duplicates or polytypes of training crystals: {parts}"
            + (" (all splits)" if len(run.splits) > 1 else "")
            + ("" if run.args.split else "; --group-by formula keeps them together")
            + f"; named in {path}"
        )
