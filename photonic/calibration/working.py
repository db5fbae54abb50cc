"""Counts as analog values for linear least squares: the working values of Fisher scoring.

A count says that the value before the ADC lay between two transitions. What it says of the mean v of a Gaussian is its
score (E[value | count, v] - v) / sigma^2; least squares on v + score / information, weighed by the information, is one
step of Fisher scoring (McCullagh and Nelder, Generalized Linear Models, 2.5), so that parts which take turns end at the
maximum of the likelihood of the counts: INL, rounding below half an LSB and rails are in it.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from photonic.calibration.model import Array
from photonic.errors import ShapeError

_FAR = 1e-9  # probability below which a count is taken at its nearer edge: the prediction is no use to it
_ROOT = np.sqrt(2 * np.pi)


def working_values(
    counts: Array, volts: Array, sigma: Array, transitions: Array | None, count_range: tuple[float, float]
) -> Array:
    """Values (B, M) before the ADC that linear least squares may take instead of counts.

    Args:
        counts: (B, M) whole numbers.
        volts: (B, M) predicted mean before the ADC, counts.
        sigma: (B, M) predicted standard deviation, counts, positive.
        transitions: (M or 1, K) in counts, not decreasing; None: ideal.
        count_range: rails of the ADC, K apart.

    Raises:
        ShapeError: transitions that do not fit.
    """
    low, high = count_range
    table = np.arange(low + 0.5, high)[None] if transitions is None else transitions
    if table.shape not in {(1, round(high - low)), (counts.shape[1], round(high - low))}:
        raise ShapeError(
            f"transitions must be (1 or {counts.shape[1]}, {round(high - low)}) for counts from {low:g} to {high:g}, "
            f"found {table.shape}"
        )
    edges = np.pad(table, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
    code = (counts - low).astype(np.intp)
    row = np.arange(len(table))
    below, above = edges[row, code], edges[row, code + 1]
    expected = volts + sigma * _tail((below - volts) / sigma, (above - volts) / sigma)
    # the information of a count is 1 / (sigma^2 + 1 / 12) but for small terms, which change the pace and not the end;
    # with less noise than that it depends on the place within the code, and a longer step would miss the maximum
    return np.asarray(volts + (expected - volts) * (1 + np.minimum(1.0, 1 / (12 * sigma**2))))


def _tail(a: Array, b: Array) -> Array:
    """Mean of a standard normal value between a and b, either of which may be infinite; far out, the nearer edge."""
    flip = a > 0  # in the tail where the difference does not cancel
    p = ndtr(np.where(flip, -a, b)) - ndtr(np.where(flip, -b, a))
    mean = (np.exp(-0.5 * a * a) - np.exp(-0.5 * b * b)) / (_ROOT * np.maximum(p, 1e-300))
    nearer = np.where(np.abs(a) < np.abs(b), a, b)
    return np.asarray(np.where(p > _FAR, mean, nearer))
