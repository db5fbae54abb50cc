"""Red Pitaya STEMlab 125-14: two outputs and two inputs behind a SCPI server. Not yet run on hardware.

Commands are those of the public command list (OS 2.07-43 or later, which knows the byte order). A waveform goes as
text, because its parser takes numbers only; its buffer of 16384 samples is one period, so that the frequency of a
period is the sample rate divided by the samples. An input records into a ring of 16384 samples with the trigger in its
middle: 8192 of them come after it. It is triggered by the board's own source (AWG_PE); there is no marker output and no
list of segments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.blocks import raw_bytes
from photonic.backends.visa.deadline import Deadline
from photonic.backends.visa.dialect import Dialect
from photonic.backends.visa.drivers.base import ChannelDriver, chosen_channels
from photonic.backends.visa.limits import CodeLimits
from photonic.backends.visa.messages import Command, ask
from photonic.backends.visa.owner import Owner, owned
from photonic.backends.visa.replies import parse_bool, parse_count
from photonic.backends.visa.session import ScpiSession
from photonic.errors import LimitError, ProtocolError, RangeError

CHANNELS, RING_SAMPLES, AFTER_TRIGGER = 2, 16384, 8192
CLOCK_HZ = 125e6
GAINS = {1.0: "LV", 0.05: "HV"}
POLL_S = 1e-3


def _read(text: str) -> list[Command]:
    """A setting and its query."""
    header, _, value = text.partition(" ")
    return [Command(text), ask(f"{header}?", value)]


class RedPitayaSource(ChannelDriver):
    """Its two outputs; see ``photonic.backends.visa.roles.InputModulator``. Not yet run on hardware.

    Args:
        session: with the board.
        owner: of the session.
        dialect: how it is spoken to.
        limits: codes; the greatest magnitude is full scale, 1 V.
        rate_hz: sample rate.
        channels: that are used; None: both.
    """

    granularity_samples = 1
    minimum_samples = 2
    memory_samples = RING_SAMPLES

    def __init__(
        self,
        session: ScpiSession,
        owner: Owner,
        dialect: Dialect,
        limits: CodeLimits,
        rate_hz: float,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(session, owner, dialect)
        self.__limits, self._rate_hz = limits, rate_hz
        self._channels = chosen_channels(self.name, channels, CHANNELS)
        self._scale = max(abs(limits.code_min), abs(limits.code_max))

    @owned
    def load(self, waveforms: NDArray[np.generic], *, segments: int, repeats: int, marker: tuple[int, int]) -> None:
        """As the protocol says; the marker is not an output of this board, whose input starts with the waveform."""
        self.__limits.check(self.name, waveforms)
        channels, samples = waveforms.shape
        if channels != self.n_channels or not self.minimum_samples <= samples <= RING_SAMPLES:
            raise LimitError(
                f"{self.name}: expected {self.n_channels} waveforms of {self.minimum_samples} to {RING_SAMPLES} "
                f"samples, found {waveforms.shape}; nothing was sent"
            )
        for number, row in zip(self._numbers(), waveforms, strict=True):
            values = ",".join(f"{value:.6f}" for value in np.asarray(row, dtype=np.float64) / self._scale)
            self._session.run(
                [
                    *_read(f":SOUR{number}:FUNC ARBITRARY"),
                    *_read(f":SOUR{number}:FREQ:FIX {self._rate_hz / samples:.6f}"),
                    *_read(f":SOUR{number}:VOLT 1"),
                    *_read(f":SOUR{number}:BURS:STAT BURST"),
                    *_read(f":SOUR{number}:BURS:NCYC {repeats}"),
                    *_read(f":SOUR{number}:BURS:NOR 1"),
                    Command(f":SOUR{number}:TRAC:DATA:DATA {values}"),
                ]
            )

    @owned
    def enabled(self) -> bool:
        """As the protocol says: whether any output is on."""
        answers = self._session.run([ask(f":OUTPUT{number}:STATE?") for number in self._numbers()])
        return any(self._session.parsed(parse_bool, answer) for answer in answers)

    @owned
    def enable(self) -> None:
        """As the protocol says."""
        self._session.run([*self._idle(), *self._switch("ON")])

    @owned
    def park(self) -> None:
        """As the protocol says; what is played ends."""
        self._session.run([*self._switch("OFF"), *self._idle(), *self._switch("ON")])

    @owned
    def disable(self) -> None:
        """As the protocol says."""
        self._session.run(self._switch("OFF"))

    @owned
    def arm(self) -> None:
        """As the protocol says."""
        self._session.run([command for number in self._numbers() for command in _read(f":SOUR{number}:TRig:SOUR INT")])

    @owned
    def trigger(self) -> None:
        """As the protocol says; one command starts both outputs."""
        self._session.run([Command(":SOUR:TRig:INT"), ask("*OPC?", "1")])

    def make_safe(self) -> None:
        """As the protocol says."""
        self._owner.urgent(lambda: self._insist(self.disable))

    def _idle(self) -> list[Command]:
        level = f"{self.__limits.idle_code / self._scale:.6f}"
        return [
            command
            for number in self._numbers()
            for header in (f":SOUR{number}:INITValue", f":SOUR{number}:BURS:LASTValue")
            for command in _read(f"{header} {level}")
        ]

    def _switch(self, state: str) -> list[Command]:
        return [command for number in self._numbers() for command in _read(f":OUTPUT{number}:STATE {state}")]

    def _numbers(self) -> list[int]:
        return [self._channel(channel) for channel in self._channels]

    def _recorded(self) -> Mapping[str, str]:
        return {f"frequency_{number}_hz": f":SOUR{number}:FREQ:FIX?" for number in self._numbers()}


class RedPitayaDigitizer(ChannelDriver):
    """Its two inputs; see ``photonic.backends.visa.roles.Digitizer``. Not yet run on hardware.

    Args:
        session: with the board.
        owner: of the session.
        dialect: how it is spoken to.
        limits: codes that its converter can give.
        channels: that are used; None: both.
    """

    memory_samples = AFTER_TRIGGER

    def __init__(
        self,
        session: ScpiSession,
        owner: Owner,
        dialect: Dialect,
        limits: CodeLimits,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(session, owner, dialect)
        self._limits, self._samples = limits, 0
        self._channels = chosen_channels(self.name, channels, CHANNELS)

    @owned
    def configure(self, samples: int, segments: int, *, rate_hz: float, gain: float = 1.0) -> None:
        """As the protocol says: one segment; the rate is the clock's divided by a whole number; gain 1 or 1/20."""
        if segments != 1 or not 1 <= samples <= AFTER_TRIGGER:
            raise LimitError(
                f"{self.name}: expected one segment of 1 to {AFTER_TRIGGER} samples, found {segments} of {samples}; "
                "nothing was sent"
            )
        factor = round(CLOCK_HZ / rate_hz) if math.isfinite(rate_hz) and rate_hz > 0 else 0
        if not 1 <= factor <= 65536 or not math.isclose(CLOCK_HZ / factor, rate_hz, rel_tol=1e-9) or gain not in GAINS:
            raise LimitError(
                f"{self.name}: expected a rate of {CLOCK_HZ:g} Hz divided by 1 to 65536 and a gain of {tuple(GAINS)}, "
                f"found {rate_hz} Hz and {gain}; nothing was sent"
            )
        self._samples = 0
        settings = [
            f":ACQ:DEC:Factor {factor}",
            ":ACQ:DATA:FORMAT BIN",
            ":ACQ:DATA:BYTE:ORDER BEND",
            ":ACQ:DATA:Units RAW",
            ":ACQ:TRig:DLY 0",
            *(f":ACQ:SOUR{self._channel(channel)}:GAIN {GAINS[gain]}" for channel in self._channels),
        ]
        self._session.run([Command(":ACQ:RST"), *(command for text in settings for command in _read(text))])
        self._samples = samples

    @owned
    def arm(self) -> None:
        """As the protocol says; each record needs a start of its own."""
        self._session.run([Command(":ACQ:START"), Command(":ACQ:TRig AWG_PE")])

    @owned
    def fetch(self, channels: Sequence[int]) -> NDArray[np.generic]:
        """As the protocol says: samples from the trigger on."""
        if not self._samples:
            raise RangeError(f"{self.name}: configure it before a record is fetched")
        if not all(0 <= channel < self.n_channels for channel in channels):
            raise RangeError(f"{self.name} has channels 0 to {self.n_channels - 1}, found {tuple(channels)}")
        self._await(":ACQ:TRig:STAT?", "TD")
        self._await(":ACQ:TRig:FILL?", "1")
        position = self._session.parsed(parse_count, self._session.query(":ACQ:TPOS?"))
        record = np.empty((len(channels), self._samples), dtype=">i2")
        self._session.run(
            [
                Command(
                    f":ACQ:SOUR{self._channel(self._channels[channel])}:DATA:Start:N? {position},{self._samples}",
                    into=raw_bytes(row),
                )
                for channel, row in zip(channels, record, strict=True)
            ]
        )
        found = record.astype(np.int16)
        if not self._limits.holds(found):
            raise ProtocolError(
                f"{self.name}: expected codes within {self._limits.code_min:g} and {self._limits.code_max:g}, found "
                f"{int(found.min())} to {int(found.max())}; a wrong byte order?"
            )
        return found

    @owned
    def _stop(self) -> None:
        self._session.run([Command(":ACQ:STOP")])

    def make_safe(self) -> None:
        """As the protocol says."""
        self._owner.urgent(lambda: self._insist(self._stop))

    def _await(self, query: str, answer: str) -> None:
        deadline = Deadline(self.name, self._session.timeout_s, self._owner.interrupted)
        while self._session.query(query).strip() != answer:
            deadline.remaining_s("recording; did the trigger come")
            self._owner.sleep(POLL_S)

    def _recorded(self) -> Mapping[str, str]:
        return {"decimation": ":ACQ:DEC:Factor?", "units": ":ACQ:DATA:Units?"}
