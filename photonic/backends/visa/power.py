"""The order in which a bench is switched on and off, and what must be true before light is given.

On: temperature controller, laser, modulators, heaters; off in reverse. A chip that is closed keeps its temperature and
its laser (cooling down would void a calibration), unless the bench file says ``on_close = "off"``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from photonic.backends.visa.assembly import Instruments
from photonic.backends.visa.benchfile import BenchFile
from photonic.backends.visa.roles import Instrument, LaserSource
from photonic.errors import (
    InterlockError,
    LabError,
    LimitError,
    OutputsOnWarning,
    OverloadError,
    UnsafeError,
    UnstableError,
)

_POLL_S = 0.05


class Power:
    """Switches a bench on and off.

    Args:
        bench: its file's content.
        instruments: opened.
        clock: seconds; of a test, its own.
        sleep: waits.
    """

    def __init__(
        self,
        bench: BenchFile,
        instruments: Instruments,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bench, self._instruments, self._clock, self._sleep = bench, instruments, clock, sleep
        self._laser_power: float | None = None

    def tell_what_is_on(self) -> None:
        """Warns where weights are not parked: whoever used the bench last did not close it.

        Ramps start from what is read back, so that nothing jumps.
        """
        weights = self._instruments.weights
        levels, safe = weights.levels_v(), self._bench.weights.safe_v
        tolerance = abs(self._bench.weights.volts_per_code) / 2
        away = np.flatnonzero(np.abs(levels - safe) > tolerance)
        if away.size and any(weights.enabled()):
            lit = [laser.name for laser in self._instruments.lasers if laser.enabled()]
            light = f", {' and '.join(lit)} on" if lit else ""
            warnings.warn(
                f"bench {self._bench.name} was left with outputs on: {away.size} of {levels.size} weight channels are "
                f"away from {safe:g} V, by up to {float(np.abs(levels - safe).max()):g} V{light}; it was not closed, "
                "perhaps killed. Ramps start from what was read back",
                OutputsOnWarning,
                stacklevel=2,
            )

    def on(self) -> None:
        """Switches everything on that is not.

        Raises:
            InterlockError: the interlock is open, or the bench file lacks consent; nothing was switched on.
            UnstableError: the chip does not get to its temperature by the deadline.
            OverloadError: a tap shows more light than it may.
        """
        self._check_consent()
        self._regulate()
        for laser in self._instruments.lasers:
            self._light(laser)
        if self._instruments.lasers:
            self._laser_power = 1.0
            self._sleep_if(self._bench.laser.settle_time_s)
        self.check_taps()
        inputs, weights = self._instruments.inputs, self._instruments.weights
        if not all(inputs.enabled()):
            inputs.enable()
        if not all(weights.enabled()):
            weights.enable()

    def set_light(self, relative: float) -> None:
        """Sets all lasers to a part of full power, where that is another one than they have."""
        full = self._bench.laser.power_full_w
        if full is None or relative == self._laser_power:
            return
        self._check_photodiodes(relative * full)
        self._laser_power = None
        for laser in self._instruments.lasers:
            laser.set_power(relative * full)
        self._laser_power = relative
        self._sleep_if(self._bench.laser.settle_time_s)

    def check_light(self) -> None:
        """Whether all lasers are on and may be.

        Raises:
            InterlockError: the interlock is open.
            LabError: a laser is off.
        """
        for laser in self._instruments.lasers:
            if not laser.interlock_closed():
                raise InterlockError(f"the interlock of {laser.name} has opened; close it, then measure again")
            if not laser.enabled():
                raise LabError(f"{laser.name} has gone off by itself")

    def check_taps(self) -> dict[str, float]:
        """Optical powers by name.

        Raises:
            OverloadError: above ``power_monitor.power_max_w``.
        """
        found, limit = {}, self._bench.power_monitor.power_max_w
        for tap in self._instruments.taps:
            for channel in range(tap.n_channels):
                power = found[f"{tap.name}_{channel}_w"] = tap.power_w(channel)
                if limit is not None and not power <= limit:
                    raise OverloadError(
                        f"{tap.name} channel {channel} reads {power:g} W, power_monitor.power_max_w is {limit:g}"
                    )
        return found

    def park(self) -> None:
        """Heaters to their safe level, no light through the modulators; laser and temperature controller stay on.

        Raises:
            UnsafeError: what could not be parked, by name; everything else was.
        """
        weights = self._instruments.weights
        safe = np.full(weights.n_channels, self._bench.weights.safe_v)
        steps: list[tuple[str, Callable[[], None]]] = [
            ("weights", lambda: weights.program(safe)),
            ("inputs", self._instruments.inputs.park),
        ]
        if self._bench.on_close == "off":
            steps = [("weights", weights.disable), ("inputs", self._instruments.inputs.disable)]
            steps += [(item.name, item.disable) for item in self._instruments.lasers]
            steps += [(item.name, item.disable) for item in self._instruments.temperature]
        self._laser_power = None
        _all_of(steps, "could not be parked")

    def make_safe(self) -> None:
        """Light off, modulators and heaters off, all at once and without a ramp; the temperature is kept.

        Raises:
            UnsafeError: what could not be made safe, by name; everything else was.
        """
        self._laser_power = None
        # a controller keeps the chip at its temperature; it is switched off only where it is itself the fault
        outputs = [item for item in self._instruments if item not in self._instruments.temperature]
        results = self._instruments.crew.each([lambda item=item: _safe(item) for item in outputs])  # type: ignore[misc]
        failed = [text for text in results if text]
        if failed:
            raise UnsafeError(
                f"bench {self._bench.name} could NOT be made safe: {'; '.join(failed)}. Switch these off by hand"
            )

    def _check_consent(self) -> None:
        if self._instruments.lasers and not self._bench.safety.laser_consent:
            raise InterlockError(
                f"bench {self._bench.name} may not emit light: safety.laser_consent is false; whoever is responsible "
                "for the laboratory sets it to true in the bench file"
            )
        for laser in self._instruments.lasers:
            if not laser.interlock_closed():
                raise InterlockError(f"the interlock of {laser.name} is open; close it, then open the bench again")

    def _check_photodiodes(self, power_w: float) -> None:
        limit, loss_db = self._bench.safety.photodiode_power_max_w, self._bench.safety.path_loss_db
        arrives = power_w * len(self._instruments.lasers) * 10 ** (-loss_db / 10)
        if limit is not None and not arrives <= limit:
            raise LimitError(
                f"{power_w:g} W of light would put {arrives:g} W on a photodiode, safety.photodiode_power_max_w is "
                f"{limit:g}; nothing was sent"
            )

    def _light(self, laser: LaserSource) -> None:
        full = self._bench.laser.power_full_w or 0.0
        self._check_photodiodes(full)
        laser.set_power(full)
        if not laser.enabled():
            laser.enable()

    def _regulate(self) -> None:
        section = self._bench.temperature
        for controller in self._instruments.temperature:
            if controller.setpoint_k() != section.temperature_k:
                controller.set_temperature(section.temperature_k)
            if not controller.enabled():
                controller.enable()
            end = self._clock() + section.deadline_s
            while not abs(found := controller.temperature_k() - section.temperature_k) <= section.tolerance_k:
                if self._clock() > end:
                    raise UnstableError(
                        f"{controller.name} is {found:+.3f} K from {section.temperature_k:g} K after "
                        f"{section.deadline_s:g} s, temperature.tolerance_k is {section.tolerance_k:g}"
                    )
                self._sleep(_POLL_S)

    def _sleep_if(self, seconds: float) -> None:
        if seconds:
            self._sleep(seconds)


def _safe(item: Instrument) -> str:
    """What went wrong, or nothing."""
    try:
        item.make_safe()
    except LabError as error:
        return f"{item.name} ({type(error).__name__}: {error})"
    return ""


def _all_of(steps: Sequence[tuple[str, Callable[[], None]]], what: str) -> None:
    """Takes every step, also when one fails, and then says which did."""
    failed = []
    for name, step in steps:
        try:
            step()
        except LabError as error:
            failed.append(f"{name} {what} ({type(error).__name__}: {error})")
    if failed:
        raise UnsafeError("; ".join(failed))
