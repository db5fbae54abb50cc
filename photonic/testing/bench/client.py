"""A client of the control port of a virtual bench."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any, Self

from photonic.errors import DisconnectedError, LabError
from photonic.testing.bench.faults import Fault


class BenchControl:
    """Sets faults, reads the transcript and turns the clock of a bench in another process; a context manager.

    Args:
        address: ``HOST:PORT``, as ``photonic bench`` prints it.
        timeout_s: of one request.

    Raises:
        DisconnectedError: nobody answers there.
    """

    def __init__(self, address: str, timeout_s: float = 30.0) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout_s)
        except (OSError, ValueError) as error:
            raise DisconnectedError(f"no bench's control port at {address}: {error}") from error
        self._lines = self._socket.makefile("rb")

    def set_fault(self, fault: Fault | str) -> int:
        """Sets a fault; returns its number."""
        given = fault if isinstance(fault, str) else fault.model_dump()
        return int(self.request("set_fault", fault=given))

    def clear_faults(self, number: int | None = None) -> int:
        """Clears one fault, or all; returns how many."""
        return int(self.request("clear_faults", id=number))

    def faults(self) -> list[dict[str, Any]]:
        """Those that are set: ``seen`` messages, ``fired`` times."""
        return list(self.request("faults"))

    def transcript(self, since: int = 0, instrument: str | None = None) -> list[dict[str, Any]]:
        """Entries after number ``since``; see ``Transcript``."""
        return list(self.request("transcript", since=since, instrument=instrument))

    def state(self) -> dict[str, Any]:
        """Settings of all instruments, and what the chip has spent."""
        return dict(self.request("state"))

    def advance(self, seconds: float) -> float:
        """Lets the bench's time pass; returns its time."""
        return float(self.request("advance", seconds=seconds))

    def set_interlock(self, closed: bool) -> None:
        """Opens or closes the laser's interlock."""
        self.request("interlock", closed=closed)

    def stop(self) -> None:
        """Ends the bench."""
        self.request("stop")

    def request(self, operation: str, **fields: Any) -> Any:
        """One request; returns its result.

        Raises:
            DisconnectedError: the bench is gone.
            LabError: the bench refused it.
        """
        try:
            self._socket.sendall(json.dumps({"op": operation, **fields}).encode() + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise DisconnectedError(f"the bench's control port is gone: {error}") from error
        if not line:
            raise DisconnectedError("the bench's control port was closed by the bench")
        answer = json.loads(line)
        if not answer["ok"]:
            raise LabError(f"the bench refused {operation}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """Leaves; the bench goes on."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
