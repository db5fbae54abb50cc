"""Definite-length blocks (IEEE 488.2, 7.7.6 and 8.7.9) and the answers that hold them, read header first."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.deadline import Deadline
from photonic.backends.visa.streams import ByteStream
from photonic.errors import ProtocolError

BUFFER_BYTES = 2**20  # and longest answer in text, so that a stream of garbage ends
RECEIVE_BYTES = 2**18  # at once: what is copied out of the buffer should still be in the processor's cache
DIRECT_BYTES = 2**13  # a longer rest of a block is not worth a copy
_HASH, _LINE_FEED, _ZERO = b"#\n0"
# up to ";" or the end of the line, both outside quotes
_FIELD = re.compile(rb'((?:"[^"]*"|[^";\n])*+)([;\n])')

_PRINTABLE = re.compile(rb"[ -~\t]*\Z")


def header(count: int) -> str:
    """``#<digits><count>`` of a block of ``count`` bytes."""
    digits = str(count)
    if len(digits) > 9:
        raise ProtocolError(f"a block holds at most 999999999 bytes, found {count}; send it in parts")
    return f"#{len(digits)}{digits}"


def raw_bytes(array: NDArray[np.generic]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


class Answer:
    """One answer on its way in: fields with semicolons between them, up to the end of the line.

    Args:
        name: the instrument's.
        stream: where it comes from.
        deadline: for all of it.
        buffer: to receive in; it may be used again for the next answer, which spares the memory's first touch.
    """

    def __init__(self, name: str, stream: ByteStream, deadline: Deadline, buffer: bytearray) -> None:
        self._name, self._stream, self._deadline = name, stream, deadline
        self._buffer, self._view = buffer, memoryview(buffer)
        self._at = self._end = 0
        self.ended = False

    def text(self) -> str:
        """The next field.

        Raises:
            ProtocolError: not printable ASCII, or without an end.
        """
        while (found := _FIELD.match(self._buffer, self._at, self._end)) is None:
            self._more()
        raw = found[1].strip()
        self._at = found.end()
        self.ended = found[2] == b"\n"
        if not _PRINTABLE.match(raw):
            raise ProtocolError(f"{self._name}: expected printable text, found {bytes(raw[:40])!r}")
        return raw.decode("ascii")

    def starts_block(self) -> bool:
        """Whether the next field is a block and not text."""
        while self._at == self._end or self._buffer[self._at] != _HASH:
            while self._at < self._end and self._buffer[self._at] in b" \t":
                self._at += 1
            if self._at < self._end:
                return self._buffer[self._at] == _HASH
            self._more()
        return True

    def block(self, view: memoryview) -> None:
        """Reads the next field, a block, straight into its memory.

        Raises:
            ProtocolError: of another length, of indefinite length, or not a block.
        """
        count, size = self._header(), len(view)
        if count != size:
            raise ProtocolError(f"{self._name}: expected a block of {size} bytes, found one of {count}")
        at = self._at
        here = min(count, self._end - at)
        view[:here] = self._view[at : at + here]
        self._at = at + here
        if here < count:
            self._rest(view[here:])
        self._separator()

    def finish(self) -> None:
        """Raises ProtocolError where bytes have come beyond the end."""
        if self._at < self._end:
            raise ProtocolError(
                f"{self._name}: {self._end - self._at} bytes came after the end of the answer: "
                f"{bytes(self._buffer[self._at : min(self._end, self._at + 40)])!r}"
            )

    def _rest(self, view: memoryview) -> None:
        """What of a block has not come yet: a long rest straight into its array, a short one with what follows it."""
        if len(view) > DIRECT_BYTES:
            self._stream.receive_exactly(view, self._deadline)
            return
        while view:
            self._more()
            here = min(len(view), self._end - self._at)
            view[:here] = self._view[self._at : self._at + here]
            self._at += here
            view = view[here:]

    def _separator(self) -> None:
        """What stands after a block: a semicolon, or the end of the line."""
        if self._at < self._end and self._buffer[self._at] in b";\n":
            self.ended = self._buffer[self._at] == _LINE_FEED
            self._at += 1
        elif self.text():
            raise ProtocolError(f"{self._name}: expected ; or the end of the line after a block, found something else")

    def _header(self) -> int:
        """Length of the block that comes; the usual form is looked at in place, because there may be many of them."""
        first = self._at + 2
        if self._end > first:
            last = first + self._buffer[first - 1] - _ZERO
            digits = self._buffer[first : min(last, self._end)]
            if self._buffer[first - 2] == _HASH and 0 < last - first == len(digits) < 10 and digits.isdigit():
                self._at = last
                return int(digits)
        return self._unusual_header()

    def _unusual_header(self) -> int:
        start = self._take(2)
        if start[0] != _HASH or not start[1:].isdigit():
            raise ProtocolError(f"{self._name}: expected a block (#, a digit, its length), found {start!r}")
        if start == b"#0":
            raise ProtocolError(
                f"{self._name}: found a block of indefinite length (#0), whose end nobody can see on a socket; set the "
                "instrument to definite-length blocks"
            )
        length = self._take(int(start[1:]))
        if not length.isdigit():
            raise ProtocolError(f"{self._name}: expected the length of a block in digits, found {length!r}")
        return int(length)

    def _take(self, count: int) -> bytes:
        while self._end - self._at < count:
            self._more()
        at = self._at
        self._at = at + count
        return bytes(self._view[at : at + count])

    def _more(self) -> None:
        """Receives what has come; what was not read yet moves to the front where there is no room behind it."""
        if self._at == self._end:
            self._at = self._end = 0
        elif self._end == len(self._buffer):
            if not self._at:
                raise ProtocolError(f"{self._name}: expected a line, found {self._end} bytes without an end")
            left = self._end - self._at
            self._view[:left] = bytes(self._view[self._at : self._end])
            self._at, self._end = 0, left
        self._end += self._stream.receive_some(self._view[self._end : self._end + RECEIVE_BYTES], self._deadline)
