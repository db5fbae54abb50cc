"""Any weight bank that a dialect describes: all channels in one block, or one command for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.dialect import Dialect, WeightTable, query_of
from photonic.backends.visa.drivers.base import ChannelDriver, chosen_channels
from photonic.backends.visa.drivers.levels import ScpiLevels
from photonic.backends.visa.drivers.ramp import Ramp
from photonic.backends.visa.limits import PowerBudget, WeightLimits
from photonic.backends.visa.owner import Owner, owned
from photonic.backends.visa.session import ScpiSession
from photonic.errors import ClosedError, LimitError, SpecError


class ScpiWeights(ChannelDriver):
    """A weight bank; see ``photonic.backends.visa.roles.WeightBank``.

    Args:
        session: with the instrument.
        owner: of the session.
        dialect: with a table for weight banks, and one for blocks where that table has any.
        table: the former.
        limits: one entry for each channel.
        channels: that are used.
        settle_time_s: waited after a programming.
        budget: heater power of the bench.
    """

    def __init__(
        self,
        session: ScpiSession,
        owner: Owner,
        dialect: Dialect,
        table: WeightTable,
        limits: WeightLimits,
        channels: Sequence[int],
        settle_time_s: float,
        budget: PowerBudget | None = None,
    ) -> None:
        super().__init__(session, owner, dialect)
        if table.levels and dialect.blocks is None:
            raise SpecError(f"{self.name}: its dialect sends levels in blocks, but has no table for blocks")
        if len(channels) != limits.n_channels:
            raise SpecError(f"{self.name}: {len(channels)} channels are used, but {limits.n_channels} have limits")
        self._table, self._asked, self._settle_s = table, channels, settle_time_s
        self.__limits, self.__budget = limits, budget
        self.__found: tuple[ScpiLevels, Ramp] | None = None
        self._list_length = table.list_length
        self._listed = False

    @owned
    def connect(self) -> None:
        """Opens the connection, asks what the instrument has, and notes the power that its levels take."""
        table = self._table
        present = table.n_channels or self._count(table.channels)
        self._channels = chosen_channels(self.name, self._asked, present)
        slew = self.__limits.slew_v_per_s
        levels = ScpiLevels(self._session, self._dialect, table, slew, self._channels, present)
        self.__found = levels, Ramp(self.name, levels, self._owner, self.__limits, self.__budget)
        if table.list_most:
            self._list_length = max(1, self._count(table.list_most))
        self.__ramp().adopt()

    @property
    def list_length(self) -> int:
        """As the protocol says."""
        return self._list_length

    @owned
    def levels_v(self) -> NDArray[np.float64]:
        """As the protocol says."""
        return self.__levels().read_levels()

    @owned
    def program(self, levels_v: NDArray[np.float64]) -> None:
        """As the protocol says."""
        self._came_from_list()
        self.__ramp().to(levels_v, self._used())
        self._owner.sleep(self._settle_s)

    @owned
    def program_list(self, levels_v: NDArray[np.float64], dwell_s: float) -> None:
        """As the protocol says."""
        if len(levels_v) > self._list_length:
            raise LimitError(f"{self.name}: its list holds {self._list_length} tiles, found {len(levels_v)}")
        self._came_from_list()
        levels = self.__ramp().admit_list(levels_v, dwell_s, self._used())
        self._listed = True
        self.__levels().write_list(levels, dwell_s)

    @owned
    def enabled(self) -> bool:
        """As the protocol says; a bank without a switch is on."""
        return self._bool(query_of(self._table.output)) if self._table.output else True

    @owned
    def enable(self) -> None:
        """As the protocol says; levels that read back outside the limits are refused."""
        self.__ramp().check_found()
        if self._table.output:
            self._set(self._table.output, state="ON")

    @owned
    def disable(self) -> None:
        """As the protocol says."""
        self._came_from_list()
        self.__ramp().to(self.__ramp().safe(), self._used())
        if self._table.output:
            self._set(self._table.output, state="OFF")

    @owned
    def writes(self) -> int | None:
        """As the protocol says; without a counter of its own, since it was opened."""
        counted = self._counted()
        return self.__ramp().writes if counted is None else counted

    def make_safe(self) -> None:
        """As the protocol says."""
        self._owner.urgent(lambda: self._insist(self.__ramp().to_safe))

    # private by name: what writes levels without a check is nobody's but this driver's

    def __levels(self) -> ScpiLevels:
        return self.__connected()[0]

    def __ramp(self) -> Ramp:
        return self.__connected()[1]

    def __connected(self) -> tuple[ScpiLevels, Ramp]:
        if self.__found is None:
            raise ClosedError(f"{self.name} was used before it was connected")
        return self.__found

    def _came_from_list(self) -> None:
        """After a list has played, when the levels changed last is not known: it may have been now."""
        if self._listed:
            self.__ramp().played()
            self._listed = False

    def _counted(self) -> int | None:
        return self._count(self._table.writes) if self._table.writes else None

    def _used(self) -> int | None:
        """Programmings so far, asked only where they are limited."""
        return None if self.__limits.writes_max is None else self._counted()

    def _recorded(self) -> Mapping[str, str]:
        table = self._table
        return {
            "output": query_of(table.output) if table.output else "",
            "writes": table.writes,
            "mode": query_of(table.fixed) if table.fixed and "{ch}" not in table.fixed else "",
        }
