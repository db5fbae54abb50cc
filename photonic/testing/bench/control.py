"""The control port: JSON lines that set faults, read the transcript and turn the clock, out of band."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from photonic.errors import PhotonicError
from photonic.testing.bench.effects import Effects
from photonic.testing.bench.faults import Fault, FaultPlan
from photonic.testing.bench.model import Bench
from photonic.testing.bench.transcript import ENTRIES, Transcript

_LINE = 2**20
Request = Mapping[str, Any]


class ControlService:
    """Answers one JSON object a line with one JSON object a line, ``ok`` and either ``result`` or ``error`` in it.

    ==================  =========================================================================
    ``set_fault``       ``fault``: text, or an object of ``Fault``'s fields; its number
    ``clear_faults``    ``id`` of one, else all; how many
    ``faults``          those that are set, and how far they have come
    ``transcript``      ``since``, ``instrument``, ``limit``; entries
    ``state``           settings of all instruments
    ``advance``         ``seconds`` of the bench's time pass
    ``interlock``       ``closed``
    ``stop``            the bench stops
    ==================  =========================================================================
    """

    def __init__(
        self, bench: Bench, plan: FaultPlan, effects: Effects, transcript: Transcript, stop: Callable[[], None]
    ) -> None:
        self._bench, self._plan, self._effects, self._transcript = bench, plan, effects, transcript
        self._operations: Mapping[str, Callable[[Request], Any]] = {
            "set_fault": self._set,
            "clear_faults": lambda request: self.clear(request.get("id")),
            "faults": lambda request: plan.report(),
            "transcript": self._entries,
            "state": lambda request: self.state(),
            "advance": self._advance,
            "interlock": self._interlock,
            "stop": lambda request: stop(),
        }

    def serve(self, connection: socket.socket) -> None:
        """Answers line after line until the client leaves."""
        with connection.makefile("rb") as lines:
            while line := lines.readline(_LINE):
                connection.sendall(json.dumps(self.answer(line), default=_plain).encode() + b"\n")

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one line, whatever it is."""
        try:
            request = json.loads(line)
            operation = self._operations.get(request["op"]) if isinstance(request, dict) else None
            if operation is None:
                raise ValueError(f"expected an object with op, one of {', '.join(self._operations)}")
            return {"ok": True, "result": operation(request)}
        except (PhotonicError, ValueError, TypeError, KeyError, RecursionError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def clear(self, number: int | None = None) -> int:
        """Clears one fault, or all; returns how many."""
        gone = self._plan.clear(number)
        with self._bench.lock:
            self._effects.end(gone)
        return len(gone)

    def state(self) -> dict[str, Any]:
        """Settings of all instruments, levels in summary, and what the chip has spent."""
        bench = self._bench
        with bench.lock:
            found: dict[str, Any] = {
                name: {**instrument.values, "identity": instrument.identity, "errors": len(instrument.status.errors)}
                for name, instrument in bench.instruments.items()
            }
            for box in bench.boxes:
                levels = {"low_v": box.levels_v.min(), "high_v": box.levels_v.max(), "writes": box.writes}
                found[box.name] |= levels
            found["laser"] |= {"interlock_closed": bench.laser.interlock_closed}
            found["digitizer"] |= {"state": bench.digitizer.state, "gain": bench.digitizer.gain}
            found["awg"] |= {"armed": bench.modulator.armed}
            usage = bench.chip.usage
            chip = {"calls": usage.calls, "shots": usage.shots, "plays": bench.plays}
        messages = dict(self._plan.messages)
        return {"time_s": bench.time.now_s(), "instruments": found, "chip": chip, "messages": messages}

    def _set(self, request: Request) -> int:
        fault = request["fault"]
        return self._plan.set(fault if isinstance(fault, str) else Fault(**fault))

    def _entries(self, request: Request) -> list[dict[str, Any]]:
        since, limit = int(request.get("since", 0)), int(request.get("limit", ENTRIES))
        return self._transcript.entries(since, request.get("instrument"), limit)

    def _advance(self, request: Request) -> float:
        seconds = float(request["seconds"])
        if not 0 <= seconds <= 1e9:
            raise ValueError(f"time passes by 0 to 1e9 s, found {seconds:g}")
        with self._bench.lock:
            self._bench.time.passes(seconds)
        return self._bench.time.now_s()

    def _interlock(self, request: Request) -> bool:
        closed = request["closed"]
        if not isinstance(closed, bool):
            raise ValueError(f"closed is true or false, found {closed!r}")
        with self._bench.lock:
            self._bench.laser.set_interlock(closed)
        return closed


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")
