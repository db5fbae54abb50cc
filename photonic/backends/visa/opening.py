"""Opens one instrument in one role: what a bench calls for each entry of its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from photonic.backends.visa.limits import CodeLimits, LaserLimits, PowerBudget, TemperatureLimits, WeightLimits
from photonic.backends.visa.roles import (
    Digitizer,
    InputModulator,
    LaserSource,
    PowerMonitor,
    TemperatureController,
    WeightBank,
)

MIB = 2**20


@dataclass(frozen=True)
class Access:
    """The way to an instrument.

    Attributes:
        name: its name in the bench file, for messages.
        resource: VISA resource name, such as ``TCPIP0::127.0.0.1::5025::SOCKET`` or ``ASRL/dev/ttyUSB0::INSTR``.
        dialect: name of a built-in dialect, or a table of the same form as its file (unknown keys refused).
        identity: regular expression that is searched for in the answer to ``*IDN?``.
        timeout_s: deadline of each exchange.
        visa_backend: what ``pyvisa.ResourceManager`` takes: ``@py``, ``@ivi``, or a library's path.
        transcript: file to which every exchange is appended as a line of JSON; None: none is kept.
        message_bytes: most bytes of one message, and of the blocks of one answer.
    """

    name: str
    resource: str
    dialect: str | dict[str, object] = "virtual"
    identity: str = ""
    timeout_s: float = 5.0
    visa_backend: str = "@py"
    transcript: Path | None = None
    message_bytes: int = 4 * MIB


def open_laser(access: Access, limits: LaserLimits) -> LaserSource:
    """Opens a laser; its output is not touched."""
    raise NotImplementedError


def open_modulator(
    access: Access, limits: CodeLimits, *, rate_hz: float, channels: Sequence[int] | None = None
) -> InputModulator:
    """Opens a waveform source; its outputs are not touched.

    Args:
        access: the way to it.
        limits: of its codes, and the idle code.
        rate_hz: sample rate.
        channels: the instrument's channels that are used, from 0, in the role's order; None: all of them.
    """
    raise NotImplementedError


def open_weights(
    access: Access,
    limits: WeightLimits,
    *,
    channels: Sequence[int],
    settle_time_s: float,
    budget: PowerBudget | None = None,
) -> WeightBank:
    """Opens a weight bank; its outputs are not touched.

    Args:
        access: the way to it.
        limits: one entry for each channel that is used.
        channels: the instrument's channels that are used, from 0, in the role's order.
        settle_time_s: waited once after ``program``.
        budget: the bench's heater power, shared by all of its weight banks.
    """
    raise NotImplementedError


def open_digitizer(access: Access, limits: CodeLimits, *, channels: Sequence[int] | None = None) -> Digitizer:
    """Opens a digitizer.

    Args:
        access: the way to it.
        limits: codes that its converter can give; a record with others is a ProtocolError (a wrong byte order).
        channels: as for a modulator.
    """
    raise NotImplementedError


def open_temperature(access: Access, limits: TemperatureLimits) -> TemperatureController:
    """Opens a temperature controller; its output is not touched."""
    raise NotImplementedError


def open_power(access: Access, *, channels: Sequence[int] | None = None) -> PowerMonitor:
    """Opens a power meter."""
    raise NotImplementedError
