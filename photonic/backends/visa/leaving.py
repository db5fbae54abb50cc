"""Closes a bench when its program ends without having done so: at its end, after an exception, at SIGTERM.

A SIGTERM that nobody handles ends a process at once, and outputs stay as they are. While a bench is open it raises
``SystemExit`` instead, as Ctrl-C raises ``KeyboardInterrupt``; a handler of somebody else is left alone.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

EXIT_TERMINATED = 128 + signal.SIGTERM


class Leaving:
    """Waits for the end of the process.

    Args:
        close: called then.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close, self._process = close, os.getpid()
        self._before: Any = None
        atexit.register(self._end)
        if threading.current_thread() is threading.main_thread() and _nobody_s(signal.getsignal(signal.SIGTERM)):
            self._before = signal.signal(signal.SIGTERM, self.terminate)

    def done(self) -> None:
        """It was closed; a second call does nothing."""
        atexit.unregister(self._end)
        main = threading.current_thread() is threading.main_thread()
        if main and self._before is not None and signal.getsignal(signal.SIGTERM) == self.terminate:
            signal.signal(signal.SIGTERM, self._before)
        self._before = None

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGTERM; a process that was forked from this one ends as if there were none."""
        if os.getpid() == self._process:
            raise SystemExit(EXIT_TERMINATED)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _end(self) -> None:
        if os.getpid() == self._process:
            self._close()


def _nobody_s(handler: Any) -> bool:
    """Whether SIGTERM has no handler yet, or that of another bench."""
    return handler == signal.SIG_DFL or getattr(handler, "__func__", None) is Leaving.terminate
