"""Any digitizer that a dialect describes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.blocks import raw_bytes
from photonic.backends.visa.deadline import Deadline
from photonic.backends.visa.dialect import Dialect, DigitizerTable, Kind, query_of
from photonic.backends.visa.drivers.base import ChannelDriver, chosen_channels, commands
from photonic.backends.visa.limits import CodeLimits
from photonic.backends.visa.messages import Command, ask
from photonic.backends.visa.owner import Owner, owned
from photonic.backends.visa.replies import parse_count, same_setting
from photonic.backends.visa.session import ScpiSession
from photonic.errors import LimitError, OverloadError, ProtocolError, RangeError, SpecError

FIRST_WAIT_S, LONGEST_WAIT_S = 2e-4, 0.02  # between two questions whether a record has ended


class ScpiDigitizer(ChannelDriver):
    """A digitizer; see ``photonic.backends.visa.roles.Digitizer``.

    Args:
        session: with the instrument.
        owner: of the session.
        dialect: with tables for blocks and for digitizers.
        table: the latter.
        limits: codes that its converter can give.
        channels: that are used; None: all.
    """

    def __init__(
        self,
        session: ScpiSession,
        owner: Owner,
        dialect: Dialect,
        table: DigitizerTable,
        limits: CodeLimits,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(session, owner, dialect)
        if dialect.blocks is None:
            raise SpecError(f"{self.name}: its dialect has a table for digitizers, but none for blocks")
        self._table, self._blocks, self._limits, self._asked = table, dialect.blocks, limits, channels
        self._kind: Kind = "float64" if limits.real else "int16"
        self._memory = self._samples = 0

    @owned
    def connect(self) -> None:
        """Opens the connection and asks what the instrument has."""
        answers = self._session.run([ask(self._table.channels), ask(self._table.memory)])
        present, self._memory = (self._session.parsed(parse_count, answer) for answer in answers)
        self._channels = chosen_channels(self.name, self._asked, present)

    @property
    def memory_samples(self) -> int:
        """As the protocol says."""
        return self._memory

    @owned
    def configure(self, samples: int, segments: int, *, rate_hz: float, gain: float = 1.0) -> None:
        """As the protocol says; sent each time, because an instrument that was switched off has forgotten it."""
        if samples < 1 or segments < 1 or samples * segments > self._memory:
            raise LimitError(
                f"{self.name}: a record holds 1 to {self._memory} samples, found {segments} segments of {samples}; "
                "nothing was sent"
            )
        if not (math.isfinite(rate_hz) and rate_hz > 0 and math.isfinite(gain) and gain > 0):
            raise LimitError(f"{self.name}: rate and gain are above 0, found {rate_hz} and {gain}; nothing was sent")
        table, dialect = self._table, self._dialect
        self._samples = 0
        self._session.run(
            [
                *commands([table.abort]),
                *dialect.setting(table.points, points=samples),
                *dialect.setting(table.segments, segments=segments),
                *dialect.setting(table.rate, rate_hz=rate_hz),
                *dialect.setting(table.gain, gain=gain),
            ]
        )
        self._samples = samples * segments

    @owned
    def arm(self) -> None:
        """As the protocol says; whatever it waited for before is given up."""
        self._session.run(commands([self._table.abort, self._table.arm]))

    @owned
    def fetch(self, channels: Sequence[int]) -> NDArray[np.generic]:
        """As the protocol says; many channels come in one answer, straight into one array."""
        if not self._samples:
            raise RangeError(f"{self.name}: configure it before a record is fetched")
        if not all(0 <= channel < self.n_channels for channel in channels):
            raise RangeError(f"{self.name} has channels 0 to {self.n_channels - 1}, found {tuple(channels)[:8]}")
        self._await()
        record = np.empty((len(channels), self._samples), dtype=self._blocks.dtype(self._kind))
        memory, size = raw_bytes(record), self._samples * record.itemsize
        queries = [
            Command(self._table.data.format(ch=self._channel(self._channels[channel])), None, memory[at : at + size])
            for channel, at in zip(channels, range(0, len(channels) * size, size), strict=True)
        ]
        overload = [ask(self._table.overload)] if self._table.overload else []
        answers = self._session.run([*overload, *queries], preamble=self._blocks.preamble(self._kind))
        if answers and not same_setting(answers[0], self._table.no_overload):
            raise OverloadError(f"{self.name}: its inputs were overloaded: {answers[0]}; use less light or less gain")
        found = record.astype(record.dtype.newbyteorder("="), copy=False)
        if not self._limits.holds(found):
            raise ProtocolError(
                f"{self.name}: expected codes within {self._limits.code_min:g} and {self._limits.code_max:g}, found "
                f"{float(found.min()):g} to {float(found.max()):g}; a wrong byte order or number format?"
            )
        return found

    def make_safe(self) -> None:
        """As the protocol says."""
        self._owner.urgent(lambda: self._insist(lambda: self._session.run(commands([self._table.abort]))))

    def _await(self) -> None:
        """Returns when the record has ended."""
        deadline = Deadline(self.name, self._session.timeout_s, self._owner.interrupted)
        wait_s = FIRST_WAIT_S
        while not same_setting(self._session.query(self._table.state), self._table.done):
            deadline.remaining_s("recording; did the trigger come")
            self._owner.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _recorded(self) -> Mapping[str, str]:
        table = self._table
        return {"rate_hz": query_of(table.rate), "gain": query_of(table.gain), "points": query_of(table.points)}
