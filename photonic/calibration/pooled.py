"""Pooled means, variances and Allan variances of repeated counts, with the spread that they have by chance."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import chi2

from photonic.calibration.equivalence import Bounds
from photonic.calibration.predicted import CountMoments, Prediction, count_moments

Array = NDArray[np.float64]

NOTHING = 1e-12  # counts^2: of a chip without noise, whose 0 / 0 is a match
_FEW = 20.0  # degrees of freedom of variances that hang on some ten repeats
_LEAST_DEGREES = 1e-3
_NO_STEPS = 0.4  # counts of noise, above which the mean count follows the value within 0.02: exp(-2 pi^2 sigma^2) / pi
_SHIFTS = np.linspace(-0.5, 0.5, 21)  # counts
_FEWEST, _MOST, _BLOCKS = 8, 32, 5  # repeats of a block, and blocks of a point where repeats are few


class Sample:
    """What several checks need of the counts, computed once.

    Variances come from blocks of consecutive repeats, so that drift over a point's repeats is not taken for noise: a
    linear one is suppressed by the number of blocks squared.

    Attributes:
        given: the counts and what is predicted for them.
        blocks: of each point.
        length: repeats of a block.
    """

    def __init__(self, given: Prediction) -> None:
        self.given = given
        repeats = given.counts.shape[1]
        length = min(repeats, int(np.clip(repeats // _BLOCKS, _FEWEST, _MOST)))
        self.blocks = -(-repeats // length)
        self.length = repeats // self.blocks

    @cached_property
    def moments(self) -> CountMoments:
        """Predicted, of the counts."""
        given = self.given
        lowest = None if given.count_range is None else given.count_range[0]
        return count_moments(given.volts, given.sigma, given.table, lowest)

    @cached_property
    def proven(self) -> Array:
        """(P, M) what of the errors of means no rounding explains, counts, with their signs.

        Far below an LSB of noise a mean steps by a whole count where the value before the ADC moves by next to nothing.
        So an error e is proven as far as the smallest sum of a shift x of that value and of what x leaves:
        min over x of |x| + |e - (mean(volts + x) - mean(volts))|. Where the steps are smooth, that is |e|.
        """
        given, errors = self.given, self.means - self.moments.mean
        if given.table is None or given.count_range is None or given.sigma.min() > _NO_STEPS:
            return errors
        least = np.abs(errors)
        for x in _SHIFTS:
            moved = count_moments(given.volts + x, given.sigma, given.table, given.count_range[0]).mean
            least = np.minimum(least, abs(x) + np.abs(self.means - moved))
        return np.asarray(np.copysign(least, errors))

    @cached_property
    def variance_se(self) -> Array:
        """(P, M) standard error of the predicted variance of counts, by that of the predicted mean.

        Where noise is far below an LSB, where a mean lies between two codes decides the variance; then means are known
        no better than their errors here are, chance apart.
        """
        given, error = self.given, self.given.volts_se
        if given.table is None or given.count_range is None:
            return np.zeros_like(given.volts)
        if given.sigma.min() < _NO_STEPS:
            by_chance = self.variances / given.counts.shape[1]  # of a mean of so many repeats
            error = max(error, float(np.sqrt(max(0.0, (self.proven**2 - by_chance).mean()))))
        if error == 0:
            return np.zeros_like(given.volts)
        apart = [
            np.abs(count_moments(given.volts + shift, given.sigma, given.table, given.count_range[0]).variance
                   - self.moments.variance)
            for shift in (-error, error)
        ]  # fmt: skip
        found: Array = np.maximum(*apart)
        return found

    @cached_property
    def shared(self) -> Array:
        """(F, P, M) loadings of the common factors in counts after the ADC."""
        return np.asarray(self.moments.slope * self.given.shared)

    @cached_property
    def means(self) -> Array:
        """(P, M) measured."""
        found: Array = self.given.counts.mean(1)
        return found

    @cached_property
    def block_variances(self) -> Array:
        """(P, blocks, M) measured."""
        return self.in_blocks(self.given.counts)

    @cached_property
    def variances(self) -> Array:
        """(P, M) measured."""
        found: Array = self.block_variances.mean(1)
        return found

    def in_blocks(self, values: Array) -> Array:
        """Unbiased variances (P, blocks, ...) of values (P, R, ...); the last R mod blocks repeats are left out."""
        kept = values[:, : self.blocks * self.length]
        blocks = kept.reshape(len(values), self.blocks, self.length, *values.shape[2:])
        found: Array = blocks.var(axis=2, ddof=1)
        return found


def rms(
    errors: Array, noise: Array, expected: Array, shared: Array, degrees: int, proven: Array | None = None
) -> tuple[Array, Array, Bounds]:
    """RMS (K,) of errors (K, n) less that of noise, its standard error, and bounds.

    Bounds leave a tenth of their tail to the noise being larger or smaller than measured.

    Args:
        errors: of means.
        noise: their variances, measured.
        expected: their variances, predicted: a lower bound never takes the noise for less, as a few repeats might all
            be the same code.
        shared: (F, K, n) loadings of the parts of the noise that the n have in common.
        degrees: of freedom of each variance.
        proven: (K, n) the part of the errors that lower bounds may count; None: all of it.
    """
    n, square = errors.shape[1], (errors**2).mean(1)
    floor = np.maximum(noise.mean(1), NOTHING)
    freedom = degrees * np.maximum((n * floor) ** 2 / np.maximum((noise**2).sum(1), NOTHING**2), 1.0)
    own = np.maximum(noise - (shared**2).sum(0), 0.0)
    of_squares = np.maximum((noise**2).sum(1) + squared_covariances(shared), NOTHING**2)
    towards = (own * errors**2).sum(1) + ((shared * errors).sum(2) ** 2).sum(0)  # e' Sigma e
    alignment = towards / np.maximum(n * square * floor, NOTHING**2)
    count = np.clip(np.minimum((n * floor) ** 2 / of_squares, n / np.maximum(alignment, 1.0)), 1.0, n)

    sure = square if proven is None else (proven**2).mean(1)

    def bounds(tail: float) -> tuple[Array, Array]:
        z, rest = -ndtri(0.9 * tail), 0.1 * tail
        more = np.maximum(floor * freedom / chi2.ppf(rest, freedom), expected.mean(1)) / count
        less = floor * freedom / chi2.isf(rest, freedom) / count
        ends = (sure, more, z), (square, less, -z)
        low, high = (unit * noncentrality(value / unit, count, at) for value, unit, at in ends)
        return np.sqrt(low), np.sqrt(high)

    # of a square where there is no error (as the root is taken at 5 of its standard errors), or of an error itself
    error = np.sqrt(floor * np.maximum(np.sqrt(2 / count) / 5, 1 / n))
    return np.sqrt(np.maximum(square - noise.mean(1), 0.0)), error, bounds


def squared_covariances(shared: Array, weight: Array | float = 1.0) -> Array:
    """(K,) sum over pairs i != k of weight_i weight_k cov_ik^2, of loadings (F, K, n) and weights (K, n)."""
    products = weight * shared[:, None] * shared[None]
    return np.asarray((products.sum(3) ** 2 - (products**2).sum(3)).sum((0, 1)))


def noncentrality(x: Array, degrees: Array, z: float) -> Array:
    """Noncentrality with which a chi-square variable is below ``x`` with probability Phi(z); 0 where none is.

    The distribution is Sankaran's approximation (Biometrika 50, 199 (1963)), within 0.001 of the exact one.
    """
    low, high = np.zeros_like(x), (np.sqrt(x) + abs(z) + 5) ** 2
    for _ in range(60):
        middle = (low + high) / 2
        whole, double = degrees + middle, degrees + 2 * middle
        h = 1 - 2 / 3 * whole * (degrees + 3 * middle) / double**2
        p = double / whole**2
        m = (h - 1) * (1 - 3 * h)
        centre = 1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p)
        below = ((x / whole) ** h - centre) / (h * np.sqrt(2 * p) * (1 + 0.5 * m * p))
        low, high = np.where(below > z, middle, low), np.where(below > z, high, middle)
    return low


def ratio(found: Array, expected: Array, variance: Array, pool: bool = False) -> tuple[Array, Array]:
    """Ratio of variances and its relative standard error, for each point or pooled over points (1,).

    Args:
        found: (P, blocks) measured.
        expected: (P,).
        variance: (P,) of one block's, predicted.
        pool: over points.
    """
    points, blocks = found.shape
    measured: Array = found.mean(1)
    summed = variance
    if pool:
        measured, expected, summed = (part.sum(keepdims=True) for part in (measured, expected, variance))
    value = (measured + NOTHING) / (expected + NOTHING)
    error = np.sqrt(np.maximum(summed, 0.0) / blocks) / (expected + NOTHING)
    if blocks > 1:
        between = float(found.var(axis=1, ddof=1).sum())
        likely = float((variance * np.broadcast_to(value, points) ** 2).sum())
        error = error * np.sqrt(max(1.0, between / likely) if likely > NOTHING**2 else 1.0)
    return value, error


def ratio_bounds(value: Array, degrees: Array) -> Bounds:
    """Bounds of ratios of variances (K,) with equivalent degrees of freedom (K,): chi-square's.

    Where few repeats differ from the rest at all, degrees are twice the number that is predicted to, and the number
    found is Poisson's (Garwood, Biometrika 28, 437 (1936)): from none, the mean is below ln(1 / tail), and from one
    above ``tail``, however few are predicted.
    """
    few = degrees < _FEW
    seen = np.maximum(value * degrees, _LEAST_DEGREES)

    def bounds(tail: float) -> tuple[Array, Array]:
        low = value * degrees / np.maximum(chi2.isf(tail, degrees), NOTHING)
        high = value * degrees / np.maximum(chi2.ppf(tail, degrees), NOTHING)
        poisson = chi2.ppf(tail, seen) / degrees
        return np.where(few, np.minimum(low, poisson), low), np.maximum(high, -2 * np.log(tail) / degrees)

    return bounds
