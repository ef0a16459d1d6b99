"""Compare build_graphs with pymatgen's get_all_neighbors on the CIFs of a folder: how much faster.

    python -m benchmarks.graphs FOLDER ... [--limit N] [--repeats N]

Everything in one process and from crystals already read: build_graphs in chunks as the store makes them,
build_graph one by one, and the neighbours of Structure.get_all_neighbors, which selects none. The three take
turns in every repeat, and each ratio is that of one repeat, so that a busy machine slows all alike.
"""

import argparse
import random
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from cgcnn.build import FILES_A_TASK
from cgcnn.crystal import Crystal
from cgcnn.graph import GraphSettings, build_graph, build_graphs
from cgcnn.structures import StructureError, read_crystal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=int, help="files a folder, drawn at random (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="the medians are over these (5)")
    parser.add_argument("--neighbors", choices=("shell", "classic"), default="shell")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    settings = GraphSettings(neighbours=arguments.neighbors)

    print("folder                crystals  pymatgen ms  one by one ms    ratio  in chunks ms    ratio")
    for folder in arguments.folders:
        files = sorted(folder.rglob("*.cif"))
        if arguments.limit is not None and arguments.limit < len(files):
            files = random.Random(0).sample(files, arguments.limit)
        crystals = read_all(files)
        if not crystals:
            print(f"{folder}: no crystal", file=sys.stderr)
            return 2
        print_row(folder.name, len(crystals), compare(crystals, settings, arguments.repeats))
    return 0


def read_all(files: Sequence[Path]) -> list[Crystal]:
    """The crystals of the files that hold one."""
    crystals = []
    for file in files:
        try:
            crystals.append(read_crystal(file))
        except StructureError as error:
            print(f"{file}: {error}", file=sys.stderr)
    return crystals


def compare(crystals: list[Crystal], settings: GraphSettings, repeats: int) -> list[tuple[float, float, float]]:
    """Seconds of pymatgen, of build_graph and of build_graphs, a tuple a repeat."""
    structures = [crystal.to_structure() for crystal in crystals]
    chunks = [crystals[k : k + FILES_A_TASK] for k in range(0, len(crystals), FILES_A_TASK)]
    build_graphs(chunks[0][:1], settings)  # what is imported on the first call is no part of the work
    return [
        (
            seconds(lambda structure: structure.get_all_neighbors(settings.radius, include_index=True), structures),
            seconds(lambda crystal: build_graph(crystal, settings), crystals),
            seconds(lambda chunk: build_graphs(chunk, settings), chunks),
        )
        for _ in range(repeats)
    ]


def seconds(function: Callable, items: Sequence) -> float:
    start = time.perf_counter()
    for item in items:
        function(item)
    return time.perf_counter() - start


def print_row(name: str, count: int, repeats: list[tuple[float, float, float]]) -> None:
    theirs, single, chunked = (1e3 * median(times) / count for times in zip(*repeats, strict=True))
    single_ratio = median(times[0] / times[1] for times in repeats)
    chunked_ratio = median(times[0] / times[2] for times in repeats)
    print(
        f"{name:20} {count:9} {theirs:12.3f} {single:14.3f} {single_ratio:8.1f} {chunked:13.3f} {chunked_ratio:8.1f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
