"""How fast the lab's transport is, against a raw socket that moves the same bytes, in one run.

    python benchmarks/lab.py transport
    python benchmarks/lab.py roundtrip

``transport``: waveforms of many channels uploaded and fetched through a driver's session (PyVISA, pyvisa-py), and the
same bytes in the same messages through a plain socket, to and from the same server, by turns. The server only counts
bytes: what is measured is the way, not an instrument. ``roundtrip``: see ``roundtrip.py``.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from roundtrip import roundtrip

from photonic.backends.visa.blocks import header, raw_bytes
from photonic.backends.visa.messages import Command, Exchange, Protocol, pieces
from photonic.backends.visa.owner import Owner
from photonic.backends.visa.session import ScpiSession
from photonic.backends.visa.streams import open_stream

REPEATS = 31
ERROR_FREE = b'0,"No error"\n'


class Sink:
    """A server that takes messages and answers each: an upload with no error, a fetch with its blocks."""

    def __init__(self, channels: int, samples: int) -> None:
        block = np.arange(samples, dtype="<i2").tobytes()
        self.record = b";".join([header(len(block)).encode() + block] * channels) + b";" + ERROR_FREE
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        """Serves until its process ends."""
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(2**20)
        while True:
            count = connection.recv_into(buffer)
            if not count:
                return
            start = bytes(buffer[:8])
            if start.startswith(b"*CLS"):
                connection.sendall(b"SINK,1,1,1\n")
            elif start.startswith(b"FETCH"):
                connection.sendall(self.record)
            else:  # UP<bytes>;
                left = int(bytes(buffer[2:12])) - count
                while left:
                    left -= connection.recv_into(buffer, min(left, len(buffer)))
                connection.sendall(ERROR_FREE)


@contextmanager
def served(channels: int, samples: int) -> Iterator[int]:
    """Port of such a server in a process of its own."""
    command = [sys.executable, __file__, "serve", str(channels), str(samples)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


def serve(channels: str, samples: str) -> None:
    """The server's process."""
    sink = Sink(int(channels), int(samples))
    print(sink.port, flush=True)
    sink.run()


def transport() -> None:
    """Ratios of throughput: through the session, to raw."""
    for channels, samples in ((64, 1_100), (64, 16_384), (16, 131_072), (1, 2_000_000)):
        with served(channels, samples) as port:
            _transport(port, channels, samples)


def _transport(port: int, channels: int, samples: int) -> None:
    rows = np.zeros((channels, samples), dtype="<i2")
    out = np.empty_like(rows)
    owner = Owner("sink")
    session = ScpiSession(
        "sink",
        lambda: open_stream("sink", f"TCPIP0::127.0.0.1::{port}::SOCKET", "@py", 5.0),
        Protocol(message_bytes=2**30),
        timeout_s=30.0,
        owner=owner,
    )
    raw = socket.create_connection(("127.0.0.1", port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    uploads = [Command(f"D{index}", block=raw_bytes(row)) for index, row in enumerate(rows)]
    unsized = [Command("UP0000000000"), *uploads, Command(":SYST:ERR?")]
    size = sum(map(len, pieces(unsized, "\n", Exchange())))
    commands = [Command(f"UP{size:010d}"), *uploads]
    message = b"".join(pieces([*commands, Command(":SYST:ERR?")], "\n", Exchange()))
    fetches = [Command("FETCH", into=raw_bytes(row)) for row in out]
    into = bytearray(channels * (2 * samples + 1 + len(header(2 * samples))) + len(ERROR_FREE))

    def raw_up() -> None:
        raw.sendall(message)
        raw.recv(100)

    def raw_down() -> None:
        raw.sendall(b"FETCH\n")
        view = memoryview(into)
        while view:
            view = view[raw.recv_into(view) :]

    pairs: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("upload", raw_up, lambda: owner.run(lambda: session.run(commands))),
        ("fetch", raw_down, lambda: owner.run(lambda: session.run(fetches))),
    ]
    for what, plain, ours in pairs:
        ratio, low, high, rate = _ratio(plain, ours, rows.nbytes)
        print(
            f"{what:7s} {channels:3d} x {samples:7d} int16: session / raw = {ratio:.2f} ({low:.2f} to {high:.2f}), "
            f"{rate / 1e6:.0f} MB/s"
        )
    np.testing.assert_array_equal(out[0], np.arange(samples, dtype="<i2"))
    owner.close(session.close)
    raw.close()


def _ratio(plain: Callable[[], object], ours: Callable[[], object], size: int) -> tuple[float, float, float, float]:
    """Median, quartiles of the ratio of throughputs of neighbouring turns, and our throughput."""
    for _ in range(3):
        plain()
        ours()
    ratios, times = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        plain()
        middle = time.perf_counter()
        ours()
        end = time.perf_counter()
        ratios.append((middle - start) / (end - middle))
        times.append(end - middle)
    low, middle_one, high = statistics.quantiles(ratios, n=4)
    return middle_one, low, high, size / statistics.median(times)


PARTS: dict[str, Callable[[], None]] = {"transport": transport, "roundtrip": roundtrip}

if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    asked = sys.argv[1:] or list(PARTS)
    if not set(asked) <= set(PARTS):
        sys.exit(__doc__)
    for part in asked:
        PARTS[part]()
