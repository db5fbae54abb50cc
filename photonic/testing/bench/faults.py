"""Faults of a virtual bench as data: which instrument, what goes wrong, and at which of its messages."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field

from photonic.errors import RecordError, SpecError
from photonic.records.base import Record

Kind = Literal[
    "delay",
    "silence",
    "drop",
    "truncate",
    "garbage",
    "wrong_length",
    "byte_order",
    "duplicate",
    "late",
    "stall",
    "errors",
    "identity",
    "reset",
    "interlock",
    "saturation",
    "drift",
    "dead_channel",
    "refuse",
]
_TEXT = re.compile(r"(?P<instrument>[\w-]+):(?P<kind>\w+)(?:@(?P<at>\d+))?(?:,(?P<rest>.*))?$", re.ASCII)


class Fault(Record):
    """One fault, counted in messages (lines) that its instrument gets from the moment the fault is set.

    As text: ``INSTRUMENT:KIND[@N][,key=value...]``, such as ``digitizer:drop@12,bytes=100``.

    ============  ==========================================================================================
    delay         the reply comes ``seconds`` later
    silence       no reply
    drop          the connection is closed after ``bytes`` of the reply (half of it)
    truncate      only ``bytes`` of the reply (half of it) come, without an end
    garbage       random bytes in place of the reply
    wrong_length  headers of blocks say ``amount`` bytes more (2 fewer) than come
    byte_order    the samples of blocks come in the other byte order
    duplicate     the reply comes twice
    late          the reply comes only with the next message, before its own
    stall         nothing is read for ``seconds`` before this message
    errors        ``amount`` (25) errors enter the queue first
    identity      another instrument answers from now on
    reset         power is lost: all settings are at their defaults, connections are closed
    interlock     the laser's interlock opens
    saturation    output ``channel`` is overloaded in the next record
    drift         all counts change by the relative ``amount`` (0.2) from now on
    dead_channel  output ``channel`` reads zero from now on
    refuse        connections are closed, and refused for ``seconds`` (0: until the fault is cleared)
    ============  ==========================================================================================

    What lasts ("from now on") ends when the fault is cleared.
    """

    instrument: str = Field(min_length=1, description="laser, awg, dac-1 ..., digitizer, tec or power_meter")
    kind: Kind
    at: int = Field(default=1, ge=1, description="the message that it happens to, 1 being the next one")
    times: int | None = Field(default=1, ge=1, description="how many messages in a row; None: all from then on")
    match: str = Field(default="*", description="only messages of this form count, e.g. *TRAC*DATA?*; case counts not")
    seconds: float = Field(default=1.0, ge=0, le=3600)
    bytes: int | None = Field(default=None, ge=0)
    channel: int = Field(default=1, ge=1, description="from 1")
    amount: float | None = None

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that a text names.

        Raises:
            SpecError: another form, an unknown kind or key, a value out of bounds.
        """
        found = _TEXT.match(text)
        if found is None:
            raise SpecError(f"a fault is INSTRUMENT:KIND[@N][,key=value...], found {text!r}")
        given: dict[str, Any] = {"instrument": found["instrument"], "kind": found["kind"], "at": int(found["at"] or 1)}
        for part in (found["rest"] or "").split(",") if found["rest"] else ():
            key, mark, value = part.partition("=")
            if not mark or key in given:
                raise SpecError(f"fault {text!r}: expected key=value, each key once, found {part!r}")
            given[key] = None if value == "none" else value
        try:
            return cls(**given)
        except RecordError as error:
            raise SpecError(f"fault {text!r}: {error}") from error


@dataclass
class Planned:
    """A fault that is set, and how far it has come."""

    number: int
    fault: Fault
    seen: int = 0
    fired: int = 0

    def due(self, text: str) -> bool:
        """Whether the next message, ``text``, is one that it happens to; does not count it."""
        fault = self.fault
        spent = fault.times is not None and self.fired >= fault.times
        return not spent and self.seen + 1 >= fault.at and fnmatchcase(text.upper(), fault.match.upper())


class FaultPlan:
    """The faults of a bench; safe under threads.

    Args:
        instruments: by name, that there are.
    """

    def __init__(self, instruments: Collection[str]) -> None:
        self._instruments = tuple(instruments)
        self._planned: list[Planned] = []
        self._lock = threading.Lock()
        self._numbers = 0
        self.messages: Counter[str] = Counter()

    def set(self, fault: Fault | str) -> int:
        """Sets a fault; returns its number.

        Raises:
            SpecError: of another instrument than there are, or a text that is no fault.
        """
        given = Fault.parse(fault) if isinstance(fault, str) else fault
        if given.instrument not in self._instruments:
            raise SpecError(f"the bench has {', '.join(self._instruments)}; found {given.instrument!r}")
        with self._lock:
            self._numbers += 1
            self._planned.append(Planned(self._numbers, given))
            return self._numbers

    def clear(self, number: int | None = None) -> list[Fault]:
        """Forgets one fault, or all; returns what was forgotten."""
        with self._lock:
            gone = [planned for planned in self._planned if number in (None, planned.number)]
            self._planned = [planned for planned in self._planned if planned not in gone]
        return [planned.fault for planned in gone]

    def report(self) -> list[dict[str, Any]]:
        """Each fault that is set, how many messages it has seen, and to how many it happened."""
        with self._lock:
            return [
                {"id": one.number, "seen": one.seen, "fired": one.fired, **one.fault.model_dump()}
                for one in self._planned
            ]

    def stall(self, instrument: str) -> float:
        """Seconds for which the instrument does not read before its next message."""
        with self._lock:
            due = [
                planned
                for planned in self._planned
                if planned.fault.kind == "stall" and planned.fault.instrument == instrument and planned.due("")
            ]
            for planned in due:
                planned.fired += 1
        return sum(planned.fault.seconds for planned in due)

    def take(self, instrument: str, text: str) -> list[Fault]:
        """The faults that happen to this message, which is counted."""
        found = []
        with self._lock:
            self.messages[instrument] += 1
            for planned in self._planned:
                fault = planned.fault
                if fault.instrument != instrument or not fnmatchcase(text.upper(), fault.match.upper()):
                    continue
                if fault.kind != "stall" and planned.due(text):
                    planned.fired += 1
                    found.append(fault)
                planned.seen += 1
        return found
