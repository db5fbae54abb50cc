"""A crossbar's cells in one compiled loop: codes to the difference and the sum of two arms (see ``crossbar``)."""

from __future__ import annotations

import numpy as np
import torch
from numba import carray, float32, njit  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores

_ALONE = 2**16

_CALL = cores.call(
    *((name, "u8") for name in ("codes", "weights", "factor", "difference", "total")),
    *((name, "i8") for name in ("cells", "entries", "outside")),
    *((name, "f4") for name in ("lowest", "darkest", "scale")),
)


@njit(inline="always")
def _furthest(codes, lowest):
    furthest = np.uint32(0)
    for i in range(len(codes)):
        furthest = max(furthest, cores.place(codes[i], lowest))
    return furthest


@njit(inline="always")
def _tile(codes, weights, plus, minus, call, difference, total):
    lowest, darkest, scale = call.lowest, call.darkest, call.scale
    for i in range(len(codes)):
        weight = weights[np.uint32(np.int32(codes[i] - lowest))]
        clear = float32(1.0) - darkest
        first = (max(weight, float32(0.0)) * clear + darkest) * plus[i] * scale
        second = (max(-weight, float32(0.0)) * clear + darkest) * minus[i] * scale
        difference[i], total[i] = first - second, first + second


@cores.kernel({"contract"})
def _arms(arguments):
    call = carray(arguments, 1, _CALL)[0]
    cells = call.cells
    codes = cores.array(call.codes, call.parts * cells, np.float32)
    weights = cores.array(call.weights, call.entries, np.float32)
    factor = cores.array(call.factor, 2 * cells, np.float32)
    difference = cores.array(call.difference, call.parts * cells, np.float32)
    total = cores.array(call.total, call.parts * cells, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        begin, end = part * cells, (part + 1) * cells
        here = codes[begin:end]
        if _furthest(here, call.lowest) >= call.entries:
            call.outside = 1
            continue
        _tile(here, weights, factor[:cells], factor[cells:], call, difference[begin:end], total[begin:end])


def arms(
    codes: Tensor, lowest: int, weights: Tensor, factor: Tensor, darkest: float, scale: float
) -> tuple[Tensor, Tensor]:
    """Difference and sum of the two arms' transmissions, (T, m, N) each.

    Args:
        codes: (T, m, N) float32, whole.
        lowest: code of the first weight.
        weights: of every code, as the cells can take them.
        factor: (2, m, N) actual over nominal transmission of each arm's cells.
        darkest: nominal transmission of a cell for the weight 0.
        scale: of the result.

    Raises:
        IndexError: a code has no weight.
    """
    difference, total = torch.empty_like(codes), torch.empty_like(codes)
    call = np.zeros(1, _CALL)
    for name, tensor in (("codes", codes), ("weights", weights), ("factor", factor)):
        call[name] = tensor.data_ptr()
    call["difference"], call["total"] = difference.data_ptr(), total.data_ptr()
    call["parts"], call["cells"], call["entries"] = len(codes), codes[0].numel(), len(weights)
    call["lowest"], call["darkest"], call["scale"] = lowest, darkest, scale
    cores.run(_arms, call, alone=codes.numel() < _ALONE)
    if call["outside"][0]:
        raise IndexError(f"codes must be whole, from {lowest} to {lowest + len(weights) - 1}, found others")
    return difference, total
