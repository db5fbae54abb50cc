"""The edge: exceptions of pyvisa, its back ends and the operating system become photonic's own, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from photonic.errors import (
    DisconnectedError,
    InstrumentTimeoutError,
    LabError,
    MissingExtraError,
    PhotonicError,
    ProtocolError,
)


def pyvisa() -> Any:
    """The package, loaded when the first instrument is opened.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyvisa as package
    except ImportError as error:
        raise MissingExtraError("pyvisa", "lab") from error
    return package


@contextmanager
def mapped(name: str, doing: str) -> Iterator[None]:
    """Maps what may be raised below.

    Args:
        name: the instrument's.
        doing: what is under way, for the message.

    Raises:
        InstrumentTimeoutError: the back end's timeout.
        DisconnectedError: refused, closed, unreachable, or no such resource.
        ProtocolError: an answer that the back end cannot parse.
    """
    try:
        yield
    except PhotonicError:
        raise
    except (UnicodeError, ValueError) as error:
        raise ProtocolError(f"{name}: {type(error).__name__} while {doing}: {error}") from error
    except TimeoutError as error:
        raise InstrumentTimeoutError(f"{name}: no end of {doing} by the deadline") from error
    except OSError as error:
        raise DisconnectedError(f"{name}: the connection failed while {doing}: {error}") from error
    except Exception as error:
        known = _of_visa(name, doing, error)
        if known is None:
            raise
        raise known from error


def _of_visa(name: str, doing: str, error: Exception) -> LabError | None:
    """An exception of pyvisa or of a back end; None: of something else, which is not ours to name."""
    package = pyvisa()
    if isinstance(error, package.errors.VisaIOError):
        if error.error_code == package.constants.StatusCode.error_timeout:
            return InstrumentTimeoutError(f"{name}: no end of {doing} by the deadline ({error.abbreviation})")
        return DisconnectedError(f"{name}: VISA failed while {doing}: {error}")
    if isinstance(error, package.errors.Error):
        return ProtocolError(f"{name}: {type(error).__name__} while {doing}: {error}")
    if type(error) is Exception:
        # pyvisa-py raises bare Exceptions where it cannot connect
        return DisconnectedError(f"{name}: the back end failed while {doing}: {error}")
    return None
