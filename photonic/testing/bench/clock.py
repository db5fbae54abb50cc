"""The time of a virtual bench: real by default, turned by hand in tests."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What a bench needs of time."""

    def now_s(self) -> float:
        """Seconds since some moment; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Waits."""


class RealClock:
    """Wall time."""

    def now_s(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


class ManualClock:
    """Stands still until it is advanced; whoever sleeps on it advances it, so that nothing ever waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now_s = 0.0

    def now_s(self) -> float:
        """Seconds that it was advanced."""
        with self._lock:
            return self._now_s

    def sleep(self, seconds: float) -> None:
        """Advances it."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Lets time pass.

        Raises:
            ValueError: backwards.
        """
        if not seconds >= 0:
            raise ValueError(f"time does not go back: {seconds}")
        with self._lock:
            self._now_s += seconds


class BenchTime:
    """A bench's own time: that of its clock, and what its plays took, which passes at once.

    Args:
        clock: that runs by itself.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._passed_s = 0.0

    def now_s(self) -> float:
        """Seconds since some moment."""
        return self.clock.now_s() + self._passed_s

    def passes(self, seconds: float) -> None:
        """Something took that long; nobody waits for it."""
        self._passed_s += seconds
