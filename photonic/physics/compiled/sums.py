"""Counts of column tiles, weighed and added in one compiled loop."""

from __future__ import annotations

import numpy as np
from numba import carray, float32, njit  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores

# counts of a part
_PART = 2**14
_ALONE = 2**16

_CALL = cores.call(
    *((name, "u8") for name in ("counts", "factor", "offset", "out")),
    *((name, "i8") for name in ("rows", "groups", "columns", "shots", "m", "at_once")),
)


@njit(inline="always")
def _weighed(counts, factor, out):
    for j in range(len(out)):
        out[j] += float32(counts[j]) * factor[j]


@cores.kernel({"contract"})
def _sum(arguments):
    call = carray(arguments, 1, _CALL)[0]
    rows, groups, columns, shots, m = call.rows, call.groups, call.columns, call.shots, call.m
    tiles = rows * groups * columns
    counts = cores.array(call.counts, tiles * shots * m, np.int16)
    factor, offset = (
        cores.array(call.factor, tiles * m, np.float32),
        cores.array(call.offset, groups * rows * m, np.float32),
    )
    out = cores.array(call.out, groups * shots * rows * m, np.float32)
    blocks = (shots + call.at_once - 1) // call.at_once
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        group, begin = part // blocks, part % blocks * call.at_once
        for shot in range(begin, min(begin + call.at_once, shots)):
            for row in range(rows):
                to = ((group * shots + shot) * rows + row) * m
                here = out[to : to + m]
                dark = offset[(group * rows + row) * m :]
                for j in range(m):
                    here[j] = -dark[j]
                for column in range(columns):
                    tile = (row * groups + group) * columns + column
                    place = (tile * shots + shot) * m
                    _weighed(counts[place : place + m], factor[tile * m : tile * m + m], here)


def weighed(counts: Tensor, factor: Tensor, offset: Tensor, out: Tensor) -> None:
    """Adds column tiles, each count times its factor, and takes an offset off; all tensors are contiguous.

    Args:
        counts: (R, G x C, B, m) int16.
        factor: (R, G x C, m) float32.
        offset: (G, R m) float32.
        out: (G, B, R m) float32; overwritten.
    """
    call = np.zeros(1, _CALL)
    for name, tensor in (("counts", counts), ("factor", factor), ("offset", offset), ("out", out)):
        call[name] = tensor.data_ptr()
    rows, tiles, shots, m = counts.shape
    groups = len(out)
    call["rows"], call["groups"], call["columns"], call["shots"], call["m"] = rows, groups, tiles // groups, shots, m
    at_once = max(1, _PART // (rows * tiles // groups * m))
    call["at_once"], call["parts"] = at_once, groups * -(-shots // at_once)
    cores.run(_sum, call, alone=counts.numel() < _ALONE)
