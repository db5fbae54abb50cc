"""The virtual laser's light, and the chip's temperature, as they change with time."""

from __future__ import annotations

import math

import numpy as np

from photonic.testing.bench.clock import BenchTime
from photonic.testing.bench.laboratory import Laboratory


class Light:
    """Power and wavelength: a start-up transient, and mode hops at random times.

    Args:
        laboratory: sizes and rates.
        time: of the bench.
        seed: of the hops.
    """

    def __init__(self, laboratory: Laboratory, time: BenchTime, seed: int) -> None:
        self._lab, self._time = laboratory, time
        self._random = np.random.default_rng([seed, 1])
        self._since_s = self._next_s = math.inf
        self._hops, self._power, self._shift_m = 0, 0.0, 0.0

    def switch(self, on: bool) -> None:
        """The laser went on or off."""
        now_s = self._time.now_s()
        self._since_s = now_s if on else math.inf
        self._hops, self._power, self._shift_m = 0, 0.0, 0.0
        self._next_s = self._after(now_s) if on else math.inf

    def hops(self) -> int:
        """Since the light went on."""
        self._hop()
        return self._hops

    def shift_m(self) -> float:
        """Of the wavelength."""
        self._hop()
        return self._shift_m

    def power(self) -> float:
        """Relative to what is set."""
        self._hop()
        since_s = self._time.now_s() - self._since_s
        start = self._lab.laser_start * math.exp(-since_s / self._lab.laser_start_s) if since_s >= 0 else 0.0
        return 1.0 + self._power + start

    def _hop(self) -> None:
        now_s = self._time.now_s()
        while self._next_s <= now_s:
            self._hops += 1
            self._power = float(self._random.normal(0.0, self._lab.hop_power))
            self._shift_m = float(self._random.normal(0.0, self._lab.hop_wavelength_m))
            self._next_s = self._after(self._next_s)

    def _after(self, moment_s: float) -> float:
        if self._lab.mode_hops_per_s == 0:
            return math.inf
        return moment_s + float(self._random.exponential(1.0 / self._lab.mode_hops_per_s))


class Warmth:
    """Temperature of the chip's mount: a first-order approach to where it is regulated.

    Args:
        ambient_c: where it begins.
        lag_s: time constant.
        time: of the bench.
    """

    def __init__(self, ambient_c: float, lag_s: float, time: BenchTime) -> None:
        self._lag_s, self._time = lag_s, time
        self.target_c = self._from_c = ambient_c
        self._since_s = time.now_s()

    def regulate(self, target_c: float) -> None:
        """The mount is being brought to a temperature."""
        self._from_c, self._since_s = self.now_c(), self._time.now_s()
        self.target_c = target_c

    def now_c(self) -> float:
        """As a thermometer would read it."""
        left = math.exp(-(self._time.now_s() - self._since_s) / self._lag_s)
        return self.target_c + (self._from_c - self.target_c) * left
