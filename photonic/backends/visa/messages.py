"""Messages: commands and queries with semicolons between them, and the blocks that they carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from photonic.backends.visa.blocks import header
from photonic.backends.visa.replies import TOLERANCE
from photonic.backends.visa.streams import Buffer


class Command(NamedTuple):
    """One command or query of a message.

    Attributes:
        text: without a separator or an end.
        block: sent after the text and a space, as a definite-length block.
        into: memory for the block that is its answer.
        query: whether it is answered in text.
        expect: what its answer must mean; in the notation of ``same_setting``.
        tolerance: of numbers in it, relative.
    """

    text: str
    block: memoryview | None = None
    into: memoryview | None = None
    query: bool = False
    expect: str | None = None
    tolerance: float = TOLERANCE


def ask(text: str, expect: str | None = None, tolerance: float = TOLERANCE) -> Command:
    """A query that is answered in text."""
    return Command(text, query=True, expect=expect, tolerance=tolerance)


@dataclass(frozen=True)
class Protocol:
    """How an instrument takes messages.

    Attributes:
        end: of a message.
        errors: query that takes one error from its queue; None: it has none.
        clear: sent when the connection is made.
        mark: header of a register of 8 bits that nothing else uses, such as ``*ESE``; None: none is known.
        setup: sent when the connection is made; each reads back.
        message_bytes: most bytes of a message, and of the blocks of an answer.
    """

    end: str = "\n"
    errors: str | None = ":SYST:ERR?"
    clear: str = "*CLS"
    mark: str | None = None
    setup: tuple[Command, ...] = ()
    message_bytes: int = 4 * 2**20


@dataclass
class Exchange:
    """What one exchange has sent and received, for the transcript."""

    sent: list[str | Buffer] = field(default_factory=list)
    received: list[str | Buffer] = field(default_factory=list)


def pieces(commands: Sequence[Command], end: str, log: Exchange) -> list[Buffer]:
    """The message's bytes; blocks are not copied."""
    parts: list[Buffer] = []
    text = ""
    for index, (header_text, block, *_) in enumerate(commands):
        text += (";" if index else "") + header_text
        if block is not None:
            parts += [f"{text} {header(len(block))}".encode("ascii"), block]
            log.sent += [text, block]
            text = ""
    log.sent.append(text)
    return [*parts, (text + end).encode("ascii")]


def messages(commands: Sequence[Command], preamble: Sequence[Command], most_bytes: int) -> list[list[Command]]:
    """Commands in messages that stay below a size, with room for a preamble; a longer command has one for itself."""
    limit = most_bytes - sum(map(_size, preamble))
    parts: list[list[Command]] = [[]]
    size = 0
    for command in commands:
        more = _size(command)
        if parts[-1] and size + more > limit:
            parts.append([])
            size = 0
        parts[-1].append(command)
        size += more
    return parts


def _size(command: Command) -> int:
    """Bytes that a command moves, either way."""
    text, block, into, *_ = command
    return len(text) + (0 if block is None else len(block)) + (0 if into is None else len(into))
