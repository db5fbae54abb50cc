"""One user of a bench at a time, by a lock on its file that the system releases when a process dies."""

from __future__ import annotations

import os
from typing import IO

from photonic.errors import LabError


class InUse:
    """A lock that is held.

    Args:
        stream: the locked file.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> InUse:
        """Takes the lock of a bench file.

        Raises:
            LabError: somebody has the bench open.
        """
        stream = open(path, "rb")  # noqa: SIM115 - open for as long as the bench is
        try:
            import fcntl
        except ImportError:  # not on this system: instruments that take one connection refuse the second
            return cls(stream)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.close()
            raise LabError(
                f"the bench of {path} is in use, by another process or another chip of this one; close that first"
            ) from error
        return cls(stream)

    def release(self) -> None:
        """Gives it back; a second call does nothing."""
        self._stream.close()
