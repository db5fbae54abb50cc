"""A bench without sockets, and bytes for it."""

from __future__ import annotations

import photonic
from photonic.testing.bench.clock import BenchTime, ManualClock
from photonic.testing.bench.message import Bounds, Message, MessageReader
from photonic.testing.bench.model import Bench
from photonic.testing.bench.physics import IdealPhysics
from photonic.testing.bench.setup import Setup


class Stream:
    """Bytes that arrive in pieces."""

    def __init__(self, data: bytes, pieces: list[int]) -> None:
        self._data, self._pieces = data, pieces

    def receive_into(self, view: memoryview) -> int:
        size = min(len(view), len(self._data), self._pieces.pop() if self._pieces else 2**16)
        view[:size] = self._data[:size]
        self._data = self._data[size:]
        return size


def messages(data: bytes, pieces: list[int] | None = None, bounds: Bounds | None = None) -> list[Message]:
    reader, found = MessageReader(Stream(data, list(pieces or [])).receive_into, bounds, 64), []
    while (message := reader.next()) is not None:
        found.append(message)
    return found


def a_bench() -> Bench:
    chip = photonic.open_chip("sim:typical?n_inputs=3&n_outputs=2", seed=0)
    return Bench(chip, Setup(), IdealPhysics(21.0), BenchTime(ManualClock()))


def ask(bench: Bench, name: str, *lines: bytes | str) -> list[str]:
    """Replies to lines, each of one message."""
    data = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
    instrument = bench.instruments[name]
    return [b"".join(map(bytes, instrument.execute(message))).decode("latin-1") for message in messages(data)]


def block(data: bytes) -> bytes:
    return f"#{len(str(len(data)))}{len(data)}".encode() + data
