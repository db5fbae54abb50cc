"""Numbers for live backends: compiled code can hold a number, and not an object that owns generators and a chip.

This is the one registry that the package writes to. It keeps nothing alive.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from photonic.errors import DetachedError

if TYPE_CHECKING:
    from photonic.backends.base import Backend

_live: WeakValueDictionary[int, Backend] = WeakValueDictionary()
_next = itertools.count(1)


def register(backend: Backend) -> int:
    """A number by which compiled code finds this backend, for as long as somebody holds it."""
    handle = next(_next)
    _live[handle] = backend
    return handle


def live(handle: int) -> Backend:
    """The backend of a handle.

    Raises:
        DetachedError: nobody holds it any more.
    """
    backend = _live.get(handle)
    if backend is None:
        raise DetachedError("compiled code ran on a backend that is gone; compile the model again")
    return backend
