"""One instrument on its port: messages in, replies out."""

from __future__ import annotations

import socket
import threading

from photonic.testing.bench.instrument import Instrument, Reply
from photonic.testing.bench.message import Message, MessageReader

_JOINED = 2**17  # smaller replies are sent as one piece


class InstrumentService:
    """Serves one instrument.

    Args:
        instrument: that executes the messages.
        lock: held while one is executed.
    """

    def __init__(self, instrument: Instrument, lock: threading.RLock) -> None:
        self._instrument, self._lock = instrument, lock

    def accepts(self) -> bool:
        """Always."""
        return True

    def serve(self, connection: socket.socket) -> None:
        """Executes message after message until the client leaves."""
        reader = MessageReader(connection.recv_into)
        while (message := reader.next()) is not None:
            reply = self.execute(message)
            if reply:
                send(connection, [*reply, b"\n"])

    def execute(self, message: Message) -> Reply:
        """Executes one message."""
        with self._lock:
            return self._instrument.execute(message)


def send(connection: socket.socket, reply: Reply) -> None:
    """Sends pieces: small ones joined, large ones without a copy."""
    small: list[bytes | memoryview] = []
    for piece in reply:
        if len(piece) < _JOINED:
            small.append(piece)
            continue
        connection.sendall(b"".join(small))
        small.clear()
        connection.sendall(piece)
    connection.sendall(b"".join(small))
