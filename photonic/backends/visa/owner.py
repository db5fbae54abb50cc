"""One thread for each instrument: whoever calls, from whichever thread, the instrument hears one voice.

pyvisa is not safe for threads (pyvisa #726): two of them on one session take each other's answers. So each driver's
methods run on its owner's thread, one after another. Making an instrument safe goes before everything: what is under
way is interrupted, what waits is refused.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from photonic.errors import ClosedError, InstrumentTimeoutError, LabError

T = TypeVar("T")
P = ParamSpec("P")
GRACE_S = 0.5  # beyond an exchange's own deadline, before its thread is given up
_LOOK_S = 0.25


class Owner:
    """The thread that alone talks to an instrument.

    Args:
        name: the instrument's.
    """

    def __init__(self, name: str) -> None:
        self._name, self._process = name, os.getpid()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any], bool]] = deque()
        self._wake = threading.Condition()
        self._closed, self._urgent = False, 0
        self._due: float | None = None
        self.interrupted = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"photonic-{name}", daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], T]) -> T:
        """Runs a job on the owner's thread and gives its result; a job that runs there already runs on.

        Raises:
            LabError: it was refused, because outputs were being made safe, or this process was forked.
            ClosedError: after ``close()``.
            InstrumentTimeoutError: the thread is stuck in a call that does not end.
        """
        self._check_process()
        if threading.current_thread() is self._thread:
            return job()
        return self._result(self._queued(job, first=False))

    def urgent(self, job: Callable[[], T]) -> T:
        """Interrupts what is under way, refuses what waits, and runs a job; raises as ``run``."""
        self._check_process()
        if threading.current_thread() is self._thread:
            return job()
        with self._wake:
            refused = [entry for entry in self._waiting if not entry[2]]
            self._waiting = deque(entry for entry in self._waiting if entry[2])
            self._urgent += 1
            if self._urgent == 1:  # the first one is not interrupted by the next
                self.interrupted.set()
        for future, _, _ in refused:
            future.set_exception(LabError(f"{self._name}: refused, because outputs were being made safe"))
        try:
            return self._result(self._queued(functools.partial(self._after_interruption, job), first=True))
        finally:
            with self._wake:
                self._urgent -= 1

    def sleep(self, seconds: float) -> None:
        """Waits on the owner's thread; raises LabError where it is interrupted."""
        if self.interrupted.wait(max(seconds, 0.0)):
            raise LabError(f"{self._name}: interrupted, because outputs are being made safe")

    def expect_by(self, seconds: float | None) -> None:
        """Says by when the exchange under way ends, whatever happens; None: nothing is under way."""
        self._due = None if seconds is None else time.monotonic() + seconds + GRACE_S

    def close(self, last: Callable[[], None]) -> None:
        """Runs a last job and ends the thread; a second call does nothing."""
        if self._closed or os.getpid() != self._process:
            return
        try:
            self.run(last)
        finally:
            with self._wake:
                self._closed = True
                self._wake.notify()
            self._thread.join(GRACE_S)

    def _after_interruption(self, job: Callable[[], T]) -> T:
        self.interrupted.clear()
        return job()

    def _queued(self, job: Callable[[], T], *, first: bool) -> Future[T]:
        future: Future[T] = Future()
        with self._wake:
            if self._closed:
                raise ClosedError(f"{self._name} was used after close()")
            (self._waiting.appendleft if first else self._waiting.append)((future, job, first))
            self._wake.notify()
        return future

    def _result(self, future: Future[T]) -> T:
        while True:
            try:
                return future.result(_LOOK_S)
            except NotYet:
                if future.done():
                    raise
                if self._stuck() and not future.done():
                    future.cancel()
                    raise InstrumentTimeoutError(
                        f"{self._name}: its thread is stuck in a call that did not end by its deadline; the VISA back "
                        "end has no timeout there. Restart the program, and check the outputs by hand"
                    ) from None

    def _stuck(self) -> bool:
        due = self._due
        return due is not None and time.monotonic() > due

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise LabError(
                f"{self._name} was opened before this process was forked; its connection belongs to the parent. Open "
                "the bench in the process that uses it"
            )

    def _serve(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                future, job, _ = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    result = job()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                del future, job


class Owned(Protocol):
    """Whatever has an owner."""

    _owner: Owner


S = TypeVar("S", bound=Owned)


def owned(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method that runs on the owner's thread."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._owner.run(functools.partial(method, self, *args, **kwargs))

    return call
