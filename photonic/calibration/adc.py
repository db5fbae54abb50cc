"""Transitions of an ADC from readings whose analog value is predicted.

Definitions are those of ``photonic.physics.converters`` (IEEE Std 1241): T[k] is the transition into code k, INL[k] =
T[k] - T_ideal[k] in LSB, "actual minus ideal". The line through an INL cannot be told from gain and offset of what
comes before; it is taken out by least squares over the transitions that were measured, all alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import ndtr

from photonic.calibration.binaryadc import binary_transitions
from photonic.calibration.quantised import check_counts
from photonic.errors import RangeError, ShapeError

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Kind = Literal["none", "pooled", "binary", "binary about pooled", "per output"]

_KINDS: tuple[Kind, ...] = ("none", "pooled", "binary", "binary about pooled", "per output")
UNDECIDED_LSB = 0.25  # a transition with a larger standard error is not identified: worse than an ideal one's guess
_BINS = 10  # of the predicted value, per standard deviation
_REACH = 4.0  # standard deviations from which a transition is seen
_SPAN_LSB = 4.0  # how far from its ideal place a transition is looked for
_FOLDS = 16  # blocks of readings that take turns in fitting and judging
_STEPS = 50
_STRAY = 1e-4  # share of readings that may have any count
_LEAST = 1e-12
_PROBIT = 1.806  # integral of phi^2 / (Phi (1 - Phi))


class Inl(NamedTuple):
    """Transitions that readings have shown.

    Attributes:
        kind: which hypothesis the held-out readings favour: ideal, all outputs alike, each its own binary weights (and
            a curve of low degree, or what all outputs have in common, whatever its form), or each its own transitions.
        transitions: (M, K) in counts, not decreasing; ideal ones for "none".
        standard_error: (M, K) LSB; inf where not identified; 0 for "none".
        identified: (M, K) whether the transition was measured; the others are interpolated or continued.
        line: (M, 2) offset (LSB) and slope that were taken out of the INL: (volts - offset) / (1 + slope) meets these
            transitions as ``volts`` meets those with the line, but for a product of slope and INL.
        held_out: nats per reading that each hypothesis gains over "none" on readings that it was not fitted to.
        held_out_se: standard error of these.
    """

    kind: Kind
    transitions: Array
    standard_error: Array
    identified: Flags
    line: Array
    held_out: dict[Kind, float]
    held_out_se: dict[Kind, float]


def fit_inl(
    volts: Array, counts: Array, sigma: Array, count_range: tuple[float, float], kind: Kind | None = None
) -> Inl:
    """Transitions by maximum likelihood from readings whose mean and noise before the ADC are known.

    A count is k or more with probability Phi((volts - T[k]) / sigma): a probit regression for each transition, in which
    the noise is the model and smooths nothing away. Decreasing estimates are made equal (a missing code).

    Args:
        volts: (n, M) predicted before the ADC, counts; an error of it that follows the value is taken for INL.
        counts: (n, M) whole numbers, in an order in which any 16th in a row is like any other.
        sigma: (n, M) standard deviation of one reading before the ADC, counts, above 0.
        count_range: rails of the ADC.
        kind: a hypothesis to keep; None: the one that predicts held-out readings best, by 2 standard errors if it is
            not "none".

    Raises:
        ShapeError: the shapes differ, or fewer readings than blocks.
        RangeError: a value that is not finite, sigma not positive, or counts that the ADC cannot give.
    """
    _check(volts, counts, sigma, count_range)
    ideal = np.arange(count_range[0] + 0.5, count_range[1])
    if kind is None and _least_error(volts, sigma, count_range) > UNDECIDED_LSB:
        return _nothing(volts.shape[1], ideal)
    grid = _Grid.over(sigma, count_range, ideal)
    half = np.arange(len(volts)) * _FOLDS // len(volts) % 2
    halves = [[grid.tally(volts[half == j, i], counts[half == j, i], sigma[half == j, i]) for j in (0, 1)]
              for i in range(volts.shape[1])]  # fmt: skip
    gains, errors = _held_out(halves, ideal)
    own = [_Fit.of(first + second, ideal) for first, second in halves]
    chosen = kind or _best(gains, errors)
    shared = _Fit.of(_sum([tally for pair in halves for tally in pair]), ideal)
    fits = _fits(chosen, own, shared)
    inl, error = np.stack([fit.inl for fit in fits]), np.stack([fit.error for fit in fits])
    identified = np.isfinite(error)
    if chosen == "none":
        inl, error = np.zeros_like(inl), np.where(identified, 0.0, np.inf)
    line = np.stack([fit.line(row) for fit, row in zip(own, inl, strict=True)])
    # of a missing code two transitions are equal, and the line that was taken out may have put them the wrong way round
    transitions = np.maximum.accumulate(ideal + inl, axis=1)
    return Inl(chosen, transitions, error, identified, line, gains, errors)


def _fits(kind: Kind, own: list[_Fit], shared: _Fit) -> list[_Fit]:
    """What a hypothesis makes of each output's own fit and of the one of all."""
    if kind == "pooled":
        return [shared] * len(own)
    if kind == "binary":
        return [fit.binary for fit in own]
    return [fit.about(shared) for fit in own] if kind == "binary about pooled" else own


def _least_error(volts: Array, sigma: Array, count_range: tuple[float, float]) -> float:
    """Standard error, LSB, of the transition that is met most often, all outputs taken together."""
    least = float(sigma.min())
    edges = np.linspace(*count_range, 1 + max(1, int((count_range[1] - count_range[0]) / max(1.0, least))))
    most = float(np.histogram(volts, edges)[0].max())
    return _probit_error(least, most / float(edges[1] - edges[0]))


def _probit_error(sigma: float, density: float) -> float:
    """Standard error of a transition, ``density`` being readings per LSB: each has information 1.806 / sigma in all."""
    return math.sqrt(sigma / (_PROBIT * density)) if density > 0 else math.inf


def _nothing(outputs: int, ideal: Array) -> Inl:
    """Where there are so many codes, or so few readings, that none of the transitions can be identified."""
    shape = outputs, len(ideal)
    return Inl(
        kind="none",
        transitions=np.broadcast_to(ideal, shape).copy(),
        standard_error=np.full(shape, np.inf),
        identified=np.zeros(shape, dtype=np.bool_),
        line=np.zeros((outputs, 2)),
        held_out=dict.fromkeys(_KINDS, 0.0),
        held_out_se=dict.fromkeys(_KINDS, 0.0),
    )


@dataclass(frozen=True)
class _Tally:
    """Counts of one output by bins of the predicted value, bins without any left out.

    Attributes:
        n: (B,) readings; 0 where empty.
        v: (B,) sum of predicted values.
        variance: (B,) sum of sigma^2.
        codes: (B, W) readings by code, relative to the code of the bin.
        grid: the bins.
    """

    n: Array
    v: Array
    variance: Array
    codes: Array
    grid: _Grid

    @property
    def least_error(self) -> float:
        """Standard error, LSB, of the transition that is met most often, by the density of readings around it."""
        around = np.convolve(self.n, np.ones(_BINS))
        sigma = np.sqrt((self.variance / np.maximum(self.n, 1.0))[self.n > 0].min(initial=np.inf))
        return _probit_error(float(sigma), float(around.max()) / (_BINS * self.grid.width))

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(
            self.n + other.n, self.v + other.v, self.variance + other.variance, self.codes + other.codes, self.grid
        )


@dataclass(frozen=True)
class _Grid:
    """Bins of the predicted value.

    Attributes:
        start: lower edge of the first bin, counts.
        width: of a bin, counts.
        centre: (B,) the code at each bin, as an index from the lowest.
        pad: codes to either side that are told apart; farther ones are as good as certain.
    """

    start: float
    width: float
    centre: NDArray[np.int64]
    pad: int

    @classmethod
    def over(cls, sigma: Array, count_range: tuple[float, float], ideal: Array) -> _Grid:
        """Bins that cover the transitions of an ADC and all that can reach them."""
        widest = float(sigma.max())
        width = float(np.median(sigma)) / _BINS
        pad = math.ceil(_REACH * widest + _SPAN_LSB + width / 2)
        start, end = count_range[0] - pad, count_range[1] + pad
        middles = start + width * (np.arange(math.ceil((end - start) / width)) + 0.5)
        return cls(start, width, (np.round(middles) - count_range[0]).clip(0, len(ideal)).astype(np.int64), pad)

    def tally(self, volts: Array, counts: Array, sigma: Array) -> _Tally:
        """Sorts readings (n,); those that are far beyond a rail say nothing of a transition."""
        size, span = len(self.centre), 2 * self.pad + 1
        place = np.floor((volts - self.start) / self.width).astype(np.int64)
        seen = (place >= 0) & (place < size)
        place, volts, sigma = place[seen], volts[seen], sigma[seen]
        code = counts[seen].astype(np.int64) - round(self.start + self.pad) - self.centre[place]
        code = code.clip(-self.pad, self.pad) + self.pad
        ones = np.ones_like(volts)
        n, v, variance = (_histogram(place, weight, size) for weight in (ones, volts, sigma**2))
        codes = _histogram(place * span + code, ones, size * span).reshape(size, span)
        return _Tally(n, v, variance, codes, self)

    def thresholds(self) -> NDArray[np.int64]:
        """(B, 2 pad) transition that each step from one relative code to the next passes; some do not exist."""
        found: NDArray[np.int64] = self.centre[:, None] + np.arange(-self.pad, self.pad)
        return found


def _histogram(place: NDArray[np.int64], weight: Array, size: int) -> Array:
    return np.asarray(np.bincount(place, weight, size), dtype=np.float64)


def _sum(tallies: list[_Tally]) -> _Tally:
    total = tallies[0]
    for tally in tallies[1:]:
        total = total + tally
    return total


@dataclass(frozen=True)
class _Fit:
    """Transitions of one output, or of all alike.

    Attributes:
        raw: (K,) INL with its line, LSB; 0 where not identified.
        error: (K,) LSB, inf where not identified.
        ideal: (K,) transitions, counts.
        sigma: root of the mean variance of the readings, counts.
    """

    raw: Array
    error: Array
    ideal: Array
    sigma: float

    @classmethod
    def of(cls, tally: _Tally, ideal: Array) -> _Fit:
        """By maximum likelihood; nothing is identified where fewer than 3 transitions are."""
        raw, sigma = np.zeros_like(ideal), float(np.sqrt(tally.variance.sum() / max(1.0, tally.n.sum())))
        nothing = cls(raw, np.full_like(ideal, np.inf), ideal, sigma)
        if tally.least_error > UNDECIDED_LSB:
            return nothing
        found, error = _probit(tally, ideal)
        known = np.isfinite(error)
        if known.sum() < 3:
            return nothing
        raw[known] = isotonic_regression(found[known], weights=error[known] ** -2).x - ideal[known]
        return cls(raw, error, ideal, sigma)

    @property
    def known(self) -> bool:
        """Whether any transition is."""
        return bool(np.isfinite(self.error).any())

    def line(self, inl: Array | float = 0.0) -> Array:
        """(2,) offset and slope of what lies above ``inl`` (K,)."""
        known = np.isfinite(self.error)
        if not known.any():
            return np.zeros(2)
        found: Array = np.polyfit(self.ideal[known], (self.raw - inl)[known], 1)[::-1]
        return found

    @property
    def binary(self) -> _Fit:
        """As a binary converter has them (``binary_transitions``); as they are where too few were identified."""
        known = np.isfinite(self.error)
        found = binary_transitions(self.ideal + self.raw, self.error, self.ideal, self.sigma)
        return (
            self
            if found is None
            else _Fit(found[0] - self.ideal, np.where(known, found[1], np.inf), self.ideal, self.sigma)
        )

    def about(self, shared: _Fit) -> _Fit:
        """As a binary converter behind what all outputs have in common, which is known better than any of them."""
        known = np.isfinite(self.error) & np.isfinite(shared.error)
        common = shared.inl
        rest = _Fit(
            np.where(known, self.raw - common, 0.0), np.where(known, self.error, np.inf), self.ideal, self.sigma
        )
        fitted = rest.binary
        error = np.hypot(fitted.error, np.where(known, shared.error, np.inf))
        return _Fit(np.where(known, fitted.raw + common, 0.0), error, self.ideal, self.sigma)

    @property
    def inl(self) -> Array:
        """(K,) INL without its line; between and beyond the identified transitions, interpolated and continued."""
        known = np.isfinite(self.error)
        if not known.any():
            return np.zeros_like(self.ideal)
        rest = (self.raw - _straight(self.line(), self.ideal))[known]
        return np.asarray(np.interp(self.ideal, self.ideal[known], rest), dtype=np.float64)


def _straight(line: Array, ideal: Array) -> Array:
    found: Array = line[0] + line[1] * ideal
    return found


def _probit(tally: _Tally, ideal: Array) -> tuple[Array, Array]:
    """Transitions (K,) and standard errors, inf where not identified, each by its own probit regression."""
    full = tally.n > 0
    n = tally.n[full, None]
    v, sigma = tally.v[full, None] / n, np.sqrt(tally.variance[full, None] / n)
    above = tally.codes[full, ::-1].cumsum(1)[:, ::-1][:, 1:]
    index = tally.grid.thresholds()[full]
    exists = (index >= 0) & (index < len(ideal))
    index = index.clip(0, len(ideal) - 1)
    found, information = ideal.copy(), ideal
    for _ in range(_STEPS):
        z = (v - found[index]) / sigma
        p = ndtr(z)
        near = exists & (np.abs(z) < _REACH)
        by_place = np.where(near, np.exp(-0.5 * z * z) / (np.sqrt(2 * np.pi) * sigma), 0.0)
        weight = by_place / np.maximum(p * (1 - p), _LEAST)
        score = _histogram(index.ravel(), ((n * p - above) * weight).ravel(), len(ideal))
        information = _histogram(index.ravel(), (n * by_place * weight).ravel(), len(ideal))
        step = np.clip(score / np.maximum(information, _LEAST), -0.5, 0.5)
        moved = np.clip(found + step, ideal - _SPAN_LSB, ideal + _SPAN_LSB)
        settled = np.abs(moved - found).max() < 1e-4
        found = moved
        if settled:
            break
    error = 1 / np.sqrt(np.maximum(information, _LEAST))
    inside = np.abs(found - ideal) < _SPAN_LSB
    return found, np.where(inside & (error < UNDECIDED_LSB), error, np.inf)


def _held_out(halves: list[list[_Tally]], ideal: Array) -> tuple[dict[Kind, float], dict[Kind, float]]:
    """Gain over "none" in nats per reading and its standard error, either half judged by the fit to the other."""
    sums = {kind: np.zeros(2) for kind in _KINDS}
    total = 0.0
    for fit, judge in ((0, 1), (1, 0)):
        shared = _Fit.of(_sum([pair[fit] for pair in halves]), ideal)
        for pair in halves:
            own = _Fit.of(pair[fit], ideal)
            total += float(pair[judge].n.sum())
            if not (own.known or shared.known):
                continue
            plain = _log_likelihood(pair[judge], ideal + _straight(own.line(), ideal))
            both = (shared.inl, own.binary.inl, own.about(shared).inl, own.inl)
            curves = both if own.known else both[:1]
            for kind, inl in zip(_KINDS[1:], curves, strict=False):
                line = _straight(own.line(inl), ideal)  # every output keeps its own: gain and offset are no INL
                gain = _log_likelihood(pair[judge], ideal + inl + line) - plain
                weighted = pair[judge].codes[pair[judge].n > 0]
                sums[kind] += [float((weighted * gain).sum()), float((weighted * gain**2).sum())]
    total = max(total, 1.0)
    gains = {kind: float(values[0] / total) for kind, values in sums.items()}
    errors = {kind: float(np.sqrt(max(0.0, v[1] / total - (v[0] / total) ** 2) / total)) for kind, v in sums.items()}
    return gains, errors


def _log_likelihood(tally: _Tally, transitions: Array) -> Array:
    """(B, W) log-probability of each relative code in each bin that has readings."""
    full = tally.n > 0
    n = tally.n[full, None]
    v, sigma = tally.v[full, None] / n, np.sqrt(tally.variance[full, None] / n)
    index = tally.grid.thresholds()[full]
    edges = np.pad(np.maximum.accumulate(transitions), 1, constant_values=(-np.inf, np.inf))
    reached = ndtr((v - edges[(index + 1).clip(0, len(edges) - 1)]) / sigma)
    steps = np.pad(reached, ((0, 0), (1, 1)), constant_values=((0, 0), (1.0, 0.0)))
    p = np.maximum(-np.diff(steps), 0.0)
    # a little of everything, so that one stray reading does not decide
    found: Array = np.log((1 - _STRAY) * p + _STRAY / p.shape[1])
    return found


def _best(gains: dict[Kind, float], errors: dict[Kind, float]) -> Kind:
    """The best of those that beat "none" by 2 standard errors."""
    sure = [kind for kind in gains if gains[kind] > 2 * errors[kind]]
    return max(sure, key=lambda kind: gains[kind], default="none")


def _check(volts: Array, counts: Array, sigma: Array, count_range: tuple[float, float]) -> None:
    if volts.ndim != 2 or not volts.shape == counts.shape == sigma.shape or len(volts) < _FOLDS:
        raise ShapeError(
            f"volts, counts and sigma must be (n >= {_FOLDS}, M) alike, "
            f"found {volts.shape}, {counts.shape} and {sigma.shape}"
        )
    if not (np.isfinite(volts).all() and np.isfinite(sigma).all() and (sigma > 0).all()):
        raise RangeError("volts must be finite and sigma positive; a reading without a prediction has to be left out")
    check_counts(counts, count_range)
