"""Good models, pickles and stores → broken ones: a value inside differs, so that the file itself is whole."""

from __future__ import annotations

import io
import pickle
import random

import numpy as np
import torch

from benchmarks.fuzz import mutations


def change_object(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A model file whose content differs from a good one's in a value, or in bytes."""
    if rng.random() < 0.4:
        return mutations.mutated(data, rng, mutations.BYTES)
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    if not isinstance(content.get("args"), dict):
        content["args"] = vars(content["args"])
    odd = (*mutations.ODD, torch.tensor(float("nan")), torch.zeros(0), torch.ones(3, 3, 3), b"x", (1, 2), {1: 2})
    file = io.BytesIO()
    torch.save(mutations.change_tree(content, rng, odd), file)
    return file.getvalue(), "change_object"


def change_pickle(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A pickle whose records differ from good ones in a value, or in bytes."""
    if rng.random() < 0.5:
        return mutations.mutated(data, rng, mutations.BYTES)
    records = pickle.loads(data)
    odd = (*mutations.ODD, records[0]["structure"].lattice, np.zeros((2, 3)), np.float64("inf"), b"x", {1}, 1j)
    found = mutations.change_tree(records, rng, odd)
    return pickle.dumps(found, protocol=rng.randrange(6)), "change_object"


def change_manifest(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A store's manifest with other numbers, names or bytes in it; a column with other bytes."""
    if not data.startswith(b"PK") or rng.random() < 0.4:
        return mutations.mutated(data, rng, (*mutations.BYTES, mutations.truncate, mutations.truncate))
    with np.load(io.BytesIO(data)) as manifest:
        arrays = {name: np.array(manifest[name]) for name in manifest.files}
    name = rng.choice(list(arrays))
    held, change = arrays[name], rng.choice(("bytes", "gone", "shape", "kind"))
    if change == "bytes":
        arrays[name] = np.frombuffer(mutations.flip_bytes(held.tobytes(), rng), held.dtype).reshape(held.shape)
    elif change == "gone":
        del arrays[name]
    elif change == "shape":
        arrays[name] = held.ravel()[: rng.randrange(held.size + 1)]
    else:
        arrays[name] = np.array(rng.choice(["x", 3.5, [1, 2], [[1]], b"[]", b"[[],[]]"]))
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue(), f"manifest {name} {change}"
