"""One user of a bench at a time, by locks that the system releases when a process dies.

The bench file is locked, and each instrument by its resource name: a copy of the file, or one that an editor has
written anew, is another file with perhaps other limits, but its instruments are the same.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from photonic.errors import LabError


class InUse:
    """Locks that are held.

    Args:
        held: closes the locked files.
    """

    def __init__(self, held: ExitStack) -> None:
        self._held = held

    @classmethod
    def of(cls, path: str | os.PathLike[str], resources: Iterable[str] = ()) -> InUse:
        """Takes the locks of a bench.

        Args:
            path: of the bench file.
            resources: of its instruments.

        Raises:
            LabError: somebody has the bench, or one of its instruments, open.
        """
        with ExitStack() as stack:
            _lock(stack.enter_context(open(path, "rb")), f"the bench of {path}")
            for resource in sorted({resource.strip().upper() for resource in resources}):
                _lock(stack.enter_context(_file_of(resource)), f"the instrument {resource}")
            return cls(stack.pop_all())

    def release(self) -> None:
        """Gives them back; a second call does nothing."""
        self._held.close()


def _file_of(resource: str) -> IO[bytes]:
    """The lock file of a resource, for all users of this machine; it is never removed, for that would be a race."""
    digest = hashlib.blake2b(resource.encode(), digest_size=12, person=b"photonic lock").hexdigest()
    path = Path(tempfile.gettempdir()) / f"photonic-{digest}.lock"
    try:
        return path.open("rb")  # a lock needs no more, and the file may be another user's
    except FileNotFoundError:
        return path.open("a+b")


def _lock(stream: IO[bytes], what: str) -> None:
    try:
        import fcntl
    except ImportError:  # not on this system: instruments that take one connection refuse the second
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise LabError(f"{what} is in use, by another process or another chip of this one; close that first") from error
