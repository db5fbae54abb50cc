"""Messages: commands and queries with semicolons between them, and the blocks that they carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.blocks import header
from photonic.backends.visa.streams import Buffer


@dataclass(frozen=True)
class Command:
    """One command or query of a message.

    Attributes:
        text: without a separator or an end.
        block: sent after the text and a space, as a definite-length block.
        into: array for the block that is its answer.
        query: whether it is answered in text.
        expect: what its answer must mean; in the notation of ``same_setting``.
        tolerance: of numbers in it, relative.
    """

    text: str
    block: memoryview | None = None
    into: NDArray[np.generic] | None = None
    query: bool = False
    expect: str | None = None
    tolerance: float = 1e-6

    @property
    def size(self) -> int:
        """Bytes that it moves, either way."""
        return (
            len(self.text) + (len(self.block) if self.block else 0) + (self.into.nbytes if self.into is not None else 0)
        )


def ask(text: str, expect: str | None = None, tolerance: float = 1e-6) -> Command:
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
    for index, command in enumerate(commands):
        text += (";" if index else "") + command.text
        if command.block is not None:
            parts += [text.encode("ascii") + b" " + header(len(command.block)), command.block]
            log.sent += [text, command.block]
            text = ""
    log.sent.append(text)
    return [*parts, (text + end).encode("ascii")]


def messages(commands: Sequence[Command], preamble: Sequence[Command], most_bytes: int) -> list[list[Command]]:
    """Commands in messages that stay below a size, with room for a preamble; a longer command has one for itself."""
    limit = most_bytes - sum(command.size for command in preamble)
    parts: list[list[Command]] = [[]]
    size = 0
    for command in commands:
        if parts[-1] and size + command.size > limit:
            parts.append([])
            size = 0
        parts[-1].append(command)
        size += command.size
    return parts
