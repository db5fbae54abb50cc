"""What a bench needs of its instruments: one small protocol for each role, none of which assumes VISA.

A driver implements one role for one instrument (or for one part of one). Levels, powers and temperatures are in SI
units; waveforms and records are arrays of a converter's raw codes. Every method that changes an output checks it
against the driver's absolute limits *before* anything is sent, and reads it back afterwards; every method ends in its
result or in an exception of ``photonic.errors.LabError`` within the driver's deadline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Setting = float | int | str | bool | Sequence[float]


@dataclass(frozen=True)
class Identity:
    """What an instrument says of itself: the four fields of ``*IDN?`` (IEEE 488.2, 10.14)."""

    manufacturer: str
    model: str
    serial: str
    firmware: str


@dataclass(frozen=True)
class LaserLock:
    """State of a laser's wavelength.

    Attributes:
        wavelength_m: as the laser reports it.
        locked: whether its wavelength is locked; None: it does not say.
        mode_hops: hops since it was switched on; None: it does not count them.
    """

    wavelength_m: float
    locked: bool | None
    mode_hops: int | None


@runtime_checkable
class Instrument(Protocol):
    """What every role has."""

    @property
    def name(self) -> str:
        """Its name in the bench file, for messages."""

    def identify(self) -> Identity:
        """Asks who is there; raises IdentityError where it is not the instrument that the bench file names."""

    def snapshot(self) -> Mapping[str, Setting]:
        """Settings that matter for a record, read from the instrument in as few exchanges as it allows."""

    def make_safe(self) -> None:
        """Takes its outputs to where they harm nothing, with no ramp; does not wait for anything else."""

    def close(self) -> None:
        """Releases the connection, leaves outputs as they are; a second call does nothing."""


@runtime_checkable
class LaserSource(Instrument, Protocol):
    """Light. ``make_safe`` switches it off."""

    def power_w(self) -> float:
        """The power that is set."""

    def set_power(self, power_w: float) -> None:
        """Sets the power; raises LimitError above the limit, before anything is sent."""

    def enabled(self) -> bool:
        """Whether it emits."""

    def enable(self) -> None:
        """Switches it on; raises InterlockError while the interlock is open, or without consent in the bench file."""

    def disable(self) -> None:
        """Switches it off."""

    def interlock_closed(self) -> bool:
        """Whether the interlock allows light."""

    def lock(self) -> LaserLock:
        """Wavelength, whether it is locked, and mode hops."""


@runtime_checkable
class InputModulator(Instrument, Protocol):
    """One waveform for each input channel, played once by a trigger. ``make_safe`` switches its outputs off.

    A waveform holds C segments of equal length, one after another; a play runs through all of them ``repeats`` times
    and waits before each for the weights to settle, where the bench sequences them.
    """

    @property
    def n_channels(self) -> int:
        """Channels, numbered from 0."""

    @property
    def memory_samples(self) -> int:
        """Samples that a channel holds at most."""

    @property
    def granularity_samples(self) -> int:
        """A waveform's length is a multiple of this."""

    @property
    def minimum_samples(self) -> int:
        """A waveform is at least this long."""

    def load(self, waveforms: NDArray[np.generic], *, segments: int, repeats: int, marker: tuple[int, int]) -> None:
        """Uploads one waveform for each channel.

        Args:
            waveforms: (n_channels, samples) raw codes, int16 or float64.
            segments: C; ``samples`` is C times the length of a segment.
            repeats: R.
            marker: first sample and number of samples, within each segment, during which the marker output is high.
        """

    def enabled(self) -> bool:
        """Whether its outputs are on."""

    def enable(self) -> None:
        """Switches the outputs on, at the idle code."""

    def park(self) -> None:
        """Outputs at the idle code: no light passes."""

    def disable(self) -> None:
        """Switches the outputs off."""

    def arm(self) -> None:
        """Waits for the trigger."""

    def trigger(self) -> None:
        """Plays once; returns when the play has ended."""


@runtime_checkable
class WeightBank(Instrument, Protocol):
    """Slow outputs, one for each drive of the chip. ``make_safe`` takes all of them to their safe level at once."""

    @property
    def n_channels(self) -> int:
        """Channels, numbered from 0."""

    @property
    def list_length(self) -> int:
        """Tiles that it can step through by itself in one play; 1: none."""

    def levels_v(self) -> NDArray[np.float64]:
        """(n_channels,) volts, read back."""

    def program(self, levels_v: NDArray[np.float64]) -> None:
        """Sets (n_channels,) volts, ramped from the values read back where the slew limit asks for it."""

    def program_list(self, levels_v: NDArray[np.float64], dwell_s: float) -> None:
        """Sets (tiles, n_channels) volts that a play steps through, each with ``dwell_s`` to settle."""

    def enabled(self) -> bool:
        """Whether its outputs are on."""

    def enable(self) -> None:
        """Switches the outputs on; their levels are what was read back, not a default."""

    def disable(self) -> None:
        """Ramps to the safe level, then switches the outputs off."""

    def writes(self) -> int | None:
        """Programmings since it was built, for limited endurance; None: it does not count them."""


@runtime_checkable
class Digitizer(Instrument, Protocol):
    """Records of all outputs. ``make_safe`` aborts a record."""

    @property
    def n_channels(self) -> int:
        """Channels, numbered from 0."""

    @property
    def memory_samples(self) -> int:
        """Samples that a channel holds at most."""

    def configure(self, samples: int, segments: int, *, rate_hz: float, gain: float = 1.0) -> None:
        """Sets the length of a segment, the number of segments of a record, the rate, and the analog gain."""

    def arm(self) -> None:
        """Waits for the trigger."""

    def fetch(self, channels: Sequence[int]) -> NDArray[np.generic]:
        """(channels, segments * samples) raw codes, int16 or float64, of the record that has just ended.

        Raises OverloadError where the instrument says that it was overloaded, InstrumentTimeoutError where the record
        has not ended by the deadline, ProtocolError where a block has not the length that was set.
        """


@runtime_checkable
class TemperatureController(Instrument, Protocol):
    """``make_safe`` leaves it on: the chip is safest at its temperature, unless the controller is itself the fault."""

    def temperature_k(self) -> float:
        """Measured."""

    def setpoint_k(self) -> float:
        """As set."""

    def set_temperature(self, temperature_k: float) -> None:
        """Sets the temperature; raises LimitError outside the limits, before anything is sent."""

    def enabled(self) -> bool:
        """Whether it regulates."""

    def enable(self) -> None:
        """Starts to regulate."""

    def disable(self) -> None:
        """Stops."""


@runtime_checkable
class PowerMonitor(Instrument, Protocol):
    """Optical power at one or several taps."""

    @property
    def n_channels(self) -> int:
        """Channels, numbered from 0."""

    def power_w(self, channel: int) -> float:
        """Optical power; raises OverloadError where the head is over its range."""
