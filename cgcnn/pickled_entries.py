"""What a dict in a pickled list says of a crystal: its id, structure and labels, in plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from cgcnn.data_entries import LABEL_KEYS, STRUCTURE_KEYS, EntryError
from cgcnn.pickled_records import PickleError, is_structure, plain
from cgcnn.safe_pickle import load

ID_KEYS = ("material_id", "file_id", "id", "jid", "cif_id")  # the first that is there
_SAME = {"bandgap": "band_gap"}  # one property, as different sets spell it


def pickled_entries(file: BinaryIO, path: Path) -> Iterator[tuple[str | None, object]]:
    """(id, entry in plain values) of each dict in a pickled list, or (key, entry) of a dict of them.

    An entry without id has the name of its part, or of its file, and its position from 0: train_0. The whole list is
    in memory while its first entry is asked for; what has been given is let go. Raises PickleError.
    """
    content = load(file)
    name = path.parent.parent.name if path.parent.name == "raw" else path.name.partition(".")[0]
    if isinstance(content, Mapping):
        while content:
            key = next(iter(content))
            yield str(key), _entry(content.pop(key))
        return
    if not isinstance(content, list | tuple):
        raise PickleError("a list of dicts with a 'structure' is expected")
    content = list(content)
    for k, record in enumerate(content):
        content[k] = None
        entry = _entry(record)
        yield (_id(entry) or f"{name}_{k}" if isinstance(entry, dict) else None), entry


def _id(entry: Mapping) -> str:
    found = [entry[key] for key in ID_KEYS if isinstance(entry.get(key), str | int)]
    return next((text for each in found if (text := str(each).strip())), "")


def _entry(record: object) -> object:
    """A dict with its structure, labels and texts; of lists and dicts, which are no labels, an empty one is kept."""
    if is_structure(record):
        record = {"structure": record}
    if not isinstance(record, Mapping):
        return record if isinstance(record, str | int | float | None) else []
    entry: dict[str, object] = {}
    for key, value in record.items():
        if not isinstance(key, str):
            continue
        is_content = key in STRUCTURE_KEYS
        try:
            found = plain(value) if is_content or not isinstance(value, list | tuple | set | frozenset) else []
        except PickleError as error:
            found = EntryError(str(error)) if is_content else {}
        if isinstance(found, dict) and not is_content:
            found = _renamed(found) if key in LABEL_KEYS else {}
        if isinstance(found, list) and not is_content:
            found = found[0] if len(found) == 1 else []
        entry[key] = found
    return _renamed(entry)


def _renamed(labels: dict[str, object]) -> dict[str, object]:
    """With one name for one property."""
    for other, name in _SAME.items():
        if other in labels and labels.get(name) is None:
            labels[name] = labels.pop(other)
    return labels
