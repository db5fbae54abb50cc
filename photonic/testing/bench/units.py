"""A program message taken apart: its units, their headers and parameters (IEEE 488.2, 7.3 to 7.7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from photonic.testing.bench.message import BLOCK, Block, Message
from photonic.testing.bench.scpierror import ScpiError

Parameter = str | Block
_QUOTED = r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'"
_UNITS = re.compile(rf"(?:[^;\"']|{_QUOTED})*")
_PARAMETERS = re.compile(rf"(?:[^,\"'()]|{_QUOTED}|\([^()]*\))*")
# 488.2 counts all control characters as white space
_HEADER = re.compile(r"(\*[A-Za-z]+|:?[A-Za-z]\w*(?::[A-Za-z]\w*)*)(\??)(?:[\x00-\x20]+([^\x00-\x20].*))?$", re.DOTALL)
_SPACE = "".join(map(chr, range(0x21)))


@dataclass(frozen=True)
class Unit:
    """One command or query of a message.

    Attributes:
        header: as written, without the question mark.
        query: whether it had one.
        parameters: text as written, strings with their quotes, and blocks.
    """

    header: str
    query: bool
    parameters: tuple[Parameter, ...]


def units(message: Message) -> Iterator[Unit | ScpiError]:
    """The units in order; in place of one that cannot be read, the error that it makes."""
    if message.overrun:
        yield ScpiError(-363)
        return
    blocks = iter(message.blocks)
    for text in _split(message.text, ";", _UNITS):
        try:
            unit = _unit(text, blocks)
        except ScpiError as error:
            unit = error
        if unit is not None:
            yield unit


def _unit(text: str, blocks: Iterator[Block]) -> Unit | ScpiError | None:
    stripped = text.strip(_SPACE)
    if not stripped:
        return None
    # taken first, so that an error in this unit does not shift the blocks of the next
    own = [next(blocks) for _ in range(stripped.count(BLOCK))]
    found = _HEADER.match(stripped)
    if found is None:
        raise ScpiError(-102, stripped[:40])
    header, mark, rest = found.groups()
    if rest is None:
        return Unit(header, bool(mark), ())
    if rest == BLOCK:
        return Unit(header, bool(mark), (own[0],))
    return Unit(header, bool(mark), tuple(_parameters(rest, own)))


def _parameters(text: str, own: list[Block]) -> Iterator[Parameter]:
    blocks = iter(own)
    for part in _split(text, ",", _PARAMETERS):
        stripped = part.strip(_SPACE)
        if not stripped:
            raise ScpiError(-109)
        if stripped == BLOCK:
            yield next(blocks)
        elif BLOCK in stripped:
            raise ScpiError(-161, "bytes around a block")
        else:
            yield stripped


def _split(text: str, separator: str, pattern: re.Pattern[str]) -> list[str]:
    """Splits at separators outside strings (and, of parameters, outside parentheses)."""
    if not any(mark in text for mark in "\"'("):
        return text.split(separator)
    parts, place = [], 0
    while True:
        found = pattern.match(text, place)
        end = place if found is None else found.end()
        if end < len(text) and text[end] != separator:  # a string or a parenthesis that does not end
            end = len(text)
        parts.append(text[place:end])
        if end >= len(text):
            return parts
        place = end + 1
