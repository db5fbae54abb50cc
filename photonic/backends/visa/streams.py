"""Bytes to and from one instrument: through pyvisa-py's own TCP socket where there is one, else through VISA's calls.

pyvisa-py writes in pieces of 4096 bytes without a timeout and without TCP_NODELAY, and it takes a peer that has closed
for one that is slow (PyVISA-py 0.8.1). So for its raw sockets the bytes go through the session's socket itself: sent
whole, received straight into their array, in slices of the deadline, and a closed peer is seen at once. Every other
resource (another VISA, serial lines, HiSLIP, VXI-11) goes through viRead and viWrite with the time that is left as
VISA's timeout: slower, as quick to see a closed peer as that VISA is, and not to be interrupted within one call.
TCP_NODELAY is then asked of VISA, and left at its default where VISA does not know the attribute.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from photonic.backends.visa.deadline import SLICE_S, Deadline
from photonic.backends.visa.edge import mapped, pyvisa
from photonic.errors import DisconnectedError, MissingExtraError

Buffer = bytes | bytearray | memoryview

CHUNK_BYTES = 2**16
GATHERED_BYTES = 2**15  # pieces up to this size are copied together: one packet is cheaper than many


class ByteStream(Protocol):
    """A connection that is open. Each method ends by the deadline, or raises."""

    def send(self, pieces: Sequence[Buffer], deadline: Deadline) -> None:
        """Sends all pieces, one after another."""

    def receive_some(self, view: memoryview, deadline: Deadline) -> int:
        """Puts at least one byte into the view: what has come, or a line. Returns how many."""

    def receive_exactly(self, view: memoryview, deadline: Deadline) -> None:
        """Fills the view."""

    def unread(self) -> bool:
        """Whether bytes have come that nobody asked for; raises DisconnectedError where the other side has closed."""

    def close(self) -> None:
        """Closes; a second call does nothing."""


def open_stream(name: str, resource: str, backend: str, timeout_s: float, baud_rate: int | None = None) -> ByteStream:
    """Connects to a resource.

    Args:
        name: the instrument's, for messages.
        resource: its VISA resource name.
        backend: what ``pyvisa.ResourceManager`` takes.
        timeout_s: to connect.
        baud_rate: of a serial line.

    Raises:
        MissingExtraError: pyvisa, or the back end, is not installed.
        DisconnectedError: nobody answers there.
    """
    manager = _manager(backend, os.getpid())
    with mapped(name, f"opening {resource}"):
        opened = manager.open_resource(resource, open_timeout=max(1, round(1000 * timeout_s)))
    try:
        with mapped(name, f"connecting to {resource}"):
            found = _socket_of(opened)
            if found is not None:
                return SocketStream(name, resource, opened, found, Deadline(name, timeout_s))
            return VisaStream(name, opened, baud_rate)
    except BaseException:
        with suppress(Exception):
            opened.close()
        raise


@functools.cache
def _manager(backend: str, process: int) -> Any:
    """One manager for a back end and a process, never closed: closing one closes the sessions of all (pyvisa #742)."""
    package = pyvisa()
    try:
        return package.ResourceManager(backend)
    except (ValueError, OSError) as error:
        raise MissingExtraError(f"the VISA back end {backend!r}", "lab") from error


def _socket_of(opened: Any) -> socket.socket | None:
    """pyvisa-py's socket of a raw TCP session; None for any other resource or back end."""
    session = getattr(opened.visalib, "sessions", {}).get(opened.session)
    found = getattr(session, "interface", None)
    stream = isinstance(found, socket.socket) and found.type == socket.SOCK_STREAM
    # a session that holds bytes of its own, or that frames them (HiSLIP, VXI-11), is not a raw one
    return found if stream and type(session).__name__ == "TCPIPSocketSession" else None


class SocketStream:
    """pyvisa-py's raw TCP session, through its socket.

    Args:
        name: the instrument's.
        resource: its resource name, for messages.
        opened: pyvisa's resource, which is closed with this.
        connection: its socket.
        deadline: to be connected by.
    """

    def __init__(self, name: str, resource: str, opened: Any, connection: socket.socket, deadline: Deadline) -> None:
        self._name, self._opened, self._socket = name, opened, connection
        # pyvisa-py says that it opened a port that refused (lab reference 4.2); the socket knows better
        failure = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise DisconnectedError(
                f"{name}: {resource} cannot be reached: {os.strerror(failure)}; is it on, and is the port right?"
            )
        deadline.remaining_s("connecting")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(SLICE_S)

    def send(self, pieces: Sequence[Buffer], deadline: Deadline) -> None:
        """As the protocol says; the other side's closing is seen while it does not read."""
        for piece in _gathered(pieces):
            view = memoryview(piece).cast("B")
            while view:
                deadline.remaining_s("sending")
                try:
                    view = view[self._socket.send(view) :]
                except TimeoutError:
                    self.unread()
                except OSError as error:
                    raise self._closed("sending", error) from error

    def receive_some(self, view: memoryview, deadline: Deadline) -> int:
        """As the protocol says."""
        return self._receive(view, deadline, "waiting for its answer")

    def receive_exactly(self, view: memoryview, deadline: Deadline) -> None:
        """As the protocol says."""
        while view:
            view = view[self._receive(view, deadline, "receiving a block") :]

    def _receive(self, view: memoryview, deadline: Deadline, doing: str) -> int:
        while True:
            deadline.remaining_s(doing)
            try:
                count = self._socket.recv_into(view)
            except TimeoutError:
                continue
            except OSError as error:
                raise self._closed(doing, error) from error
            if not count:
                raise self._closed(doing)
            return count

    def unread(self) -> bool:
        """As the protocol says."""
        self._socket.setblocking(False)
        try:
            waiting = self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._closed("idle", error) from error
        finally:
            self._socket.settimeout(SLICE_S)
        if not waiting:
            raise self._closed("idle")
        return True

    def close(self) -> None:
        """As the protocol says."""
        with suppress(Exception):  # the connection is given up; there is nothing left to save
            self._opened.close()

    def _closed(self, doing: str, error: OSError | None = None) -> DisconnectedError:
        why = "the other side closed the connection" if error is None else str(error)
        return DisconnectedError(f"{self._name}: disconnected while {doing}: {why}")


class VisaStream:
    """Any VISA resource, through viRead and viWrite.

    Args:
        name: the instrument's.
        opened: pyvisa's resource, which is closed with this.
        baud_rate: of a serial line.
    """

    def __init__(self, name: str, opened: Any, baud_rate: int | None = None) -> None:
        self._name, self._opened = name, opened
        self._codes = pyvisa().constants
        self._whole_lines: bool | None = None
        self._serial = opened.interface_type == self._codes.InterfaceType.asrl
        if baud_rate is not None and self._serial:
            opened.baud_rate = baud_rate
        with suppress(Exception):  # not every VISA knows it; NI's has it on by default
            opened.set_visa_attribute(self._codes.ResourceAttribute.tcpip_nodelay, True)

    def send(self, pieces: Sequence[Buffer], deadline: Deadline) -> None:
        """As the protocol says; it ends when VISA's own timeout does."""
        with mapped(self._name, "sending"):
            for piece in _gathered(pieces):
                self._prepare(deadline, "sending")
                self._opened.write_raw(bytes(piece))

    def receive_some(self, view: memoryview, deadline: Deadline) -> int:
        """A line, or as much of it as VISA gives."""
        with mapped(self._name, "waiting for its answer"):
            self._end_at_line_feed(True)
            received = self._read(min(len(view), CHUNK_BYTES), deadline)
            view[: len(received)] = received
            return len(received)

    def receive_exactly(self, view: memoryview, deadline: Deadline) -> None:
        """As the protocol says."""
        with mapped(self._name, "receiving a block"):
            self._end_at_line_feed(False)
            while view:
                received = self._read(len(view), deadline)
                view[: len(received)] = received
                view = view[len(received) :]

    def unread(self) -> bool:
        """Always False: VISA does not say."""
        return False

    def close(self) -> None:
        """As the protocol says."""
        with suppress(Exception):
            self._opened.close()

    def _prepare(self, deadline: Deadline, what: str) -> None:
        self._opened.timeout = max(1, round(1000 * deadline.remaining_s(what)))

    def _read(self, count: int, deadline: Deadline) -> bytes:
        self._prepare(deadline, "waiting for its answer")
        status = self._codes.StatusCode
        with self._opened.ignore_warning(
            status.success_device_not_present, status.success_max_count_read, status.success_termination_character_read
        ):
            received, _ = self._opened.visalib.read(self._opened.session, count)
        return bytes(received)

    def _end_at_line_feed(self, whole_lines: bool) -> None:
        if whole_lines == self._whole_lines:
            return
        attributes = self._codes.ResourceAttribute
        self._opened.set_visa_attribute(attributes.termchar, ord("\n"))
        self._opened.set_visa_attribute(attributes.termchar_enabled, whole_lines)
        if self._serial:
            ends = self._codes.SerialTermination
            self._opened.set_visa_attribute(attributes.asrl_end_in, ends.termination_char if whole_lines else ends.none)
        self._whole_lines = whole_lines


def _gathered(pieces: Sequence[Buffer]) -> list[Buffer]:
    """The same bytes in fewer pieces: short neighbours copied together, long ones as they are."""
    gathered: list[Buffer] = []
    for piece in pieces:
        last = gathered[-1] if gathered else None
        if isinstance(last, bytearray) and len(piece) <= GATHERED_BYTES:
            last += piece
        elif len(piece) <= GATHERED_BYTES:
            gathered.append(bytearray(piece))
        else:
            gathered.append(piece)
    return gathered
