"""Levels of a weight bank on the wire: all channels in one block, or one command for each of them. Checks no limits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.blocks import raw_bytes
from photonic.backends.visa.dialect import Dialect, WeightTable, query_of
from photonic.backends.visa.drivers.base import commands, each_channel
from photonic.backends.visa.drivers.ramp import Array
from photonic.backends.visa.messages import Command, ask
from photonic.backends.visa.replies import OVER_RANGE, parse_number, parse_numbers
from photonic.backends.visa.session import ScpiSession
from photonic.errors import ProtocolError, ReadbackError


class ScpiLevels:
    """Reads and writes levels; a bank's ramp is the only one to hold it.

    Args:
        session: with the instrument.
        dialect: how it is spoken to.
        table: of weight banks.
        slew_v_per_s: of each channel, for instruments that limit it themselves.
        channels: that are used, from 0.
        present: that the instrument has.
    """

    def __init__(
        self,
        session: ScpiSession,
        dialect: Dialect,
        table: WeightTable,
        slew_v_per_s: Sequence[float] | None,
        channels: tuple[int, ...],
        present: int,
    ) -> None:
        self._session, self._dialect, self._table = session, dialect, table
        self._slew, self._channels, self._present = slew_v_per_s, channels, present
        self._whole = channels == tuple(range(present))

    @property
    def name(self) -> str:
        """The bank's."""
        return self._session.name

    def read_levels(self) -> Array:
        """(n_channels,) volts, read back."""
        if self._table.levels:
            everything = self._read_all()
            return everything if self._whole else everything[list(self._channels)]
        read = self._table.level_now or query_of(self._table.level)
        texts = [read.format(ch=number) for number in self._numbers()]
        return self._volts(self._session.run([ask(text) for text in texts]))

    def write_levels(self, levels_v: Array) -> None:
        """Sets (n_channels,) volts and reads them back."""
        if self._table.levels:
            self._write_block(levels_v)
        else:
            self._write_each(levels_v)

    def _write_block(self, levels_v: Array) -> None:
        everything = levels_v
        if not self._whole:
            everything = self._read_all()
            everything[list(self._channels)] = levels_v
        sent, found = self._wire(everything), self._wire(np.empty(self._present))
        self._session.run(
            [
                *self._mode(self._table.fixed),
                Command(self._table.levels, block=raw_bytes(sent)),
                Command(query_of(self._table.levels), into=raw_bytes(found)),
            ],
            preamble=self._preamble(),
        )
        self._compare(sent, found)

    def _write_each(self, levels_v: Array) -> None:
        numbers, texts = self._numbers(), [f"{level:.{self._table.decimals}f}" for level in levels_v]
        level = self._table.level
        settings = [Command(level.format(ch=number, volts=text)) for number, text in zip(numbers, texts, strict=True)]
        queries = [ask(query_of(setting.text)) for setting in settings]
        slews = [] if self._slew is None or not self._table.slew else [
            command
            for number, slew in zip(numbers, self._slew, strict=True)
            for command in self._dialect.setting(self._table.slew, ch=number, slew_v_per_s=slew)
        ]  # fmt: skip
        count = sum(command.query for command in (*slews, *self._mode(self._table.fixed)))
        answers = self._session.run([*slews, *self._mode(self._table.fixed), *settings, *queries])[count:]
        self._compare(levels_v, self._volts(answers))

    def write_list(self, levels_v: Array, dwell_s: float) -> None:
        """Sends (tiles, n_channels) volts that a play steps through, and reads them back."""
        (self._send_list_block if self._table.listed else self._send_lists)(levels_v, dwell_s)

    def _send_list_block(self, levels_v: Array, dwell_s: float) -> None:
        everything = levels_v
        if not self._whole:
            everything = np.repeat(self._read_all()[np.newaxis], len(levels_v), axis=0)
            everything[:, list(self._channels)] = levels_v
        sent, found = self._wire(everything), self._wire(np.empty_like(everything))
        self._session.run(
            [
                *self._dialect.setting(self._table.list_dwell, dwell_s=dwell_s),
                Command(self._table.listed, block=raw_bytes(sent)),
                Command(query_of(self._table.listed), into=raw_bytes(found)),
                *self._mode(self._table.list_mode),
            ],
            preamble=self._preamble(),
        )
        self._compare(sent, found)

    def _send_lists(self, levels_v: Array, dwell_s: float) -> None:
        """One list for each channel, as text, in a message of its own: it may be long."""
        table = self._table
        for number, column in zip(self._numbers(), levels_v.T, strict=True):
            values = ",".join(f"{level:.{table.decimals}f}" for level in column)
            text = table.list_level.format(ch=number, volts=values)
            dwell = self._dialect.setting(table.list_dwell, ch=number, dwell_s=dwell_s)
            prepare = commands([each.format(ch=number) for each in table.list_prepare])
            mode = self._dialect.setting(table.list_mode.format(ch=number))
            answers = self._session.run(
                [
                    *mode,
                    Command(text),
                    ask(query_of(text)),
                    *dwell,
                    *prepare,
                    *commands([table.list_arm.format(ch=number)]),
                ]
            )
            read = sum(command.query for command in mode)
            self._compare(column, np.array(self._session.parsed(parse_numbers, answers[read])))

    def _numbers(self) -> list[int]:
        return [channel + self._dialect.first_channel for channel in self._channels]

    def _volts(self, answers: Sequence[str]) -> Array:
        return np.array([self._session.parsed(parse_number, answer) for answer in answers])

    def _preamble(self) -> list[Command]:
        return [] if self._dialect.blocks is None else self._dialect.blocks.preamble("float64")

    def _wire(self, values: Array) -> NDArray[np.float64]:
        blocks = self._dialect.blocks
        return values if blocks is None else np.ascontiguousarray(values, dtype=blocks.dtype("float64"))

    def _read_all(self) -> Array:
        """(channels of the instrument,) volts."""
        found = self._wire(np.empty(self._present))
        self._session.run([Command(query_of(self._table.levels), into=raw_bytes(found))], preamble=self._preamble())
        levels = found.astype(np.float64)
        if not (np.abs(levels) < OVER_RANGE).all():  # NaN compares false
            self._session.close()
            raise ProtocolError(f"{self.name}: expected levels in volts, found numbers that are none")
        return levels

    def _mode(self, template: str) -> list[Command]:
        texts = each_channel(template, self._numbers()) if template else []
        return [command for text in texts for command in self._dialect.setting(text)]

    def _compare(self, sent: Array, found: Array) -> None:
        if sent.shape != found.shape:
            raise ReadbackError(f"{self.name}: {sent.size} levels were sent, {found.size} read back")
        apart = np.abs(found - sent)
        wrong = ~(apart <= self._table.resolution_v + 1e-9 * np.abs(sent))
        if wrong.any():
            where = int(np.flatnonzero(wrong.reshape(-1))[0])
            raise ReadbackError(
                f"{self.name}: {int(wrong.sum())} levels read back as others; the first was sent as "
                f"{float(sent.reshape(-1)[where]):.9g} V and reads {float(found.reshape(-1)[where]):.9g} V"
            )
