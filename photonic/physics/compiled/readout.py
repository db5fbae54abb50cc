"""From D to counts in one compiled loop: detection, and an ADC that rounds (docs/decisions/0019).

It computes what ``detection`` does in some ten passes over the counts, with the same draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import carray, njit  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores, normals

_CALL = cores.call(
    *((name, "u8") for name in ("d", "variance", "factor", "common", "per_d", "fixed", "offset", "out")),
    *((name, "i8") for name in ("columns", "shots", "rows", "m", "by_column", "by_row", "each", "extent", "first")),
    ("to", "3i8"),  # steps of the counts from column to column, shot to shot, row to row
    ("low", "f4"),
    ("high", "f4"),
    ("key", "4u4"),
)


@dataclass(frozen=True)
class Shots:
    """C x B x R shots of m outputs each, before their noise; all contiguous float32, on the CPU.

    Attributes:
        d: (C, B, R, m) in counts.
        factor: (C, B, R) on D: 1 and RIN.
        common: (C, B, R) what balancing lets through, in D.
        variance: (C, B, R) of each output, in D^2, or (C, B, R, m) in counts^2.
        per_d: (C or 1, R or 1, m) counts for D.
        fixed: like ``per_d``, more variance in counts^2.
        offset: (m,) counts.
    """

    d: Tensor
    factor: Tensor
    common: Tensor
    variance: Tensor
    per_d: Tensor
    fixed: Tensor
    offset: Tensor


@njit(inline="always")
def _place(index, call):
    """Column, shot and row of a tile's shot."""
    return index // (call.shots * call.rows), index // call.rows % call.shots, index % call.rows


@njit(inline="always")
def _read_part(call, part, samples, work):
    """Counts of the outputs whose samples are one part of the stream."""
    m, to, each, low, high = call.m, call.to, call.each, call.low, call.high
    size, tiles = call.columns * call.shots * call.rows, call.columns * call.rows * m
    d = cores.array(call.d, size * m, np.float32)
    out = cores.array(call.out, call.extent, np.int16)
    variances = cores.array(call.variance, size * m if each else size, np.float32)
    factors, commons = cores.array(call.factor, size, np.float32), cores.array(call.common, size, np.float32)
    per_d, fixed = cores.array(call.per_d, tiles, np.float32), cores.array(call.fixed, tiles, np.float32)
    offset = cores.array(call.offset, m, np.float32)
    begin = part * normals.SAMPLES
    end = min(begin + normals.SAMPLES, size * m)
    column, shot, row = _place(begin // m, call)
    at = begin
    while at < end:
        index = at // m
        first = at - index * m
        n = min(m - first, end - at)
        tile = column * call.by_column + row * call.by_row + first
        sigma, gain, more = work[:n], per_d[tile : tile + n], fixed[tile : tile + n]
        if each:
            variance = variances[at : at + n]
            for j in range(n):
                sigma[j] = math.sqrt(variance[j] + more[j])
        else:
            shared = variances[index]
            for j in range(n):
                sigma[j] = math.sqrt(shared * gain[j] * gain[j] + more[j])
        place = column * to[0] + shot * to[1] + row * to[2] + first
        counts, here, signal, zero = out[place : place + n], samples[at - begin :], d[at:], offset[first:]
        factor, common = factors[index], commons[index]
        for j in range(n):
            count = signal[j] * factor + zero[j] + common * gain[j] + sigma[j] * here[j]
            counts[j] = np.int16(min(max(np.rint(count), low), high))
        at += n
        row += 1
        if row == call.rows:
            row = 0
            shot += 1
            if shot == call.shots:
                shot = 0
                column += 1


@cores.kernel(cores.FAST)
def _read(arguments):
    call = carray(arguments, 1, _CALL)[0]
    samples, work = np.empty(normals.SAMPLES, np.float32), np.empty(normals.SAMPLES, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        normals.fill_part(samples, part + call.first, call.key)
        _read_part(call, part, samples, work)


def read(shots: Shots, rails: tuple[float, float], out: Tensor, first: int, key: tuple[int, int, int, int]) -> None:
    """Adds noise, rounds to the nearest count (half to even) and clips at the rails.

    Args:
        shots: what there is without noise.
        rails: of the ADC.
        out: (C, B, R, m) int16, overwritten; the last dimension is contiguous.
        first: number of the first part of the stream of samples, as of ``normals.fill_``.
        key: the stream: one sample for each output.
    """
    columns, rows = (shots.per_d.shape[0] > 1), (shots.per_d.shape[1] > 1)
    m = out.shape[-1]
    call = np.zeros(1, _CALL)
    for name in ("d", "variance", "factor", "common", "per_d", "fixed", "offset"):
        call[name] = getattr(shots, name).data_ptr()
    call["columns"], call["shots"], call["rows"], call["m"] = out.shape
    call["by_row"], call["by_column"] = m if rows else 0, (m * (shots.per_d.shape[1]) if columns else 0)
    call["each"], call["first"], call["key"] = shots.variance.ndim == 4, first, key
    call["out"], call["to"] = out.data_ptr(), out.stride()[:3]
    call["extent"] = cores.extent(out)
    call["low"], call["high"] = rails
    call["parts"] = -(-out.numel() // normals.SAMPLES)
    cores.run(_read, call, alone=out.numel() < normals.ALONE)
