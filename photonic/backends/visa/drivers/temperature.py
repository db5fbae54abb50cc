"""Any temperature controller and any power meter that a dialect describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from photonic.backends.visa.dialect import Dialect, PowerTable, TemperatureTable, query_of
from photonic.backends.visa.drivers.base import ChannelDriver, ScpiDriver, chosen_channels, each_channel
from photonic.backends.visa.limits import TemperatureLimits
from photonic.backends.visa.owner import Owner, owned
from photonic.backends.visa.session import ScpiSession
from photonic.errors import RangeError

ZERO_CELSIUS_K = 273.15


class ScpiTemperature(ScpiDriver):
    """A temperature controller; see ``photonic.backends.visa.roles.TemperatureController``.

    Args:
        session: with the instrument.
        owner: of the session.
        dialect: with a table for temperature controllers.
        table: that table.
        limits: absolute ones.
    """

    def __init__(
        self, session: ScpiSession, owner: Owner, dialect: Dialect, table: TemperatureTable, limits: TemperatureLimits
    ) -> None:
        super().__init__(session, owner, dialect)
        self.__table, self.__limits = table, limits

    @owned
    def temperature_k(self) -> float:
        """As the protocol says."""
        return self._number(self.__table.measured) + ZERO_CELSIUS_K

    @owned
    def setpoint_k(self) -> float:
        """As the protocol says."""
        return self._number(query_of(self.__table.setpoint)) + ZERO_CELSIUS_K

    @owned
    def set_temperature(self, temperature_k: float) -> None:
        """As the protocol says."""
        self.__limits.check(self.name, temperature_k)
        self._set(self.__table.setpoint, temperature_c=round(temperature_k - ZERO_CELSIUS_K, 6))

    @owned
    def enabled(self) -> bool:
        """As the protocol says."""
        return self._bool(query_of(self.__table.output))

    @owned
    def enable(self) -> None:
        """As the protocol says; the set point is checked too, because somebody else may have set it."""
        self.__limits.check(self.name, self.setpoint_k())
        self._set(self.__table.output, state="ON")

    @owned
    def disable(self) -> None:
        """As the protocol says."""
        self._set(self.__table.output, state="OFF")

    def make_safe(self) -> None:
        """As the protocol says: it stays as it is."""

    def _recorded(self) -> Mapping[str, str]:
        table = self.__table
        return {
            "setpoint_c": query_of(table.setpoint),
            "temperature_c": table.measured,
            "output": query_of(table.output),
        }


class ScpiPower(ChannelDriver):
    """An optical power meter; see ``photonic.backends.visa.roles.PowerMonitor``.

    Args:
        session: with the instrument.
        owner: of the session.
        dialect: with a table for power meters.
        table: that table.
        channels: that are used; None: all.
    """

    def __init__(
        self,
        session: ScpiSession,
        owner: Owner,
        dialect: Dialect,
        table: PowerTable,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(session, owner, dialect)
        self._table, self._asked = table, channels

    @owned
    def connect(self) -> None:
        """Opens the connection and sets the meter up."""
        present = self._table.n_channels or self._count(self._table.channels)
        self._channels = chosen_channels(self.name, self._asked, present)
        numbers = [self._channel(channel) for channel in self._channels]
        for text in self._table.setup:
            for one in each_channel(text, numbers):
                self._set(one)

    @owned
    def power_w(self, channel: int) -> float:
        """As the protocol says."""
        if not 0 <= channel < self.n_channels:
            raise RangeError(f"{self.name} has channels 0 to {self.n_channels - 1}, found {channel}")
        return self._number(self._table.power.format(ch=self._channel(self._channels[channel])))

    def make_safe(self) -> None:
        """As the protocol says: a meter harms nothing."""

    def _recorded(self) -> Mapping[str, str]:
        return {
            f"power_w_{index}": self._table.power.format(ch=self._channel(channel))
            for index, channel in enumerate(self._channels)
        }
