"""How a grid of tiles is cut into plays that fit the instruments' memories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from photonic.errors import LabError


@dataclass(frozen=True)
class Block:
    """The tiles and shots of one play."""

    rows: slice
    columns: slice
    shots: slice


def blocks(rows: int, columns: int, shots: int, fits: Callable[[int, int, int], bool]) -> Iterator[Block]:
    """The fewest plays in the order r, c, b, for programming costs most: whole grid, rows of it, parts of one, tiles.

    Only when one tile does not fit are its shots split, and then it stays programmed from one play to the next.

    Args:
        rows: R.
        columns: C.
        shots: B.
        fits: whether (rows, columns, shots) go into one play.

    Raises:
        LabError: not even one shot of one tile fits.
    """
    if not fits(1, 1, 1):
        raise LabError(
            "one shot with its sync and guard symbols does not fit the memories of waveform source and digitizer; "
            "lower timing.sync_symbols, timing.guard_symbols or timing.samples_per_symbol"
        )
    r = _most(rows, lambda count: fits(count, columns, shots)) if fits(1, columns, shots) else 1
    c = _most(columns, lambda count: fits(r, count, shots)) if fits(1, 1, shots) else 1
    b = _most(shots, lambda count: fits(r, c, count))
    for first_row in range(0, rows, r):
        for first_column in range(0, columns, c):
            for first_shot in range(0, shots, b):
                yield Block(
                    slice(first_row, min(rows, first_row + r)),
                    slice(first_column, min(columns, first_column + c)),
                    slice(first_shot, min(shots, first_shot + b)),
                )


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The greatest count up to ``limit`` that fits; more never fits where fewer does not."""
    low, high = 1, max(1, limit)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
