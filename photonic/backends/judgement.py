"""What a statistical backend says of the ranges of a product: whether it is right there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

# of the tile outputs: what may stand at the rails, or be converted too coarsely
ALLOWED_FRACTION = 1e-3


@dataclass(frozen=True)
class Judgement:
    """A sample of a product's tile outputs.

    Attributes:
        way: how the product was computed.
        readings: tile outputs in the sample.
        clipped: those whose mean is beyond the rails of the ADC; 0 where the way has rails of its own.
        coarse: those with so little noise that quantisation is no noise.
        common_share: of the variance, what outputs of one shot share (RIN), at the worst output.
    """

    way: str
    readings: int
    clipped: int
    coarse: int
    common_share: float

    @property
    def clipped_fraction(self) -> float:
        """Of the sample."""
        return self.clipped / self.readings

    @property
    def coarse_fraction(self) -> float:
        """Of the sample."""
        return self.coarse / self.readings

    def refusal(self, layer: str) -> str | None:
        """Why the statistics do not hold, naming the layer and the fraction; None: they hold."""
        name = layer or "(unnamed)"
        if self._too_many(self.clipped):
            return (
                f"layer {name}: {self.clipped_fraction:.2%} of the tile outputs are beyond the rails of the ADC, and a "
                f"twin does not clip (at most {ALLOWED_FRACTION:.1%}); lower the analog gain, raise adc_full_scale, or "
                "take the exact chip (sim)"
            )
        if self._too_many(self.coarse):
            return (
                f"layer {name}: {self.coarse_fraction:.2%} of the tile outputs are converted too coarsely (at most "
                f"{ALLOWED_FRACTION:.1%}): with so little noise in a count, quantisation is no noise; raise adc_bits "
                "or the analog gain, or take the exact chip (sim)"
            )
        return None

    def _too_many(self, found: int) -> bool:
        """Above the allowed fraction, by more than a small sample has by chance."""
        allowed = ALLOWED_FRACTION * self.readings
        return found > allowed + 3 * math.sqrt(allowed) + 1


Judge = Callable[[Judgement], None]
