"""A transcript of every exchange with an instrument, as lines of JSON; blocks as their length and SHA-256."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from photonic.errors import SpecError

Part = str | bytes | bytearray | memoryview


class Transcript:
    """Appends to a file; several instruments may write to the same one.

    Args:
        path: of the file.

    Raises:
        SpecError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._append("")

    def write(self, name: str, sent: Sequence[Part], received: Sequence[Part], error: BaseException | None) -> None:
        """One exchange, whole: what was sent, what came, and how it failed."""
        entry = {
            "time_s": time.time(),
            "instrument": name,
            "sent": [_shown(part) for part in sent],
            "received": [_shown(part) for part in received],
            "error": None if error is None else f"{type(error).__name__}: {error}",
        }
        self._append(json.dumps(entry) + "\n")

    def _append(self, text: str) -> None:
        """Opened for each entry: whatever kills this process, all entries before it are in the file."""
        try:
            with self._lock, self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise SpecError(f"the transcript {self._path} cannot be written: {error}") from error


def _shown(part: Part) -> str | dict[str, int | str]:
    if isinstance(part, str):
        return part
    return {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
