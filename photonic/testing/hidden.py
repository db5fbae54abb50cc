"""A chip of which nothing can be seen but what a laboratory has: its spec and ``measure``."""

from __future__ import annotations

from torch import Tensor

from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.records import ChipSpec


class OnlyMeasured(Chip):
    """Hides what a simulated chip is made of, so that a calibration cannot learn it but by measuring.

    Args:
        chip: that measures; not closed with this one.
        spec: fields that are stated otherwise.
    """

    def __init__(self, chip: Chip, **spec: object) -> None:
        super().__init__(ChipSpec(**{**chip.spec.model_dump(), **spec}) if spec else chip.spec)
        self._inner = chip

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor | Measurement:
        return self._inner.measure(weights, inputs, conditions)
