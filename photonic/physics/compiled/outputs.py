"""The noise of a twin's outputs in one compiled loop (docs/decisions/0019)."""

from __future__ import annotations

import math

import numpy as np
from numba import carray, float32, njit, uint32  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores, normals

_CALL = cores.call(
    *((name, "u8") for name in ("y", "others", "power", "shot", "fixed")),
    *((name, "i8") for name in ("others_bytes", "power_bytes")),  # of a number; 0: there is none
    *((name, "i8") for name in ("rows", "outputs", "n", "per_group", "columns", "first")),
    ("key", "4u4"),
)


@njit(inline="always")
def _add(narrow, wide, bytes_, start, factor, out):
    """out += factor x, of which numbers are float32, or bfloat16 in the upper half of one."""
    n = len(out)
    if bytes_ == 2:
        halves = narrow[start : start + n]
        for i in range(n):
            out[i] += factor * np.uint32(uint32(halves[i]) << uint32(16)).view(np.float32)
    else:
        words = wide[start : start + n]
        for i in range(n):
            out[i] += factor * words[i]


@cores.kernel(cores.FAST)
def _finish(arguments):
    call = carray(arguments, 1, _CALL)[0]
    n, outputs, columns, shot_bytes = call.n, call.outputs, call.columns, call.power_bytes
    size = call.rows * outputs * n
    groups = outputs // call.per_group
    y = cores.array(call.y, size, np.float32)
    others2, others4 = cores.array(call.others, size, np.uint16), cores.array(call.others, size, np.float32)
    extent = call.rows * (groups * columns if columns else outputs) * n
    power2, power4 = cores.array(call.power, extent, np.uint16), cores.array(call.power, extent, np.float32)
    shot = cores.array(call.shot, outputs * max(columns, 1), np.float32)
    fixed = cores.array(call.fixed, outputs, np.float32)
    samples, work = np.empty(normals.SAMPLES, np.float32), np.empty(normals.SAMPLES, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        normals.fill_part(samples, part + call.first, call.key)
        at, begin = part * normals.SAMPLES, part * normals.SAMPLES
        end = min(begin + normals.SAMPLES, size)
        while at < end:
            index = at // n
            start = at - index * n
            row, output = index // outputs, index % outputs
            variance = work[: min(n - start, end - at)]
            variance[:] = fixed[output]
            if shot_bytes and columns == 0:
                _add(power2, power4, shot_bytes, at, float32(1.0), variance)
            elif shot_bytes:
                place = (row * groups + output // call.per_group) * columns
                for column in range(columns):
                    factor = shot[output * columns + column]
                    _add(power2, power4, shot_bytes, (place + column) * n + start, factor, variance)
            here, some = y[at : at + len(variance)], samples[at - begin :]
            if call.others_bytes:
                _add(others2, others4, call.others_bytes, at, float32(1.0), here)
            for i in range(len(variance)):
                # rounding takes no variance below 0
                here[i] += math.sqrt(max(variance[i], float32(0.0))) * some[i]
            at += len(variance)


def add_noise_(
    y: Tensor,
    others: Tensor | None,
    power: Tensor | None,
    shot: Tensor | None,
    fixed: Tensor,
    first: int,
    key: tuple[int, int, int, int],
) -> None:
    """Adds up the parts of a mean, and one independent sample for each output; all tensors are contiguous.

    Args:
        y: (B, G M, P) float32, the first part of the mean; in place.
        others: like y, float32 or bfloat16, the rest of it.
        power: (B, G C, P) of column tiles, or (B, G M, P) variance of outputs; float32 or bfloat16. None: neither.
        shot: (G M, C) variance for the power of a group's column tiles; None: ``power`` has it already.
        fixed: (G M,) more variance.
        first: number of the first part of the stream of samples, as of ``normals.fill_``.
        key: the stream.
    """
    call = np.zeros(1, _CALL)
    call["y"], call["fixed"], call["first"], call["key"] = y.data_ptr(), fixed.data_ptr(), first, key
    call["rows"], call["outputs"], call["n"] = y.shape
    call["per_group"] = y.shape[1]
    if others is not None:
        call["others"], call["others_bytes"] = others.data_ptr(), others.itemsize
    if power is not None:
        call["power"], call["power_bytes"] = power.data_ptr(), power.itemsize
    if power is not None and shot is not None:
        columns = shot.shape[1]
        call["shot"], call["columns"] = shot.data_ptr(), columns
        call["per_group"] = y.shape[1] * columns // power.shape[1]
    call["parts"] = -(-y.numel() // normals.SAMPLES)
    cores.run(_finish, call, alone=y.numel() < normals.ALONE)
