"""A training step of every network, an edge, beside the classic one: time, arithmetic, memory.

    python -m benchmarks.networks FOLDER [--batch-size B] [--repeats R] [--threads T]

Every network has the same widths and takes its turn on the same batch; the table shows medians. Multiply-adds are
those of all products of matrices, forward and back; passes are how many (E, F) tensors a step reads or
writes outside of them, in units of F = --atom-fea-len floats an edge: what bounds these networks on a CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.train_step import WARM_UP, network_step, real_batch
from cgcnn.features import element_table
from cgcnn.layers import _BLOCK
from cgcnn.model import MODELS
from cgcnn.tasks import Task, TaskSet

VARIANTS = {
    "cgcnn": ("cgcnn", {}),
    "csgcnn": ("csgcnn", {}),
    "csgann": ("csgann", {}),
    "csginn": ("csginn", {}),
    "cgcnn, rbf": ("cgcnn", {"edge_features": "rbf"}),
    "cgcnn, learnable edges": ("cgcnn", {"learnable_edges": True}),
    "cgcnn, learnable atoms": ("cgcnn", {"learnable_atoms": True}),
    "cgcnn, set2set": ("cgcnn", {"pooling": "set2set"}),
    "csgcnn, residual": ("csgcnn", {"residual": True}),
}
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


class Counter(TorchDispatchMode):
    """Multiply-adds of products of matrices, and bytes of edge-long tensors that all else reads and writes."""

    def __init__(self, num_edges: int) -> None:
        super().__init__()
        self.lengths = {num_edges, _BLOCK, num_edges % _BLOCK}  # blocks of edges are edge-long together
        self.products = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__.rstrip("_") in PRODUCTS:
            self.products += out.numel() * args[-1].shape[-2]
        elif not func.is_view:
            tensors = [t for t in (*args, *(out if isinstance(out, tuple) else (out,))) if isinstance(t, Tensor)]
            self.bytes += sum(t.nbytes for t in tensors if t.dim() > 1 and len(t) in self.lengths)
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=15, help="turns of each network (15)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch = real_batch(args.folder, args.batch_size)
    edges, steps, counts = len(batch.distances), {}, {}
    for name, (model, config) in VARIANTS.items():
        torch.manual_seed(0)
        network, configuration = MODELS[model]
        settings = configuration(**config)
        steps[name] = network_step(network(settings, TaskSet((Task("a"), Task("b"))), element_table()), batch)
        steps[name]()
        with Counter(edges) as counter:
            steps[name]()
        counts[name] = counter.products / edges, counter.bytes / 4 / settings.atom_fea_len / edges
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for k in range(WARM_UP + args.repeats):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if k >= WARM_UP:
                seconds[name].append(time.perf_counter() - begun)
    print(f"{len(batch)} crystals, {len(batch.crystal)} atoms, {edges} edges; {args.threads} thread(s)")
    print(f"{'':24}{'ms':>9}{'µs an edge':>12}{'to cgcnn':>10}{'multiply-adds':>15}{'to cgcnn':>10}{'passes':>9}")
    classic = statistics.median(seconds["cgcnn"])
    for name, times in seconds.items():
        median, (products, passes) = statistics.median(times), counts[name]
        print(
            f"{name:24}{1e3 * median:9.1f}{1e6 * median / edges:12.2f}{median / classic:10.2f}"
            f"{products:15.0f}{products / counts['cgcnn'][0]:10.2f}{passes:9.0f}"
        )


if __name__ == "__main__":
    main()
