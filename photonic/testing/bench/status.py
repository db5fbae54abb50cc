"""Status of an instrument: error queue and registers (IEEE 488.2, chapter 11; SCPI-99, volume 1, chapter 9)."""

from __future__ import annotations

from collections import deque

from photonic.testing.bench.scpierror import ScpiError

DEPTH = 20
OPERATION_COMPLETE, POWER_ON = 1, 128
# event status bit of each class of errors: command, execution, device, query
_CLASSES = {1: 32, 2: 16, 3: 8, 4: 4}


class ErrorQueue:
    """First in, first out; when it is full its last entry becomes -350 and what comes later is lost."""

    def __init__(self) -> None:
        self._errors: deque[ScpiError] = deque()

    def push(self, error: ScpiError) -> None:
        """Adds an error."""
        if len(self._errors) < DEPTH:
            self._errors.append(error)
        else:
            self._errors[-1] = ScpiError(-350)

    def pop(self) -> ScpiError:
        """The oldest error; code 0 when there is none."""
        return self._errors.popleft() if self._errors else ScpiError(0)

    def drain(self) -> list[ScpiError]:
        """All errors; one of code 0 when there is none."""
        found = list(self._errors) or [ScpiError(0)]
        self._errors.clear()
        return found

    def clear(self) -> None:
        """Forgets all errors."""
        self._errors.clear()

    def __len__(self) -> int:
        return len(self._errors)


class Register:
    """A SCPI status register: condition, event and enable."""

    def __init__(self) -> None:
        self.condition = self.event = self.enable = 0

    def set(self, bit: int, on: bool) -> None:
        """Changes a condition bit; a rise is latched in the event register."""
        if on and not self.condition & bit:
            self.event |= bit
        self.condition = self.condition | bit if on else self.condition & ~bit

    def take_event(self) -> int:
        """The event register, which reading clears."""
        event, self.event = self.event, 0
        return event

    @property
    def summary(self) -> bool:
        """Whether an enabled event is set."""
        return bool(self.event & self.enable)


class Status:
    """Error queue, standard event status, operation and questionable registers."""

    def __init__(self) -> None:
        self.errors = ErrorQueue()
        self.operation, self.questionable = Register(), Register()
        self.event = POWER_ON
        self.event_enable = self.service_enable = 0

    def report(self, error: ScpiError) -> None:
        """Puts an error into the queue and sets its bit of the event status register."""
        self.errors.push(error)
        self.event |= _CLASSES.get(-error.code // 100, 0)

    def take_event(self) -> int:
        """The standard event status register, which reading clears."""
        event, self.event = self.event, 0
        return event

    def byte(self, message_available: bool) -> int:
        """The status byte: errors 4, questionable 8, message 16, event 32, summary 64, operation 128."""
        byte = 4 * bool(len(self.errors)) + 8 * self.questionable.summary + 16 * message_available
        byte += 32 * bool(self.event & self.event_enable) + 128 * self.operation.summary
        return byte + 64 * bool(byte & self.service_enable & ~64)

    def clear(self) -> None:
        """``*CLS``: events and errors; enables stay."""
        self.errors.clear()
        self.event = self.operation.event = self.questionable.event = 0
