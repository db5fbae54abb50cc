"""The session under faults: each ends in the right error, in time, and no answer is taken for another one's."""

from __future__ import annotations

import socket
from collections.abc import Callable

import numpy as np
import pytest

from photonic.backends.visa.blocks import raw_bytes
from photonic.backends.visa.messages import Command, Protocol
from photonic.backends.visa.session import ScpiSession
from photonic.errors import DisconnectedError, IdentityError, InstrumentTimeoutError, LabError, ProtocolError
from tests.backends.visa.peers import Box, Connection, Peer, within
from tests.backends.visa.sessions import TIMEOUT_S, garbage, opened, silent

OPENING = 1  # messages of the handshake: *CLS;*IDN? (and one more where marks are looked for)


def _query_until_it_fails(session: ScpiSession) -> None:
    for _ in range(50):
        session.query(":A?")


def _close(connection: Connection, reply: bytes) -> None:
    connection.close()


def _truncated(connection: Connection, reply: bytes) -> None:
    connection.send(reply[:-3])


def _closed_in_the_middle(connection: Connection, reply: bytes) -> None:
    connection.send(reply[:-3])
    connection.close()


def _twice(connection: Connection, reply: bytes) -> None:
    connection.send(reply + reply)


FAULTS: dict[str, tuple[Callable[[Connection, bytes], None], type[LabError]]] = {
    "silence": (silent, InstrumentTimeoutError),
    "truncated": (_truncated, InstrumentTimeoutError),
    "closed": (_close, DisconnectedError),
    "closed in the middle": (_closed_in_the_middle, DisconnectedError),
    "garbage": (garbage, ProtocolError),
    "no end": (lambda connection, reply: connection.send(reply[:-1]), InstrumentTimeoutError),
    "more answers": (lambda connection, reply: connection.send(b"1;" + reply), ProtocolError),
    "fewer answers": (lambda connection, reply: connection.send(b'0,"No error"\n'), ProtocolError),
    "error without a text": (lambda connection, reply: connection.send(b"7;oops\n"), ProtocolError),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_ends_in_its_error_in_time_and_the_next_call_is_right(fault: str) -> None:
    commit, error = FAULTS[fault]
    box = Box({":A?": b"7", ":B?": b"8"}, faults={OPENING: commit})
    with Peer(box.serve) as peer:
        session = opened(peer)
        with within(TIMEOUT_S), pytest.raises(error):
            session.query(":A?")
        with within(TIMEOUT_S):
            assert session.query(":B?") == "8"
        assert peer.connections == 2
        session.close()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("more answers", "error without a text")])
def test_faults_while_it_opens_end_likewise(fault: str) -> None:
    commit, error = FAULTS[fault]
    if fault == "fewer answers":
        error = IdentityError
    with Peer(Box({":A?": b"7"}, faults={0: commit}).serve) as peer:
        session = opened(peer, identity="TEST")
        with within(TIMEOUT_S), pytest.raises(error):
            session.query(":A?")
        assert session.query(":A?") == "7"
        session.close()


def test_a_late_answer_is_never_taken_for_another_one_s() -> None:
    box = Box({":A?": b"stale", ":B?": b"true"})

    def late(connection: Connection, reply: bytes) -> None:
        connection.stopped.wait(2 * TIMEOUT_S)
        connection.send(reply)

    box.faults = {OPENING: late}
    with Peer(box.serve) as peer:
        session = opened(peer)
        with pytest.raises(InstrumentTimeoutError):
            session.query(":A?")
        assert session.query(":B?", timeout_s=5.0) == "true"
        session.close()


def test_a_duplicate_answer_is_refused_at_the_latest_by_its_mark() -> None:
    box = Box({":A?": b"first", ":B?": b"second"})
    sent: list[bytes] = []

    def with_the_last_one(connection: Connection, reply: bytes) -> None:
        connection.send(sent[-1] + reply)  # only after the next message was sent: nothing was waiting before

    def remembered(connection: Connection, reply: bytes) -> None:
        sent.append(reply)
        connection.send(reply)

    box.faults = {2: remembered, 3: with_the_last_one}
    with Peer(box.serve) as peer:
        session = opened(peer, marks=True)
        assert session.query(":A?") == "first"
        with pytest.raises(ProtocolError, match="belongs to another message"):
            session.query(":B?")
        assert session.query(":B?") == "second"
        session.close()
        both = opened(peer)
        box.faults = {len(box.messages) + OPENING: _twice}
        with pytest.raises(ProtocolError, match=r"after the end|nobody asked for"):
            _query_until_it_fails(both)
        both.close()


def test_an_instrument_that_was_switched_off_and_on_is_noticed() -> None:
    box = Box({":A?": b"1"})
    with Peer(box.serve) as peer:
        session = opened(peer, marks=True)
        session.query(":A?")
        box.mark = b"0"
        with pytest.raises(ProtocolError, match="switched off and on"):
            session.query(":A?")
        assert session.query(":A?") == "1"
        session.close()


def test_an_instrument_without_the_register_does_without_marks() -> None:
    box = Box({":A?": b"1"}, marks=False)
    with Peer(box.serve) as peer:
        session = opened(peer, marks=True)
        assert session.query(":A?") == "1"
        assert box.messages[-1] == b":A?;:SYST:ERR?"
        session.close()


def test_another_instrument_after_a_reopening_is_refused() -> None:
    box = Box({":A?": b"1"}, faults={2: _close})
    with Peer(box.serve) as peer:
        session = opened(peer, identity="MODEL,4")
        session.query(":A?")
        with pytest.raises(DisconnectedError):
            session.query(":A?")
        box.identity = "TEST,MODEL,43,1.0"
        with pytest.raises(IdentityError, match="same instrument"):
            session.query(":A?")
        box.identity = "OTHER,THING,1,1"
        with pytest.raises(IdentityError, match="matches 'MODEL,4'"):
            session.query(":A?")
        session.close()


def test_a_peer_that_closed_while_nothing_was_asked_is_noticed_at_once() -> None:
    def serve(connection: Connection) -> None:
        box.reply(connection.message())
        connection.send(box.identity.encode() + b"\n")
        connection.close()

    box = Box()
    with Peer(serve) as peer:
        session = ScpiSession("box", peer.connect, Protocol(), timeout_s=30.0)
        session.identify()
        with within(0.2), pytest.raises(DisconnectedError):
            _query_until_it_fails(session)
        session.close()


def test_a_closed_port_is_refused_when_it_is_opened() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        peer = Peer(Box().serve)
        peer.port = port
        session = opened(peer)
        with within(TIMEOUT_S), pytest.raises(DisconnectedError, match="cannot be reached"):
            session.query(":A?")
        peer._listener.close()


def test_a_reader_that_stalls_does_not_hold_up_a_write_beyond_its_deadline() -> None:
    def stalls(connection: Connection) -> None:
        connection.message()
        connection.send(b"TEST,MODEL,42,1.0\n")
        connection.stall()

    with Peer(stalls, receive_buffer=2**14) as peer:
        session = opened(peer)
        block = np.zeros(2**23, dtype=np.uint8)
        with within(TIMEOUT_S), pytest.raises(InstrumentTimeoutError, match="sending"):
            session.run([Command(":D", block=raw_bytes(block))])
        session.close()


def test_a_reader_that_closes_while_it_stalls_is_noticed_before_the_deadline() -> None:
    def closes(connection: Connection) -> None:
        connection.message()
        connection.send(b"TEST,MODEL,42,1.0\n")
        connection.stopped.wait(0.2)
        connection.close()

    with Peer(closes, receive_buffer=2**14) as peer:
        session = ScpiSession("box", peer.connect, Protocol(), timeout_s=60.0)
        with within(1.0), pytest.raises(DisconnectedError):
            session.run([Command(":D", block=raw_bytes(np.zeros(2**24, dtype=np.uint8)))])
        session.close()


def test_only_a_query_that_may_be_repeated_is() -> None:
    box = Box({":A?": b"7"}, faults={1: silent, 3: garbage})
    with Peer(box.serve) as peer:
        session = opened(peer)
        assert session.query(":A?", retries=2) == "7"
        assert peer.connections == 3
        session.close()
