"""Any waveform source that a dialect describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.blocks import raw_bytes
from photonic.backends.visa.dialect import BlockTable, Dialect, Kind, ModulatorTable, query_of
from photonic.backends.visa.drivers.base import ChannelDriver, chosen_channels, commands
from photonic.backends.visa.limits import CodeLimits
from photonic.backends.visa.messages import Command, ask
from photonic.backends.visa.owner import Owner, owned
from photonic.backends.visa.replies import parse_count
from photonic.backends.visa.session import ScpiSession
from photonic.errors import LimitError, SpecError


class ScpiModulator(ChannelDriver):
    """A waveform source; see ``photonic.backends.visa.roles.InputModulator``.

    Args:
        session: with the instrument.
        owner: of the session.
        dialect: with tables for blocks and for waveform sources.
        table: the latter.
        limits: of its codes.
        rate_hz: sample rate.
        channels: that are used; None: all.
    """

    def __init__(
        self,
        session: ScpiSession,
        owner: Owner,
        dialect: Dialect,
        table: ModulatorTable,
        limits: CodeLimits,
        rate_hz: float,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(session, owner, dialect)
        if dialect.blocks is None:
            raise SpecError(f"{self.name}: its dialect has a table for waveform sources, but none for blocks")
        self._table, self._blocks, self._rate_hz, self._asked = table, dialect.blocks, rate_hz, channels
        self.__limits = limits
        self._memory = self._granularity = self._minimum = 0

    @owned
    def connect(self) -> None:
        """Opens the connection and asks what the instrument has."""
        table = self._table
        texts = [table.channels, table.memory, table.granularity, table.minimum]
        answers = self._session.run([ask(text) for text in texts])
        counts = [self._session.parsed(parse_count, answer) for answer in answers]
        present, self._memory, self._granularity, self._minimum = counts
        self._channels = chosen_channels(self.name, self._asked, present)

    @property
    def memory_samples(self) -> int:
        """As the protocol says."""
        return self._memory

    @property
    def granularity_samples(self) -> int:
        """As the protocol says."""
        return self._granularity

    @property
    def minimum_samples(self) -> int:
        """As the protocol says."""
        return self._minimum

    @owned
    def load(self, waveforms: NDArray[np.generic], *, segments: int, repeats: int, marker: tuple[int, int]) -> None:
        """As the protocol says; many waveforms go in one message."""
        self.__limits.check(self.name, waveforms)
        self._check_size(waveforms, segments)
        table, dialect = self._table, self._dialect
        kind, wire = wire_of(self._blocks, waveforms)
        settings = [
            *dialect.setting(table.segments, segments=segments),
            *dialect.setting(table.repeats, repeats=repeats),
            *dialect.setting(table.marker, first=marker[0], count=marker[1]),
            *dialect.setting(table.rate, rate_hz=self._rate_hz),
        ]
        blocks = [
            Command(table.data.format(ch=self._channel(channel)), block=raw_bytes(row))
            for channel, row in zip(self._channels, wire, strict=True)
        ]
        self._session.run([*settings, *blocks], preamble=self._blocks.preamble(kind))

    @owned
    def enabled(self) -> bool:
        """As the protocol says."""
        return self._bool(query_of(self._table.output))

    @owned
    def enable(self) -> None:
        """As the protocol says."""
        self._session.run([*self._idle(), *self._dialect.setting(self._table.output, state="ON")])

    @owned
    def park(self) -> None:
        """As the protocol says."""
        self._session.run([*commands([self._table.abort]), *self._idle()])

    @owned
    def disable(self) -> None:
        """As the protocol says."""
        self._session.run([
            *commands([self._table.abort]), *self._dialect.setting(self._table.output, state="OFF")
        ])  # fmt: skip

    @owned
    def arm(self) -> None:
        """As the protocol says; whatever it waited for before is given up."""
        table = self._table
        self._session.run(commands([table.abort, table.trigger_source, table.arm]))

    @owned
    def trigger(self) -> None:
        """As the protocol says."""
        self._session.run([*commands([self._table.trigger]), ask(self._table.done, "1")])

    def make_safe(self) -> None:
        """As the protocol says."""
        self._owner.urgent(lambda: self._insist(self.disable))

    def _idle(self) -> list[Command]:
        code = self.__limits.idle_code
        value: float = int(code) if code == int(code) else code
        return [
            command
            for channel in self._channels
            for command in self._dialect.setting(self._table.idle, ch=self._channel(channel), code=value)
        ]

    def _check_size(self, waveforms: NDArray[np.generic], segments: int) -> None:
        channels, samples = waveforms.shape
        if channels != self.n_channels:
            raise LimitError(f"{self.name}: expected {self.n_channels} waveforms, found {channels}; nothing was sent")
        fits = self._minimum <= samples <= self._memory and samples % self._granularity == 0
        if not fits or segments < 1 or samples % segments:
            raise LimitError(
                f"{self.name}: expected {self._minimum} to {self._memory} samples, a multiple of {self._granularity} "
                f"and of the {segments} segments, found {samples}; nothing was sent"
            )

    def _recorded(self) -> Mapping[str, str]:
        table = self._table
        return {"rate_hz": query_of(table.rate), "output": query_of(table.output)}


def wire_of(blocks: BlockTable, values: NDArray[np.generic]) -> tuple[Kind, NDArray[np.generic]]:
    """The kind of number of an array, and the array as it goes over the wire; copied only where it must be."""
    kind: Kind = "int16" if values.dtype.kind == "i" else "float64"
    return kind, np.ascontiguousarray(values, dtype=blocks.dtype(kind))
