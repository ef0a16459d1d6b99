"""bfloat16 where it is precise enough: products of layers. Sums over atoms and edges, and statistics, are not."""

from __future__ import annotations

import torch
from torch import Tensor


def autocast(device: torch.device | str, precision: str) -> torch.autocast:
    """A context in which layers multiply in bfloat16, if `precision` is bf16."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def full(values: Tensor) -> Tensor:
    """Values in at least single precision."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
