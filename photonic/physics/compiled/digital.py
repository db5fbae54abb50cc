"""The study's digital values in a compiled loop (see ``codes``)."""

from __future__ import annotations

import numpy as np
import torch
from numba import carray, float32, njit, uint32  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores, normals

_PART = 2**13
_SIGN = np.uint32(0x80000000)

_VALUES = cores.call(("x", "u8"), ("out", "u8"), ("size", "i8"), ("precision", "f4"))


@njit(inline="always")
def _nearest(x, out, precision):
    for i in range(len(out)):
        steps = np.ceil(abs(x[i] * precision) - float32(0.5))
        sign = uint32(np.float32(x[i]).view(np.uint32) & _SIGN)
        out[i] = np.uint32(np.float32(abs(steps) / precision).view(np.uint32) | sign).view(np.float32)


@cores.kernel(set())
def _quantise(arguments):
    call = carray(arguments, 1, _VALUES)[0]
    x, out = cores.array(call.x, call.size, np.float32), cores.array(call.out, call.size, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        here = slice(part * _PART, min((part + 1) * _PART, call.size))
        _nearest(x[here], out[here], call.precision)


def mid_tread(x: Tensor, precision: int) -> Tensor:
    """sign(x) ceil(|x p| - 1/2) / p, like x."""
    out = torch.empty_like(x)
    call = np.zeros(1, _VALUES)
    call["x"], call["out"], call["size"], call["precision"] = x.data_ptr(), out.data_ptr(), x.numel(), precision
    call["parts"] = -(-x.numel() // _PART)
    cores.run(_quantise, call, alone=x.numel() < normals.ALONE)
    return out
