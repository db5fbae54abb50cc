"""Types of parameters: numbers with units, MIN, MAX and DEF; switches; words; how values are answered."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from photonic.testing.bench.scpierror import ScpiError
from photonic.testing.bench.units import Parameter

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)$", re.ASCII)
_BASES: Mapping[str, tuple[re.Pattern[str], int]] = MappingProxyType(
    {
        "H": (re.compile(r"[0-9A-F]{1,16}$"), 16),
        "Q": (re.compile(r"[0-7]{1,22}$"), 8),
        "B": (re.compile(r"[01]{1,64}$"), 2),
    }
)
# IEEE 488.2, 7.7.3: M is milli, MA mega, except in MHZ and MOHM
_PREFIXES: Mapping[str, float] = MappingProxyType(
    {"": 1.0, "G": 1e9, "MA": 1e6, "K": 1e3, "M": 1e-3, "U": 1e-6, "N": 1e-9, "P": 1e-12, "F": 1e-15}
)
_UNITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "": (),
        "W": ("W",),
        "V": ("V",),
        "HZ": ("HZ", "SA/S"),
        "S": ("S",),
        "M": ("M",),
        "C": ("C", "CEL"),
        "OHM": ("OHM",),
    }
)


def word(parameter: Parameter) -> str:
    """A parameter as text, in capitals.

    Raises:
        ScpiError: it is a block.
    """
    if not isinstance(parameter, str):
        raise ScpiError(-168)
    return parameter.upper()


def long_or_short(given: str, spelled: str) -> bool:
    """Whether a word is the long or the short form of ``spelled``, whose short form is its capitals."""
    return given in (spelled.upper(), "".join(c for c in spelled if not c.islower()))


@dataclass(frozen=True)
class Number:
    """A numeric setting.

    Attributes:
        unit: base unit, of ``_UNITS``; values are in it.
        low: smallest value.
        high: largest value.
        default: after ``*RST``.
        whole: integers only.
    """

    unit: str
    low: float
    high: float
    default: float
    whole: bool = False

    def named(self, text: str) -> float | None:
        """The value of MIN, MAX or DEF; None: another word."""
        for spelled, value in (("MINimum", self.low), ("MAXimum", self.high), ("DEFault", self.default)):
            if long_or_short(text, spelled):
                return value
        return None

    def read(self, parameter: Parameter) -> float:
        """The value of a parameter, in the base unit.

        Raises:
            ScpiError: not a number, another unit, out of range.
        """
        text = word(parameter)
        value = self.named(text)
        if value is None:
            value = number(text, self.unit)
        if self.whole:
            value = float(round(value)) if abs(value) < 2**53 else value
        if not self.low <= value <= self.high:
            raise ScpiError(-222, f"{self.low:g} to {self.high:g}, found {value:g}")
        return value

    def answer(self, value: float) -> str:
        """As a query gives it."""
        return str(int(value)) if self.whole else real(value)


def number(text: str, unit: str) -> float:
    """A decimal, hexadecimal, octal or binary number, with its unit.

    Raises:
        ScpiError: not a number, not finite, another unit.
    """
    if text.startswith("#") and text[1:2] in _BASES:
        pattern, base = _BASES[text[1]]
        if not pattern.match(text[2:]):
            raise ScpiError(-121, text[:40])
        return float(int(text[2:], base))
    if text.startswith("#"):
        raise ScpiError(-161)
    found = _NUMBER.match(text)
    if found is None:
        raise ScpiError(-121 if text[:1].isdigit() else -104, text[:40])
    value = float(found[1]) * _factor(found[2], unit)
    if found[2] == "DBM":
        value = 1e-3 * 10.0 ** min(float(found[1]) / 10.0, 300.0)
    if not math.isfinite(value):
        raise ScpiError(-222, text[:40])
    return value


def _factor(suffix: str, unit: str) -> float:
    if not suffix or (suffix == "DBM" and unit == "W"):
        return 1.0
    if not unit:
        raise ScpiError(-138, suffix[:20])
    if suffix in ("MHZ", "MOHM") and suffix.endswith(unit):
        return 1e6
    for name in _UNITS[unit]:
        if suffix.endswith(name) and suffix[: -len(name)] in _PREFIXES:
            return _PREFIXES[suffix[: -len(name)]]
    raise ScpiError(-131, suffix[:20])


def real(value: float) -> str:
    """NR3 of full precision: it reads back as the same number."""
    return repr(float(value)).upper()


def switch(parameter: Parameter) -> bool:
    """ON, OFF, or a number that is or is not zero.

    Raises:
        ScpiError: neither.
    """
    text = word(parameter)
    if text in ("ON", "OFF"):
        return text == "ON"
    try:
        return round(number(text, "")) != 0
    except ScpiError as error:
        raise ScpiError(-224 if text.isalpha() else error.code, text[:40]) from error


def choice(parameter: Parameter, spelled: Sequence[str]) -> str:
    """The short form of one of several words.

    Raises:
        ScpiError: none of them.
    """
    text = word(parameter)
    for one in spelled:
        if long_or_short(text, one):
            return "".join(c for c in one if not c.islower())
    raise ScpiError(-224, f"{'|'.join(spelled)}, found {text[:40]}")
