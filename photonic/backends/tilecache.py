"""What programmed tiles do to light, kept for as long as their codes stay the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from photonic.backends.kept import checksum, same_numbers
from photonic.physics.detection import Gain
from photonic.physics.evaluation import Tiles

_Key = tuple[int, int, int]  # inputs in use, the gain's identity, a checksum of the codes

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
        self._kept: OrderedDict[_Key, tuple[Tensor, Gain, Tiles]] = OrderedDict()
        self._seen: OrderedDict[_Key, None] = OrderedDict()

    def get(self, codes: Tensor, n: int, gain: Gain, compute: Callable[[], Tiles]) -> Tiles:
        """The tiles of codes (R, C, P) with n inputs in use at this gain, computed where they are not known."""
        for key, (known, its_gain, tiles) in self._kept.items():
            if key[0] == n and its_gain is gain and same_numbers(known, codes):
                self._kept.move_to_end(key)
                return tiles
        tiles, key = compute(), (n, id(gain), checksum(codes))
        if key in self._seen or self._at_once:
            self._keep(key, codes, gain, tiles)
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return tiles

    def _keep(self, key: _Key, codes: Tensor, gain: Gain, tiles: Tiles) -> None:
        self._kept[key] = codes.clone(), gain, tiles
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(kept.nbytes + made.nbytes for kept, _, made in self._kept.values()) > (
            CAPACITY_BYTES
        ):
            self._kept.popitem(last=False)
