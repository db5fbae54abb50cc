"""Where compiled loops (docs/decisions/0019) take over from torch's operations."""

from __future__ import annotations

import torch
from torch import Tensor

# numbers from which on a loop wins; below, torch's operation is done before a loop has started
MANY = 2**13


def many(*tensors: Tensor, inner: bool = False) -> bool:
    """Whether loops over these are compiled: the first has many numbers, all are float32, contiguous, on the CPU.

    What a call computes depends on sizes, types and how tensors lie alone: the same calls give the same numbers.

    Args:
        tensors: of the loop.
        inner: whether it is enough that the last dimension is contiguous.
    """
    return tensors[0].numel() >= MANY and all(
        each.dtype == torch.float32
        and each.device.type == "cpu"
        and (each.stride(-1) == 1 if inner else each.is_contiguous())
        for each in tensors
    )
