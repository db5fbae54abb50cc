"""The virtual laser (model VLASER)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from photonic.testing.bench.instrument import Instrument
from photonic.testing.bench.parameters import Number, real
from photonic.testing.bench.physics import Physics
from photonic.testing.bench.scpierror import ScpiError
from photonic.testing.bench.setup import Setup
from photonic.testing.bench.tree import Command

INTERLOCK_OPEN = 1  # bit of the questionable status register


class Laser(Instrument):
    """Light: power, output, interlock, and the state of its wavelength.

    Args:
        setup: powers and wavelength.
        physics: tells mode hops, and hears when light goes on.

    Attributes:
        interlock_closed: opened by a person, or by the bench's control port; opening it switches the light off.
    """

    model: ClassVar[str] = "VLASER"

    def __init__(self, setup: Setup, physics: Physics, serial: str) -> None:
        self._setup, self._physics = setup, physics
        self.interlock_closed = True
        super().__init__("laser", serial)

    def commands(self) -> Sequence[Command]:
        """Of ``SOURce`` and ``OUTPut``, and the interlock."""
        power = Number("W", 0.0, self._setup.power_max_w, 0.0)

        def hops() -> int:
            return self._physics.mode_hops() if self.values["on"] else 0

        return (
            self.setting(
                "SOURce:POWer[:LEVel]", "power_w", power, lambda value: self.note("power", low=value, high=value)
            ),
            self.switch("OUTPut[:STATe]", "on", self._switched),
            Command("SYSTem:INTerlock", None, lambda s, p: str(int(self.interlock_closed))),
            Command("SOURce:WAVelength", None, lambda s, p: real(self._physics.wavelength_m(self._setup.wavelength_m))),
            Command("SOURce:WAVelength:LOCK", None, lambda s, p: str(int(self.values["on"]))),
            Command("SOURce:WAVelength:HOPS", None, lambda s, p: str(hops())),
        )

    def reset(self) -> None:
        """``*RST``: dark."""
        if self.values.get("on"):
            self._physics.light(False)
        super().reset()

    def relative(self) -> float:
        """Power at the chip, 1 being full; rounded where that only removes what binary fractions add."""
        return round(float(self.values["power_w"]) / self._setup.power_full_w, 9) if self.values["on"] else 0.0

    def power_w(self) -> float:
        """Power that it emits."""
        return float(self.values["power_w"]) if self.values["on"] else 0.0

    def set_interlock(self, closed: bool) -> None:
        """Opens or closes the interlock; open, there is no light."""
        self.interlock_closed = closed
        self.status.questionable.set(INTERLOCK_OPEN, not closed)
        if not closed:
            self._switched(False)
            self.values["on"] = False

    def _switched(self, on: bool) -> None:
        if on and not self.interlock_closed:
            raise ScpiError(-221, "interlock open")
        if on != self.values["on"]:
            self._physics.light(on)
