"""The time by which an exchange must have ended. Everything that waits for an instrument holds one."""

from __future__ import annotations

import threading
import time

from photonic.errors import InstrumentTimeoutError, LabError

SLICE_S = 0.05  # a wait looks up this often: for a peer that closed, and for an interruption


class Deadline:
    """A point in time, and whether somebody has asked to stop waiting before it.

    Args:
        name: the instrument's, for messages.
        seconds: from now.
        interrupted: set where what is under way must give way to making the bench safe.
    """

    def __init__(self, name: str, seconds: float, interrupted: threading.Event | None = None) -> None:
        self._name, self._seconds, self._interrupted = name, seconds, interrupted
        self._end = time.monotonic() + seconds

    def remaining_s(self, what: str) -> float:
        """Seconds that are left.

        Args:
            what: is being waited for; for the message.

        Raises:
            InstrumentTimeoutError: none are left.
            LabError: it was interrupted.
        """
        if self._interrupted is not None and self._interrupted.is_set():
            raise LabError(f"{self._name}: interrupted while it was {what}, because outputs are being made safe")
        left = self._end - time.monotonic()
        if left <= 0:
            raise InstrumentTimeoutError(
                f"{self._name}: still {what} after {self._seconds:g} s; the connection is closed and opened again by "
                "the next call. Check the instrument, or give it a longer timeout_s"
            )
        return left
