"""What a layer's observer sees of a chip: counts, and what is needed to judge them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from photonic.backends.chip import Conditions, Measurement
from photonic.backends.encoding import EncodedWeight
from photonic.backends.signs import Sign


@dataclass(frozen=True)
class Observation:
    """One call of a chip for one layer.

    Attributes:
        measured: counts (R, G x C, B, m), before they are decoded; not to be changed.
        encoded: the weight; the same object as long as the layer's weight and gains stay.
        sign: how the inputs were encoded.
        shots: how many evaluations are averaged; they lie along B.
        conditions: under which the chip measured, ``analog_gain`` among them where it was set.
    """

    measured: Measurement
    encoded: EncodedWeight
    sign: Sign
    shots: int
    conditions: Conditions


Observer = Callable[[Observation], None]
