"""Stands between a driver and an instrument of the virtual bench, for tests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Fault = Callable[[socket.socket, bytes], bool]


class Proxy:
    """Passes everything on to an instrument of a bench; does something to the answer of a given number.

    ``every``: makes what is done to the answers of one connection instead, all of them.
    """

    def __init__(self, port: int, every: Callable[[], Fault] | None = None) -> None:
        self._port, self._every, self._stopped = port, every, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self.port: int = self._listener.getsockname()[1]
        self.answers = 0
        self.fault: Fault | None = None
        self.at = -1
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def arm(self, at: int, fault: Fault | None) -> None:
        self.answers, self.at, self.fault = 0, at, fault

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            server = socket.create_connection(("127.0.0.1", self._port))
            for each in (client, server):
                each.settimeout(0.02)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ended = threading.Event()
            pair = [
                threading.Thread(target=self._pump, args=(client, server, False, ended), daemon=True),
                threading.Thread(target=self._pump, args=(server, client, True, ended), daemon=True),
            ]
            self._threads += pair
            for thread in pair:
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool, ended: threading.Event) -> None:
        every = self._every() if self._every and answers else None
        try:
            while not self._stopped.is_set() and not ended.is_set():
                try:
                    data = source.recv(2**20)
                except TimeoutError:
                    continue
                if not data:
                    return
                if every is not None:
                    every(sink, data)
                    continue
                if answers:
                    self.answers += 1
                    if self.answers - 1 == self.at and self.fault is not None and not self.fault(sink, data):
                        return
                    if self.answers - 1 == self.at:
                        continue
                sink.sendall(data)
        except OSError:
            return
        finally:
            ended.set()
            source.close()
            sink.close()
