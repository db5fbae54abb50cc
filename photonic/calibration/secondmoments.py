"""Second moments of repeated counts, and the equations that fit a linear model of noise to them.

The sample covariance A over the repeats of a point has, for Gaussian values, the covariance of a Wishart matrix; a
quantised one has the fourth cumulant of a quantised Gaussian on top, which is exact here for each output. Predicted
variances are exact through the ADC, covariances hold to first order in the correlation: the slope of either mean count
by its volts times the covariance before the ADC (Price, IRE Trans. Inf. Theory 4, 69 (1958)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from photonic.calibration.predicted import count_moments, variance_by_transitions
from photonic.calibration.quantised import check_counts
from photonic.errors import CalibrationError, RangeError, ShapeError

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rin = Literal["common", "per line"]

# deviations that an output stays away from the rails, or it is left out of a point; less where noise fills the range
_CLEAR = (4.0, 2.0, 1.0)
_LEAST = 1e-6  # variance, counts^2
_UNKNOWN = 0.5  # LSB, the error of a transition that no reading met
_QUIET = 0.05  # counts^2, the least noise with which errors of transitions are looked at
_SHARP = 0.9  # of the way to where negative fourth cumulants leave no spread of the second moments


@dataclass(frozen=True)
class NoiseData:
    """Repeated counts, and what is known of their points; a point is one weight setting with one input vector.

    Attributes:
        counts: (P, R, M) R repeats of P points, all outputs in the same shot.
        volts: (P, M) mean before the ADC, counts; below 0.5 LSB of noise it must be right to 0.05 or
            ``volts_se`` say so.
        S: (P, M) total power.
        D: (P, M) signed result.
        gain: (M,) counts per D.
        count_range: rails of the ADC; None: no converter.
        transitions: (M or 1, K) in counts, K = highest - lowest; None: ideal.
        lines: (P, M, N) w_ij p_j T_j / N, for the alternative of one laser per input.
        volts_se: standard error of ``volts``, counts.
        unsure: (P, M) variance of the predicted variance of counts, counts^4, by what else is not known exactly
            (``unsure_of_transitions``); None: nothing.
        own: (2, M) thermal and shot noise of each output, relative to those of all; None: alike.

    Raises:
        ShapeError: shapes that do not fit together, fewer than 2 repeats.
        RangeError: a value that is not finite, or counts that the ADC cannot give.
    """

    counts: Array
    volts: Array
    S: Array
    D: Array
    gain: Array
    count_range: tuple[float, float] | None
    transitions: Array | None = None
    lines: Array | None = None
    volts_se: float = 0.0
    unsure: Array | None = None
    own: Array | None = None

    def __post_init__(self) -> None:
        shape = self.counts.shape
        if len(shape) != 3 or shape[1] < 2:
            raise ShapeError(f"counts must be (P, R >= 2, M), found {shape}; repeat each point")
        p, _, m = shape
        steps = None if self.count_range is None else round(self.count_range[1] - self.count_range[0])
        wanted: dict[str, set[tuple[int | None, ...]]] = {name: {(p, m)} for name in ("volts", "S", "D")}
        wanted |= {"gain": {(m,)}, "transitions": {(1, steps), (m, steps)}, "unsure": {(p, m)}, "own": {(2, m)}}
        for name, shapes in wanted.items():
            found = getattr(self, name)
            if found is not None and found.shape not in shapes:
                raise ShapeError(f"{name} must be {sorted(shapes, key=str)} for counts {shape}, found {found.shape}")
            if found is not None and not np.isfinite(found).all():
                raise RangeError(f"{name} must be finite, found {np.count_nonzero(~np.isfinite(found))} that are not")
        if self.lines is not None and self.lines.shape[:2] != (p, m):
            raise ShapeError(f"lines must be ({p}, {m}, N), found {self.lines.shape}")
        if self.count_range is not None:
            check_counts(self.counts, self.count_range)

    @property
    def shots(self) -> int:
        """P R: vectors measured."""
        return int(self.counts.shape[0] * self.counts.shape[1])

    @cached_property
    def covariance(self) -> Array:
        """(P, M, M) sample covariance of the counts over repeats."""
        centred = self.counts - self.counts.mean(1, keepdims=True)
        found: Array = np.matmul(centred.transpose(0, 2, 1), centred) / (self.counts.shape[1] - 1)
        return found

    def only(self, points: Flags) -> NoiseData:
        """Some of the points (P,)."""
        lines, unsure = (None if each is None else each[points] for each in (self.lines, self.unsure))
        return replace(
            self, counts=self.counts[points], volts=self.volts[points], S=self.S[points], D=self.D[points],
            lines=lines, unsure=unsure,
        )  # fmt: skip

    @property
    def table(self) -> Array | None:
        """(M or 1, K) transitions; None: no converter."""
        if self.count_range is None or self.transitions is not None:
            return self.transitions
        return np.arange(self.count_range[0] + 0.5, self.count_range[1])[None]


def unit_covariances(data: NoiseData, rin: Rin) -> Array:
    """(4, P, M, M) covariance before the ADC, counts^2, of a unit of each term."""
    g, m = data.gain, len(data.gain)

    def rank_one(x: Array) -> Array:
        return (g * x)[:, :, None] * (g * x)[:, None, :]

    own = np.zeros((2, len(data.S), m, m))
    diagonal = np.arange(m)
    thermal, shot = np.ones((2, m)) if data.own is None else data.own
    own[0][:, diagonal, diagonal], own[1][:, diagonal, diagonal] = thermal * g**2, shot * g**2 * data.S
    if rin == "common":
        shared = rank_one(data.D)
    elif data.lines is None:
        raise ShapeError("RIN per line needs lines (P, M, N), w p T / N of each input; pass them in NoiseData")
    else:
        scaled = g[:, None] * data.lines
        shared = np.matmul(scaled, scaled.transpose(0, 2, 1))
    return np.stack((own[0], own[1], shared, rank_one(data.S)))


def clear_of_rails(data: NoiseData) -> Flags:
    """(P, M) outputs that the rails do not touch."""
    table = data.table
    if table is None:
        return np.ones(data.volts.shape, dtype=bool)
    spread = np.sqrt(np.diagonal(data.covariance, axis1=1, axis2=2))
    for clear in _CLEAR:
        reach = clear * spread + 1.0
        keep: Flags = (data.volts - reach > table[:, 0]) & (data.volts + reach < table[:, -1])
        if keep.any():
            return keep
    raise CalibrationError("every output of every noise point is at a rail; measure with less light or lower weights")


def _least(data: NoiseData) -> float:
    """Variance, counts^2, below which there is no noise: without a converter a count has no size of its own."""
    if data.table is not None:
        return _LEAST
    seen = float(np.diagonal(data.covariance, axis1=1, axis2=2).mean())
    return _LEAST * seen if seen > 0 else _LEAST


def all_thermal(data: NoiseData, keep: Flags) -> Array:
    """All noise thermal."""
    seen = np.diagonal(data.covariance, axis1=1, axis2=2) - (0.0 if data.table is None else 1 / 12)
    floor = 0.05 if data.table is not None else _least(data)
    return np.array([float((np.maximum(seen, floor) / data.gain**2)[keep].mean()), 0.0, 0.0, 0.0])


@dataclass(frozen=True)
class State:
    """Predictions at one set of terms.

    Attributes:
        residual: (P, M, M) measured less predicted covariance of counts; 0 where left out.
        predicted: (P, M, M), the identity where left out.
        inverse: of ``predicted``.
        slopes: (4, P, M, M) of ``predicted`` by term.
        excess: (P, M) fourth cumulant of the counts, with what an error of volts adds.
        by_variance: (P, M) change of the counts' variance by that before the ADC.
        variance: (P, M) before the ADC.
        nu: degrees of freedom of a point, R - 1.
    """

    residual: Array
    predicted: Array
    inverse: Array
    slopes: Array
    excess: Array
    by_variance: Array
    variance: Array
    keep: Flags
    nu: int

    @classmethod
    def at(cls, data: NoiseData, basis: Array, theta: Array, keep: Flags) -> State:
        """Predictions for terms ``theta`` (4,), of unit covariances ``basis`` (4, P, M, M); ``keep`` (P, M)."""
        analog = np.tensordot(theta, basis, 1)
        variance: Array = np.diagonal(analog, axis1=1, axis2=2).copy()
        audible = np.maximum(variance, _least(data))
        seen, by_variance, slope, excess = _through_adc(data, audible)
        pairs = slope[:, :, None] * slope[:, None, :] * (keep[:, :, None] & keep[:, None, :])
        diagonal = np.arange(keep.shape[1])
        predicted: Array = analog * pairs
        slopes: Array = basis * pairs
        predicted[:, diagonal, diagonal] = np.where(keep, seen, 1.0)
        slopes[..., diagonal, diagonal] = np.diagonal(basis, axis1=2, axis2=3) * np.where(keep, by_variance, 0.0)
        residual: Array = data.covariance * (keep[:, :, None] & keep[:, None, :]) - predicted
        residual[:, diagonal, diagonal] = np.where(keep, residual[:, diagonal, diagonal], 0.0)
        nu = data.counts.shape[1] - 1
        inverse = np.asarray(np.linalg.inv(predicted), dtype=np.float64)
        excess = _bounded(np.where(keep, excess, 0.0) * nu / (nu + 1), inverse) + nu * _by_volts(data, audible, keep)
        if data.unsure is not None:
            excess = excess + nu * np.where(keep, data.unsure, 0.0)
        return cls(residual, predicted, inverse, slopes, excess, by_variance, variance, keep, nu)

    def equations(self) -> tuple[Array, Array]:
        """Score (4,) and information (4, 4) of the terms.

        Second moments A have covariance (2 C A' C + diag(excess)) / nu; its inverse by Woodbury.
        """
        w = self.inverse
        turned = np.matmul(np.matmul(w, self.slopes), w)
        ahead = np.matmul(np.matmul(w, self.residual), w)
        g, h = (0.5 * np.diagonal(x, axis1=-2, axis2=-1) for x in (turned, ahead))
        k = self.excess[:, :, None]
        inner = np.linalg.solve(np.eye(w.shape[1]) + k * (0.5 * w * w), k * np.eye(w.shape[1]))
        score = 0.5 * np.einsum("apij,pij->a", self.slopes, ahead) - np.einsum("api,pij,pj->a", g, inner, h)
        information = 0.5 * np.einsum("apij,bpij->ab", self.slopes, turned, optimize=True)
        information -= np.einsum("api,pij,bpj->ab", g, inner, g, optimize=True)
        return self.nu * score, self.nu * information

    def log_likelihood(self) -> Array:
        """(P,) Gaussian log-likelihood of the sample covariance (Wishart, without what only data decide)."""
        log_det = np.linalg.slogdet(self.predicted)[1]
        trace = np.einsum("pij,pij->p", self.inverse, self.residual)
        found: Array = -0.5 * self.nu * (log_det + trace)
        return found

    def left_over(self) -> tuple[float, float]:
        """Probabilities of correlations left as large by chance: the same at all points; at any point."""
        m = self.predicted.shape[1]
        if m < 2:
            return 1.0, 1.0
        root = np.linalg.inv(np.linalg.cholesky(self.predicted))
        white = np.matmul(np.matmul(root, self.residual), root.transpose(0, 2, 1))
        upper = np.triu_indices(m, 1)
        z = math.sqrt(self.nu) * white[:, upper[0], upper[1]]
        seen = (self.keep[:, :, None] & self.keep[:, None, :])[:, upper[0], upper[1]]
        pairs, count = seen.sum(0), int(seen.sum())
        fixed = (np.where(seen, z, 0.0).sum(0) ** 2 / np.maximum(pairs, 1))[pairs > 0]
        # a product's square has the variance 2 + 12 / nu to first order, not chi-square's 2
        excess = (float((z[seen] ** 2).sum()) - count) / math.sqrt(max(1, count) * (2 + 12 / self.nu))
        return float(chi2.sf(fixed.sum(), max(1, len(fixed)))), float(norm.sf(excess))


def _through_adc(data: NoiseData, variance: Array) -> tuple[Array, Array, Array, Array]:
    """Variance of the counts, its slope by ``variance``, slope of the mean count, fourth cumulant; (P, M) each."""
    lowest = None if data.count_range is None else data.count_range[0]
    here, least = count_moments(data.volts, np.sqrt(variance), data.table, lowest), _least(data)
    # a count that almost never changes has the cumulants of rare events, all alike
    excess = np.where(here.variance > least, here.excess, least)
    return np.maximum(here.variance, least), here.by_variance, here.slope, excess


def _bounded(excess: Array, inverse: Array) -> Array:
    """Fourth cumulants (P, M), not so negative that the covariance of the second moments loses its definiteness.

    A count that stands between two codes has the cumulant -2 V^2, and hardly any spread of its variance; what outputs
    share then has cumulants, too, which are not known. Definite it is while no row sum of -k w^2 / 2 reaches 1. Points
    beyond weigh less than they might, and the estimate is unbiased with any weight.
    """
    found: Array = np.maximum(excess, -_SHARP * 2 / (inverse**2).sum(2))
    return found


def unsure_of_transitions(parts: Sequence[NoiseData], standard_error: Array) -> list[NoiseData]:
    """The same points with what errors of the ADCs' transitions make of their predicted variances.

    Points of one output whose means lie at the same place between two codes, as those in the dark do, have this error
    in common: each is given the sum of its covariances with all, so that together they weigh as they should.

    Args:
        parts: points of the same outputs, transitions alike.
        standard_error: (M or 1, K) of the transitions, counts; inf where one was not measured: half a count.
    """
    known = np.minimum(standard_error, _UNKNOWN)
    tables = [data.table for data in parts]
    sizes = [data.counts.shape[1] for data in parts]
    by_place = np.concatenate([_by_place(data, table) for data, table in zip(parts, tables, strict=True)])
    by_place *= known
    repeats = np.repeat(sizes, [len(data.volts) for data in parts]).astype(np.float64)
    weighed = np.einsum("p,pmk->mk", repeats, by_place)
    own = (by_place**2).sum(-1)
    shared = np.einsum("pmk,mk->pm", by_place, weighed) / repeats[:, None]
    ends = np.cumsum([len(data.volts) for data in parts])[:-1]
    return [
        replace(data, unsure=each) for data, each in zip(parts, np.split(np.maximum(own, shared), ends), strict=True)
    ]


def _by_place(data: NoiseData, table: Array | None) -> Array:
    """(P, M, K) d variance of the counts / d transition, at the noise that the repeats show."""
    if table is None:
        raise ShapeError("points without a converter have no transitions; pass count_range")
    seen = np.diagonal(data.covariance, axis1=1, axis2=2) - 1 / 12
    return variance_by_transitions(data.volts, np.sqrt(np.maximum(seen, _QUIET)), table)


def _by_volts(data: NoiseData, variance: Array, keep: Flags) -> Array:
    """(P, M) variance of the predicted variance of counts that an error of volts makes."""
    if data.volts_se == 0 or data.table is None or data.count_range is None:
        return np.zeros_like(variance)
    high, low = (
        count_moments(data.volts + shift * data.volts_se, np.sqrt(variance), data.table, data.count_range[0]).variance
        for shift in (1.0, -1.0)
    )
    return np.where(keep, (high - low) ** 2 / 4, 0.0)
