"""What programmed tiles do to light, kept for as long as their codes stay the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from photonic.backends.kept import checksum, same_numbers
from photonic.physics.evaluation import Tiles

# about four layers of a million weights
CAPACITY_BYTES = 32 * 2**20
_SEEN = 64


class TileCache:
    """Least recently used first; freshness is decided by comparing codes.

    Tiles are kept when their codes come a second time: while weights are trained they never do.

    Args:
        at_once: keep them the first time, where they are expensive to compute.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
        self._kept: OrderedDict[tuple[int, int], tuple[Tensor, Tiles]] = OrderedDict()
        self._seen: OrderedDict[tuple[int, int], None] = OrderedDict()

    def get(self, codes: Tensor, n: int, compute: Callable[[], Tiles]) -> Tiles:
        """The tiles of codes (R, C, P) with n inputs in use, computed where they are not known."""
        for key, (known, tiles) in self._kept.items():
            if key[0] == n and same_numbers(known, codes):
                self._kept.move_to_end(key)
                return tiles
        tiles, key = compute(), (n, checksum(codes))
        if key in self._seen or self._at_once:
            self._keep(key, codes, tiles)
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return tiles

    def _keep(self, key: tuple[int, int], codes: Tensor, tiles: Tiles) -> None:
        self._kept[key] = codes.clone(), tiles
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(kept.nbytes + made.nbytes for kept, made in self._kept.values()) > (
            CAPACITY_BYTES
        ):
            self._kept.popitem(last=False)
