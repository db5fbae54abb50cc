"""Program messages out of a stream of bytes: text up to a line feed, with definite-length blocks inside.

IEEE 488.2, 7.7.6: a block is ``#``, one digit n, n digits that say how many bytes follow, and those bytes, whatever
they are. Everything else is text; a line feed ends the message. Payloads are received into one buffer each and never
copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.uint8]
BLOCK = "\ue000"  # stands in a message's text for the next of its blocks; no byte decodes to it
_MARKS = re.compile(rb"[\n#\"']")
_ENDS = {quote: re.compile(rb"[\n" + quote + rb"]") for quote in (b'"', b"'")}


@dataclass(frozen=True)
class Bounds:
    """What one message may hold.

    Attributes:
        text: bytes outside blocks.
        block_bytes: of all blocks together.
        blocks: how many.
    """

    text: int = 2**18
    block_bytes: int = 2**28
    blocks: int = 2**13


@dataclass
class Message:
    """One program message.

    Attributes:
        text: decoded byte for byte (Latin-1), with ``BLOCK`` in place of each block.
        blocks: in order.
        overrun: more came than an instrument takes; the message was read to its end and is not executed.
    """

    text: str = ""
    blocks: list[Block] = field(default_factory=list)
    overrun: bool = False


class MessageReader:
    """Cuts a stream into messages.

    Args:
        receive_into: fills a buffer as ``socket.recv_into`` does; 0: the stream has ended.
        bounds: of one message; a longer one is read to its end and marked.
        buffer_bytes: read at once outside blocks.
    """

    def __init__(
        self, receive_into: Callable[[memoryview], int], bounds: Bounds | None = None, buffer_bytes: int = 2**16
    ) -> None:
        self._receive_into = receive_into
        self._bounds = bounds or Bounds()
        self._buffer = bytearray(buffer_bytes)
        self._start = self._end = 0

    @property
    def pending(self) -> bool:
        """Whether bytes of the next message were received already."""
        return self._end > self._start

    def next(self) -> Message | None:
        """The next message; None: the stream has ended, what was left of a message is dropped."""
        message, parts = Message(), _Text(self._bounds.text)
        marks = _MARKS
        while True:
            found = marks.search(self._buffer, self._start, self._end)
            if found is None:
                parts.add(self._take(self._end - self._start))
                if not self._fill():
                    return None
                continue
            mark = found[0]
            parts.add(self._take(found.end() - self._start - (mark in b"\n#")))
            if mark == b"\n":
                self._start += 1
                message.text, message.overrun = parts.joined(), message.overrun or parts.overrun
                return message
            if mark == b"#":
                if not self._number_sign(message, parts):
                    return None
            else:  # a quote: begins a string, or ends the one that it began
                marks = _ENDS[mark] if marks is _MARKS else _MARKS

    def _number_sign(self, message: Message, parts: _Text) -> bool:
        """Reads a block, or leaves the sign as text; False: the stream has ended."""
        if not self._ensure(2):
            return False
        digits = self._buffer[self._start + 1] - 48
        if not 1 <= digits <= 9:
            parts.add(self._take(1))
            return True
        if not self._ensure(2 + digits):
            return False
        header = bytes(self._buffer[self._start + 2 : self._start + 2 + digits])
        if not header.isdigit():
            parts.add(self._take(1))
            return True
        self._start += 2 + digits
        parts.add(None)
        return self._payload(message, int(header))

    def _payload(self, message: Message, size: int) -> bool:
        bounds = self._bounds
        if len(message.blocks) >= bounds.blocks or sum(map(len, message.blocks)) + size > bounds.block_bytes:
            message.overrun = True
            return self._skip(size)
        block = np.empty(size, dtype=np.uint8)
        view, have = block.data, min(size, self._end - self._start)
        view[:have] = memoryview(self._buffer)[self._start : self._start + have]
        self._start += have
        while have < size:
            count = self._receive_into(view[have:])
            if not count:
                return False
            have += count
        message.blocks.append(block)
        return True

    def _skip(self, size: int) -> bool:
        while size:
            have = min(size, self._end - self._start)
            self._start += have
            size -= have
            if size and not self._fill():
                return False
        return True

    def _take(self, count: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[self._start : self._start + count])
        self._start += count
        return taken

    def _ensure(self, count: int) -> bool:
        """Whether that many bytes are in the buffer, or could be read; a few at most."""
        while self._end - self._start < count:
            if not self._fill():
                return False
        return True

    def _fill(self) -> bool:
        """Reads more, after moving what is left (a few bytes at most) to the front."""
        if self._start:
            left = self._end - self._start
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        count = self._receive_into(memoryview(self._buffer)[self._end :])
        self._end += count
        return count > 0


class _Text:
    """Text of a message as it grows, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[str] = []
        self._size = 0
        self.overrun = False

    def add(self, data: bytes | None) -> None:
        """Adds bytes; None stands for a block."""
        self._size += 1 if data is None else len(data)
        if self._size > self._limit:
            self.overrun = True
            self._parts.clear()
        else:
            self._parts.append(BLOCK if data is None else data.decode("latin-1"))

    def joined(self) -> str:
        return "" if self.overrun else "".join(self._parts)
