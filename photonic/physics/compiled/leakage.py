"""What the near rings of a bus take from each other's channels, in one compiled loop (see ``ringleak``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import carray, float32, int32, njit  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores

_PART = 2**13
_ALONE = 2**15
# pairs of which the products are divided at once: each factor is below 1e9, and so their product far from overflow
_AT_ONCE = 3

PAIR = np.dtype([("apart", "i8"), ("shift", "f4"), ("wraps", "i4")])

_CALL = cores.call(
    *((name, "u8") for name in ("tuning", "width", "start", "far", "pairs", "out")),
    *((name, "i8") for name in ("buses", "m", "n", "count", "at_once", "has_far")),
    ("fsr", "f4"),
)


@njit(inline="always")
def _power_of_two(x):
    """2^x of x from -126 to 0; below, next to nothing (Cephes' polynomial)."""
    bounded = max(x, float32(-126.0))
    whole = np.rint(bounded)
    f = bounded - whole
    p = float32(1.535336188319500e-4) * f + float32(1.339887440266574e-3)
    p = p * f + float32(9.618437357674640e-3)
    p = p * f + float32(5.550332471162809e-2)
    p = p * f + float32(2.402264791363012e-1)
    p = p * f + float32(6.931472028550421e-1)
    return (p * f + float32(1.0)) * np.int32(int32(int32(whole) + int32(127)) << int32(23)).view(np.float32)


@njit(inline="always")
def _pair(tuning, width, over, under, pair, fsr):
    """Multiplies the fractions z^2 / (1 + z^2), above and below, of the rings ``apart`` channels further on."""
    apart, shift = pair.apart, pair.shift
    n = len(tuning)
    rings, channels = max(apart, 0), max(-apart, 0)
    count = n - abs(apart)
    t, w = tuning[rings : rings + count], width[rings : rings + count]
    above, below = over[channels : channels + count], under[channels : channels + count]
    if pair.wraps:
        for i in range(count):
            distance = t[i] + shift
            z = (distance - fsr * np.rint(distance / fsr)) * w[i]
            above[i] *= z * z
            below[i] *= float32(1.0) + z * z
    else:
        for i in range(count):
            z = (t[i] + shift) * w[i]
            above[i] *= z * z
            below[i] *= float32(1.0) + z * z


@njit(inline="always")
def _divide(out, over, under):
    for i in range(len(out)):
        out[i] *= over[i] / under[i]
        over[i] = under[i] = float32(1.0)


@cores.kernel(cores.FAST)
def _remaining(arguments):
    call = carray(arguments, 1, _CALL)[0]
    n, m, buses, size = call.n, call.m, call.buses, call.buses * call.n
    tunings, results = cores.array(call.tuning, size, np.float32), cores.array(call.out, size, np.float32)
    far = cores.array(call.far, size, np.float32)
    widths, starts = cores.array(call.width, m * n, np.float32), cores.array(call.start, m * n, np.float32)
    pairs = cores.array(call.pairs, call.count, PAIR)
    over, under = np.ones(n, np.float32), np.ones(n, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        for bus in range(part * call.at_once, min((part + 1) * call.at_once, buses)):
            here, row = slice(bus * n, (bus + 1) * n), slice(bus % m * n, (bus % m + 1) * n)
            tuning, width, start, out, beyond = tunings[here], widths[row], starts[row], results[here], far[here]
            for i in range(n):
                out[i] = start[i]
            if call.has_far:
                for i in range(n):
                    out[i] *= _power_of_two(beyond[i])
            for which in range(call.count):
                _pair(tuning, width, over, under, pairs[which], call.fsr)
                if which % _AT_ONCE == _AT_ONCE - 1:
                    _divide(out, over, under)
            _divide(out, over, under)


def remaining(
    tuning: Tensor,
    width: Tensor,
    start: Tensor,
    far: Tensor | None,
    pairs: Sequence[tuple[int, float, bool]],
    fsr: float,
) -> Tensor:
    """What is left of each channel, (T, m, N).

    Args:
        tuning: (T, m, N) of the rings.
        width: (m, N) nominal over actual linewidth.
        start: (m, N) what is left before any near ring.
        far: (T, m, N) logarithm of base 2 of what far rings leave, 0 or less, or None.
        pairs: of near rings and channels: i - j, what is added to the tuning, and whether the distance is to be taken
            to the nearest resonance.
        fsr: from one resonance to the next.
    """
    out = torch.empty_like(tuning)
    _, m, n = tuning.shape
    table = np.array(list(pairs), PAIR)
    call = np.zeros(1, _CALL)
    for name, tensor in (("tuning", tuning), ("width", width), ("start", start), ("out", out)):
        call[name] = tensor.data_ptr()
    if far is not None:
        call["far"], call["has_far"] = far.data_ptr(), True
    call["pairs"], call["count"], call["fsr"] = table.ctypes.data, len(table), fsr
    call["buses"], call["m"], call["n"] = tuning.numel() // n, m, n
    call["at_once"] = at_once = max(1, _PART // n)
    call["parts"] = -(-(tuning.numel() // n) // at_once)
    cores.run(_remaining, call, alone=tuning.numel() < _ALONE)
    return out
