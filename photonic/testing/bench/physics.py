"""What stands between instruments' settings and the chip: nothing (ideal), or a laboratory (``labphysics``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Volts = NDArray[np.float64]


@dataclass(frozen=True)
class Played:
    """Counts of one play, symbol by symbol, and when it was.

    Attributes:
        counts: (M, T, K) of K symbols in each of T segments; the last symbol may be cut short.
        per_symbol: samples of a symbol.
        points: samples of a segment that are recorded.
        symbol_s: length of a symbol.
        starts_s: (T,) when each segment began, on the bench's time.
        rails: of the converter; None: it has none.
        full_scale: in counts.
    """

    counts: NDArray[Any]
    per_symbol: int
    points: int
    symbol_s: float
    starts_s: NDArray[np.float64]
    rails: tuple[float, float] | None
    full_scale: float


class Heaters(Protocol):
    """How drives follow the volts of one weight box."""

    def follow(self, levels_v: Volts, now_s: float) -> None:
        """From now on the box gives these volts."""

    def levels_v(self, now_s: float) -> Volts:
        """What the drives have come to."""


class Physics(Protocol):
    """What the laboratory does to light, heat and signals."""

    @property
    def moments(self) -> int:
        """Of a segment, at which the weights are looked at: one where they hold still."""

    def heaters(self, levels_v: Volts) -> Heaters:
        """The drives behind one weight box, at rest."""

    def light(self, on: bool) -> None:
        """The laser went on or off."""

    def mode_hops(self) -> int:
        """Hops of the laser since its light went on."""

    def wavelength_m(self, nominal_m: float) -> float:
        """Of the laser."""

    def power(self) -> float:
        """Of the laser, relative to what is set."""

    def regulate(self, temperature_c: float) -> None:
        """The chip is being brought to a temperature."""

    def temperature_c(self) -> float:
        """Of the chip."""

    def record(self, played: Played) -> NDArray[Any]:
        """(M, T, points) counts, sample by sample."""


class IdealHeaters:
    """Drives that follow at once."""

    def __init__(self, levels_v: Volts) -> None:
        self._levels_v = levels_v

    def follow(self, levels_v: Volts, now_s: float) -> None:
        """From now on the box gives these volts."""
        self._levels_v = levels_v

    def levels_v(self, now_s: float) -> Volts:
        """The same."""
        return self._levels_v


class IdealPhysics:
    """Instruments without faults: every sample of a symbol is the chip's count, bit for bit.

    Args:
        ambient_c: the chip's temperature until it is regulated.
    """

    moments = 1

    def __init__(self, ambient_c: float) -> None:
        self._temperature_c = ambient_c

    def heaters(self, levels_v: Volts) -> Heaters:
        """Drives that follow at once."""
        return IdealHeaters(levels_v)

    def light(self, on: bool) -> None:
        """Nothing follows from it."""

    def mode_hops(self) -> int:
        """None."""
        return 0

    def wavelength_m(self, nominal_m: float) -> float:
        """As it should be."""
        return nominal_m

    def power(self) -> float:
        """As set."""
        return 1.0

    def regulate(self, temperature_c: float) -> None:
        """The chip is there at once."""
        self._temperature_c = temperature_c

    def temperature_c(self) -> float:
        """Of the chip."""
        return self._temperature_c

    def record(self, played: Played) -> NDArray[Any]:
        """Each count held for the samples of its symbol."""
        return np.ascontiguousarray(np.repeat(played.counts, played.per_symbol, axis=-1)[..., : played.points])
