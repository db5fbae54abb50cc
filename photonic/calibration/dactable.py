"""Measured levels of a DAC: integral nonlinearity, a correction table, and how far the table carries.

INL after IEEE 1658-2011: the level less a straight line, in steps of that line; the line goes through the end points
or is the least-squares one. Levels are static.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from photonic.errors import CalibrationError, RangeError, ShapeError

Array = NDArray[np.float64]
Line = Literal["ends", "best"]


@dataclass(frozen=True)
class Inl:
    """INL of measured levels.

    Attributes:
        inl: (K,) steps of the line.
        dnl: (K - 1,) width of each step less one, in steps of the line.
        lsb: volts per code.
        offset: volts at code 0.
    """

    inl: Array
    dnl: Array
    lsb: float
    offset: float

    @property
    def rms(self) -> float:
        """Steps."""
        return float(np.sqrt(np.mean(self.inl**2)))


@dataclass(frozen=True)
class DacTable:
    """Level against code: a line, and the departure from it through evenly spaced knots.

    Attributes:
        knots: (n,) codes.
        departure: (n,) volts at the knots; straight between them, constant beyond.
        lsb: volts per code.
        offset: volts at code 0.
    """

    knots: Array
    departure: Array
    lsb: float
    offset: float

    def correction(self, codes: Array) -> Array:
        """Volts by which the level departs from the line, at any codes."""
        return np.interp(codes, self.knots, self.departure)

    def levels(self, codes: Array) -> Array:
        """Volts at codes."""
        return np.asarray(self.offset + self.lsb * codes + self.correction(codes))

    def codes(self, volts: Array, count: int) -> NDArray[np.int64]:
        """Codes of a DAC with ``count`` codes whose levels come nearest to ``volts``.

        Raises:
            RangeError: volts further than half a step outside of what the DAC reaches.
        """
        levels = self.levels(np.arange(count, dtype=np.float64))
        order = np.argsort(levels, kind="stable")
        reached, edge = levels[order], abs(self.lsb) / 2
        if not ((volts >= reached[0] - edge) & (volts <= reached[-1] + edge)).all():
            raise RangeError(f"volts must be between {reached[0]:.6g} and {reached[-1]:.6g}, what this DAC reaches")
        middles = (reached[1:] + reached[:-1]) / 2
        return np.asarray(order[np.searchsorted(middles, volts)], np.int64)


@dataclass(frozen=True)
class Carried:
    """What a table does for levels that it was not made from.

    Attributes:
        before: rms in LSB without the table: about the line only.
        after: rms in LSB with it.
    """

    before: float
    after: float

    @property
    def helps(self) -> bool:
        """Whether the table leaves less than the line alone."""
        return self.after < self.before


def inl(levels: Array, line: Line = "best") -> Inl:
    """INL and DNL of the levels (K,) in volts of all codes 0 ... K - 1.

    Raises:
        ShapeError, RangeError: levels that are no vector, are too few, not finite or all alike.
    """
    codes = np.arange(levels.size, dtype=np.float64)
    _check(codes, levels)
    if line == "ends":
        lsb = float(levels[-1] - levels[0]) / (levels.size - 1)
        offset = float(levels[0])
    else:
        lsb, offset = _line(codes, levels)
    if lsb == 0:
        raise RangeError("the levels begin and end alike: the line has no step to count in")
    return Inl((levels - offset - lsb * codes) / lsb, np.diff(levels) / lsb - 1, lsb, offset)


def fit_table(codes: Array, levels: Array, spacing: float) -> DacTable:
    """Table by least squares from some or all codes.

    Args:
        codes: (n,) rising, not necessarily all.
        levels: (n,) volts.
        spacing: of the knots, in codes.

    Raises:
        ShapeError, RangeError: data that does not fit.
    """
    _check(codes, levels)
    if not 0 < spacing <= np.ptp(codes):
        raise RangeError(f"spacing must be above 0 and at most the codes' range {np.ptp(codes):g}, found {spacing:g}")
    lsb, offset = _line(codes, levels)
    count = int(np.ceil(np.ptp(codes) / spacing)) + 1
    knots = np.linspace(codes[0], codes[-1], count)
    place = (codes - codes[0]) / (knots[1] - knots[0])
    left = np.minimum(place.astype(np.int64), count - 2)
    right_weight = place - left
    left_weight = 1 - right_weight
    departure = levels - offset - lsb * codes
    banded = np.zeros((2, count))  # normal equations of hat functions: tridiagonal, lower form
    np.add.at(banded[0], left, left_weight**2)
    np.add.at(banded[0], left + 1, right_weight**2)
    np.add.at(banded[1], left, left_weight * right_weight)
    right = np.bincount(left, left_weight * departure, count) + np.bincount(left + 1, right_weight * departure, count)
    # Where codes are missing, the neighbours decide: a stiffness far below one sample's weight joins them by a line.
    stiff = 1e-6
    banded[0] += stiff * np.concatenate(([1.0], np.full(count - 2, 2.0), [1.0]))
    banded[1, :-1] -= stiff
    return DacTable(knots, np.asarray(solveh_banded(banded, right, lower=True)), lsb, offset)


def carry_to_channel(table: DacTable, levels: Array) -> Carried:
    """The table of one channel on the levels (K,) of another, whose own line is fitted with it and without it."""
    codes = np.arange(levels.size, dtype=np.float64)
    before = inl(levels)
    corrected = levels - table.correction(codes) / table.lsb * before.lsb
    return Carried(before.rms, inl(corrected).rms)


def carry_to_codes(levels: Array, withheld: NDArray[np.bool_], spacing: float) -> Carried:
    """A table from the other codes of a channel, on the ``withheld`` (K,) ones; the line is from the others as well.

    Raises:
        CalibrationError: nothing or nearly everything is withheld.
    """
    if withheld.shape != levels.shape:
        raise ShapeError(f"withheld must mark each of the {levels.size} codes, found shape {withheld.shape}")
    if not 0 < withheld.sum() <= levels.size - 16:
        raise CalibrationError(f"{withheld.sum()} of {levels.size} codes are withheld; keep some, and at least 16")
    codes = np.arange(levels.size, dtype=np.float64)
    table = fit_table(codes[~withheld], levels[~withheld], spacing)
    line = levels - table.offset - table.lsb * codes
    error = levels - table.levels(codes)
    return Carried(*(float(np.sqrt(np.mean((each[withheld] / table.lsb) ** 2))) for each in (line, error)))


def choose_spacing(levels: Array) -> float:
    """Spacing of the knots that best predicts every second code from the other ones, among powers of two."""
    withheld = np.arange(levels.size) % 2 == 1
    spacings = 2.0 ** np.arange(2, max(3, int(np.log2(levels.size))))
    return float(min(spacings, key=lambda spacing: carry_to_codes(levels, withheld, spacing).after))


def _line(codes: Array, levels: Array) -> tuple[float, float]:
    """Least-squares slope and value at code 0."""
    middle = codes.mean()
    slope = float((codes - middle) @ levels / np.sum((codes - middle) ** 2))
    return slope, float(levels.mean() - slope * middle)


def _check(codes: Array, levels: Array) -> None:
    if levels.ndim != 1 or codes.shape != levels.shape or levels.size < 16:
        raise ShapeError(
            f"expected a level for each of at least 16 codes, found codes {codes.shape} and levels {levels.shape}"
        )
    if not (np.isfinite(levels).all() and np.isfinite(codes).all()):
        raise RangeError("levels and codes must be finite; leave out those that were not measured")
    if not (np.diff(codes) > 0).all():
        raise RangeError("codes must rise, each of them once")
    if np.ptp(levels) == 0:
        raise RangeError("all levels are alike: this is no DAC's output, or it was not connected")
