"""What the workers of the tests' Dask cluster do; they start again and again, and import nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path


def ids_of(part: Sequence[tuple], *_: object) -> list[str]:
    return [item[0] for item in part]


def slow_build(part: Sequence[tuple], *arguments: object):
    from cgcnn.build import build_task

    time.sleep(0.15)
    return build_task(part, *arguments)


def slow_chunk(part: Sequence[tuple], *arguments: object):
    from cgcnn.screening.stream import read_chunk

    time.sleep(0.15)
    return read_chunk(part, *arguments)


def slow(part: Sequence[tuple]) -> None:
    time.sleep(3)


def broken(part: Sequence[tuple]) -> None:
    raise ImportError("No module named 'cgcnn'")


def deadly(part: Sequence[tuple], folder: str) -> list[str]:
    """c3 kills its worker, as often as there are files in the folder."""
    time.sleep(0.05)
    if "c3" in ids_of(part):
        for path in Path(folder).iterdir():
            path.unlink()
            os._exit(9)
    return ids_of(part)
