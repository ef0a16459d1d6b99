"""Crystal graph networks for one property or many: `cgcnn.fit`, `cgcnn.load_model`. See README.md."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cgcnn.inference import Model
    from cgcnn.results import RunResult

# Threads of GNU OpenMP wait for each other for microseconds, then sleep. Its default, milliseconds of busy waiting,
# makes training ten times slower where another program has a core; sleeping at once makes it three times slower where
# none has. It has to be said before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__version__ = "0.1.0"
__all__ = ["fit", "load_model"]


def fit(root_dir, **flags) -> RunResult:
    """Train as `python main.py root_dir` does, with its flags as keywords: `fit("root_dir", epochs=40)`.

    Files are written as there, under `out_dir`. Raises DataError where main.py would print an error.
    """
    from cgcnn.arguments import parse_training, to_argv
    from cgcnn.cli import train

    return train(parse_training([str(root_dir), *to_argv(flags)]))


def load_model(path, *, elements=None, device: str = "cpu") -> Model:
    """A trained model, ours or original CGCNN weights: `load_model(path).predict(structures)` → DataFrame.

    path: of one, or of several that predict the same, which are averaged, with their standard deviation.
    elements: the atom_init.json of original weights that were trained with another one than CGCNN's.
    """
    from cgcnn.inference import load_model as load

    return load(path, elements=elements, device=device)
