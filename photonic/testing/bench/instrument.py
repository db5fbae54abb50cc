"""What every instrument of the virtual bench has: common commands, status, settings, data formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from photonic.errors import PhotonicError
from photonic.testing.bench.message import Block, Message
from photonic.testing.bench.parameters import Number, choice, long_or_short, number, switch, word
from photonic.testing.bench.scpierror import ScpiError
from photonic.testing.bench.status import OPERATION_COMPLETE, Status
from photonic.testing.bench.tree import Answer, Command, CommandTree, Suffixes
from photonic.testing.bench.units import Parameter, Unit, units

Reply = list[bytes | memoryview]
FIRMWARE, SCPI_VERSION, MANUFACTURER = "1.0", "1999.0", "PHOTONIC"
_FORMATS = {"INT,16": "i2", "REAL,32": "f4", "REAL,64": "f8"}


@dataclass
class Format:
    """How blocks are encoded; the byte order's default is the standard's, most significant byte first."""

    kind: str
    swapped: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples on the wire."""
        return np.dtype(("<" if self.swapped else ">") + _FORMATS[self.kind])

    def decode(self, parameter: Parameter) -> NDArray[Any]:
        """Samples of a block, a view of its bytes.

        Raises:
            ScpiError: not a block, or not a whole number of samples.
        """
        if isinstance(parameter, str):
            raise ScpiError(-104 if not parameter.startswith("#") else -161, "expected a block")
        if len(parameter) % self.dtype.itemsize:
            raise ScpiError(-161, f"{len(parameter)} bytes are no whole number of {self.kind} samples")
        return parameter.view(self.dtype)

    def encode(self, samples: NDArray[Any]) -> list[bytes | memoryview]:
        """Header and payload of a definite-length block."""
        payload = np.ascontiguousarray(samples).astype(self.dtype, copy=False).reshape(-1).view(np.uint8)
        size = str(payload.size)
        return [f"#{len(size)}{size}".encode(), payload.data]


class Instrument:
    """An instrument behind a SCPI front; subclasses add ``commands``.

    Args:
        name: key of the instrument on its bench, such as ``laser``.
        serial: serial number.
        block_format: default of ``FORM``, for those with blocks.

    Attributes:
        identity: what ``*IDN?`` answers.
        values: settings by name.
        status: error queue and registers.
    """

    model: ClassVar[str] = ""

    def __init__(self, name: str, serial: str, block_format: str = "REAL,64") -> None:
        self.name = name
        self.identity = ",".join((MANUFACTURER, self.model, serial, FIRMWARE))
        self.status = Status()
        self._noted: list[dict[str, float | str]] = []
        self._failed: list[int] = []
        self.values: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}
        self._block_format = block_format
        self.format = Format(block_format)
        self._tree = CommandTree([*self._common(), *self._system(), *self.commands()])

    def commands(self) -> Sequence[Command]:
        """The instrument's own commands."""
        return ()

    def reset(self) -> None:
        """``*RST``: settings as after power-on; status and error queue stay."""
        self.values.update(
            {name: value.copy() if hasattr(value, "copy") else value for name, value in self._defaults.items()}
        )
        self.format = Format(self._block_format)

    def power_cycle(self) -> None:
        """Power was lost and came back."""
        self.status = Status()
        self.reset()

    def execute(self, message: Message) -> Reply:
        """Executes a message; errors go to the queue. Returns the answers to its queries, without terminator."""
        answers: Reply = []
        self._path = ""  # in which a header without leading colon begins (SCPI-99, volume 1, 6.2.4)
        for unit in units(message):
            try:
                if isinstance(unit, ScpiError):
                    raise unit
                answer = self._execute(unit, bool(answers))
            except ScpiError as error:
                self._fail(error)
            except PhotonicError as error:  # of the chip behind the bench
                self._fail(ScpiError(-300, str(error)))
            else:
                if answer is not None:
                    answers += [b";"] if answers else []
                    answers += [answer.encode()] if isinstance(answer, str) else answer
        return answers

    def note(self, what: str, **numbers: float) -> None:
        """Notes what a command was understood to mean, for the transcript."""
        self._noted.append({"what": what, **numbers})

    def take_notes(self) -> tuple[list[dict[str, float | str]], list[int]]:
        """What was noted, and the codes of the errors, since the last time."""
        found = self._noted, self._failed
        self._noted, self._failed = [], []
        return found

    def _fail(self, error: ScpiError) -> None:
        self._failed.append(error.code)
        self.status.report(error)

    def _execute(self, unit: Unit, available: bool) -> Answer | None:
        """Answer of a unit; the path goes on with its header, whether it succeeds or not."""
        if unit.header.startswith("*"):
            header = unit.header
        else:
            header = unit.header[1:] if unit.header.startswith(":") else self._path + unit.header
            self._path = header[: header.rfind(":") + 1]
        command, suffixes = self._tree.find(header)
        act = command.query if unit.query else command.write
        if act is None:
            raise ScpiError(-113, header[:60] + "?" * unit.query)
        command.check(unit.query, len(unit.parameters))
        self._available = available
        return act(suffixes, unit.parameters)

    # ------------------------------------------------------------ settings

    def setting(self, pattern: str, name: str, kind: Number, changed: Callable[[float], None] | None = None) -> Command:
        """A number with its query, which also answers MIN, MAX and DEF; ``changed`` may refuse it."""
        self.values[name] = self._defaults[name] = kind.default

        def write(suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
            value = kind.read(parameters[0])
            if changed is not None:
                changed(value)
            self.values[name] = value

        def query(suffixes: Suffixes, parameters: Sequence[Parameter]) -> str:
            return kind.answer(self.values[name] if not parameters else _named(kind, parameters[0]))

        return Command(pattern, write, query, query_parameters=(0, 1))

    def switch(self, pattern: str, name: str, changed: Callable[[bool], None] | None = None) -> Command:
        """An output that is on or off, off by default; ``changed`` may refuse it."""
        self.values[name] = self._defaults[name] = False

        def write(suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
            on = switch(parameters[0])
            if changed is not None:
                changed(on)
            self.values[name] = on

        return Command(pattern, write, lambda suffixes, parameters: str(int(self.values[name])))

    def choice(self, pattern: str, name: str, words: Sequence[str], default: str) -> Command:
        """One of several words."""
        self.values[name] = self._defaults[name] = default

        def write(suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
            self.values[name] = choice(parameters[0], words)

        return Command(pattern, write, lambda suffixes, parameters: str(self.values[name]))

    @staticmethod
    def constant(pattern: str, value: int) -> Command:
        """A whole number that cannot be set; MIN, MAX and DEF are the same."""
        return Command(pattern, None, lambda suffixes, parameters: str(value), query_parameters=(0, 1))

    @staticmethod
    def action(pattern: str, act: Callable[[], None]) -> Command:
        """A command without parameters or query."""
        return Command(pattern, lambda suffixes, parameters: act(), None, parameters=(0, 0))

    def formats(self) -> Sequence[Command]:
        """``FORM`` and ``FORM:BORD``, for instruments with blocks."""

        def kind(suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
            name = choice(parameters[0], ("INTeger", "REAL"))
            size = int(number(word(parameters[1]), "")) if len(parameters) > 1 else {"INT": 16, "REAL": 64}[name]
            if f"{name},{size}" not in _FORMATS:
                raise ScpiError(-224, f"{name},{size}")
            self.format.kind = f"{name},{size}"

        def order(suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
            self.format.swapped = choice(parameters[0], ("NORMal", "SWAPped")) == "SWAP"

        return (
            Command("FORMat[:DATA]", kind, lambda suffixes, parameters: self.format.kind, parameters=(1, 2)),
            Command("FORMat:BORDer", order, lambda suffixes, parameters: "SWAP" if self.format.swapped else "NORM"),
        )

    # ------------------------------------------------------------ IEEE 488.2 and SYSTem

    def _common(self) -> Sequence[Command]:
        def completed(suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
            self.status.event |= OPERATION_COMPLETE

        def register(pattern: str, name: str) -> Command:
            def write(suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
                setattr(self.status, name, int(Number("", 0, 255, 0, whole=True).read(parameters[0])))

            return Command(pattern, write, lambda suffixes, parameters: str(getattr(self.status, name)))

        return (
            Command("*IDN", None, lambda suffixes, parameters: self.identity),
            self.action("*RST", self.reset),
            self.action("*CLS", lambda: self.status.clear()),
            self.action("*WAI", lambda: None),
            self.action("*TRG", self.trigger),
            Command("*OPC", completed, lambda suffixes, parameters: "1", parameters=(0, 0)),
            Command("*ESR", None, lambda suffixes, parameters: str(self.status.take_event())),
            Command("*STB", None, lambda suffixes, parameters: str(self.status.byte(self._available))),
            Command("*TST", None, lambda suffixes, parameters: "0"),
            register("*ESE", "event_enable"),
            register("*SRE", "service_enable"),
        )

    def trigger(self) -> None:
        """``*TRG``.

        Raises:
            ScpiError: nothing waits for a trigger.
        """
        raise ScpiError(-211)

    def _system(self) -> Sequence[Command]:
        def plain(pattern: str, answer: Callable[[], str]) -> Command:
            return Command(pattern, None, lambda suffixes, parameters: answer())

        found = [
            plain("SYSTem:ERRor[:NEXT]", lambda: self.status.errors.pop().response()),
            plain("SYSTem:ERRor:ALL", lambda: ",".join(error.response() for error in self.status.errors.drain())),
            plain("SYSTem:ERRor:COUNt", lambda: str(len(self.status.errors))),
            plain("SYSTem:VERSion", lambda: SCPI_VERSION),
        ]
        for spelled, name in (("OPERation", "operation"), ("QUEStionable", "questionable")):
            found += self._registers(f"STATus:{spelled}", name)
        return found

    def _registers(self, prefix: str, name: str) -> Sequence[Command]:
        def enable(suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
            getattr(self.status, name).enable = int(Number("", 0, 32767, 0, whole=True).read(parameters[0]))

        return (
            Command(f"{prefix}:CONDition", None, lambda s, p: str(getattr(self.status, name).condition)),
            Command(f"{prefix}[:EVENt]", None, lambda s, p: str(getattr(self.status, name).take_event())),
            Command(f"{prefix}:ENABle", enable, lambda s, p: str(getattr(self.status, name).enable)),
        )


def channel(suffixes: Suffixes, channels: int) -> int:
    """Index, from 0, of a numbered header.

    Raises:
        ScpiError: there is no such channel.
    """
    if not 1 <= suffixes[0] <= channels:
        raise ScpiError(-114, f"channels 1 to {channels}, found {suffixes[0]}")
    return suffixes[0] - 1


def whole_codes(samples: NDArray[Any], low: float, high: float, bits: int | None) -> NDArray[Any]:
    """Codes of a converter as they came, once they are known to be codes.

    Raises:
        ScpiError: out of range, not finite, or between two codes.
    """
    if samples.size and not (low <= samples.min() and samples.max() <= high):  # NaN fails too
        raise ScpiError(-222, f"codes {low:g} to {high:g}, found {samples.min():g} to {samples.max():g}")
    if bits is None or samples.dtype.kind == "i":
        return samples
    if (np.rint(samples) != samples).any():
        raise ScpiError(-222, "codes are whole numbers")
    return samples


def _named(kind: Number, parameter: Parameter) -> float:
    value = kind.named(word(parameter))
    if value is None:
        raise ScpiError(-224, "MIN, MAX or DEF")
    return value


__all__ = ["Block", "Format", "Instrument", "Reply", "channel", "long_or_short", "whole_codes"]
