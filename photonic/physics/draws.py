"""Standard normal samples for one call: a generator on each device that asks, from one seed.

torch draws them on one core, and several generators on several threads win nothing: between two products the threads
of the other cores wait actively and take the cores.
"""

from __future__ import annotations

import torch
from torch import Tensor


class NormalDraws:
    """Generators that one owner seeds anew for each call."""

    def __init__(self) -> None:
        self._generator = torch.Generator()
        self._elsewhere: dict[torch.device, torch.Generator] = {}
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
            self._elsewhere[device] = torch.Generator(device).manual_seed(self._seed)
        return self._elsewhere[device]

    def seed(self, seed: int) -> None:
        """Begins a new stream."""
        self._seed = seed
        self._generator.manual_seed(seed)
        self._elsewhere.clear()

    def fill_(self, out: Tensor) -> Tensor:
        """Overwrites a tensor with independent standard normal samples."""
        return out.normal_(generator=self.on(out.device))
