"""Rows of a weight to codes in one compiled loop: the largest number, the codes that it scales to, their sum."""

from __future__ import annotations

import math

import numpy as np
from numba import carray, njit  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores

# numbers of a part
_PART = 2**13
_ALONE = 2**16

_CALL = cores.call(
    *((name, "u8") for name in ("values", "codes", "most", "sums")),
    *((name, "i8") for name in ("rows", "n", "at_once", "whole", "extent")),
    ("shape", "3i8"),
    ("step", "3i8"),
    ("one", "f4"),
)


@njit(inline="always")
def _largest(values):
    most = np.float32(0.0)
    for i in range(len(values)):
        most = max(most, abs(values[i]))
    return most


@njit(inline="always")
def _scaled(values, codes, factor, whole):
    """Writes the codes; their sum, which is exact where they are whole."""
    total = np.float32(0.0)
    if whole:
        for i in range(len(values)):
            code = np.rint(values[i] * factor)
            codes[i] = code
            total += code
    else:
        for i in range(len(values)):
            code = values[i] * factor
            codes[i] = code
            total += code
    return total


@cores.kernel({"nnan", "nsz", "reassoc"})
def _scale(arguments):
    call = carray(arguments, 1, _CALL)[0]
    n, rows, one, whole = call.n, call.rows, call.one, call.whole != 0
    values = cores.array(call.values, call.extent, np.float32)
    codes = cores.array(call.codes, rows * n, np.float32)
    largest, sums = cores.array(call.most, rows, np.float32), cores.array(call.sums, rows, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        for row in range(part * call.at_once, min((part + 1) * call.at_once, rows)):
            place = 0
            rest = row
            for axis in (2, 1, 0):
                place += rest % call.shape[axis] * call.step[axis]
                rest //= call.shape[axis]
            here = values[place : place + n]
            most = _largest(here)
            largest[row] = most
            # zeros stay zeros by any factor
            factor = np.float32(1.0) / most * one if most > np.float32(0.0) else one
            sums[row] = _scaled(here, codes[row * n : (row + 1) * n], factor, whole)


def rows_to_codes(values: Tensor, one: float, *, whole: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scales every row to full scale.

    Args:
        values: (R, C, m, n) finite; n is contiguous.
        one: code of a row's largest number.
        whole: whether codes are rounded to the nearest, half to even.

    Returns:
        Codes (R, C, m, n), and of each row (R, C, m) its largest magnitude and the sum of its codes.
    """
    n = values.shape[-1]
    codes = values.new_empty(values.shape)
    most, sums = values.new_empty(2, *values.shape[:-1])
    call = np.zeros(1, _CALL)
    call["values"], call["codes"] = values.data_ptr(), codes.data_ptr()
    call["most"], call["sums"] = most.data_ptr(), sums.data_ptr()
    call["shape"], call["step"] = values.shape[:3], values.stride()[:3]
    call["extent"] = cores.extent(values)
    call["rows"], call["n"], call["whole"], call["one"] = most.numel(), n, whole, one
    call["at_once"] = max(1, _PART // n)
    call["parts"] = math.ceil(most.numel() / int(call["at_once"][0]))
    cores.run(_scale, call, alone=values.numel() < _ALONE)
    return codes, most, sums
