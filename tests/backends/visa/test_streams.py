"""The way to an instrument: what is missing is named, and pyvisa-py's socket is used where there is one."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from photonic.backends.visa.streams import SocketStream, _gathered, open_stream
from photonic.errors import DisconnectedError, LabError, MissingExtraError
from tests.backends.visa.peers import Box, Connection, Peer, within


def test_without_pyvisa_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvisa", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'photonic-torch\[lab\]'"):
        open_stream("box", "TCPIP0::127.0.0.1::1::SOCKET", "another", 1.0)


def test_a_back_end_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingExtraError, match="'@nobody'"):
        open_stream("box", "TCPIP0::127.0.0.1::1::SOCKET", "@nobody", 1.0)


@pytest.mark.parametrize("resource", ["TCPIP0::127.0.0.1::1::SOCKET", "ASRL/dev/nobody::INSTR", "nonsense"])
def test_a_resource_that_cannot_be_opened_is_an_error_of_the_lab(resource: str) -> None:
    with within(1.0), pytest.raises(LabError, match="box"):
        open_stream("box", resource, "@py", 1.0)


def test_packets_leave_at_once() -> None:
    with Peer(Box().serve) as peer:
        stream = peer.connect()
        assert isinstance(stream, SocketStream)
        assert stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        stream.close()
        stream.close()


def test_bytes_that_wait_are_seen_and_so_is_a_peer_that_closed() -> None:
    def serve(connection: Connection) -> None:
        connection.send(b"x")
        connection.message()
        connection.close()

    with Peer(serve) as peer:
        stream = peer.connect()
        assert isinstance(stream, SocketStream)
        with within(1.0):
            while not stream.unread():
                time.sleep(0.01)
        stream._socket.sendall(b"\n")
        stream._socket.recv(1)
        with within(1.0), pytest.raises(DisconnectedError):
            _look_until_it_fails(stream)
        stream.close()


def _look_until_it_fails(stream: SocketStream) -> None:
    while not stream.unread():
        time.sleep(0.01)


def test_short_pieces_travel_together_and_long_ones_are_not_copied() -> None:
    long = memoryview(bytes(2**16))
    pieces = _gathered([b"a", b"bc", long, b"d", b"", b"e"])
    assert [bytes(piece) for piece in pieces] == [b"abc", bytes(long), b"de"]
    assert pieces[1] is long
