"""Qontrol's heater drivers (Q8iv and relatives) on a serial line: ASCII, but not SCPI. Not yet run on hardware.

A message is a line: ``V3=1.0000`` is answered by ``OK``, ``V3?`` by a line with the value, ``VALL?`` by one line for
each channel; an error is a line such as ``E01:03`` (code 1, channel 3), and may come at any time. ``ID?`` names the
module and ``NCHAN?`` its channels. What reads back is measured, so it differs by the converter's noise. There is no
output switch and no list. (Qontrol's public Python interface, version 1.1.20.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.blocks import BUFFER_BYTES, Answer
from photonic.backends.visa.deadline import Deadline
from photonic.backends.visa.dialect import Dialect, WeightTable
from photonic.backends.visa.drivers.base import chosen_channels
from photonic.backends.visa.drivers.ramp import Array, Ramp
from photonic.backends.visa.limits import PowerBudget, WeightLimits
from photonic.backends.visa.owner import Owner, owned
from photonic.backends.visa.replies import parse_number
from photonic.backends.visa.roles import Identity, Setting
from photonic.backends.visa.streams import ByteStream
from photonic.backends.visa.transcript import Transcript
from photonic.errors import (
    DisconnectedError,
    IdentityError,
    InstrumentError,
    LimitError,
    ProtocolError,
    ReadbackError,
    SpecError,
)

MAKER = "Qontrol"
_ERROR = re.compile(r"[A-Za-z]{1,3}(\d+):(\d+)\Z")
_IDENTITY = re.compile(r"([A-Za-z]+\d\w*)-([0-9a-fA-F*]+)\Z")
_VALUE = re.compile(r"(?:[A-Za-z]+\d*\s*=\s*)?([+-]?[\d.]+)\s*V?\Z")
# codes of the public interface
ERRORS = {
    1: "over-voltage",
    2: "over-current",
    3: "power error",
    4: "calibration error",
    5: "output error",
    10: "unrecognised command",
    11: "unrecognised parameter",
    12: "unrecognised channel",
    13: "operation forbidden",
    14: "serial buffer overflow",
    15: "serial communication error",
    16: "command timed out",
    90: "powered up",
}


class QontrolLine:
    """Lines to and from a Qontrol module; any doubt closes the connection.

    Args:
        name: in the bench file.
        connect: opens the connection.
        identity: regular expression that the module's own name must match.
        timeout_s: of each exchange.
        transcript: of all exchanges.
        owner: of the thread that uses it.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], ByteStream],
        *,
        identity: str,
        timeout_s: float,
        transcript: Transcript | None,
        owner: Owner,
    ) -> None:
        self.name, self._connect, self._identity, self._timeout_s = name, connect, identity, timeout_s
        self._transcript, self._owner = transcript, owner
        self._stream: ByteStream | None = None
        self._who: Identity | None = None
        self._buffer = bytearray(BUFFER_BYTES)

    def identify(self) -> Identity:
        """Asks for the module's name; raises IdentityError where it is not the expected one."""
        self._opened()
        return self._named(self._exchange("ID?", 1))

    def ask(self, text: str, lines: int = 1) -> list[str]:
        """A line that is answered by one or more; raises InstrumentError, or as a session does."""
        self._opened()
        return self._exchange(text, lines)

    def set(self, text: str) -> None:
        """A setting, which is answered by OK."""
        (answer,) = self.ask(text)
        if answer != "OK":
            self.close()
            raise ProtocolError(f"{self.name}: expected OK for {text}, found {answer[:60]!r}")

    def value(self, answer: str) -> float:
        """The number of a line such as ``V3=1.0000 V``; one that has none closes the connection."""
        found = _VALUE.match(answer)
        if found is None:
            self.close()
            raise ProtocolError(f"{self.name}: expected a value, found {answer[:60]!r}")
        return parse_number(self.name, found[1])

    def close(self) -> None:
        """Closes the connection; the next exchange opens it again."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _opened(self) -> None:
        if self._stream is None:
            self._stream = self._connect()
            self._named(self._exchange("ID?", 1))

    def _named(self, answers: Sequence[str]) -> Identity:
        found = _IDENTITY.match(answers[0])
        who = Identity(MAKER, found[1], found[2], "") if found else None
        if who is None or not re.search(self._identity, answers[0]) or self._who not in (None, who):
            self.close()
            expected = self._identity if self._who is None else f"{self._who.model}-{self._who.serial}"
            raise IdentityError(f"{self.name}: expected a module whose ID? matches {expected!r}, found {answers[0]!r}")
        self._who = who
        return who

    def _exchange(self, text: str, lines: int) -> list[str]:
        answers: list[str] = []
        error: BaseException | None = None
        self._owner.expect_by(self._timeout_s)
        try:
            stream = self._stream
            if stream is None:
                raise DisconnectedError(f"{self.name}: not connected")
            deadline = Deadline(self.name, self._timeout_s, self._owner.interrupted)
            stream.send([f"{text}\n".encode("ascii")], deadline)
            answer = Answer(self.name, stream, deadline, self._buffer)
            while len(answers) < lines:
                answers.append(answer.text())
                self._raise_error(text, answers[-1])
            answer.finish()
        except BaseException as caught:
            error = caught
            self.close()  # lines that are still on their way belong to nobody
            raise
        finally:
            self._owner.expect_by(None)
            if self._transcript is not None:
                self._transcript.write(self.name, [text], answers, error)
        return answers

    def _raise_error(self, text: str, answer: str) -> None:
        found = _ERROR.match(answer)
        if found:
            code = int(found[1])
            words = ERRORS.get(code, "unknown error")
            raise InstrumentError(f"{self.name} refused {text}: {answer}: {words}, channel {found[2]}", code, words)


class _QontrolLevels:
    """Reads and writes levels; the bank's ramp is the only one to hold it."""

    def __init__(self, line: QontrolLine, table: WeightTable, channels: tuple[int, ...], present: int) -> None:
        self._line, self._table, self._channels, self._present = line, table, channels, present

    def read_levels(self) -> Array:
        """(n_channels,) measured volts."""
        everything = [self._line.value(answer) for answer in self._line.ask("VALL?", self._present)]
        return np.array(everything)[list(self._channels)]

    def write_levels(self, levels_v: Array) -> None:
        """Sets one channel after another, and reads all of them back."""
        for channel, level in zip(self._channels, levels_v, strict=True):
            self._line.set(f"V{channel}={level:.{self._table.decimals}f}")
        apart = np.abs(self.read_levels() - levels_v)
        if not (apart <= self._table.resolution_v).all():
            worst = int(apart.argmax())
            raise ReadbackError(
                f"{self._line.name}: channel {self._channels[worst]} was set to {levels_v[worst]:.4f} V and reads "
                f"{apart[worst]:.4f} V away from it; is its load connected?"
            )


class QontrolWeights:
    """A weight bank; see ``photonic.backends.visa.roles.WeightBank``. Not yet run on hardware.

    Args:
        line: to the module.
        owner: of the line.
        dialect: for the number of its first channel, and the table of weight banks.
        table: that table.
        limits: one entry for each channel.
        channels: that are used.
        settle_time_s: waited after a programming.
        budget: heater power of the bench.
    """

    def __init__(
        self,
        line: QontrolLine,
        owner: Owner,
        dialect: Dialect,
        table: WeightTable,
        limits: WeightLimits,
        channels: Sequence[int],
        settle_time_s: float,
        budget: PowerBudget | None = None,
    ) -> None:
        if len(channels) != limits.n_channels:
            raise SpecError(f"{line.name}: {len(channels)} channels are used, but {limits.n_channels} have limits")
        if dialect.first_channel != 0:
            raise SpecError(f"{line.name}: Qontrol counts channels from 0, found {dialect.first_channel}")
        self._line, self._owner, self._table, self._asked = line, owner, table, channels
        self._settle_s = settle_time_s
        self.__limits, self.__budget = limits, budget
        self.__ramps: list[Ramp] = []
        self.__levels: list[_QontrolLevels] = []

    @property
    def name(self) -> str:
        """As the protocol says."""
        return self._line.name

    @property
    def n_channels(self) -> int:
        """As the protocol says."""
        return len(self._asked)

    @property
    def list_length(self) -> int:
        """As the protocol says: it has no list."""
        return 1

    @owned
    def identify(self) -> Identity:
        """As the protocol says."""
        return self._line.identify()

    @owned
    def connect(self) -> None:
        """Asks for the number of channels, and notes the power that their levels take."""
        present = int(self._line.value(self._line.ask("NCHAN?")[0]))
        channels = chosen_channels(self.name, self._asked, present)
        levels = _QontrolLevels(self._line, self._table, channels, present)
        self.__levels = [levels]
        self.__ramps = [Ramp(self.name, levels, self._owner, self.__limits, self.__budget)]
        self.__ramps[0].adopt()

    @owned
    def snapshot(self) -> Mapping[str, Setting]:
        """As the protocol says."""
        return {"measured_v": [float(level) for level in self.__levels[0].read_levels()]}

    @owned
    def levels_v(self) -> NDArray[np.float64]:
        """As the protocol says; measured."""
        return self.__levels[0].read_levels()

    @owned
    def program(self, levels_v: NDArray[np.float64]) -> None:
        """As the protocol says."""
        self.__ramps[0].to(levels_v)
        self._owner.sleep(self._settle_s)

    def program_list(self, levels_v: NDArray[np.float64], dwell_s: float) -> None:
        """As the protocol says; raises LimitError, because it has no list."""
        raise LimitError(f"{self.name}: Qontrol has no list; program tile by tile. Nothing was sent")

    def enabled(self) -> bool:
        """As the protocol says: it has no switch, and is on."""
        return True

    @owned
    def enable(self) -> None:
        """As the protocol says: what reads back is checked."""
        self.__ramps[0].check_found()

    @owned
    def disable(self) -> None:
        """As the protocol says: ramps to the safe level."""
        self.__ramps[0].to(self.__ramps[0].safe())

    @owned
    def writes(self) -> int | None:
        """As the protocol says: since it was opened."""
        return self.__ramps[0].writes

    def make_safe(self) -> None:
        """As the protocol says."""
        self._owner.urgent(self._safe)

    def close(self) -> None:
        """As the protocol says."""
        self._owner.close(self._line.close)

    def _safe(self) -> None:
        try:
            self.__ramps[0].to_safe()
        except (DisconnectedError, InstrumentError, ProtocolError):
            self.__ramps[0].to_safe()
