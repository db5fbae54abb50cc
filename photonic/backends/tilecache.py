"""What programmed tiles do to light, kept for as long as their codes stay the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from photonic.physics.evaluation import Tiles

# about four layers of a million weights
CAPACITY_BYTES = 32 * 2**20


class TileCache:
    """Least recently used first; freshness is decided by comparing codes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[Tensor, int, Tiles]] = OrderedDict()
        self._next = 0

    def get(self, codes: Tensor, n: int, compute: Callable[[], Tiles]) -> Tiles:
        """The tiles of codes (R, C, P) with n inputs in use, computed where they are not known."""
        for key, (known, inputs, tiles) in self._kept.items():
            if inputs == n and known.shape == codes.shape and torch.equal(known, codes):
                self._kept.move_to_end(key)
                return tiles
        tiles = compute()
        self._kept[self._next] = (codes.clone(), n, tiles)
        self._next += 1
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > CAPACITY_BYTES:
            self._kept.popitem(last=False)
        return tiles


def _size(entry: tuple[Tensor, int, Tiles]) -> int:
    codes, _, tiles = entry
    return codes.nbytes + tiles.nbytes
