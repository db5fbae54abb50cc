"""What stands around a measurement: wavelength, mode hops, temperature, taps."""

from __future__ import annotations

import time

from photonic.backends.visa.assembly import Instruments
from photonic.backends.visa.benchfile import BenchFile
from photonic.backends.visa.power import Power


class Monitors:
    """Reads the monitors of a bench, no more often than its file says.

    Args:
        bench: its file's content.
        instruments: opened.
        power: reads the taps, and refuses what is above their limit.
    """

    def __init__(self, bench: BenchFile, instruments: Instruments, power: Power) -> None:
        self._interval_s, self._instruments, self._power = bench.telemetry_interval_s, instruments, power
        self._last: dict[str, float] = {}
        self._read_at = -float("inf")

    def read(self) -> dict[str, float]:
        """Numbers by name; ``monitors_age_s`` is how old they are."""
        now = time.monotonic()
        if now - self._read_at >= self._interval_s:
            self._last, self._read_at = self._fresh(), now
        return {**self._last, "monitors_age_s": now - self._read_at}

    def _fresh(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for laser in self._instruments.lasers:
            lock = laser.lock()
            found[f"{laser.name}_power_w"] = laser.power_w()
            found[f"{laser.name}_wavelength_m"] = lock.wavelength_m
            if lock.locked is not None:
                found[f"{laser.name}_locked"] = float(lock.locked)
            if lock.mode_hops is not None:
                found[f"{laser.name}_mode_hops"] = float(lock.mode_hops)
        for controller in self._instruments.temperature:
            found[f"{controller.name}_temperature_k"] = controller.temperature_k()
        return {**found, **self._power.check_taps()}
