"""Peers on a socket for tests: a small SCPI instrument with faults, and dialogues that must be kept to the byte."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from photonic.backends.visa.streams import ByteStream, open_stream

IDENTITY = "TEST,MODEL,42,1.0"


class GoneError(Exception):
    """The other side has closed, or the peer was stopped."""


class Connection:
    """The peer's end of one connection."""

    def __init__(self, connection: socket.socket, stopped: threading.Event) -> None:
        self.socket, self.stopped = connection, stopped
        self._come = b""
        connection.settimeout(0.02)

    def message(self, end: bytes = b"\n") -> bytes:
        """The next message, whole, with blocks inside; without its end."""
        at = 0
        while True:
            mark, stop = self._come.find(b"#", at), self._come.find(end, at)
            if stop >= 0 and (mark < 0 or stop < mark):
                message, self._come = self._come[:stop], self._come[stop + len(end) :]
                return message
            if mark >= 0 and len(self._come) > mark + 1:
                digits = int(self._come[mark + 1 : mark + 2])
                if len(self._come) >= mark + 2 + digits:
                    at = mark + 2 + digits + int(self._come[mark + 2 : mark + 2 + digits])
                    if len(self._come) >= at:
                        continue
                    at = mark
            self._come += self.some()

    def some(self) -> bytes:
        """Bytes that come."""
        while True:
            if self.stopped.is_set():
                raise GoneError
            try:
                received = self.socket.recv(2**16)
            except TimeoutError:
                continue
            except OSError:
                raise GoneError from None
            if not received:
                raise GoneError
            return received

    def send(self, data: bytes) -> None:
        """Sends all of it."""
        view = memoryview(data)
        while view:
            if self.stopped.is_set():
                raise GoneError
            try:
                view = view[self.socket.send(view) :]
            except TimeoutError:
                continue
            except OSError:
                raise GoneError from None

    def close(self) -> None:
        """Closes at once."""
        self.socket.close()
        raise GoneError

    def stall(self) -> None:
        """Does nothing more until the peer is stopped."""
        while not self.stopped.wait(0.02):
            pass
        raise GoneError


class Peer:
    """Serves connections, one after another, until the test ends; what failed there fails the test."""

    def __init__(self, serve: Callable[[Connection], None], receive_buffer: int | None = None) -> None:
        self._serve = serve
        self._stopped = threading.Event()
        self._listener = socket.socket()
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._listener.settimeout(0.02)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def resource(self) -> str:
        return f"TCPIP0::127.0.0.1::{self.port}::SOCKET"

    def connect(self, timeout_s: float = 1.0) -> ByteStream:
        return open_stream("box", self.resource, "@py", timeout_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._listener.close()
        if self._failure is not None and kind is None:
            raise self._failure

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                accepted, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            with accepted:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    self._serve(Connection(accepted, self._stopped))
                except GoneError:
                    continue
                except BaseException as failure:
                    self._failure = failure
                    return


@dataclass
class Box:
    """A small SCPI instrument: answers by table, remembers what was sent, and commits faults by message number."""

    answers: dict[str, bytes | Callable[[], bytes]] = field(default_factory=dict)
    faults: Mapping[int, Callable[[Connection, bytes], None]] = field(default_factory=dict)
    identity: str = IDENTITY
    errors: list[bytes] = field(default_factory=list)
    marks: bool = True
    messages: list[bytes] = field(default_factory=list)
    mark: bytes = b"0"

    def serve(self, connection: Connection) -> None:
        while True:
            message = connection.message()
            self.messages.append(message)
            reply = self.reply(message)
            fault = self.faults.get(len(self.messages) - 1)
            if fault is not None:
                fault(connection, reply)
            elif reply:
                connection.send(reply)

    def reply(self, message: bytes) -> bytes:
        """The line that answers a message; text only, blocks of the message are not looked into."""
        fields = [self._one(unit.strip()) for unit in message.split(b";")]
        found = [one for one in fields if one is not None]
        return b";".join(found) + b"\n" if found else b""

    def _one(self, unit: bytes) -> bytes | None:
        text = unit.decode("latin-1")
        if text == "*IDN?":
            return self.identity.encode()
        if text == ":SYST:ERR?":
            return self.errors.pop(0) if self.errors else b'+0,"No error"'
        if text == "*ESE?" and self.marks:
            return self.mark
        if text.startswith("*ESE ") and self.marks:
            self.mark = unit[5:]
            return None
        if text in self.answers:
            answer = self.answers[text]
            return answer if isinstance(answer, bytes) else answer()
        if text.endswith("?"):
            self.errors.append(b'-113,"Undefined header; ' + unit + b'"')
        return None


def line_by_line(dialogue: Sequence[tuple[bytes, bytes | None]], end: bytes = b"\n") -> Callable[[Connection], None]:
    """A peer that expects these messages, to the byte and in this order, and answers as written; None: no answer."""
    left = iter(dialogue)

    def serve(connection: Connection) -> None:
        while True:
            message = connection.message(end)
            expected, reply = next(left, (b"(nothing more)", b""))
            assert message == expected, f"expected {expected!r}, found {message!r}"
            if reply is not None:
                connection.send(reply)

    return serve


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails where the body takes far longer than it may: the deadline and one second, and slack for a slow machine."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds + 1.0 + 4.0
