"""Rings in compiled loops: codes to detunings, detunings to weights; the formulas are those of ``ringbank``."""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import carray, njit  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores

# of a loop over single numbers
_PART = 2**13
_ALONE = 2**16

_CODES = cores.call(("codes", "u8"), ("out", "u8"), ("size", "i8"), ("one", "f4"), ("furthest", "f4"))
_TUNED = cores.call(("tuning", "u8"), ("offset", "u8"), ("inverse_width", "u8"), ("rings", "i8"), ("each", "f4"))


@njit(inline="always")
def _detune(codes, out, one, furthest):
    for i in range(len(codes)):
        squared = np.float32(2.0) * one / (codes[i] + one) - np.float32(1.0)
        out[i] = math.sqrt(min(max(squared, np.float32(0.0)), furthest))


@cores.kernel({"contract"})
def _detune_all(arguments):
    call = carray(arguments, 1, _CODES)[0]
    codes, out = cores.array(call.codes, call.size, np.float32), cores.array(call.out, call.size, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        here = slice(part * _PART, min((part + 1) * _PART, call.size))
        _detune(codes[here], out[here], call.one, call.furthest)


@njit(inline="always")
def _weigh(tuning, offset, inverse_width, each):
    for i in range(len(tuning)):
        detuned = (tuning[i] + offset[i]) * inverse_width[i]
        tuning[i] = np.float32(2.0) * each / (np.float32(1.0) + detuned * detuned) - each


@cores.kernel({"contract"})
def _weigh_all(arguments):
    call = carray(arguments, 1, _TUNED)[0]
    rings = call.rings
    tuning = cores.array(call.tuning, call.parts * rings, np.float32)
    offset = cores.array(call.offset, rings, np.float32)
    inverse_width = cores.array(call.inverse_width, rings, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        _weigh(tuning[part * rings : (part + 1) * rings], offset, inverse_width, call.each)


def detunings(codes: Tensor, one: float, reach: float) -> Tensor:
    """Where a nominal ring has the weight of a code, in half linewidths, up to a reach: like codes."""
    out = torch.empty_like(codes)
    call = np.zeros(1, _CODES)
    call["codes"], call["out"], call["size"] = codes.data_ptr(), out.data_ptr(), codes.numel()
    call["parts"], call["one"], call["furthest"] = -(-codes.numel() // _PART), one, reach**2
    cores.run(_detune_all, call, alone=codes.numel() < _ALONE)
    return out


def weights_(tuning: Tensor, offset: Tensor, inverse_width: Tensor, each: float) -> Tensor:
    """The weights of T x m x N rings, times ``each``; in place.

    Args:
        tuning: (T, m, N) nominal resonances from their channels, in nominal half linewidths.
        offset: (m, N) of this device.
        inverse_width: (m, N) nominal over actual linewidth.
        each: the weight 1.
    """
    call = np.zeros(1, _TUNED)
    call["tuning"], call["parts"], call["rings"], call["each"] = tuning.data_ptr(), len(tuning), offset.numel(), each
    call["offset"], call["inverse_width"] = offset.data_ptr(), inverse_width.data_ptr()
    cores.run(_weigh_all, call, alone=tuning.numel() < _ALONE)
    return tuning
