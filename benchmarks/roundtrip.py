"""A measurement on the virtual bench against raw sockets that make the same exchanges with it, by turns, in one run.

The messages of one measurement are recorded by a relay between driver and bench; then they are sent again, byte by byte
the same, through plain sockets, and as many bytes are read as were answered. What the bench computes is in both times.
"""

from __future__ import annotations

import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import photonic

REPEATS = 41
CHIP = "sim:typical?n_inputs=64&n_outputs=64"
SHOTS = 256

Exchange = tuple[int, bytes, int]  # port, what was sent, how many bytes came back


class Relay:
    """Passes bytes between driver and one instrument, and keeps the exchanges while it is told to.

    Args:
        port: of the instrument.
        kept: where exchanges go, in the order of their first bytes.
    """

    def __init__(self, port: int, kept: list[list[int | bytearray]]) -> None:
        self._target, self._kept, self.keeping = port, kept, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            driver, _ = self._listener.accept()
            bench = socket.create_connection(("127.0.0.1", self._target))
            for one in (driver, bench):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass, args=(driver, bench, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(bench, driver, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, sent: bool) -> None:
        while data := source.recv(2**20):
            if self.keeping:
                mine = [item for item in self._kept if item[0] == self._target]
                if sent and (not mine or mine[-1][2]):
                    self._kept.append([self._target, bytearray(data), 0])
                elif sent:
                    mine[-1][1] += data  # type: ignore[operator]
                else:
                    mine[-1][2] += len(data)  # type: ignore[operator]
            sink.sendall(data)


def roundtrip() -> None:
    """Prints the time of a measurement over that of its bare exchanges: weights kept, and weights programmed anew."""
    with bench() as mine, bench() as other:  # a driver does not share its instruments
        for fresh in (False, True):
            _compare(mine, other, fresh)


@contextmanager
def bench() -> Iterator[Path]:
    """The bench file of a virtual bench in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "photonic.cli", "bench", "--dir", name, "--physics", "ideal", "--chip", CHIP]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                yield Path(name) / "bench.toml"
            finally:
                process.terminate()


def _compare(path: Path, other: Path, fresh: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    tiles = [torch.randint(-127, 128, (1, 1, 64 * 64), generator=generator, dtype=torch.int16) for _ in range(2)]
    inputs = torch.randint(0, 64, (1, SHOTS, 64), generator=generator, dtype=torch.int16)
    exchanges = _recorded(other, tiles, inputs, fresh)
    with photonic.open_chip(str(path)) as chip:
        weights = iter(tiles * REPEATS * 2)

        def ours() -> None:
            chip.measure(next(weights) if fresh else tiles[0], inputs)

        ours()
        ratio, low, high, floor, mine = _by_turns(exchanges, ours)
    sent, back = sum(len(data) for _, data, _ in exchanges), sum(count for *_, count in exchanges)
    print(
        f"64 x 64, batch {SHOTS}, weights {'new' if fresh else 'kept'}: {mine * 1e3:.2f} ms; its {len(exchanges)} "
        f"exchanges ({sent / 1e3:.0f} kB out, {back / 1e3:.0f} kB in) alone {floor * 1e3:.2f} ms: ratio {ratio:.2f} "
        f"({low:.2f} to {high:.2f})"
    )


def _recorded(path: Path, tiles: list[torch.Tensor], inputs: torch.Tensor, fresh: bool) -> list[Exchange]:
    """The exchanges of one measurement."""
    kept: list[list[int | bytearray]] = []
    text = path.read_text()
    relays = {port: Relay(int(port), kept) for port in set(re.findall(r"127\.0\.0\.1::(\d+)::", text))}
    for port, relay in relays.items():
        text = text.replace(f"::{port}::", f"::{relay.port}::")
    told = path.with_name("relayed.toml")
    told.write_text(text)
    with photonic.open_chip(str(told)) as chip:
        chip.measure(tiles[0], inputs)
        for relay in relays.values():
            relay.keeping = True
        chip.measure(tiles[1] if fresh else tiles[0], inputs)
        for relay in relays.values():
            relay.keeping = False
    return [(int(port), bytes(data), int(count)) for port, data, count in kept]  # type: ignore[arg-type]


def _by_turns(exchanges: list[Exchange], ours: object) -> tuple[float, float, float, float, float]:
    """Median and quartiles of the ratio of neighbouring turns, and both median times."""
    sockets = {port: socket.create_connection(("127.0.0.1", port)) for port, *_ in exchanges}
    for one in sockets.values():
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(2**20)

    def plain() -> None:
        for port, data, count in exchanges:
            sockets[port].sendall(data)
            while count:
                count -= sockets[port].recv_into(buffer, min(count, len(buffer)))

    ratios, floors, times = [], [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        plain()
        middle = time.perf_counter()
        ours()  # type: ignore[operator]
        end = time.perf_counter()
        ratios.append((end - middle) / (middle - start))
        floors.append(middle - start)
        times.append(end - middle)
    for one in sockets.values():
        one.close()
    low, ratio, high = statistics.quantiles(ratios, n=4)
    return ratio, low, high, statistics.median(floors), statistics.median(times)


if __name__ == "__main__":
    roundtrip()
