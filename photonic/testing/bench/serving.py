"""Instruments on TCP ports: one listener for each, one thread for each connection."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Mapping
from typing import Protocol

HOST = "127.0.0.1"
MOST = 16  # connections at once to one listener
_DRAIN = 1 << 18


class Service(Protocol):
    """What answers on one port."""

    def serve(self, connection: socket.socket) -> None:
        """Talks to one client until it leaves; called in a thread of its own."""


class Listener:
    """Listens on ports of the loopback interface and gives each connection a thread.

    Args:
        services: by name.
        ports: to listen on, 0 being any free one.
    """

    def __init__(self, services: Mapping[str, Service], ports: Mapping[str, int] | None = None) -> None:
        self._services = dict(services)
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[str, socket.socket] = {}
        self._open: dict[str, set[socket.socket]] = {name: set() for name in services}
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, "")
        self._stopping = False
        self.ports: dict[str, int] = {}
        for name in services:
            self._listen(name, (ports or {}).get(name, 0))
        self._thread = threading.Thread(target=self._run, name="photonic bench", daemon=True)
        self._thread.start()

    def refuse(self, name: str) -> None:
        """Stops listening, so that connections are refused; those that are open stay."""
        with self._lock:
            listening = self._sockets.pop(name, None)
            if listening is not None:
                self._selector.unregister(listening)
                listening.close()
        self._wake.send(b".")

    def admit(self, name: str) -> None:
        """Listens again on the same port."""
        with self._lock:
            if name not in self._sockets and not self._stopping:
                self._listen(name, self.ports[name])
        self._wake.send(b".")

    def drop(self, name: str) -> None:
        """Closes all connections to one service."""
        with self._lock:
            found = list(self._open[name])
        for connection in found:
            _shut(connection)

    def stop(self) -> None:
        """Closes everything and waits for the threads; a second call does nothing."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        self._wake.send(b".")
        self._thread.join(10.0)
        for name in self._services:
            self.drop(name)
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(10.0)
        for end in (*self._sockets.values(), self._wake, self._woken):
            end.close()
        self._selector.close()

    def _listen(self, name: str, port: int) -> None:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(MOST)
        listening.setblocking(False)
        self.ports[name] = listening.getsockname()[1]
        self._sockets[name] = listening
        self._selector.register(listening, selectors.EVENT_READ, name)

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select():
                if key.data == "":
                    self._woken.recv(_DRAIN)
                else:
                    self._accept(key.data)

    def _accept(self, name: str) -> None:
        with self._lock:
            listening = self._sockets.get(name)
            if listening is None:
                return
            try:
                connection, _ = listening.accept()
            except OSError:  # whoever knocked has left again
                return
            if len(self._open[name]) >= MOST:
                connection.close()
                return
            connection.setblocking(True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open[name].add(connection)
            thread = threading.Thread(target=self._serve, args=(name, connection), name=f"bench {name}", daemon=True)
            self._threads.add(thread)
        thread.start()

    def _serve(self, name: str, connection: socket.socket) -> None:
        try:
            # a client that resets its connection, or one that this bench drops, is no fault of the service
            with contextlib.suppress(OSError):
                self._services[name].serve(connection)
        finally:
            _shut(connection)
            with self._lock:
                self._open[name].discard(connection)
                self._threads.discard(threading.current_thread())
            connection.close()


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
