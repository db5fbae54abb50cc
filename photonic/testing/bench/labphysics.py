"""Signals of a laboratory: what a receiver, its cables and its converter make of a chip's counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from photonic.testing.bench.clock import BenchTime
from photonic.testing.bench.heaters import LaggingHeaters
from photonic.testing.bench.laboratory import Laboratory
from photonic.testing.bench.physics import Heaters, Played, Volts
from photonic.testing.bench.setup import Setup
from photonic.testing.bench.source import Light, Warmth

Signals = NDArray[np.float64]
MOMENTS = 6  # of a segment, at which weights that have not settled are looked at


class LabPhysics:
    """A laboratory as ``Laboratory`` has it.

    The chip gives one whole count for each symbol. What is added to it below one count is rounded at random, up with
    the probability of its fraction, so that small effects keep their mean.

    Args:
        laboratory: sizes.
        setup: temperatures.
        time: of the bench.
        outputs: M.
        coupling: of the receivers; ``ac``: all of the signal passes the high-pass.
        seed: of delays, hum, hops and rounding.
    """

    moments = MOMENTS

    def __init__(
        self, laboratory: Laboratory, setup: Setup, time: BenchTime, outputs: int, coupling: str, seed: int
    ) -> None:
        self._lab, self._setup = laboratory, setup
        self._light = Light(laboratory, time, seed)
        self._warmth = Warmth(setup.ambient_c, laboratory.temperature_s, time)
        fixed = np.random.default_rng([seed, 0])
        self._delays = laboratory.delay_symbols + laboratory.skew_symbols * fixed.random(outputs)
        self._stretch = 1.0 + 1e-6 * laboratory.clock_ppm * fixed.choice((-1.0, 1.0))
        self._hum = laboratory.hum * fixed.uniform(0.5, 1.5, outputs)
        self._passed = 1.0 if coupling == "ac" else laboratory.high_pass_part
        self._rounding = np.random.default_rng([seed, 2])

    def heaters(self, levels_v: Volts) -> Heaters:
        """The drives behind one weight box, at rest."""
        lab = self._lab
        return LaggingHeaters(levels_v, lab.heater_lag_s, lab.heater_tail, lab.heater_tail_s)

    def light(self, on: bool) -> None:
        """The laser went on or off."""
        self._light.switch(on)

    def mode_hops(self) -> int:
        """Hops of the laser since its light went on."""
        return self._light.hops()

    def wavelength_m(self, nominal_m: float) -> float:
        """Of the laser."""
        return nominal_m + self._light.shift_m()

    def power(self) -> float:
        """Of the laser, relative to what is set."""
        return self._light.power()

    def regulate(self, temperature_c: float) -> None:
        """The chip is being brought to a temperature."""
        self._warmth.regulate(temperature_c)

    def temperature_c(self) -> float:
        """Of the chip."""
        return self._warmth.now_c()

    def record(self, played: Played) -> NDArray[Any]:
        """(M, T, points) counts, sample by sample."""
        counts = played.counts.astype(np.float64)
        signals = self._signals(counts, played)
        record = np.empty((*counts.shape[:2], played.points), dtype=played.counts.dtype)
        sample = np.arange(played.points) / played.per_symbol
        clock_s = played.starts_s[:, None] + sample * played.symbol_s
        hum = np.sin(2.0 * math.pi * self._lab.hum_hz * clock_s)
        for m, (signal, count) in enumerate(zip(signals, counts, strict=True)):
            moment = np.maximum(0.0, sample * self._stretch - self._delays[m])
            symbol = np.minimum(moment.astype(np.intp), counts.shape[-1] - 1)
            heard = self._heard(signal, count, symbol, moment - symbol, played.rails)
            heard += self._hum[m] * played.full_scale * hum
            record[m] = self._converted(heard, count[:, symbol], played.rails)
        return record

    def _signals(self, counts: Signals, played: Played) -> Signals:
        """(M, T, K) what reaches the receivers: light, temperature, wander of the base line, neighbours."""
        lab = self._lab
        kelvin = self.temperature_c() - self._setup.temperature_c
        signals = counts * self.power() * (1.0 + lab.response_per_k * kelvin)
        if lab.high_pass_hz > 0:
            left = math.exp(-2.0 * math.pi * lab.high_pass_hz * played.symbol_s)
            signals -= self._passed * lfilter([1.0 - left], [1.0, -left], signals, axis=-1)
        if lab.crosstalk > 0:
            mixed = signals.copy()
            mixed[1:] += lab.crosstalk * signals[:-1]
            mixed[:-1] += lab.crosstalk * signals[1:]
            signals = mixed
        return signals

    def _heard(
        self,
        signal: Signals,
        count: Signals,
        symbol: NDArray[np.intp],
        phase: Signals,
        rails: tuple[float, float] | None,
    ) -> Signals:
        """(T, points) of one output: each symbol begins where the one before it ended."""
        lab, before = self._lab, np.maximum(0, symbol - 1)
        heard: Signals = signal[:, symbol]
        if lab.memory_symbols > 0:
            heard = heard + (signal[:, before] - heard) * np.exp(-phase / lab.memory_symbols)
        if rails is not None and lab.rail_recovery > 0:
            railed = np.where((count <= rails[0]) | (count >= rails[1]), count, 0.0)
            if railed.any():
                heard = heard + lab.rail_recovery * railed[:, before] * np.exp(-phase / lab.rail_recovery_symbols)
        return heard

    def _converted(self, heard: Signals, count: Signals, rails: tuple[float, float] | None) -> Signals:
        """Counts: the chip's own, and what was added to it, in whole counts."""
        if rails is None:
            return heard
        added = np.floor(heard - count + self._rounding.random(heard.shape))
        return (count + added).clip(*rails)
