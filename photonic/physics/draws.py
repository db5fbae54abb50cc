"""Standard normal samples for one call: generators that all follow from one seed.

Few samples come from torch, which draws one after the other on one core. Many, in which a simulated product would spend
most of its time, come from a compiled loop on all cores (docs/decisions/0019).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from photonic.physics.many import many

_WORD = 2**32
# samples that one number of a part stands for
PART_SAMPLES = 2**12
_RESERVING = threading.Lock()


class NormalDraws:
    """Generators that one owner seeds anew for each call."""

    def __init__(self) -> None:
        self._generator = torch.Generator()
        self._elsewhere: dict[torch.device, torch.Generator] = {}
        self._seed = self._part = 0

    @property
    def first(self) -> torch.Generator:
        """The generator on the CPU."""
        return self._generator

    def on(self, device: torch.device) -> torch.Generator:
        """The generator on a device."""
        if device.type == "cpu":
            return self._generator
        if device not in self._elsewhere:
            self._elsewhere[device] = torch.Generator(device).manual_seed(self._seed % _WORD)
        return self._elsewhere[device]

    def seed(self, seed: int) -> None:
        """Begins a new stream.

        Args:
            seed: at least 0, below 2^128. torch's CPU generator takes the last 32 bits.
        """
        self._seed, self._part = seed, 0
        self._generator.manual_seed(seed % _WORD)
        self._elsewhere.clear()

    def fill_(self, out: Tensor) -> Tensor:
        """Overwrites a tensor with independent standard normal samples."""
        if not many(out):
            return out.normal_(generator=self.on(out.device))
        from photonic.physics.compiled import normals  # numba takes a while to import, and few samples do without

        self.stretch(out.numel(), lambda first, key: normals.fill_(out, first, key))
        return out

    def stretch(self, samples: int, loop: Callable[[int, tuple[int, int, int, int]], None]) -> None:
        """Gives a stretch of the stream of many samples to a compiled loop that makes them itself.

        Args:
            samples: how many.
            loop: gets the number of its first part, of ``PART_SAMPLES``, and the key.
        """
        with _RESERVING:  # loops run side by side in several Python threads
            first = self._part
            self._part += -(-samples // PART_SAMPLES)
        seed = self._seed
        key = seed % _WORD, seed // _WORD % _WORD, seed // _WORD**2 % _WORD, seed // _WORD**3
        loop(first, key)
