"""Drift of the gain that all outputs share: none, AR(1) or a random walk, from readings of one vector.

A reading is y = mean + x + white, x either nothing, a stationary AR(1) process of covariance sigma^2 exp(-|dt| / tau)
(Ornstein-Uhlenbeck), or a random walk from 0 of variance q dt. Likelihoods are exact for irregular times, by the Kalman
filter of the innovations, with mean and white variance found in closed form.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonic.errors import RangeError, ShapeError
from photonic.records import DriftModel

Array = NDArray[np.float64]
Kind = Literal["none found", "ar1", "random walk"]

LEAST_READINGS = 16
EVIDENCE = 2.0  # of BIC: "positive", Kass and Raftery, J. Am. Stat. Assoc. 90, 773 (1995)
_ROUNDS, _SIDE, _ZOOM = 4, 17, 6  # grids that zoom in on the maximum, points along each axis, and by how much
_SAME = 1e-6  # relative
_SHARES = (-12.0, 9.0)  # log of variance of drift over that of white noise


class DriftFit(NamedTuple):
    """What readings say of drift.

    Attributes:
        model: the record's; gains relative to the mean of the readings, with 95 % intervals of sigma and of the walk
            that are symmetric in the logarithm.
        bic: of each process, less that of none; the least is chosen if it is below 0 by more than ``EVIDENCE``.
        sigma_se: standard error of ``model.sigma``; None: not an AR(1) process.
        time_factor: 95 % interval of ``model.time_s`` is from time_s / time_factor to time_s time_factor (its logarithm
            is nearer to Gaussian); inf: not known to a factor of 100; None: not an AR(1) process.
        per_root_s_se: standard error of ``model.per_root_s``; None: not a random walk.
        white: standard deviation of one reading, relative, drift apart.
        covariance: (2, 2) of the logarithms of variance and correlation time; None: not an AR(1) process, or flat.
    """

    model: DriftModel
    bic: dict[Kind, float]
    sigma_se: float | None
    time_factor: float | None
    per_root_s_se: float | None
    white: float
    covariance: Array | None = None


def fit_drift(times_s: Array, gain: Array, block_s: float | None = None) -> DriftFit:
    """Chooses between no drift, AR(1) and a random walk by the Bayesian information criterion.

    Args:
        times_s: (T,) rising, T >= 16.
        gain: (T,) of single shots of one vector, or of readings with equally many, all outputs together, any unit.
        block_s: longest block to average, for the record (``allan``).

    Raises:
        ShapeError: shapes that differ, or fewer readings.
        RangeError: times that do not rise, gains that are not finite, or a mean of 0.
    """
    _check(times_s, gain)
    mean = float(gain.mean())
    y, steps = gain / mean - 1.0, np.diff(times_s)
    spread = float(y.std())
    if spread == 0:
        return DriftFit(DriftModel(kind="none found", block_s=block_s), {"none found": 0.0}, None, None, None, 0.0)
    y = y / spread
    white = -0.5 * len(y) * (math.log(max(float(y.var()), 1e-300)) + 1)  # each search's at no drift
    ar1, walk = _maximum(y, steps, walk=False), _maximum(y, steps, walk=True)
    penalty = math.log(len(y))
    bic: dict[Kind, float] = {
        "none found": 0.0,
        "ar1": 2 * (white - ar1.loglik) + 2 * penalty,
        "random walk": 2 * (white - walk.loglik) + penalty,
    }
    kind = min(bic, key=lambda name: bic[name])
    if bic[kind] > -EVIDENCE:
        return DriftFit(DriftModel(kind="none found", block_s=block_s), bic, None, None, None, spread)
    best = walk if kind == "random walk" else ar1
    covariance = _covariance(y, steps, np.array(best.at), kind == "random walk")
    errors = np.sqrt(np.diagonal(covariance))
    size, size_se = spread * math.exp(0.5 * best.at[0]), 0.5 * float(errors[0])
    noise = spread * math.exp(0.5 * best.at[2])
    ends = _interval(size, size_se)
    if kind == "random walk":
        model = DriftModel(kind="random walk", per_root_s=size, per_root_s_interval=ends, block_s=block_s)
        return DriftFit(model, bic, None, None, size * size_se, noise)
    time_s = math.exp(best.at[1])
    model = DriftModel(
        kind="ar1", sigma=size, sigma_interval=ends, time_s=time_s,
        time_interval_s=_interval(time_s, float(errors[1])), block_s=block_s,
    )  # fmt: skip
    factor = math.inf if model.time_interval_s is None else model.time_interval_s[1] / time_s
    sure = np.isfinite(errors[:2]).all() and np.linalg.eigvalsh(covariance[:2, :2]).min() > 0
    known = covariance[:2, :2] if sure else None
    return DriftFit(model, bic, size * size_se, factor, None, noise, known)


def _interval(value: float, log_se: float) -> tuple[float, float] | None:
    """95 %, from the standard error of the logarithm; None: not known to a factor of 100."""
    reach = 1.96 * log_se
    return (value * math.exp(-reach), value * math.exp(reach)) if reach < math.log(100) else None


class _Maximum(NamedTuple):
    """Log of the variance (of x, or of the walk in 1 s), of the correlation time and of the white variance."""

    at: tuple[float, float, float]
    loglik: float


def _maximum(y: Array, steps: Array, walk: bool) -> _Maximum:
    """Maximum of the likelihood by grids that zoom in: it can have more than one, and costs little."""
    span = float(steps.sum())
    scale = math.log(span / len(steps)) if walk else 0.0  # a share of the white variance after one step
    centre = np.array([sum(_SHARES) / 2 - scale, 0.0])
    half = np.array([(_SHARES[1] - _SHARES[0]) / 2, 0.0])
    if not walk:
        shortest, longest = math.log(0.5 * float(np.median(steps))), math.log(10 * span)
        centre[1], half[1] = (shortest + longest) / 2, (longest - shortest) / 2
    lowest, highest = centre - half, centre + half
    axis, best, at = np.linspace(-1, 1, _SIDE), -math.inf, centre
    white = 1.0
    for _ in range(_ROUNDS):
        grid = np.stack(np.meshgrid(axis, [0.0] if walk else axis, indexing="ij"), -1).reshape(-1, 2)
        places = np.clip(centre + half * grid, lowest, highest)
        loglik, variance = _loglik(y, steps, np.column_stack((places, np.zeros(len(places)))), walk)
        top = int(loglik.argmax())
        if loglik[top] > best:
            best, at, white = float(loglik[top]), places[top], float(variance[top])
        centre, half = at, half / _ZOOM
    log_white = math.log(white)
    found = (float(at[0]) + log_white, float(at[1]), log_white)
    return _Maximum(found, best)


def _covariance(y: Array, steps: Array, at: Array, walk: bool) -> Array:
    """(3, 3) of the logarithms, from the curvature of the likelihood; inf on the diagonal where it is flat."""
    free = [0, 2] if walk else [0, 1, 2]
    moves = 0.1 * np.eye(3)[free]
    pairs = [(s * a + t * b) for a in moves for b in moves for s in (1, -1) for t in (1, -1)]
    values = _loglik(y, steps, at + np.array(pairs), walk, fixed=True)[0].reshape(len(free), len(free), 4)
    hessian = -(values @ np.array([1, -1, -1, 1.0])) / (4 * 0.1**2)
    # where white noise is too small to see, its row is 0: then it does not touch the others
    inverse = np.linalg.pinv(hessian + 1e-6 * np.eye(len(free)), hermitian=True)
    found = np.diag(np.full(3, math.inf))
    found[np.ix_(free, free)] = inverse
    diagonal = np.arange(3)
    found[diagonal, diagonal] = np.where(np.diagonal(found) > 0, np.diagonal(found), math.inf)
    return found


def _loglik(y: Array, steps: Array, at: Array, walk: bool, fixed: bool = False) -> tuple[Array, Array]:
    """Log-likelihood (G,) at G sets of logarithms (G, 3), the mean at its best; and the white variance (G,).

    Unless ``fixed``, the white variance is at its best too, and the variance of x counts in units of it.
    """
    size, white = np.exp(at[:, 0]), np.exp(at[:, 2])
    with np.errstate(over="ignore"):
        time = np.exp(at[:, 1])
    state = np.zeros((2, len(at)))  # of the readings, and of a constant, from which the mean is found
    variance = np.zeros(len(at)) if walk else size.copy()
    sums, log_det = np.zeros((3, len(at))), np.zeros(len(at))
    # steps between the shots of one reading are the same but for rounding, and so is what they do
    kept, added, last = np.ones(len(at)), np.zeros(len(at)), 0.0
    for k, value in enumerate(y):
        if k:
            if abs(steps[k - 1] - last) > _SAME * last:
                last = float(steps[k - 1])
                kept = kept if walk else np.exp(-last / time)
                added = size * last if walk else size * -np.expm1(-2 * last / time)
            state *= kept
            variance = variance * kept**2 + added
        innovation = np.stack((value - state[0], 1.0 - state[1]))
        total = variance + white
        scaled = innovation / total
        sums[:2] += innovation * scaled[0]
        sums[2] += innovation[1] * scaled[1]
        log_det += np.log(total)
        state += variance * scaled
        variance = variance * white / total
    left = sums[0] - sums[1] ** 2 / sums[2]
    if fixed:
        return -0.5 * (left + log_det), white
    best = np.maximum(left / len(y), 1e-300)
    return -0.5 * (len(y) * (np.log(best) + 1) + log_det), best


def _check(times_s: Array, gain: Array) -> None:
    if times_s.ndim != 1 or times_s.shape != gain.shape or len(gain) < LEAST_READINGS:
        raise ShapeError(
            f"times and gain must be (T >= {LEAST_READINGS},) alike, found {times_s.shape} and {gain.shape}; "
            "take more reference readings"
        )
    if not (np.isfinite(times_s).all() and np.isfinite(gain).all()) or not (np.diff(times_s) > 0).all():
        raise RangeError("times must rise and gains be finite; sort the readings by time")
    if gain.mean() == 0:
        raise RangeError("the mean gain must not be 0; choose references with results")
