"""What went over the wires of a virtual bench: every message and every reply, in bounded memory."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Sequence
from typing import Any

from photonic.testing.bench.instrument import Reply
from photonic.testing.bench.message import BLOCK, Message

ENTRIES = 20_000
_CHARACTERS = 4096

Entry = dict[str, Any]


class Transcript:
    """The last exchanges of all instruments; safe under threads.

    An entry has ``number``, ``time_s`` (the bench's), ``instrument``, ``message`` (text, a block as ``#<bytes>``),
    ``blocks`` (bytes and Adler-32 of each), ``noted`` (what the instrument understood: lowest and highest level of each
    setting of levels, largest step, sum of squares), ``errors`` (that the message made), ``reply`` and its ``sent``
    blocks, ``faults`` (that happened to it).
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=ENTRIES)
        self._lock = threading.Lock()
        self._number = 0

    def add(self, instrument: str, time_s: float, message: Message, **more: Any) -> Entry:
        """Notes a message; what comes of it is added to the entry that is returned."""
        entry = {
            "time_s": time_s,
            "instrument": instrument,
            "message": _text(message),
            "blocks": [_summary(block.data) for block in message.blocks],
            **more,
        }
        with self._lock:
            self._number += 1
            entry["number"] = self._number
            self._entries.append(entry)
        return entry

    def entries(self, since: int = 0, instrument: str | None = None, limit: int = ENTRIES) -> list[Entry]:
        """Copies of the entries after number ``since``, the oldest ``limit`` of them."""
        with self._lock:
            chosen = [
                entry
                for entry in self._entries
                if entry["number"] > since and instrument in (None, entry["instrument"])
            ]
        return [dict(entry) for entry in chosen[:limit]]


def replied(reply: Reply) -> tuple[str, Sequence[dict[str, int]]]:
    """Text of a reply, and its blocks."""
    text = "".join(f"<{len(p)}>" if isinstance(p, memoryview) else bytes(p).decode("latin-1") for p in reply)
    return text[:_CHARACTERS], [_summary(piece) for piece in reply if isinstance(piece, memoryview)]


def _text(message: Message) -> str:
    if message.overrun:
        return "(too long)"
    text, *rest = message.text.split(BLOCK)
    for block, part in zip(message.blocks, rest, strict=False):
        text += f"#<{len(block)}>{part}"
    return text[:_CHARACTERS]


def _summary(block: memoryview) -> dict[str, int]:
    return {"bytes": len(block), "adler32": zlib.adler32(block)}
