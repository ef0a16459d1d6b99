"""Vectors of crystals → an NPZ file, written without ever holding them all."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np

from cgcnn.files import replacing
from cgcnn.screening.long_tables import first_column

_THE_SAME_EVERY_TIME = (1980, 1, 1, 0, 0, 0)


def write_embeddings(path: Path, vectors: Path, table: Path, length: int) -> None:
    """`ids` (n,) text and `vectors` (n, H) float32, for numpy.load.

    vectors: file of n·H little-endian floats; table: CSV of n rows whose first column are the ids; length: H.
    """
    count, width = 0, 1
    for crystal_id in first_column(table):
        count, width = count + 1, max(width, len(crystal_id))
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with _member(archive, "ids.npy", (count,), np.dtype(f"<U{width}")) as file:
            for crystal_id in first_column(table):
                file.write(np.array(crystal_id, dtype=f"<U{width}").tobytes())
        with _member(archive, "vectors.npy", (count, length), np.dtype("<f4")) as file, open(vectors, "rb") as source:
            shutil.copyfileobj(source, file)


def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kind: np.dtype):
    """A file in the archive for an array of this shape, after its header."""
    file = archive.open(zipfile.ZipInfo(name, _THE_SAME_EVERY_TIME), "w", force_zip64=True)
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, header)
    return file
