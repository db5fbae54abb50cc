"""Each channel's level for each of its codes, looked up in a compiled loop."""

from __future__ import annotations

import numpy as np
from numba import carray, njit  # noqa: TID253 - imported where it is used
from torch import Tensor

from photonic.physics.compiled import cores

_ALONE = 2**15

_CALL = cores.call(
    *((name, "u8") for name in ("codes", "levels", "first", "out")),
    *((name, "i8") for name in ("entries", "channels", "rows", "n", "by_row", "extent", "out_extent", "outside")),
    *((name, "2i8") for name in ("step", "to")),  # from column to column and from row to row
)


@njit(inline="always")
def _of_a_channel(codes, levels, first, out):
    for i in range(len(out)):
        out[i] = levels[np.uint32(np.int32(codes[i]) + first)]


@njit(inline="always")
def _of_all_channels(codes, levels, first, out):
    for i in range(len(out)):
        out[i] = levels[np.uint32(np.int32(codes[i]) + first[i])]


@njit(inline="always")
def _furthest(codes, first):
    """The largest place; one before the table counts as far beyond it."""
    furthest = np.uint32(0)
    if len(first) == 1:
        for i in range(len(codes)):
            furthest = max(furthest, np.uint32(np.int32(codes[i]) + first[0]))
    else:
        for i in range(len(codes)):
            furthest = max(furthest, np.uint32(np.int32(codes[i]) + first[i]))
    return furthest


@cores.kernel(set())
def _look_up(arguments):
    call = carray(arguments, 1, _CALL)[0]
    n, rows = call.n, call.rows
    codes = cores.array(call.codes, call.extent, np.int16)
    levels = cores.array(call.levels, call.entries, np.float32)
    first = cores.array(call.first, call.channels, np.int32)
    out = cores.array(call.out, call.out_extent, np.float32)
    while True:
        part = cores.next_part(arguments)
        if part >= call.parts:
            break
        column, row = part // rows, part % rows
        place, to = column * call.step[0] + row * call.step[1], column * call.to[0] + row * call.to[1]
        here = codes[place : place + n]
        if _furthest(here, first[row : row + 1] if call.by_row else first) >= call.entries:
            call.outside = 1
        elif call.by_row:
            _of_a_channel(here, levels, first[row], out[to : to + n])
        else:
            _of_all_channels(here, levels, first, out[to : to + n])


def look_up(codes: Tensor, levels: Tensor, first: Tensor, out: Tensor, *, by_row: bool) -> None:
    """Writes the levels of codes (C, P, Q), int16, of which Q is contiguous; each row is a part.

    Args:
        codes: inside the table; another channel's entries are not told from its own.
        levels: (channels x codes,), channel by channel.
        first: (channels,) int32, where each channel's code 0 is.
        out: (C, P, Q) float32, Q contiguous; overwritten.
        by_row: whether P counts channels, and not Q.

    Raises:
        IndexError: a code is beyond the table.
    """
    call = np.zeros(1, _CALL)
    for name, tensor in (("codes", codes), ("levels", levels), ("first", first), ("out", out)):
        call[name] = tensor.data_ptr()
    columns, call["rows"], call["n"] = codes.shape
    call["entries"], call["channels"], call["by_row"] = len(levels), len(first), by_row
    call["step"], call["to"] = codes.stride()[:2], out.stride()[:2]
    call["extent"], call["out_extent"] = cores.extent(codes), cores.extent(out)
    call["parts"] = columns * codes.shape[1]
    cores.run(_look_up, call, alone=codes.numel() < _ALONE)
    if call["outside"][0]:
        raise IndexError("codes must be inside the table of the channels' levels, found others")
