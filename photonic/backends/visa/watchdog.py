"""Makes a bench safe when nobody has used it for some time while its outputs were on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Watchdog:
    """A thread that waits for the next sign of life.

    Args:
        after_s: without one, ``expire`` is called, once.
        expire: makes the bench safe; called from the watchdog's thread.
    """

    def __init__(self, after_s: float, expire: Callable[[], None]) -> None:
        self._after_s, self._expire = after_s, expire
        self._condition = threading.Condition()
        self._deadline: float | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._watch, name="photonic-watchdog", daemon=True)
        self._thread.start()

    def hold(self) -> None:
        """Somebody is at work: nothing expires until ``release``."""
        with self._condition:
            self._deadline = None
            self._condition.notify()

    def release(self) -> None:
        """From now on, outputs are on and nobody is at work."""
        with self._condition:
            self._deadline = time.monotonic() + self._after_s
            self._condition.notify()

    def close(self) -> None:
        """Ends the thread."""
        with self._condition:
            self._ended = True
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            with self._condition:
                if self._ended:
                    return
                now = time.monotonic()
                if self._deadline is None or now < self._deadline:
                    self._condition.wait(None if self._deadline is None else self._deadline - now)
                    continue
                self._deadline = None
            self._expire()
