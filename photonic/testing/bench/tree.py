"""A command tree as data: patterns such as ``SOURce#:VOLTage[:LEVel]`` and what they do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from photonic.testing.bench.scpierror import ScpiError
from photonic.testing.bench.units import Parameter

Suffixes = tuple[int, ...]
Answer = str | list[bytes | memoryview]
Write = Callable[[Suffixes, Sequence[Parameter]], None]
Query = Callable[[Suffixes, Sequence[Parameter]], Answer]
_NODE = re.compile(r"\[:?(\w+)(#?)\]|:?(\*?\w+)(#?)")
_DIGITS = re.compile(r"(.*?)(\d*)$")
_KNOWN = 4096  # spellings of headers that are kept


@dataclass(frozen=True)
class Command:
    """One command: its header, and what it does.

    Attributes:
        pattern: capitals are the short form, brackets an optional node, ``#`` a numeric suffix.
        write: executes the command; None: query only.
        query: answers the query; None: command only.
        parameters: how few and how many the command takes.
        query_parameters: the same of the query.
    """

    pattern: str
    write: Write | None = None
    query: Query | None = None
    parameters: tuple[int, int] = (1, 1)
    query_parameters: tuple[int, int] = (0, 0)

    def check(self, query: bool, count: int) -> None:
        """Refuses a number of parameters that it does not take."""
        low, high = self.query_parameters if query else self.parameters
        if count < low:
            raise ScpiError(-109)
        if count > high:
            raise ScpiError(-108)


@dataclass
class _Node:
    children: dict[str, tuple[bool, _Node]] = field(default_factory=dict)
    command: Command | None = None


class CommandTree:
    """Finds commands by header, in any case, long or short.

    Args:
        commands: later ones replace earlier ones of the same header.
    """

    def __init__(self, commands: Iterable[Command]) -> None:
        self._root = _Node()
        self._known: dict[str, tuple[Command, Suffixes]] = {}
        for command in commands:
            for path in _paths(command.pattern):
                self._add(path, command)

    def _add(self, path: Sequence[tuple[str, bool]], command: Command) -> None:
        node = self._root
        for spelled, numbered in path:
            long, short = spelled.upper(), "".join(c for c in spelled if not c.islower())
            child = node.children.get(long, (numbered, _Node()))[1]
            # a node is numbered where any command says so
            numbered = numbered or node.children.get(long, (False, child))[0]
            node.children[long] = node.children[short] = (numbered, child)
            node = child
        node.command = command

    def find(self, header: str) -> tuple[Command, Suffixes]:
        """The command of a whole header without leading colon, and the suffixes of its numbered nodes (default 1).

        Raises:
            ScpiError: no such command.
        """
        known = self._known.get(header)
        if known is None:
            known = self._search(header.upper())
            if len(self._known) < _KNOWN:
                self._known[header] = known
        return known

    def _search(self, header: str) -> tuple[Command, Suffixes]:
        node, suffixes = self._root, []
        for part in header.split(":"):
            found = node.children.get(part)
            digits = ""
            if found is None:
                stem, digits = _DIGITS.match(part).groups()  # type: ignore[union-attr]  # it matches anything
                found = node.children.get(stem)
                if found is None or not digits:
                    raise ScpiError(-113, header[:60])
                if not found[0] or len(digits) > 9:
                    raise ScpiError(-114, header[:60])
            if found[0]:
                suffixes.append(int(digits or 1))
            node = found[1]
        if node.command is None:
            raise ScpiError(-113, header[:60])
        return node.command, tuple(suffixes)


def _paths(pattern: str) -> Iterable[list[tuple[str, bool]]]:
    """All ways to write a pattern: with and without each optional node."""
    nodes = [
        (bool(optional), optional or needed, bool(mark_optional or mark))
        for optional, mark_optional, needed, mark in _NODE.findall(pattern)
    ]
    for chosen in itertools.product(*[(True, False) if optional else (True,) for optional, _, _ in nodes]):
        yield [(name, numbered) for (_, name, numbered), taken in zip(nodes, chosen, strict=True) if taken]
