"""The processes that torchrun has started: how many, which is this one, and which of them speaks."""

from __future__ import annotations

import os
from datetime import timedelta

from cgcnn.labels import DataError

_speaks: bool | None = None


def count() -> int:
    """How many processes torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def local_count() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", count()))


def rank() -> int:
    """The number of this process among them; 0 writes all files and says what there is to say."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def launcher() -> list[str]:
    """The words of the torchrun command that this process belongs to."""
    nodes = count() // local_count()
    words = ["torchrun", f"--nproc-per-node={local_count()}"]
    if nodes > 1:
        place = f"{os.environ.get('MASTER_ADDR', 'HOST')}:29500"
        words[1:1] = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={place}"]
    return words


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def refuse_several(command: str) -> None:
    """Raises DataError for a command that torchrun has nothing to share of."""
    if count() > 1:
        raise DataError(f"{command} is no training run: start it without torchrun")


def may_speak() -> bool:
    """Whether no process of the job has told yet why it ends: the first one does, for all of them."""
    global _speaks
    if count() == 1:
        return True
    if _speaks is None:
        _speaks = _asks_first()
    return _speaks


def _asks_first() -> bool:
    from torch.distributed import TCPStore

    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=5))
        return store.add(f"cgcnn/told/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except (KeyError, RuntimeError, ValueError):
        return is_first()


def device(kind: str) -> str:
    """`cuda` → this process's GPU. Raises DataError where there is none for each."""
    if kind != "cuda" or count() == 1:
        return kind
    import torch

    if local_count() > torch.cuda.device_count():
        raise DataError(f"{local_count()} processes, and {torch.cuda.device_count()} GPUs: see --nproc-per-node")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return f"cuda:{torch.cuda.current_device()}"
