"""One instrument on its port: messages in, replies out, with what faults make of them."""

from __future__ import annotations

import socket

from photonic.testing.bench.effects import Effects
from photonic.testing.bench.faults import Fault, FaultPlan
from photonic.testing.bench.instrument import Instrument, Reply
from photonic.testing.bench.message import Message, MessageReader
from photonic.testing.bench.model import Bench
from photonic.testing.bench.spoiling import spoiled
from photonic.testing.bench.transcript import Transcript, replied

_JOINED = 2**17  # smaller replies are sent as one piece
_CLOSING = frozenset({"drop", "reset", "refuse"})


class InstrumentService:
    """Serves one instrument.

    Args:
        instrument: that executes the messages.
        bench: whose lock is held while one is executed.
        plan: faults.
        effects: of faults on instruments, signals and ports.
        transcript: of every exchange.
    """

    def __init__(
        self, instrument: Instrument, bench: Bench, plan: FaultPlan, effects: Effects, transcript: Transcript
    ) -> None:
        self._instrument, self._bench = instrument, bench
        self._plan, self._effects, self._transcript = plan, effects, transcript
        self._name = instrument.name

    def serve(self, connection: socket.socket) -> None:
        """Executes message after message until the client leaves."""
        reader, held = MessageReader(connection.recv_into), list[bytes | memoryview]()
        while True:
            # looked at, not read: a fault may be set while the client is silent, and still stalls its next message
            if not reader.pending and not connection.recv(1, socket.MSG_PEEK):
                return
            self._effects.wait(self._plan.stall(self._name))
            message = reader.next()
            if message is None:
                return
            reply, faults = self._answer(message)
            if any(fault.kind == "late" for fault in faults):
                held += reply
                continue
            send(connection, [*held, *reply])
            held.clear()
            if any(fault.kind in _CLOSING for fault in faults):
                return

    def _answer(self, message: Message) -> tuple[Reply, list[Fault]]:
        """Executes a message; returns what is sent, and the faults that happened to it."""
        entry = self._transcript.add(self._name, self._bench.time.now_s(), message)
        faults = self._plan.take(self._name, entry["message"])
        entry["faults"] = [fault.kind for fault in faults]
        with self._bench.lock:
            for fault in faults:
                self._effects.happen(fault)
            lost = any(fault.kind in ("reset", "refuse") for fault in faults)
            reply = [] if lost else self._execute(message)
            entry["noted"], entry["errors"] = self._instrument.take_notes()
            sample_bytes = self._instrument.format.dtype.itemsize
        for fault in faults:
            self._effects.wait(fault.seconds if fault.kind == "delay" else 0.0)
            reply = spoiled(reply, fault, sample_bytes)
        entry["reply"], entry["sent"] = replied(reply)
        return reply, faults

    def _execute(self, message: Message) -> Reply:
        reply = self._instrument.execute(message)
        return [*reply, b"\n"] if reply else []


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
