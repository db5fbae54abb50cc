"""Opens one instrument in one role: what a bench calls for each entry of its file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from photonic.backends.visa.dialect import Dialect, load_dialect
from photonic.backends.visa.drivers.digitizer import ScpiDigitizer
from photonic.backends.visa.drivers.laser import ScpiLaser
from photonic.backends.visa.drivers.modulator import ScpiModulator
from photonic.backends.visa.drivers.qontrol import QontrolLine, QontrolWeights
from photonic.backends.visa.drivers.redpitaya import RedPitayaDigitizer, RedPitayaSource
from photonic.backends.visa.drivers.temperature import ScpiPower, ScpiTemperature
from photonic.backends.visa.drivers.weights import ScpiWeights
from photonic.backends.visa.limits import CodeLimits, LaserLimits, PowerBudget, TemperatureLimits, WeightLimits
from photonic.backends.visa.messages import Protocol as Wire
from photonic.backends.visa.owner import Owner
from photonic.backends.visa.roles import (
    Digitizer,
    InputModulator,
    LaserSource,
    PowerMonitor,
    TemperatureController,
    WeightBank,
)
from photonic.backends.visa.session import ScpiSession
from photonic.backends.visa.streams import ByteStream, open_stream
from photonic.backends.visa.transcript import Transcript
from photonic.errors import SpecError

MIB = 2**20


@dataclass(frozen=True)
class Access:
    """The way to an instrument.

    Attributes:
        name: its name in the bench file, for messages.
        resource: VISA resource name, such as ``TCPIP0::127.0.0.1::5025::SOCKET`` or ``ASRL/dev/ttyUSB0::INSTR``.
        dialect: name of a built-in dialect, a file that ends in ``.toml``, or a table of the same form (unknown keys
            refused).
        identity: regular expression that is searched for in the answer to ``*IDN?``.
        timeout_s: deadline of each exchange.
        visa_backend: what ``pyvisa.ResourceManager`` takes: ``@py``, ``@ivi``, or a library's path.
        transcript: file to which every exchange is appended as a line of JSON, or a transcript that several instruments
            share; None: none is kept.
        byte_order: of blocks; None: the dialect's.
        message_bytes: most bytes of one message, and of the blocks of one answer.
    """

    name: str
    resource: str
    dialect: str | Path | dict[str, object] = "virtual"
    identity: str = ""
    timeout_s: float = 5.0
    visa_backend: str = "@py"
    transcript: Path | Transcript | None = None
    byte_order: Literal["little", "big"] | None = None
    message_bytes: int = 4 * MIB


class _Driver(Protocol):
    def connect(self) -> object: ...

    def identify(self) -> object: ...

    def close(self) -> None: ...


D = TypeVar("D", bound=_Driver)


def open_laser(access: Access, limits: LaserLimits) -> LaserSource:
    """Opens a laser; its output is not touched."""
    dialect = _dialect(access)
    if dialect.laser is None:
        raise _not_for(access, "lasers")
    table = dialect.laser
    return _opened(access, dialect, lambda session, owner: ScpiLaser(session, owner, dialect, table, limits))


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
    dialect = _dialect(access)
    if dialect.modulator is None:
        raise _not_for(access, "waveform sources")
    table = dialect.modulator
    if table.driver == "red-pitaya":
        return _opened(
            access,
            dialect,
            lambda session, owner: RedPitayaSource(session, owner, dialect, limits, rate_hz, channels),
        )
    return _opened(
        access,
        dialect,
        lambda session, owner: ScpiModulator(session, owner, dialect, table, limits, rate_hz, channels),
    )


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
    dialect = _dialect(access)
    if dialect.weights is None:
        raise _not_for(access, "weight banks")
    table = dialect.weights
    if table.driver == "qontrol":
        return _connected(
            access,
            lambda owner: QontrolWeights(
                QontrolLine(
                    access.name,
                    _way(access, dialect),
                    identity=access.identity,
                    timeout_s=access.timeout_s,
                    transcript=_transcript(access),
                    owner=owner,
                ),
                owner,
                dialect,
                table,
                limits,
                channels,
                settle_time_s,
                budget,
            ),
        )
    return _opened(
        access,
        dialect,
        lambda session, owner: ScpiWeights(session, owner, dialect, table, limits, channels, settle_time_s, budget),
    )


def open_digitizer(access: Access, limits: CodeLimits, *, channels: Sequence[int] | None = None) -> Digitizer:
    """Opens a digitizer.

    Args:
        access: the way to it.
        limits: codes that its converter can give; a record with others is a ProtocolError (a wrong byte order).
        channels: as for a modulator.
    """
    dialect = _dialect(access)
    if dialect.digitizer is None:
        raise _not_for(access, "digitizers")
    table = dialect.digitizer
    if table.driver == "red-pitaya":
        return _opened(
            access, dialect, lambda session, owner: RedPitayaDigitizer(session, owner, dialect, limits, channels)
        )
    return _opened(
        access, dialect, lambda session, owner: ScpiDigitizer(session, owner, dialect, table, limits, channels)
    )


def open_temperature(access: Access, limits: TemperatureLimits) -> TemperatureController:
    """Opens a temperature controller; its output is not touched."""
    dialect = _dialect(access)
    if dialect.temperature is None:
        raise _not_for(access, "temperature controllers")
    table = dialect.temperature
    return _opened(access, dialect, lambda session, owner: ScpiTemperature(session, owner, dialect, table, limits))


def open_power(access: Access, *, channels: Sequence[int] | None = None) -> PowerMonitor:
    """Opens a power meter."""
    dialect = _dialect(access)
    if dialect.power is None:
        raise _not_for(access, "power meters")
    table = dialect.power
    return _opened(access, dialect, lambda session, owner: ScpiPower(session, owner, dialect, table, channels))


def _dialect(access: Access) -> Dialect:
    return load_dialect(access.dialect).with_byte_order(access.byte_order)


def _not_for(access: Access, what: str) -> SpecError:
    return SpecError(f"{access.name}: the dialect {access.dialect!r} has no table for {what}")


def _opened(access: Access, dialect: Dialect, make: Callable[[ScpiSession, Owner], D]) -> D:
    """A driver with a SCPI session of its own, connected."""
    wire = Wire(
        end=dialect.end,
        errors=dialect.errors or None,
        clear=dialect.clear,
        mark=dialect.mark or None,
        message_bytes=access.message_bytes,
    )

    def driver(owner: Owner) -> D:
        session = ScpiSession(
            access.name,
            _way(access, dialect),
            wire,
            identity=access.identity,
            timeout_s=access.timeout_s,
            transcript=_transcript(access),
            owner=owner,
        )
        return make(session, owner)

    return _connected(access, driver)


def _connected(access: Access, make: Callable[[Owner], D]) -> D:
    """A driver with a thread of its own, connected; nothing is left behind where that fails."""
    owner = Owner(access.name)
    try:
        driver = make(owner)
    except BaseException:
        owner.close(lambda: None)
        raise
    try:
        driver.identify()
        driver.connect()
    except BaseException:
        driver.close()
        raise
    return driver


def _way(access: Access, dialect: Dialect) -> Callable[[], ByteStream]:
    return functools.partial(
        open_stream, access.name, access.resource, access.visa_backend, access.timeout_s, dialect.baud_rate
    )


def _transcript(access: Access) -> Transcript | None:
    return Transcript(access.transcript) if isinstance(access.transcript, Path) else access.transcript
