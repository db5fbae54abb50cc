"""From counts back to numbers: tiles are weighed and added."""

from __future__ import annotations

import torch
from torch import Tensor

from photonic.backends.encoding import EncodedWeight
from photonic.physics.many import MANY

_CACHED_ELEMENTS = 2**17  # of a result, at once


def decode(counts: Tensor, encoded: EncodedWeight) -> Tensor:
    """Volts (R, G x C, B, m), in counts, to products (G, B, M): weighs and adds tiles, takes the dark off."""
    cut, factor = encoded.cut, encoded.factor
    rows, _, b, m = counts.shape
    if counts.dtype == torch.int16 and counts.numel() >= MANY and _plain(counts, factor, encoded.offset):
        from photonic.physics.compiled import sums  # numba takes a while to import

        y = factor.new_empty(cut.groups, b, rows * m)
        sums.weighed(counts, factor, encoded.offset, y)
        return y[..., : cut.outputs]
    grid = counts.unflatten(1, (cut.groups, cut.columns))
    weights = factor.unflatten(1, (cut.groups, cut.columns))
    dtype = torch.promote_types(counts.dtype, factor.dtype)
    y = torch.empty(cut.groups, b, rows * m, dtype=dtype, device=factor.device)
    by_tile = y.unflatten(2, (rows, m)).permute(2, 0, 1, 3)
    offset = encoded.offset.unflatten(2, (rows, m)).permute(2, 0, 1, 3)
    step = max(1, _CACHED_ELEMENTS // (cut.groups * rows * m))  # of shots, which stay in cache
    for start in range(0, b, step):
        part, here = by_tile[:, :, start : start + step], grid[:, :, :, start : start + step]
        column = torch.empty(part.shape, dtype=dtype, device=y.device)
        torch.mul(column.copy_(here[:, :, 0]), weights[:, :, 0], out=part)
        for c in range(1, cut.columns):
            part.addcmul_(column.copy_(here[:, :, c]), weights[:, :, c])
        part.sub_(offset)
    return y[..., : cut.outputs]


def _plain(counts: Tensor, *values: Tensor) -> bool:
    """Whether all lie contiguous on the CPU, and values are float32."""
    where = all(each.is_cpu and each.is_contiguous() for each in (counts, *values))
    return where and all(each.dtype == torch.float32 for each in values)
