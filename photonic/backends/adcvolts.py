"""What ADCs with transitions of their own saw on average when they gave a count."""

from __future__ import annotations

import torch
from torch import Tensor


def seen_values(transitions: Tensor) -> Tensor:
    """(M or 1, 2^bits) middles between transitions (M or 1, 2^bits - 1); end codes are taken to be 1 count wide."""
    middles = (transitions[:, 1:] + transitions[:, :-1]) / 2
    return torch.cat([transitions[:, :1] - 0.5, middles, transitions[:, -1:] + 0.5], dim=1)


def volts(counts: Tensor, seen: Tensor, lowest: float, dtype: torch.dtype) -> Tensor:
    """Values (R, C, B, m) of counts.

    Args:
        counts: (R, C, B, m).
        seen: (M or 1, 2^bits) of ``seen_values``.
        lowest: count of the first of them.
        dtype: of the result.
    """
    m, codes = counts.shape[-1], seen.shape[1]
    table = seen.to(counts.device, dtype)[:m].flatten()
    first = torch.arange(m, device=counts.device) * (codes if len(seen) > 1 else 0)
    first = first - int(lowest)
    found = torch.empty(counts.shape, dtype=dtype, device=counts.device)
    for row, to_row in zip(counts, found, strict=True):
        for tile, to_tile in zip(row, to_row, strict=True):
            torch.take(table, tile + first, out=to_tile)
    return found
