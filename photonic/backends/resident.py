"""Which tiles a chip holds, and grids of codes that it knows from earlier calls."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_FIRST = 16  # codes of a tile that are compared before all of them
# of a grid that is compared with those of earlier calls; of more, the chip's own work is what takes time
_KNOWN_CODES = 2**16
_KNOWN_GRIDS = 32


@dataclass(frozen=True)
class Visit:
    """Tiles as a chip visits them, one after the other.

    Attributes:
        keys: inputs in use and digest of each; of a chip that holds one tile, of the first and the last alone.
        between: of a chip that holds one tile, how many after the first have to be programmed; None: the keys tell.
    """

    keys: tuple[tuple[int, str], ...]
    between: int | None = None


class ResidentTiles:
    """Which tiles the chip holds, least recently used first; fresh or not is decided by comparing codes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[tuple[int, str], None] = OrderedDict()

    def program(self, tiles: Tensor, width: int) -> int:
        """Visits tiles (T, P) of ``width`` inputs in order and returns how many of them had to be programmed."""
        return self.visit(self.of(tiles, width))

    def of(self, tiles: Tensor, width: int) -> Visit:
        """What ``visit`` needs to know of tiles (T, P) of ``width`` inputs."""
        if self._capacity == 1 and len(tiles) > 1:
            # nearly all neighbours differ in their first codes already
            alike = (tiles[1:, :_FIRST] == tiles[:-1, :_FIRST]).all(dim=1).nonzero().flatten().tolist()
            same = sum(torch.equal(tiles[i + 1], tiles[i]) for i in alike)
            return Visit((_key(tiles[0], width), _key(tiles[-1], width)), len(tiles) - 1 - same)
        return Visit(tuple(_key(tile, width) for tile in tiles))

    def visit(self, tiles: Visit) -> int:
        """Visits tiles in order and returns how many of them had to be programmed."""
        if tiles.between is None:
            return sum(map(self._visit, tiles.keys))
        first, last = tiles.keys
        programmed = self._visit(first) + tiles.between
        self._visit(last)  # what the chip holds afterwards
        return programmed

    def _visit(self, key: tuple[int, str]) -> int:
        if key in self._held:
            self._held.move_to_end(key)
            return 0
        self._held[key] = None
        if len(self._held) > self._capacity:
            self._held.popitem(last=False)
        return 1

    def state(self) -> list[tuple[int, str]]:
        """Inputs in use and digest of each tile, least recently used first."""
        return list(self._held)

    def restore(self, state: Iterable[Sequence[Any]]) -> None:
        """Takes back what ``state()`` gave."""
        self._held = OrderedDict(((int(width), str(digest)), None) for width, digest in state)

    def forget(self) -> None:
        """After a failed call nothing is known of what the chip holds."""
        self._held.clear()


def _key(tile: Tensor, width: int) -> tuple[int, str]:
    return width, hashlib.blake2b(tile.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


@dataclass(eq=False)
class Grid:
    """A grid of codes that a chip has checked, and what follows from them.

    Attributes:
        shape: (R, C, P).
        inputs: in use of each tile.
        outputs: the same.
        visit: of its tiles.
        calls: how often it came.
        made: what the chip has made of it, for itself; a chip's conditions beside it.
    """

    words: bytes = field(repr=False)
    shape: tuple[int, ...]
    inputs: int
    outputs: int
    visit: Visit
    calls: int = 1
    made: Any = None


class KnownGrids:
    """The last grids that a chip was given; they are found by comparing all codes, never by identity.

    Args:
        dtype: of codes.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._grids: tuple[Grid, ...] = ()

    def find(self, codes: Tensor, inputs: int) -> Grid | None:
        """The grid of codes (R, C, P) with ``inputs`` in use, or None."""
        if codes.dtype != self._dtype or not codes.is_cpu or codes.numel() > _KNOWN_CODES or codes.requires_grad:
            return None
        words, shape = None, codes.shape
        for grid in self._grids:
            if grid.inputs == inputs and grid.shape == shape:
                words = words or codes.numpy().tobytes()
                if words == grid.words:
                    return grid
        return None

    def add(self, codes: Tensor, inputs: int, outputs: int, visit: Visit) -> Grid:
        """Keeps a grid that was checked, unless it is too large to be compared."""
        if codes.numel() > _KNOWN_CODES:
            return Grid(b"", tuple(codes.shape), inputs, outputs, visit)
        grid = Grid(codes.detach().numpy().tobytes(), tuple(codes.shape), inputs, outputs, visit)
        # a tuple of its own, because other threads may be searching the last one
        self._grids = (grid, *self._grids[: _KNOWN_GRIDS - 1])
        return grid
