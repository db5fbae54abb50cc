"""Numbers as a person writes them: as many digits as their error allows, a common power of ten, real minus signs."""

from __future__ import annotations

import math
from collections.abc import Sequence

OPEN = 1e9  # what a verification writes for a bound that its shots leave open
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_TIMES = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10"
_DIGITS = 4  # of a number whose error is not known


def together(values: Sequence[float | None], resolution: float | None = None) -> list[str]:
    """Texts of numbers that stand in one row, all with the same decimals and power of ten.

    Args:
        values: in one unit; None becomes an empty text.
        resolution: what the numbers are known to, e.g. a standard error, which is shown with two digits; None or 0:
            four digits of the largest.
    """
    given = [value for value in values if value is not None and math.isfinite(value) and abs(value) < OPEN]
    largest = max((abs(value) for value in given), default=0.0)
    if largest == 0:
        return [_one(value, 0, 0) for value in values]
    order = math.floor(math.log10(largest))
    power = order if not -3 <= order < 6 else 0
    finest = math.floor(math.log10(resolution)) - 1 if resolution and resolution < largest else order + 1 - _DIGITS
    decimals = min(max(power - finest, 0), 12)
    return [_one(value, power, decimals) for value in values]


def alone(value: float, digits: int = 6) -> str:
    """The text of one number that has no error, with at most so many digits and no zeros at its end."""
    text, *power = together([value], abs(value) * 10.0 ** (2 - digits))[0].partition(_TIMES)
    return "".join([text.rstrip("0").rstrip(".") if "." in text else text, *power])


def span(low: str, high: str) -> str:
    """From one text of ``together`` to another; a power of ten that they share stands once, at the end."""
    shared = _TIMES in low and _TIMES in high
    return f"{low.split(_TIMES)[0] if shared else low} to {high}"


def _one(value: float | None, power: int, decimals: int) -> str:
    if value is None:
        return ""
    if math.isnan(value):
        return "–"
    if abs(value) >= OPEN:
        return "−∞" if value < 0 else "∞"
    text = f"{value / 10.0**power:,.{decimals}f}".replace("-", "−")
    text = text.removeprefix("−") if not text.strip("−0.,") else text
    return text if power == 0 else f"{text}{_TIMES}{str(power).translate(_SUPERSCRIPT)}"
