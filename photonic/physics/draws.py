"""Standard normal samples for one call: generators that all follow from one seed.

Few samples come from torch. Many, which is where a simulated product spends most of its time, come from the same
transform on all cores: torch draws its bits one after the other, 32 a step, and transforms them on one core, while here
SFC64 draws 64 a step (docs/decisions/0009).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

# from here on, many; below, what it costs to seed a second generator is not won back
MANY = 2**17
# pairs of samples at a time, whose steps stay in cache
_PAIRS = 2**17


class NormalDraws:
    """Generators that one owner seeds anew for each call."""

    def __init__(self) -> None:
        self._generator = torch.Generator()
        self._elsewhere: dict[torch.device, torch.Generator] = {}
        self._bits: np.random.SFC64 | None = None
        self._seed = 0

    @property
    def first(self) -> torch.Generator:
        """The generator on the CPU."""
        return self._generator

    def on(self, device: torch.device) -> torch.Generator:
        """The generator on a device."""
        if device.type == "cpu":
            return self._generator
        if device not in self._elsewhere:
            self._elsewhere[device] = torch.Generator(device).manual_seed(self._seed % 2**32)
        return self._elsewhere[device]

    def seed(self, seed: int) -> None:
        """Begins a new stream.

        Args:
            seed: at least 0, of any size. torch's CPU generator takes the last 32 bits.
        """
        self._seed = seed
        self._generator.manual_seed(seed % 2**32)
        self._elsewhere.clear()
        self._bits = None

    def fill_(self, out: Tensor) -> Tensor:
        """Overwrites a tensor with independent standard normal samples."""
        if out.numel() < MANY or out.dtype != torch.float32 or out.device.type != "cpu" or not out.is_contiguous():
            return out.normal_(generator=self.on(out.device))
        if self._bits is None:
            self._bits = np.random.SFC64(self._seed)
        flat = out.view(-1)
        whole = len(flat) // 2 * 2
        _fill_pairs(flat[:whole], self._bits)
        flat[whole:].normal_(generator=self._generator)
        return out


def _fill_pairs(out: Tensor, bits: np.random.SFC64) -> None:
    """Box and Muller (Ann. Math. Stat. 29, 610): r = sqrt(-2 ln u) times cos and sin of a random angle.

    Both follow from the tangent t of half the angle, one function in place of two: with f = 2 r / (1 + t^2), they are
    t f and f - r. u has 31 random bits, so that samples reach 6.6; the angle has 32.
    """
    radius = out.new_empty(min(_PAIRS, len(out) // 2))
    least, one = out.new_full((), 2.0**-32), out.new_ones(())
    for start in range(0, len(out), 2 * _PAIRS):
        pairs = out[start : start + 2 * _PAIRS].view(2, -1)
        r, (first, second) = radius[: pairs.shape[1]], pairs
        words = torch.from_numpy(bits.random_raw(pairs.shape[1]).view(np.int32)).view(2, -1)
        # in (0, 1), of which the logarithm is below 0 also when it is rounded
        torch.add(least, r.copy_(words[0]).abs_(), alpha=(1 - 2.0**-22) * 2.0**-31, out=r)
        r.log_().mul_(-2.0).sqrt_()
        second.copy_(words[1]).mul_(math.pi * 2.0**-32).tan_()
        torch.addcmul(one, second, second, out=first)
        torch.div(r, first, out=first).mul_(2.0)
        second.mul_(first)
        first.sub_(r)
