"""Overlapping Allan deviation of repeated readings, and how long averaging helps.

A reading stands for the average frequency of IEEE Std 1139, so that white noise of readings falls as tau^-1/2, flicker
stays and a random walk rises as tau^1/2. Equivalent degrees of freedom are those of W. J. Riley, Handbook of Frequency
Stability Analysis, NIST SP 1065 (2008), table 5, with N = readings + 1 phase points.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from photonic.errors import RangeError, ShapeError

Array = NDArray[np.float64]
Noise = Literal["white", "flicker", "random walk"]

LEAST_READINGS = 32
_SLOPES = (-0.25, 0.25)  # of the log-log deviation, between white and flicker, and flicker and random walk


class Allan(NamedTuple):
    """Overlapping Allan deviations; L averaging times, M outputs.

    Attributes:
        readings: (L,) averaged ones: 1, 2, 4 ... up to a quarter of the series.
        tau_s: (L,) averaging times, seconds.
        deviation: (L, M) in the unit of the series.
        noise: (L,) which noise dominates, by the slope of the pooled deviation around each averaging time.
        degrees: (L,) equivalent degrees of freedom of one output.
        low: (L, M) lower end of the interval.
        high: (L, M) upper end.
        pooled: (L,) rms over outputs of deviations, each relative to its first; 1 at the first averaging time.
        block_s: averaging time of the least pooled deviation: the longest block to average, and the longest time
            between two references.
        limited: whether that least deviation is significantly below that of the longest averaging time, so that drift
            is seen; False: averaging helps, or does not harm, up to the longest time, and ``block_s`` is a lower bound.
    """

    readings: NDArray[np.int64]
    tau_s: Array
    deviation: Array
    noise: list[Noise]
    degrees: Array
    low: Array
    high: Array
    pooled: Array
    block_s: float
    limited: bool


def overlapping_allan(series: Array, spacing_s: float, level: float = 0.95) -> Allan:
    """Allan deviations at octaves of the averaging time.

    Args:
        series: (T, M) readings evenly spaced in time, without gaps, T >= 32.
        spacing_s: time from one reading to the next.
        level: of the intervals.

    Raises:
        ShapeError: fewer readings.
        RangeError: readings that are not finite, a spacing that is not positive, or a series that is constant.
    """
    _check(series, spacing_s)
    total = np.concatenate([np.zeros((1, series.shape[1])), (series - series.mean(0)).cumsum(0)])
    sizes = 2 ** np.arange(int(np.log2(len(series) // 4)) + 1)
    deviation: Array = np.stack([_deviation(total, int(m)) for m in sizes])
    moving = deviation[:, (deviation[0] > 0)] / deviation[0, deviation[0] > 0]
    pooled = np.asarray(np.sqrt((moving**2).mean(1)), dtype=np.float64)
    noise = _dominant(sizes, pooled)
    degrees = np.array([degrees_of_freedom(len(series), int(m), kind) for m, kind in zip(sizes, noise, strict=True)])
    tail = (1 - level) / 2
    low, high = (np.sqrt(degrees / chi2.ppf(p, degrees)) for p in (1 - tail, tail))
    least = int(pooled.argmin())
    # one-sided, of independent outputs' mean square; drift that outputs share has fewer degrees: those of one
    above = pooled[-1] * np.sqrt(degrees[-1] / chi2.ppf(level, degrees[-1])) > pooled[least]
    tau_s = np.asarray(sizes * spacing_s, dtype=np.float64)
    return Allan(
        sizes, tau_s, deviation, noise, degrees, deviation * low[:, None], deviation * high[:, None],
        pooled, float(tau_s[least]), bool(above),
    )  # fmt: skip


def degrees_of_freedom(readings: int, size: int, noise: Noise) -> float:
    """Equivalent degrees of freedom of an overlapping Allan variance of averages over ``size`` readings."""
    n, m = readings + 1, size
    if noise == "white":
        found = (3 * (n - 1) / (2 * m) - 2 * (n - 2) / n) * 4 * m**2 / (4 * m**2 + 5)
    elif noise == "flicker":
        found = 2 * (n - 2) ** 2 / (2.3 * n - 4.9) if m == 1 else 5 * n**2 / (4 * m * (n + 3 * m))
    else:
        found = (n - 2) / m * ((n - 1) ** 2 - 3 * m * (n - 1) + 4 * m**2) / (n - 3) ** 2
    return max(1.0, found)


def least_degrees(readings: int, size: int) -> float:
    """The least of those for any of the three noises: where which of them dominates is not known."""
    noises: tuple[Noise, ...] = ("white", "flicker", "random walk")
    return min(degrees_of_freedom(readings, size, noise) for noise in noises)


def _deviation(total: Array, m: int) -> Array:
    steps = total[2 * m :] - 2 * total[m:-m] + total[: -2 * m]
    found: Array = np.sqrt((steps**2).mean(0) / 2) / m
    return found


def _dominant(sizes: NDArray[np.int64], pooled: Array) -> list[Noise]:
    slope = np.gradient(np.log(np.maximum(pooled, 1e-300)), np.log(sizes))
    names: tuple[Noise, ...] = ("white", "flicker", "random walk")
    return [names[int(np.searchsorted(_SLOPES, value))] for value in slope]


def _check(series: Array, spacing_s: float) -> None:
    if series.ndim != 2 or len(series) < LEAST_READINGS:
        raise ShapeError(f"the series must be (T >= {LEAST_READINGS}, M), found {series.shape}; record it longer")
    if not np.isfinite(series).all() or not spacing_s > 0:
        raise RangeError(f"readings must be finite and their spacing positive, found a spacing of {spacing_s} s")
    if not series.std(0).any():
        raise RangeError("the series never changes, so averaging cannot be judged; choose a vector between two codes")
