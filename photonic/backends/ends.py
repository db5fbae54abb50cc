"""The smallest and the largest number of a tensor."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

_FEW = 2**12
# what numpy has too
_DTYPES = (torch.float32, torch.float64, torch.int16)


def ends(numbers: Tensor) -> tuple[float, float]:
    """Smallest and largest; both NaN where there is one. Few numbers go to numpy, which starts faster than torch."""
    if numbers.is_cpu and numbers.numel() <= _FEW and numbers.dtype in _DTYPES:
        return array_ends(numbers.detach().numpy() if numbers.requires_grad else numbers.numpy())
    if not numbers.is_contiguous():
        # in the order in which they lie in memory: a transposed view would be copied first
        numbers = numbers.permute(sorted(range(numbers.ndim), key=numbers.stride, reverse=True))
    least, most = torch.aminmax(numbers.detach())
    return float(least), float(most)


def array_ends(numbers: NDArray[Any]) -> tuple[float, float]:
    """The same of an array."""
    # to find where they are takes numpy a third of the time of a reduction; the first NaN counts as both ends
    return numbers.item(numbers.argmin()), numbers.item(numbers.argmax())
