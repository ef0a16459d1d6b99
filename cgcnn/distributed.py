"""What the processes of a job that train one network together share. A process alone does none of it.

What one of them decides by must be the same in all: numbers that were summed over them, or the data and the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from cgcnn import job
from cgcnn.labels import DataError
from cgcnn.reading import said

if TYPE_CHECKING:
    from torch import Tensor, nn

# How long to wait for a process that reads data or writes; one that is gone is mostly noticed at once.
_PATIENCE = timedelta(hours=1)
_joined = False
_divided = False


class LostProcess(Exception):  # noqa: N818 - of another process
    """Another process of the job has ended."""


@contextmanager
def together(kind: str) -> Iterator[None]:
    """Within, the processes know each other: NCCL between GPUs, Gloo between CPUs. Raises LostProcess."""
    global _joined
    if job.count() == 1:
        yield
        return
    from torch import distributed

    with _losses_told():
        distributed.init_process_group("nccl" if kind.startswith("cuda") else "gloo", timeout=_PATIENCE)
    _joined = True
    try:
        yield
    except LostProcess:
        raise
    except BaseException:
        job.may_speak()  # before the others miss this process, and tell no more than that
        raise
    finally:
        _joined = False
        distributed.destroy_process_group()


@contextmanager
def by_itself() -> Iterator[None]:
    """Within, this process shares nothing: the others are to wait for it."""
    global _joined
    before, _joined = _joined, False
    try:
        yield
    finally:
        _joined = before


@contextmanager
def dividing(rows: int) -> Iterator[None]:
    """Within, each process has a part of a batch of so many crystals, or all of it if they are too few."""
    global _divided
    _divided = _joined and rows >= job.count()
    try:
        yield
    finally:
        _divided = False


def is_divided() -> bool:
    """Whether what this process sees is a part, so that sums over it are to be summed over the processes."""
    return _divided


def part(rows: Tensor, sizes: Tensor) -> Tensor:
    """This process's part of the crystals of a batch, rows (B,), so that all parts have about as many edges.

    sizes (B,): the edges of each. The largest are dealt out in turn, forwards and backwards.
    """
    if not _divided:
        return rows
    import torch

    order = torch.argsort(sizes, descending=True, stable=True)
    turn = torch.arange(len(rows)) % (2 * job.count())
    return rows[order[torch.minimum(turn, 2 * job.count() - 1 - turn) == job.rank()].sort().values]


def summed(values: Tensor) -> Tensor:
    """The sum of each process's values where a batch is divided, else the values. Gradients do not go through it."""
    return _all_sum(values.clone()) if _divided else values


def from_each(values: Tensor) -> Tensor:
    """The values (k,) of each process, (P, k), the same in all; of a batch that is not divided its own, (1, k)."""
    return _all_values(values) if _divided else values[None]


def gathered(values: Tensor, places: Tensor, number: int) -> Tensor:
    """Rows that each process made a part of: values (n, …), their places (n,) → (number, …), the same in all."""
    whole = values.new_zeros((number, *values.shape[1:]))
    whole[places.to(values.device)] = values
    return _all_sum(whole) if _divided else whole


def largest(number: int) -> int:
    """The largest number that any of the processes gives; each has to call it, at the same point."""
    return max(_numbers(number))


def check_same(*content: bytes) -> None:
    """Raises DataError where the processes do not have the same content; each has to call it, at the same point."""
    digest = hashlib.blake2b(b"".join(content), digest_size=7).digest()
    if len(set(_numbers(int.from_bytes(digest, "big")))) > 1:
        raise DataError(
            "the processes have read other crystals, labels or flags than each other: is a copy of the data on one "
            "of the machines another one?"
        )


def _numbers(own: int) -> list[int]:
    """The number of each process; of a process alone its own."""
    if not _joined:
        return [own]
    import torch

    return _all_values(torch.tensor(own, device="cuda" if _is_nccl() else "cpu")).tolist()


def same_everywhere(model: nn.Module) -> None:
    """Give all processes the weights and buffers of the first: rounding on other machines cannot add up."""
    if not _joined:
        return
    import torch
    from torch import distributed

    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in model.state_dict().values():
        kinds.setdefault(tensor.dtype, []).append(tensor)
    for tensors in kinds.values():
        whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _losses_told():
            distributed.broadcast(whole, 0)
        for tensor, values in zip(tensors, whole.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))


def sum_gradients(parameters: Sequence[nn.Parameter], extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sum the gradients over the processes, and some more numbers on the way; returns these. One transfer for all.

    A parameter without a gradient in any process stays without one: an optimiser would let it decay.
    """
    if not _divided:
        return dict(extra)
    import torch

    has = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    parts += [has, *(value.to(has) for value in extra.values())]
    whole = _all_sum(torch.cat([one.reshape(-1) for one in parts]))
    sums = [one.view_as(like) for one, like in zip(whole.split([one.numel() for one in parts]), parts, strict=True)]
    for parameter, gradient, number in zip(parameters, sums, sums[len(parameters)].tolist(), strict=False):
        parameter.grad = gradient.clone() if number else None
    return dict(zip(extra, sums[len(parameters) + 1 :], strict=True))


def seed_step(seed: int, step: int) -> None:
    """Random numbers of a step, the same when a run is resumed, that differ where processes have parts of it."""
    if _joined:
        import torch

        torch.manual_seed(hash((seed, step, job.rank() if _divided else 0)) % 2**63)


def _is_nccl() -> bool:
    from torch import distributed

    return distributed.get_backend() == "nccl"


def _all_values(values: Tensor) -> Tensor:
    """The values of every process, one after another: a sum in which each has a row of its own."""
    whole = values.new_zeros((job.count(), *values.shape))
    whole[job.rank()] = values
    return _all_sum(whole)


def _all_sum(values: Tensor) -> Tensor:
    from torch import distributed

    with _losses_told():
        distributed.all_reduce(values)
    return values


@contextmanager
def _losses_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Gloo and NCCL have no error of their own for it, and name a place in their source first
        reason = said(error).rpartition("] ")[2]
        raise LostProcess(f"another process of the job has ended ({reason})") from error
