"""The graphs of a data set's crystals, built or kept, and what is wrong with the files of those that have none."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping

from cgcnn.data_source import MAX_LISTED, DataSource
from cgcnn.global_features import needs_symmetry
from cgcnn.graph import GraphSettings
from cgcnn.graph_table import GraphTable
from cgcnn.labels import DataError, LabelTable, first_of, raise_all, read_rows
from cgcnn.radial import num_intervals
from cgcnn.store import GraphStore


def graph_settings(args: Namespace) -> GraphSettings:
    """What the flags say about graphs."""
    if args.model == "crystalformer":
        return GraphSettings(args.image_cutoff, images=True, symmetry=needs_symmetry(args.global_features))
    if args.model == "ecnet":
        cell_only = {} if args.use_pbc else {"max_num_nbr": args.max_num_nbr, "neighbours": args.neighbors}
        return GraphSettings(
            args.cutoff,
            histogram=num_intervals(args.cutoff),
            periodic=args.use_pbc,
            symmetry=needs_symmetry(args.global_features),
            **cell_only,
        )
    return GraphSettings(
        args.radius,
        args.max_num_nbr,
        args.neighbors,
        environment=args.environment,
        symmetry=needs_symmetry(args.global_features),
    )


def faults_of_files(source: DataSource, args: Namespace, check_stop: Callable[[], None]) -> list[str]:
    """Lines on the structures that a table of labels names which is at fault itself: both are mended in one go."""
    try:
        rows = read_rows(source.table) if not source.is_file else []
    except DataError:
        return []
    ids = dict.fromkeys(cells[0] for k, (_, cells) in enumerate(rows) if cells[0] and (k or cells[0] in source.files))
    _, failed = _built(source, ids, args, check_stop)
    return first_of([f"{source.where(i)}: {reason}" for i, reason in failed.items()], MAX_LISTED)


def _built(
    source: DataSource,
    ids: Iterable[str],
    args: Namespace,
    check_stop: Callable[[], None],
    unknown: Mapping[str, str] | None = None,
) -> tuple[GraphStore, dict[str, str]]:
    """The store with the graphs of these crystals, and the reason for each that has none; unknown: some already."""
    failed = {i: source.lacking.get(i, "no structure file of this name") for i in ids if i not in source.files}
    failed |= unknown or {}
    files = {i: source.files[i] for i in ids if i not in failed}
    store = GraphStore(source.cache, graph_settings(args))
    who = {"jobs": args.graph_jobs, "cluster": args.scheduler_address if args.parallel == "dask" else None}
    bad, _ = store.update(files, **who, verify=args.verify_cache, check_stop=check_stop)
    return store, failed | bad


def graphs_of(
    source: DataSource,
    labels: LabelTable,
    args: Namespace,
    check_stop: Callable[[], None],
    unknown: Mapping[str, str],
    notes: list[str],
) -> tuple[GraphTable, list[str], dict[str, str]]:
    """Graphs of the crystals that can be used, their ids, and the reason for each that cannot.

    unknown: id → reason, of those that lack a feature and are left out. notes: to which is added what to tell.
    """
    ids = labels.ids
    if args.on_bad_structure == "skip":
        raise_all(source.faults, limit=MAX_LISTED)
    store, failed = _built(source, ids, args, check_stop, unknown)
    if store.was_damaged:
        notes.append(f"{store.folder}: was damaged; what was lost of these graphs is built again")
    if args.on_bad_structure == "stop":
        lines = [f"{source.where(i)}{labels.row(i)}: {reason}" for i, reason in failed.items()]
        head = f"{source.table}: {len(failed)} of {len(ids)} crystals cannot be used"
        lines[:0] = [f"{head} (--on-bad-structure skip goes on without them)"] if failed else []
        raise_all([*source.faults, *lines], limit=MAX_LISTED)
    good = [i for i in ids if i not in failed]
    if not good:
        raise DataError(f"{source.table}: none of the {len(ids)} crystals can be used")
    return store.table(good), good, failed
