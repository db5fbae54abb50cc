"""Any laser that a dialect describes."""

from __future__ import annotations

from collections.abc import Mapping

from photonic.backends.visa.dialect import Dialect, LaserTable, query_of
from photonic.backends.visa.drivers.base import ScpiDriver
from photonic.backends.visa.limits import LaserLimits
from photonic.backends.visa.owner import Owner, owned
from photonic.backends.visa.replies import parse_bool, parse_count, parse_number, same_setting
from photonic.backends.visa.roles import LaserLock
from photonic.backends.visa.session import ScpiSession
from photonic.errors import InterlockError, SpecError


class ScpiLaser(ScpiDriver):
    """A laser; see ``photonic.backends.visa.roles.LaserSource``.

    Args:
        session: with the instrument.
        owner: of the session.
        dialect: with a table for lasers.
        table: that table.
        limits: absolute ones.
    """

    def __init__(
        self, session: ScpiSession, owner: Owner, dialect: Dialect, table: LaserTable, limits: LaserLimits
    ) -> None:
        super().__init__(session, owner, dialect)
        self.__table, self.__limits = table, limits

    @owned
    def power_w(self) -> float:
        """As the protocol says."""
        return self._number(query_of(self.__table.power))

    @owned
    def set_power(self, power_w: float) -> None:
        """As the protocol says."""
        self.__limits.check_power(self.name, power_w)
        self._set(self.__table.power, power_w=power_w)

    @owned
    def enabled(self) -> bool:
        """As the protocol says."""
        return self._bool(query_of(self.__table.output))

    @owned
    def enable(self) -> None:
        """As the protocol says; the power that is set is checked too, because somebody else may have set it."""
        if not self.__limits.consent:
            raise InterlockError(
                f"{self.name}: nobody consented to light; set laser_consent = true in the bench file's [safety]"
            )
        if not self.interlock_closed():
            raise InterlockError(f"{self.name}: its interlock is open; close it, then switch the laser on")
        self.__limits.check_power(self.name, self.power_w())
        self._set(self.__table.output, state="ON")

    @owned
    def disable(self) -> None:
        """As the protocol says."""
        self._set(self.__table.output, state="OFF")

    @owned
    def interlock_closed(self) -> bool:
        """As the protocol says; an interlock that cannot be asked is not known to be closed."""
        query = self.__table.interlock
        return query is not None and same_setting(self._session.query(query), self.__table.interlock_closed)

    @owned
    def lock(self) -> LaserLock:
        """As the protocol says."""
        table = self.__table
        if table.wavelength is None:
            raise SpecError(f"{self.name}: its dialect has no query of the wavelength")
        wavelength = self._session.parsed(parse_number, self._session.query(table.wavelength))
        locked = None if table.lock is None else self._session.parsed(parse_bool, self._session.query(table.lock))
        hops = None if table.hops is None else self._session.parsed(parse_count, self._session.query(table.hops))
        return LaserLock(wavelength, locked, hops)

    def make_safe(self) -> None:
        """As the protocol says."""
        self._owner.urgent(lambda: self._insist(self.disable))

    def _recorded(self) -> Mapping[str, str]:
        table = self.__table
        return {
            "power_w": query_of(table.power),
            "output": query_of(table.output),
            "wavelength_m": table.wavelength or "",
            "locked": table.lock or "",
            "mode_hops": table.hops or "",
        }
