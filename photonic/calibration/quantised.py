"""Maximum likelihood of a Gaussian that is seen through an ADC, and what the best estimator could reach.

A code's probability is a difference of the Gaussian's distribution function between two transitions, and the rails take
all that lies beyond them: censored, not wrong. Below 0.5 LSB of noise the sub-LSB phase decides whether mean and
deviation can be told apart (reference/calibration.md 5.1).
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from photonic.errors import RangeError, ShapeError

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

SHEPPARD_LSB = 0.6  # from here on the corrected variance is right to 0.35 % at any phase
UNDECIDED = 0.5  # of the deviation: a standard error above says nothing of it
_TINY = 1e-300
_STEPS = 40
_CHUNK = 1_000_000  # values worked on at once


class Moments(NamedTuple):
    """Of the analog values behind repeated counts; the leading shape of the counts each, in counts.

    Attributes:
        mean: nan where not identified, as ``sd`` and the errors.
        sd: standard deviation of one reading.
        mean_se: standard error.
        sd_se: standard error.
        identified: whether the counts fix both; False: they lie on fewer than 3 codes, or in such a way that the
            standard error of ``sd`` would exceed half of it.
        exact: True: from the likelihood; False: from the moments with Sheppard's correction.
    """

    mean: Array
    sd: Array
    mean_se: Array
    sd_se: Array
    identified: Flags
    exact: Flags


def gaussian_moments(counts: Array, transitions: Array | None, count_range: tuple[float, float] | None) -> Moments:
    """Mean and standard deviation of Gaussian values from R counts of each.

    Sheppard's correction (variance less 1/12) serves where it finds ``SHEPPARD_LSB`` or more, no count is at a rail and
    the transitions are ideal; the likelihood, by Fisher scoring, elsewhere. Points that are not identified are those
    with little noise as seen: a mean over the rest is biased upwards, so pool the likelihood instead (``fit_noise``).

    Args:
        counts: (..., R) whole numbers, R >= 2.
        transitions: (K,) in counts, or (..., K) that broadcasts against the leading shape; None: ideal.
        count_range: rails of the ADC, K = highest - lowest; None: no converter, plain moments.

    Raises:
        ShapeError: R < 2, or transitions that do not fit.
        RangeError: counts that are not whole, or outside the rails.
    """
    x = np.asarray(counts, dtype=np.float64)
    if x.ndim < 1 or x.shape[-1] < 2:
        raise ShapeError(f"counts must be (..., R) with R >= 2 repeats, found {x.shape}; repeat each point")
    shape, flat = x.shape[:-1], x.reshape(-1, x.shape[-1])
    exact = np.zeros(len(flat), dtype=bool)
    if count_range is not None:
        check_counts(x, count_range)
        edges, row = _table(transitions, count_range, shape)
        seen = np.maximum(flat.var(1, ddof=1) - 1 / 12, 0.0)
        railed = (flat.min(1) <= count_range[0]) | (flat.max(1) >= count_range[1])
        exact = railed | (seen < SHEPPARD_LSB**2) | (transitions is not None)
    found = np.stack(_sheppard(flat, 0.0 if count_range is None else 1 / 12))
    if exact.any() and count_range is not None:
        found[:, exact] = _likeliest(flat[exact], edges, row.ravel()[exact], count_range)
    mean, sd, mean_se, sd_se = found.reshape(4, *shape)
    return Moments(mean, sd, mean_se, sd_se, np.isfinite(sd_se), exact.reshape(shape))


def _sheppard(x: Array, correction: float) -> tuple[Array, ...]:
    """Mean, sd and their standard errors (n,) of counts (n, R), the variance less ``correction``."""
    repeats, variance = x.shape[1], x.var(1, ddof=1)
    sd = np.sqrt(np.maximum(variance - correction, _TINY))
    return x.mean(1), sd, np.sqrt(variance / repeats), variance / (sd * np.sqrt(2 * (repeats - 1)))


def check_counts(counts: Array, count_range: tuple[float, float]) -> None:
    """Refuses counts that an ADC cannot give.

    Raises:
        RangeError: counts that are not whole, or outside the rails.
    """
    least, most = float(counts.min()), float(counts.max())  # nan fails the comparison below
    if not (count_range[0] <= least and most <= count_range[1]) or not np.array_equal(counts, np.round(counts)):
        raise RangeError(
            f"counts must be whole and from {count_range[0]:g} to {count_range[1]:g}, found {least:g} to {most:g}; "
            "pass what the ADC gave, not averages"
        )


def _table(
    transitions: Array | None, count_range: tuple[float, float], shape: tuple[int, ...]
) -> tuple[Array, NDArray[np.intp]]:
    """(rows, K + 2) edges of the codes with the rails' infinities, and the row of each point."""
    low, high = count_range
    ideal = np.arange(low + 0.5, high)
    given = ideal if transitions is None else np.asarray(transitions, dtype=np.float64)
    if given.shape[-1] != len(ideal):
        raise ShapeError(
            f"transitions must be (..., {len(ideal)}) for counts from {low:g} to {high:g}, found {given.shape}"
        )
    if not np.isfinite(given).all() or (np.diff(given) < 0).any():
        raise RangeError("transitions must be finite and must not decrease; a missing code has two equal ones")
    rows = np.arange(given[..., 0].size).reshape(given.shape[:-1])
    try:
        row = np.broadcast_to(rows, shape)
    except ValueError as error:
        raise ShapeError(f"transitions {given.shape} must broadcast against points of shape {shape}") from error
    edges = np.pad(given.reshape(-1, len(ideal)), ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
    return edges, row


def _likeliest(x: Array, edges: Array, row: NDArray[np.intp], count_range: tuple[float, float]) -> list[Array]:
    """Mean, sd and their standard errors (n,) each of counts (n, R); nan where not identified."""
    first, last = x.min(1), x.max(1)
    pad = 3 + int((last - first).max()) // 2  # so that the codes not seen count in the expected information
    width = int((last - first).max()) + 1 + 2 * pad
    step = max(1, _CHUNK // max(width, x.shape[1]))
    parts = []
    for i in range(0, len(x), step):
        part = slice(i, i + step)
        base = first[part].astype(np.int64) - pad
        index = x[part].astype(np.int64) - base[:, None] + np.arange(len(base))[:, None] * width
        histogram = np.bincount(index.ravel(), minlength=len(base) * width).reshape(-1, width)
        place = base[:, None] - int(count_range[0]) + np.arange(width + 1)
        borders = edges[row[part, None], place.clip(0, edges.shape[1] - 1)]
        # cells outside the window hold no counts: lumped into the last ones, the likelihood stays exact
        borders[:, 0], borders[:, -1] = -np.inf, np.inf
        parts.append(_score(histogram.astype(np.float64), borders, x[part]))
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _score(histogram: Array, borders: Array, x: Array) -> tuple[Array, ...]:
    """Fisher scoring of (mean, log sd) for histograms (n, W) between borders (n, W + 1)."""
    repeats = histogram.sum(1)
    mean = x.mean(1)
    log_sd = 0.5 * np.log(np.maximum(x.var(1) - 1 / 12, 0.06))
    many = (histogram > 0).sum(1) >= 3
    step_mean = step_log = np.zeros_like(mean)
    information: tuple[Array, Array, Array] = (mean, mean, mean)
    for _ in range(_STEPS):
        sd = np.exp(log_sd)
        p, by_mean, by_log = cells(borders, mean[:, None], sd[:, None])
        rate = histogram / p
        u, v = (rate * by_mean).sum(1), (rate * by_log).sum(1)
        a, b, c = (repeats * (s * t / p).sum(1) for s, t in ((by_mean, by_mean), (by_mean, by_log), (by_log, by_log)))
        determinant = np.maximum(a * c - b * b, _TINY)
        information = (a, c, determinant)
        step_mean = np.clip((c * u - b * v) / determinant, -sd, sd)
        step_log = np.clip((a * v - b * u) / determinant, -0.5, 0.5)
        mean, log_sd = mean + step_mean, np.clip(log_sd + step_log, -6, None)
        if np.abs(step_log[many]).max(initial=0.0) < 1e-7:
            break
    a, c, determinant = information
    mean_se, log_se = np.sqrt(c / determinant), np.sqrt(a / determinant)
    good = many & (np.abs(step_log) < 1e-3) & (log_se < UNDECIDED)
    sd = np.exp(log_sd) * np.sqrt(repeats / (repeats - 1))  # as the likelihood of n readings divides by n
    return tuple(np.where(good, values, np.nan) for values in (mean, sd, mean_se, sd * log_se))


def cells(borders: Array, mean: Array, sd: Array) -> tuple[Array, Array, Array]:
    """Probability of the cells (..., W) between borders (..., W + 1), and its derivatives by mean and by log sd."""
    z = (borders - mean) / sd
    below, above = z[..., :-1], z[..., 1:]
    # in the tail where the difference does not cancel
    flip = below > 0
    p: Array = ndtr(np.where(flip, -below, above)) - ndtr(np.where(flip, -above, below))
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    moment = np.where(np.isfinite(z), z, 0.0) * density
    by_mean = -np.diff(density) / sd
    return np.maximum(p, _TINY), by_mean, -np.diff(moment)


def cramer_rao(
    noise: Array, volts: Array, S: Array, D: Array, gain: Array, edges: Array, shots: int, rng: np.random.Generator,
    draws: int = 4000, nodes: int = 25,
) -> Array:  # fmt: skip
    """Bound on the covariance (4, 4) of (thermal, shot, rin, common_mode), for counts of all outputs together.

    The likelihood of one shot is an integral over its two common factors, by Gauss-Hermite quadrature, of products of
    cell probabilities. Its score is the posterior mean of the score with the factors known (Louis, J. R. Stat. Soc. B
    44, 226 (1982)); the information is the mean square of that over drawn shots. Means are known. A term that is 0 is
    known to be: its row and column are 0.

    Args:
        noise: (4,) in D^2 as ``NoiseModel``; thermal above 0.
        volts: (P, M) mean before the ADC, counts.
        S: (P, M).
        D: (P, M).
        gain: (M,) counts per D.
        edges: (K,) transitions in counts, of all outputs.
        shots: of each point.
        rng: owned by the caller.
        draws: of shots, in all; relative error of the bound about sqrt(2 / draws).
        nodes: of the quadrature in each factor.
    """
    factors = [f for f in (2, 3) if noise[f] > 0]
    grid, share = factor_nodes(len(factors), nodes)
    deviations = np.sqrt(noise[factors])
    sizes = np.stack((D, S), -1)[..., [f - 2 for f in factors]] * gain[:, None] * deviations  # (P, M, F)
    known = (grid**2 - 1) / (2 * noise[factors])
    points, total = np.arange(draws) % len(volts), np.zeros((4, 4))
    for part in np.array_split(points, max(1, draws * len(grid) * volts.shape[1] // _CHUNK)):
        own = np.abs(gain) * np.sqrt(noise[0] + noise[1] * S[part])
        common = (sizes[part] * rng.standard_normal((len(part), 1, len(factors)))).sum(-1)
        code = np.searchsorted(edges, volts[part] + own * rng.standard_normal(own.shape) + common)
        mean = volts[part][:, None] + np.einsum("pmf,qf->pqm", sizes[part], grid)
        posterior, _, by_variance = given_factors(code, mean, own, edges, share)
        score = np.zeros((len(part), 4))
        score[:, 0] = np.einsum("pq,pqm,m->p", posterior, by_variance, gain**2)
        score[:, 1] = np.einsum("pq,pqm,pm->p", posterior, by_variance, gain**2 * S[part])
        score[:, factors] = posterior @ known
        total += score.T @ score
    on, bound = noise > 0, np.zeros((4, 4))
    bound[np.ix_(on, on)] = np.linalg.inv(total[np.ix_(on, on)] * (shots * len(volts) / draws))
    return bound


def factor_nodes(factors: int, nodes: int) -> tuple[Array, Array]:
    """Gauss-Hermite nodes (Q, F) of F standard normal factors, one empty row of none, and their weights (Q,)."""
    axis, weight = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.array(list(product(axis, repeat=factors)))
    return grid, np.array(list(product(weight, repeat=factors))).prod(1)


def given_factors(
    code: NDArray[np.intp], mean: Array, own: Array, edges: Array, share: Array
) -> tuple[Array, Array, Array]:
    """What codes say with the common factors known at Q nodes.

    Args:
        code: (p, M) places among the transitions.
        mean: (p, Q, M) before the ADC, counts.
        own: (p, M) standard deviation that outputs do not share.
        edges: (K,) transitions.
        share: (Q,) weights of the nodes.

    Returns:
        Posterior (p, Q) of the nodes, d log P / d mean and d log P / d variance (p, Q, M).
    """
    borders = np.concatenate([[-np.inf], edges, [np.inf]])
    pair = np.stack((borders[code], borders[code + 1]), -1)[:, None]
    p, by_mean, by_log = cells(pair, mean[..., None], own[:, None, :, None])
    log_p = np.log(p[..., 0]).sum(-1) + np.log(share)
    posterior = np.exp(log_p - log_p.max(1, keepdims=True))
    by_variance = by_log[..., 0] / (p[..., 0] * 2 * own[:, None] ** 2)
    return posterior / posterior.sum(1, keepdims=True), by_mean[..., 0] / p[..., 0], by_variance
