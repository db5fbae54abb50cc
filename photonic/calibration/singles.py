"""What single readings say of noise: the squares and products of their distances from the response.

Readings for the response have other inputs in every shot, so nothing is repeated; but once the response is known, the
residuals r of one shot have the covariance C of the counts, and Gaussian equations on r r' - C find the terms as those
on repeats do (``secondmoments``). A shot's covariance is diagonal but for what outputs share, of rank two, so that all
products are short (Woodbury).

The fit of the response takes a little of the noise out of the residuals, and its lack of fit adds some. How much in all
is read off the residuals: within one setting every error of weights and zeros lies in the span of the inputs' light,
and what the residuals have there beyond the share of the noise is subtracted. What bends within a setting, an error of
the inputs' transfer or of the ADC, is not seen that way; that is for the comparison with the repeats (``evidence``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.predicted import RIPPLED, CountMoments, count_moments, rippled_moments

Array = NDArray[np.float64]

_CLEAR = 4.0  # deviations that a value stays away from the rails
_OWN = 0.02  # of its variance, that is an output's own at least
_SHARP = 0.9  # of the way to where a negative fourth cumulant leaves no spread of a square
_FLAT = 1e-10  # of the scaled covariance of the equations, below which they say nothing


@dataclass(frozen=True)
class Shots:
    """Single readings of one setting of the weights.

    Attributes:
        counts: (B, M).
        volts: (B, M) predicted mean before the ADC, counts.
        S: (B, M) total power.
        D: (B, M) signed result.
        light: (B, N) of the inputs.
    """

    counts: Array
    volts: Array
    S: Array
    D: Array
    light: Array


@dataclass(frozen=True)
class Receivers:
    """What all shots have in common.

    Attributes:
        gain: (M,) counts per D.
        table: (M or 1, K) transitions in counts; None: no converter.
        lowest: count below the first transition.
        wander: variance of the relative gain that goes on from shot to shot; it is in the RIN of each.
        wander_shots: over how many: its correlation is exp(-shots apart / wander_shots).
        own: (2, M) thermal and shot noise of each output, relative to those of all; None: alike.
    """

    gain: Array
    table: Array | None
    lowest: float | None
    wander: float = 0.0
    wander_shots: float = 1.0
    own: Array | None = None

    def going_on(self, shots: int) -> Array:
        """(B, B) covariance of the relative gain of different shots."""
        apart = np.abs(np.subtract.outer(np.arange(shots), np.arange(shots)))
        return np.asarray(np.where(apart > 0, self.wander * np.exp(-apart / self.wander_shots), 0.0))

    def moments(self, volts: Array, sigma: Array) -> CountMoments:
        """Of the counts (B, M); the fourth cumulants to a few per cent of the variance, which weights may be off by."""
        if self.ideal and float(sigma.min()) >= RIPPLED:
            return rippled_moments(volts, sigma)  # beyond the rails nothing is used
        return count_moments(volts, sigma, self.table, self.lowest)

    @cached_property
    def ideal(self) -> bool:
        """Whether the transitions are those of rounding to whole counts."""
        if self.table is None or self.lowest is None:
            return False
        return bool((self.table == self.lowest + 0.5 + np.arange(self.table.shape[1])).all())

    def clear(self, volts: Array, sigma: Array) -> NDArray[np.bool_]:
        """(B, M) whether the rails are out of reach."""
        if self.table is None:
            return np.ones(volts.shape, dtype=np.bool_)
        reach = _CLEAR * sigma + 1.0
        return np.asarray((volts - reach > self.table[:, 0]) & (volts + reach < self.table[:, -1]))


class Equations(NamedTuple):
    """Estimating equations of the terms, to first order about ``theta``.

    Attributes:
        theta: (4,) where they were taken.
        value: (4,) of the equations there; 0 is expected at the true terms.
        slopes: (4, 4) expected change of ``value`` by minus each term.
        spread: (4, 4) covariance of ``value``, as settings of the weights differ.
        excess: of the residuals' squares that noise has no part in, over their sum: below 0 where the fit of the
            response took more than its lack of fit left.
        excess_se: its standard error.
        shots: that were used.
    """

    theta: Array
    value: Array
    slopes: Array
    spread: Array
    excess: float
    excess_se: float
    shots: int

    def score(self, theta: Array, free: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """Score (4,) and information (4, 4) of the terms, as of a likelihood: generalized moments (Hansen, 1982).

        Args:
            theta: (4,) terms.
            free: terms that are others in these readings than elsewhere, so that nothing is said of them.
        """
        weights = self.weights(free)
        value = self.value - self.slopes @ (theta - self.theta)
        return self.slopes.T @ weights @ value, self.slopes.T @ weights @ self.slopes

    def weights(self, free: tuple[int, ...] = (), more: Array | None = None) -> Array:
        """(4, 4) inverse of ``spread`` (with ``more`` in it), without what the ``free`` terms can explain."""
        scale = np.sqrt(np.diagonal(self.spread))
        safe = np.where(scale > 0, scale, 1.0)
        whole = self.spread if more is None else self.spread + more
        values, vectors = np.linalg.eigh(whole / np.outer(safe, safe))
        good = values > _FLAT * values.max()
        inverse = (vectors[:, good] / values[good]) @ vectors[:, good].T / np.outer(safe, safe)
        if free:
            away = inverse @ self.slopes[:, free]
            inverse = inverse - away @ np.linalg.pinv(self.slopes[:, free].T @ away, hermitian=True) @ away.T
        return np.asarray(inverse)


class _Part(NamedTuple):
    """Sums over the shots of one setting.

    Attributes:
        value: (4,) of the equations.
        slopes: (4, 4).
        by_excess: (4,) change of ``value`` by the relative excess.
        over: squares of the residuals along the light, less those of the noise there.
        over_slopes: (4,) change of what is expected of the noise there, by the terms.
        variance: sum over the outputs that ``over`` is of.
        shots: used.
    """

    value: Array
    slopes: Array
    by_excess: Array
    over: float
    over_slopes: Array
    variance: float
    shots: int


def equations(settings: Iterable[Shots], receivers: Receivers, theta: Array) -> Equations:
    """The equations of single readings about ``theta`` (4,), terms in D^2 of ``noise.TERMS``, thermal above 0."""
    parts = [_part(shots, receivers, theta) for shots in settings]
    slopes, by_excess, over_slopes = (
        np.sum([getattr(part, name) for part in parts], axis=0) for name in ("slopes", "by_excess", "over_slopes")
    )
    over = np.array([part.over for part in parts])
    total = max(sum(part.variance for part in parts), 1e-300)
    # each setting's equations less its share in what the measured excess takes from all
    each = np.stack([part.value for part in parts]) - np.outer(over, by_excess / total)
    centred = each - each.mean(0)
    spread = centred.T @ centred * (len(parts) / max(1, len(parts) - 1))
    return Equations(
        theta=theta,
        value=each.sum(0),
        slopes=slopes - np.outer(by_excess / total, over_slopes),
        spread=spread,
        excess=float(over.sum() / total),
        excess_se=float(over.std() * np.sqrt(len(parts)) / total),
        shots=sum(part.shots for part in parts),
    )


class Covariance(NamedTuple):
    """Of the counts of each shot: inverse W = diag(1 / own) - Z Z'; what each term adds to it; 0 where left out.

    Attributes:
        inverse_own: (B, M).
        low_rank: (B, M, 2) Z.
        variance: (B, M).
        diagonal: (4, B, M) of the change by each term, beside ``vector``.
        vector: (4, B, M) v of the change v v'; 0 for the terms that outputs do not share.
        by_term: (4, B, M) change of ``variance``.
        excess: (B, M) fourth cumulant.
        mean: (B, M) counts.
        keep: (B, M).
    """

    inverse_own: Array
    low_rank: Array
    variance: Array
    diagonal: Array
    vector: Array
    by_term: Array
    excess: Array
    mean: Array
    keep: NDArray[np.bool_]

    def times(self, x: Array) -> Array:
        """W x of (..., B, M)."""
        found: Array = self.inverse_own * x
        for z in self._columns():
            found = found - (z * x).sum(-1, keepdims=True) * z
        return found

    def squared_times(self, x: Array) -> Array:
        """(W * W) x of (..., B, M), element by element."""
        columns = self._columns()
        found = self.inverse_own**2 * x - 2 * self.inverse_own * sum(z**2 for z in columns) * x
        for z in columns:
            for other in columns:
                found = found + (z * other * x).sum(-1, keepdims=True) * z * other
        return np.asarray(found)

    @property
    def inverse_diagonal(self) -> Array:
        """(B, M) of W."""
        return np.asarray(self.inverse_own - sum(z**2 for z in self._columns()))

    def _columns(self) -> list[Array]:
        return [self.low_rank[..., k] for k in range(self.low_rank.shape[-1])]


def covariance_of(shots: Shots, receivers: Receivers, theta: Array) -> Covariance:
    """Of the counts of each shot, with terms ``theta`` (4,)."""
    g, one = receivers.gain, np.ones_like(shots.S)
    thermal, shot = (1.0, 1.0) if receivers.own is None else receivers.own
    unit = g**2 * np.stack((thermal * one, shot * shots.S, shots.D**2, shots.S**2))
    sigma = np.sqrt(np.tensordot(theta, unit, 1))
    keep = receivers.clear(shots.volts, sigma)
    seen = receivers.moments(shots.volts, sigma)
    vector = np.zeros_like(unit)
    vector[2], vector[3] = (np.where(keep, seen.slope * g * x, 0.0) for x in (shots.D, shots.S))
    by_term = np.where(keep, unit * seen.by_variance, 0.0)
    shared = [np.sqrt(theta[a]) * vector[a] for a in (2, 3)]
    own = np.maximum(seen.variance - sum(x**2 for x in shared), _OWN * seen.variance)
    inverse_own = np.where(keep, 1 / np.where(keep, own, 1.0), 0.0)  # a count at a rail may not vary at all
    return Covariance(
        inverse_own, _low_rank(inverse_own, shared), np.where(keep, seen.variance, 0.0), by_term - vector**2, vector,
        by_term, seen.excess, seen.mean, keep,
    )  # fmt: skip


def _low_rank(inverse_own: Array, shared: list[Array]) -> Array:
    """(B, M, 2) Z of Woodbury's identity: E U (1 + U' E U)^(-1/2), E = 1 / own, U = ``shared``."""
    u = np.stack(shared, axis=-1)
    scaled = inverse_own[..., None] * u
    lower = np.linalg.cholesky(np.eye(2) + np.einsum("bmf,bmg->bfg", u, scaled))
    return np.asarray(np.linalg.solve(lower, scaled.transpose(0, 2, 1)).transpose(0, 2, 1))


def _part(shots: Shots, receivers: Receivers, theta: Array) -> _Part:
    c = covariance_of(shots, receivers, theta)
    residual = np.where(c.keep, shots.counts - c.mean, 0.0)
    w, y, vectors = c.inverse_diagonal, c.times(residual), c.times(c.vector)
    g = 0.5 * (c.squared_times(c.diagonal) + vectors**2)
    weights = c.diagonal - _softened(c.excess, w, c.keep) * g
    along = (c.vector * y).sum(-1) ** 2 - (c.vector * vectors).sum(-1)  # (4, B)
    value = 0.5 * ((weights * (y**2 - w)).sum((1, 2)) + along.sum(1))
    between = np.einsum("abm,cbm->acb", c.vector, vectors)
    slopes = 0.5 * (
        2 * np.einsum("abm,cbm->ac", weights, g) + np.einsum("cbm,abm->ac", c.diagonal, vectors**2)
        + (between**2).sum(-1)
    )  # fmt: skip
    own = c.squared_times(c.variance)
    by_excess = 0.5 * ((weights * own).sum((1, 2)) + (c.variance * vectors**2).sum((1, 2)))
    return _Part(value, slopes, by_excess, *_along_light(shots.light, residual, c, receivers), int(c.keep.any(1).sum()))


def _softened(excess: Array, w: Array, keep: NDArray[np.bool_]) -> Array:
    """(B, M) what fourth cumulants take from the weights of squares, outputs taken one by one."""
    bounded = np.maximum(excess, -_SHARP * 2 / np.where(keep, w, 1.0) ** 2)
    return np.where(keep, bounded / (1 + 0.5 * bounded * w**2), 0.0)


def _along_light(light: Array, residual: Array, c: Covariance, receivers: Receivers) -> tuple[float, Array, float]:
    """``over``, ``over_slopes`` and ``variance`` of a ``_Part``, of the outputs that no rail touches."""
    whole = c.keep.all(0)
    if not whole.any() or len(light) <= light.shape[1] + 1:
        return 0.0, np.zeros(4), 0.0
    axes = np.linalg.qr(np.concatenate([np.ones((len(light), 1)), light], axis=1))[0]
    leverage = (axes**2).sum(1)
    found = float(((axes.T @ residual[:, whole]) ** 2).sum())
    expected = float((leverage @ c.variance[:, whole]).sum())
    if receivers.wander:
        u = c.vector[2][:, whole]
        expected += float((u * ((axes @ axes.T * receivers.going_on(len(u))) @ u)).sum())
    return found - expected, np.einsum("b,abm->a", leverage, c.by_term[..., whole]), float(c.variance[:, whole].sum())
