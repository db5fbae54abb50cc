"""What instruments answer, in all the forms that IEEE 488.2 and SCPI-99 allow; anything else is refused."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from photonic.backends.visa.roles import Identity
from photonic.errors import OverloadError, ProtocolError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
_ERROR = re.compile(r"([+-]?\d+)\s*,\s*\"((?:[^\"]|\"\")*)\"\s*\Z")
_BARE_ERROR = re.compile(r"[+-]?\d+\Z")
OVER_RANGE = 9.9e37  # SCPI-99, volume 1, 7.2.1.4: infinity; 9.91e37 is "not a number"
QUEUE_OVERFLOW = -350
TOLERANCE = 1e-5  # of numbers that are read back: some instruments answer with six digits
_WORDS = {"ON": True, "1": True, "+1": True, "OFF": False, "0": False, "+0": False}


@dataclass(frozen=True)
class QueuedError:
    """An entry of an instrument's error queue; code 0: none."""

    code: int
    text: str


def parse_number(name: str, answer: str) -> float:
    """A number in any of the forms NR1, NR2, NR3.

    Raises:
        OverloadError: the standard's sentinels for over-range and for no number.
        ProtocolError: anything else.
    """
    text = answer.strip()
    if text.upper() in ("NAN", "INF", "+INF", "-INF", "INFINITY", "NINF"):
        raise OverloadError(f"{name}: expected a number, found {text}: over its range, or nothing was measured")
    if not _NUMBER.match(text):
        raise ProtocolError(f"{name}: expected a number, found {_shown(answer)}")
    value = float(text)
    if not math.isfinite(value) or abs(value) >= OVER_RANGE:
        raise OverloadError(f"{name}: found {text}, which means over its range, or that nothing was measured")
    return value


def parse_count(name: str, answer: str) -> int:
    """A whole number, in whichever form it is written."""
    value = parse_number(name, answer)
    if value != int(value):
        raise ProtocolError(f"{name}: expected a whole number, found {_shown(answer)}")
    return int(value)


def parse_bool(name: str, answer: str) -> bool:
    """ON, OFF, 1 or 0."""
    try:
        return _WORDS[answer.strip().upper()]
    except KeyError:
        raise ProtocolError(f"{name}: expected ON, OFF, 1 or 0, found {_shown(answer)}") from None


def parse_numbers(name: str, answer: str) -> list[float]:
    """Numbers with commas between them, in braces or not."""
    return [parse_number(name, part) for part in answer.strip().removeprefix("{").removesuffix("}").split(",")]


def parse_error(name: str, answer: str) -> QueuedError:
    """An answer to ``SYST:ERR?``: ``+0,"No error"``; some leave the text out."""
    text = answer.strip()
    if _BARE_ERROR.match(text):
        return QueuedError(int(text), "")
    found = _ERROR.match(text)
    if found is None:
        raise ProtocolError(f'{name}: expected an error such as 0,"No error", found {_shown(answer)}')
    return QueuedError(int(found[1]), found[2].replace('""', '"'))


def parse_identity(name: str, answer: str) -> Identity:
    """The four fields of ``*IDN?``; missing ones are empty."""
    fields = [field.strip() for field in answer.strip().strip('"').split(",", 3)]
    if not fields[0]:
        raise ProtocolError(f"{name}: expected maker, model, serial, firmware from *IDN?, found {_shown(answer)}")
    return Identity(*(fields + [""] * 4)[:4])


def same_setting(answer: str, expected: str, tolerance: float = TOLERANCE) -> bool:
    """Whether an answer means what was set.

    Args:
        answer: of the instrument.
        expected: fields with commas between them: numbers, or words in SCPI's notation (``SWAPped``: the capitals are
            the short form), which match their short and long forms in any case; ON and OFF match 1 and 0.
        tolerance: of numbers with a decimal point, relative; whole numbers must be equal.
    """
    found, wanted = answer.strip().strip('"').split(","), expected.split(",")
    return len(found) == len(wanted) and all(map(lambda a, b: _same_field(a, b, tolerance), found, wanted))


def _same_field(answer: str, expected: str, tolerance: float) -> bool:
    answer, expected = answer.strip(), expected.strip()
    if _NUMBER.match(expected) and _NUMBER.match(answer):
        exact = expected.lstrip("+-").isdigit()
        return math.isclose(float(answer), float(expected), rel_tol=0.0 if exact else tolerance, abs_tol=1e-15)
    if expected.upper() in _WORDS:
        return _WORDS.get(answer.upper()) is _WORDS[expected.upper()]
    short = "".join(letter for letter in expected if not letter.islower())
    return answer.upper() in (short.upper(), expected.upper())


def _shown(answer: str) -> str:
    return repr(answer if len(answer) <= 60 else answer[:57] + "...")
