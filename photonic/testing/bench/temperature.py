"""The virtual temperature controller (model VTEC) and power meter (model VPM)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from photonic.testing.bench.instrument import Instrument, channel
from photonic.testing.bench.parameters import Number, real
from photonic.testing.bench.physics import Physics
from photonic.testing.bench.setup import Setup
from photonic.testing.bench.tree import Command

TAPS = 2  # of the power meter: at the laser, and behind the chip's input coupler


class TemperatureController(Instrument):
    """Holds the chip's temperature.

    Args:
        setup: temperatures.
        physics: what the chip's temperature is.
    """

    model: ClassVar[str] = "VTEC"

    def __init__(self, setup: Setup, physics: Physics, serial: str) -> None:
        self._setup, self._physics = setup, physics
        super().__init__("tec", serial)

    def commands(self) -> Sequence[Command]:
        """Setpoint, output and reading, in degrees Celsius."""
        setpoint = Number("C", 5.0, 80.0, self._setup.temperature_c)
        return (
            self.setting("SOURce:TEMPerature[:SETPoint]", "setpoint_c", setpoint, self._set),
            self.switch("OUTPut[:STATe]", "on", self._switched),
            Command("MEASure[:SCALar]:TEMPerature", None, lambda s, p: real(self._physics.temperature_c())),
        )

    def reset(self) -> None:
        """``*RST``: off; the chip goes to the temperature of the room."""
        super().reset()
        self._physics.regulate(self._setup.ambient_c)

    def _set(self, setpoint_c: float) -> None:
        if self.values["on"]:
            self._physics.regulate(setpoint_c)

    def _switched(self, on: bool) -> None:
        if on != self.values["on"]:
            self._physics.regulate(self.values["setpoint_c"] if on else self._setup.ambient_c)


class PowerMeter(Instrument):
    """Optical power at two taps.

    Args:
        setup: tap ratio and wavelength.
        power_w: what the laser emits.
    """

    model: ClassVar[str] = "VPM"

    def __init__(self, setup: Setup, serial: str, power_w: Callable[[], float]) -> None:
        self._setup, self._power_w = setup, power_w
        super().__init__("power_meter", serial)

    def commands(self) -> Sequence[Command]:
        """Readings, in watts, and the wavelength that they are corrected for."""
        wavelength = Number("M", 1.2e-6, 1.7e-6, self._setup.wavelength_m)

        def read(index: int) -> str:
            return real(self._power_w() * self._setup.tap_ratio / (index + 1))

        return (
            Command("MEASure#[:SCALar]:POWer", None, lambda suffixes, parameters: read(channel(suffixes, TAPS))),
            self.setting("SENSe:POWer:WAVelength", "wavelength_m", wavelength),
            self.constant("SENSe:CHANnel:COUNt", TAPS),
        )
