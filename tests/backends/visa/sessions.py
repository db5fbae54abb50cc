"""Sessions for tests that must end in time, and faults of their peers."""

from __future__ import annotations

from photonic.backends.visa.messages import Protocol
from photonic.backends.visa.session import ScpiSession
from tests.backends.visa.peers import Connection, Peer

TIMEOUT_S = 0.8  # no shorter: a busy host itself may stand still for half a second


def opened(peer: Peer, *, marks: bool = False, **options: object) -> ScpiSession:
    """A session that waits as long as tests may."""
    protocol = Protocol(mark="*ESE" if marks else None)
    return ScpiSession("box", peer.connect, protocol, timeout_s=TIMEOUT_S, **options)  # type: ignore[arg-type]


def silent(connection: Connection, reply: bytes) -> None:
    """Nothing comes."""


def garbage(connection: Connection, reply: bytes) -> None:
    """Bytes that no instrument prints come."""
    connection.send(bytes(range(128, 256)) + b"\n")
