"""Inputs of a Mach-Zehnder modulator in compiled loops: numbers to codes, codes to tables of light."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numba import carray, float32, njit  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores

_PART = 2**13
_ALONE = 2**15
_HALF_TURN = np.float32(math.pi / 2)

_CODES = cores.call(("values", "u8"), ("out", "u8"), ("size", "i8"), ("signed", "i8"), ("span", "f4"), ("zero", "f4"))
_BY_CHANNEL = cores.call(
    *((name, "u8") for name in ("values", "line", "out")),
    *((name, "i8") for name in ("rows", "n", "at_once", "curved")),
    ("low", "f4"),
    ("high", "f4"),
)
_TABLES = cores.call(
    ("codes", "u8"),
    *((name, "4u8") for name in ("tables", "out")),  # addresses
    *((name, "4i8") for name in ("bytes", "step")),  # of a number, 0 where there is no table; from run to run
    *((name, "i8") for name in ("size", "run", "entries", "outside")),
    ("lowest", "f4"),
)


@njit(inline="always")
def _arcsine(square):
    """asin(sqrt(v)) of v in [0, 1]: near 1 by pi / 2 - 2 asin(sqrt((1 - s) / 2)), else by Cephes' polynomial."""
    s = math.sqrt(square)
    far = s > float32(0.5)
    z = float32(0.5) * (float32(1.0) - s) if far else square
    t = math.sqrt(z)
    p = float32(4.2163199048e-2)
    p = p * z + float32(2.4181311049e-2)
    p = p * z + float32(4.5470025998e-2)
    p = p * z + float32(7.4953002686e-2)
    p = p * z + float32(1.6666752422e-1)
    found = t + t * z * p
    return _HALF_TURN - float32(2.0) * found if far else found


@njit(inline="always")
def _codes_of(values, out, scale, zero, signed):
    for i in range(len(values)):
        value = values[i]
        size = abs(value) if signed else value
        code = np.rint(_arcsine(min(max(size, float32(0.0)), float32(1.0))) * scale + zero)
        out[i] = -code if signed and value < float32(0.0) else code


@cores.kernel({"contract"})
def _codes(arguments):
    call = carray(arguments, 1, _CODES)[0]
    values, out = cores.array(call.values, call.size, np.float32), cores.array(call.out, call.size, np.float32)
    scale = call.span / _HALF_TURN
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        here = slice(part * _PART, min((part + 1) * _PART, call.size))
        if call.signed:
            _codes_of(values[here], out[here], scale, call.zero, True)
        else:
            _codes_of(values[here], out[here], scale, call.zero, False)


@njit(inline="always")
def _by_channel(values, line, out, n, curved, low, high):
    floor, rise, slope, offset = line[:n], line[n : 2 * n], line[2 * n : 3 * n], line[3 * n : 4 * n]
    if curved:
        for j in range(n):
            x = min(max(floor[j] + values[j] * rise[j], float32(0.0)), float32(1.0))
            out[j] = np.int16(min(max(np.rint(_arcsine(x) * slope[j] + offset[j]), low), high))
    else:
        for j in range(n):
            x = floor[j] + values[j] * rise[j]
            out[j] = np.int16(min(max(np.rint(x * slope[j] + offset[j]), low), high))


@cores.kernel({"contract"})
def _channel_codes(arguments):
    call = carray(arguments, 1, _BY_CHANNEL)[0]
    n, rows, curved = call.n, call.rows, call.curved != 0
    values, out = cores.array(call.values, rows * n, np.float32), cores.array(call.out, rows * n, np.int16)
    line = cores.array(call.line, 4 * n, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        for row in range(part * call.at_once, min((part + 1) * call.at_once, rows)):
            here = slice(row * n, (row + 1) * n)
            _by_channel(values[here], line, out[here], n, curved, call.low, call.high)


@njit(inline="always")
def _copied(table, places, out, begin, run, step):
    """Entries at some places, of which the first is number ``begin``; runs of numbers lie ``step`` apart."""
    at = 0
    while at < len(places):
        which = (begin + at) // run
        first = begin + at - which * run
        here = places[at : at + run - first]
        to = out[which * step + first : which * step + first + len(here)]
        for i in range(len(to)):
            to[i] = table[here[i]]
        at += len(here)


@cores.kernel(set())
def _look_up(arguments):
    call = carray(arguments, 1, _TABLES)[0]
    size, run, lowest, entries = call.size, call.run, call.lowest, call.entries
    codes = cores.array(call.codes, size, np.float32)
    places = np.empty(_PART, np.uint32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        begin, end = part * _PART, min((part + 1) * _PART, size)
        here = places[: end - begin]
        some = codes[begin:end]
        furthest = np.uint32(0)
        for i in range(len(here)):
            here[i] = cores.place(some[i], lowest)
            furthest = max(furthest, here[i])
        if furthest >= entries:
            call.outside = 1
            continue
        for which in range(4):
            step = call.step[which]
            extent = (size // run - 1) * step + run
            if call.bytes[which] == 4:
                words = cores.array(call.tables[which], entries, np.uint32)
                _copied(words, here, cores.array(call.out[which], extent, np.uint32), begin, run, step)
            elif call.bytes[which] == 2:
                halves = cores.array(call.tables[which], entries, np.uint16)
                _copied(halves, here, cores.array(call.out[which], extent, np.uint16), begin, run, step)


def codes(values: Tensor, span: float, zero: float, *, signed: bool) -> Tensor:
    """Rounded codes zero + span 2 / pi asin(sqrt(v)) of values, which are clipped to [0, 1]; in their shape.

    Args:
        values: any shape.
        span: of the codes.
        zero: code of 0.
        signed: whether a code is that of the magnitude, with the value's sign; then ``zero`` is 0.
    """
    out = torch.empty_like(values)
    call = np.zeros(1, _CODES)
    call["values"], call["out"], call["size"] = values.data_ptr(), out.data_ptr(), values.numel()
    call["parts"], call["span"], call["zero"], call["signed"] = -(-values.numel() // _PART), span, zero, signed
    cores.run(_codes, call, alone=values.numel() < _ALONE)
    return out


def channel_codes(values: Tensor, line: Tensor, limits: tuple[float, float], *, curved: bool) -> Tensor:
    """Rounded codes offset_j + slope_j f(floor_j + rise_j v), clipped to limits: int16, in the shape of the values.

    Args:
        values: (..., N).
        line: (4, N) floor, rise, slope and offset of each channel; float32, contiguous.
        limits: of the codes.
        curved: whether f is asin(sqrt x), x clipped to [0, 1], and not x.
    """
    n, out = values.shape[-1], torch.empty_like(values, dtype=torch.int16)
    call = np.zeros(1, _BY_CHANNEL)
    call["values"], call["line"], call["out"] = values.data_ptr(), line.data_ptr(), out.data_ptr()
    call["rows"], call["n"], call["curved"] = values.numel() // n, n, curved
    call["low"], call["high"] = limits
    call["at_once"] = at_once = max(1, _PART // n)
    call["parts"] = -(-(values.numel() // n) // at_once)
    cores.run(_channel_codes, call, alone=values.numel() < _ALONE)
    return out


def look_up(codes: Tensor, lowest: int, tables: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Writes what whole codes mean by each of at most four tables of one length.

    Args:
        codes: (K, ...) whole.
        lowest: code of a table's first entry.
        tables: contiguous, numbers of 2 or 4 bytes each.
        out: like codes, in the table's dtype, contiguous but for the first dimension; overwritten.

    Raises:
        IndexError: a code is in no table.
    """
    call = np.zeros(1, _TABLES)
    call["codes"], call["size"], call["lowest"] = codes.data_ptr(), codes.numel(), lowest
    call["run"], call["entries"] = codes[0].numel(), len(tables[0])
    call["parts"] = -(-codes.numel() // _PART)
    for place, (table, to) in enumerate(zip(tables, out, strict=True)):
        call["tables"][0, place], call["out"][0, place] = table.data_ptr(), to.data_ptr()
        call["bytes"][0, place], call["step"][0, place] = table.itemsize, to.stride(0)
    cores.run(_look_up, call, alone=codes.numel() < _ALONE)
    if call["outside"][0]:
        raise IndexError(f"codes must be whole, from {lowest} to {lowest + len(tables[0]) - 1}, found others")
