"""Definite-length blocks (IEEE 488.2, 7.7.6 and 8.7.9) and the answers that hold them, read header first."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.deadline import Deadline
from photonic.backends.visa.streams import ByteStream
from photonic.errors import ProtocolError

TEXT_BYTES = 2**20  # longest answer in text, so that a stream of garbage ends
# up to ";" or the end of the line, both outside quotes
_FIELD = re.compile(rb'((?:"[^"]*"|[^";\n])*+)([;\n])')

_PRINTABLE = re.compile(rb"[ -~\t]*\Z")


def header(count: int) -> bytes:
    """``#<digits><count>`` of a block of ``count`` bytes."""
    digits = str(count)
    if len(digits) > 9:
        raise ProtocolError(f"a block holds at most 999999999 bytes, found {count}; send it in parts")
    return f"#{len(digits)}{digits}".encode()


def raw_bytes(array: NDArray[np.generic]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


class Answer:
    """One answer on its way in: fields with semicolons between them, up to the end of the line.

    Args:
        name: the instrument's.
        stream: where it comes from.
        deadline: for all of it.
    """

    def __init__(self, name: str, stream: ByteStream, deadline: Deadline) -> None:
        self._name, self._stream, self._deadline = name, stream, deadline
        self._come = bytearray()
        self._at = 0
        self.ended = False

    def text(self) -> str:
        """The next field.

        Raises:
            ProtocolError: not printable ASCII, or without an end.
        """
        while (found := _FIELD.match(self._come, self._at)) is None:
            if len(self._come) - self._at > TEXT_BYTES:
                raise ProtocolError(f"{self._name}: expected a line, found {TEXT_BYTES} bytes without an end")
            self._more()
        self._at = found.end()
        self.ended = found[2] == b"\n"
        raw = bytes(found[1]).strip()
        if not _PRINTABLE.match(raw):
            raise ProtocolError(f"{self._name}: expected printable text, found {raw[:40]!r}")
        return raw.decode("ascii")

    def starts_block(self) -> bool:
        """Whether the next field is a block and not text."""
        while True:
            while self._at < len(self._come) and self._come[self._at] in b" \t":
                self._at += 1
            if self._at < len(self._come):
                return self._come[self._at] == ord("#")
            self._more()

    def block(self, out: NDArray[np.generic]) -> None:
        """Reads the next field, a block, straight into an array.

        Raises:
            ProtocolError: of another length, of indefinite length, or not a block.
        """
        count = self._header()
        if count != out.nbytes:
            raise ProtocolError(
                f"{self._name}: expected a block of {out.nbytes} bytes ({out.size} values of {out.dtype}), "
                f"found {count}"
            )
        view = raw_bytes(out)
        here = min(count, len(self._come) - self._at)
        view[:here] = memoryview(self._come)[self._at : self._at + here]
        self._at += here
        self._stream.receive_exactly(view[here:], self._deadline)
        if self.text():
            raise ProtocolError(f"{self._name}: expected ; or the end of the line after a block, found something else")

    def finish(self) -> None:
        """Raises ProtocolError where bytes have come beyond the end."""
        if self._at < len(self._come):
            raise ProtocolError(
                f"{self._name}: {len(self._come) - self._at} bytes came after the end of the answer: "
                f"{bytes(self._come[self._at : self._at + 40])!r}"
            )

    def _header(self) -> int:
        start = self._take(2)
        if start[:1] != b"#" or not start[1:].isdigit():
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
        while len(self._come) - self._at < count:
            self._more()
        taken = bytes(self._come[self._at : self._at + count])
        self._at += count
        return taken

    def _more(self) -> None:
        if self._at:
            del self._come[: self._at]
            self._at = 0
        self._come += self._stream.receive_some(self._deadline)
