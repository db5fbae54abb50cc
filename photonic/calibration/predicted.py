"""Distribution of counts that a record predicts, exact through the ADC.

An output of one shot is a Gaussian before the ADC. The count is the number of transitions at or below it, counted from
the lowest code, so P(count >= lowest + k) = Phi((volts - T[k]) / sigma): rounding, INL and both rails are in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from photonic.errors import RangeError, ShapeError

Array = NDArray[np.float64]

LEAST_SIGMA = 1e-9  # of a chip without noise, in counts
_SMOOTH = 1.5  # LSB of noise with which an ideal ADC's rounding is noise of its own: its ripple is exp(-2 pi^2 sigma^2)
RIPPLED = 0.4  # LSB of noise from which on two harmonics are all of the ripple
_REACH = 6.0  # standard deviations beyond which a transition is certain: 1e-9
_CHUNK = 1_000_000  # values worked on at once


@dataclass(frozen=True)
class Prediction:
    """Measured counts and what a record predicts for them; a point is one weight setting with one input vector.

    Attributes:
        counts: (P, R, M) measured, R repeats of each of P points.
        volts: (P, M) predicted mean before the ADC, counts.
        sigma: (P, M) predicted standard deviation before the ADC of one shot, counts, the common part included.
        common: (P, M) predicted standard deviation of the part that all outputs share, signed:
            cov_ik = common_i common_k + balance_i balance_k for i != k.
        count_range: rails of the ADC; None: no converter, counts are the analog values.
        transitions: (M or 1, K) of the ADC in counts, not decreasing, K = highest - lowest count; None: ideal.
        times: (P, R) seconds, rising along R; None: repeats are in the order in which they were measured.
        volts_se: standard error of ``volts``, counts: below 0.5 LSB of noise, where a mean lies between two codes
            decides its variance.
        balance: (P, M) the same of a second factor, of what balancing lets through; None: there is none.

    Raises:
        ShapeError: shapes that do not fit together, fewer than 2 points or 2 repeats.
        RangeError: a value that is not finite or out of its bounds.
    """

    counts: Array
    volts: Array
    sigma: Array
    common: Array
    count_range: tuple[float, float] | None
    transitions: Array | None = None
    times: Array | None = None
    volts_se: float = 0.0
    balance: Array | None = None

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_values(self)

    @property
    def shared(self) -> Array:
        """(F, P, M) loadings of the factors that all outputs share."""
        return np.stack([each for each in (self.common, self.balance) if each is not None])

    @property
    def points(self) -> int:
        """P, the number of operating points."""
        return len(self.volts)

    @property
    def shots(self) -> int:
        """P R: vectors measured."""
        return int(self.counts.shape[0] * self.counts.shape[1])

    @property
    def table(self) -> Array | None:
        """(M or 1, K) transitions in counts; None: no converter."""
        if self.count_range is None or self.transitions is not None:
            return self.transitions
        low, high = self.count_range
        return np.arange(low + 0.5, high)[None]


class CountMoments(NamedTuple):
    """Of the counts, shape (P, M) each.

    Attributes:
        mean: counts.
        variance: counts^2.
        excess: fourth central moment less three squared variances, counts^4.
        slope: d mean / d volts; with it the covariance of two outputs is slope_i slope_k common_i common_k, to first
            order in the correlation (Price, IRE Trans. Inf. Theory 4, 69 (1958)).
        by_variance: d variance / d sigma^2.
    """

    mean: Array
    variance: Array
    excess: Array
    slope: Array
    by_variance: Array


def quantised_moments(
    volts: Array, sigma: Array, transitions: Array, lowest: float | None = None
) -> tuple[Array, Array]:
    """Exact mean and variance (P, M) of the counts of Gaussian values seen through an ADC.

    Args:
        volts: (P, M) mean before the ADC, counts.
        sigma: (P, M) standard deviation before the ADC, counts.
        transitions: (M or 1, K) in counts, not decreasing.
        lowest: count below the first transition; None: -(K + 1) / 2, as two's complement has it.
    """
    found = count_moments(volts, sigma, transitions, lowest)
    return found.mean, found.variance


def count_moments(volts: Array, sigma: Array, transitions: Array | None, lowest: float | None = None) -> CountMoments:
    """Moments (P, M) of the counts; arguments as ``quantised_moments``, transitions None being no converter.

    With n transitions passed, E[n^a] = sum over k of (k^a - (k - 1)^a) P(n >= k). Where the noise is some LSB of
    an ideal ADC, away from its rails, that is the Gaussian plus an independent even error of rounding, to 1e-9: then no
    transition is looked at, of which 16 bits have thousands within reach.
    """
    if transitions is None:
        return CountMoments(volts, sigma**2, np.zeros_like(volts), np.ones_like(volts), np.ones_like(volts))
    base = _lowest(transitions, lowest)
    smooth = _smooth(volts, sigma, transitions, base)
    if not smooth.any():
        return _in_parts(volts, sigma, transitions, base)
    found = CountMoments(
        volts.copy(), sigma**2 + 1 / 12, np.full_like(volts, -1 / 120), np.ones_like(volts), np.ones_like(volts)
    )
    if not smooth.all():  # an ideal ADC has one row of transitions, so that points and outputs are all alike
        rest = _in_parts(volts[~smooth][:, None], sigma[~smooth][:, None], transitions[:1], base)
        for whole, part in zip(found, rest, strict=True):
            whole[~smooth] = part[:, 0]
    return found


def rippled_moments(volts: Array, sigma: Array) -> CountMoments:
    """As ``count_moments`` of an ideal ADC whose rails are far away, where sigma is ``RIPPLED`` LSB or more.

    What rounding adds to x is the sum over h of (-1)^h sin(2 pi h x) / (pi h), whose terms fade with exp(-2 pi^2 h^2
    sigma^2) (Widrow and Kollar, Quantization Noise, 2008, ch. 4): two are left to 1e-6. The fourth cumulant is that of
    the rounding alone, as without ripple.
    """
    off, ripple, turn, slope, by_variance = (np.zeros_like(volts) for _ in range(5))
    for h in (1, 2):
        size = (-1) ** h * np.exp(-2 * (np.pi * h * sigma) ** 2)
        along, across = np.cos(2 * np.pi * h * volts) * size, np.sin(2 * np.pi * h * volts) * size
        fading = -2 * (np.pi * h) ** 2
        off += across / (np.pi * h)
        turn += fading * across / (np.pi * h)
        slope += 2 * along
        ripple += along * (4 * sigma**2 + 1 / (np.pi * h) ** 2)
        by_variance += along * (4 + fading * (4 * sigma**2 + 1 / (np.pi * h) ** 2))
    return CountMoments(
        volts + off, sigma**2 + 1 / 12 + ripple - off**2, np.full_like(volts, -1 / 120), 1 + slope,
        1 + by_variance - 2 * off * turn,
    )  # fmt: skip


def _smooth(volts: Array, sigma: Array, transitions: Array, base: float) -> NDArray[np.bool_]:
    """(P, M) whether the moments have a closed form."""
    ideal = base + 0.5 + np.arange(transitions.shape[-1])
    if not (sigma > _SMOOTH).any() or not (transitions == ideal).all():
        return np.zeros(volts.shape, dtype=np.bool_)
    room = np.minimum(volts - ideal[0], ideal[-1] - volts)
    return np.asarray((sigma > _SMOOTH) & (room > _REACH * sigma))


def _in_parts(volts: Array, sigma: Array, transitions: Array, base: float) -> CountMoments:
    """Moments by sums over transitions, some points at a time."""
    width = _widest(sigma, transitions)
    step = max(1, _CHUNK // (width * volts.shape[1]))
    parts = [_moments(volts[i : i + step], sigma[i : i + step], transitions, base) for i in range(0, len(volts), step)]
    return CountMoments(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def code_probabilities(
    volts: Array, sigma: Array, transitions: Array, lowest: float | None = None
) -> tuple[Array, Array]:
    """First count (P, M) that can occur and probabilities (P, M, W) of it and of the W - 1 that follow.

    W is what the widest of them needs for +-6 sigma. Arguments as ``quantised_moments``.
    """
    first, reached, _, _ = _window(volts, sigma, transitions)
    edges = np.concatenate([np.ones_like(reached[..., :1]), reached, np.zeros_like(reached[..., :1])], axis=-1)
    return _lowest(transitions, lowest) + first, edges[..., :-1] - edges[..., 1:]


def variance_by_transitions(volts: Array, sigma: Array, transitions: Array) -> Array:
    """(P, M, K) d variance of the counts / d transition, where ``volts`` (P, M) follows so that the mean count stays.

    Arguments as ``quantised_moments``. For points whose mean is measured through the same transitions.
    """
    first, reached, z, density = _window(volts, sigma, transitions)
    k = np.arange(1, z.shape[-1] + 1, dtype=np.float64)
    pull = (2 * (k - reached.sum(-1, keepdims=True)) - 1) * density  # of volts on the variance; - of the transition
    slope = np.maximum(density.sum(-1, keepdims=True), LEAST_SIGMA)
    change = pull.sum(-1, keepdims=True) * density / slope - pull
    found = np.zeros((*volts.shape, transitions.shape[-1] + z.shape[-1]))
    np.put_along_axis(found, first[..., None].astype(np.int64) + np.arange(z.shape[-1]), change, axis=-1)
    return np.asarray(found[..., : transitions.shape[-1]])


def _moments(volts: Array, sigma: Array, transitions: Array, base: float) -> CountMoments:
    first, reached, z, density = _window(volts, sigma, transitions)
    k = np.arange(1, reached.shape[-1] + 1, dtype=np.float64)
    raw = [reached @ (k**power - (k - 1) ** power) for power in (1, 2, 3, 4)]
    mean, variance = raw[0], np.maximum(raw[1] - raw[0] ** 2, 0.0)
    fourth = raw[3] - 4 * mean * raw[2] + 6 * mean**2 * raw[1] - 3 * mean**4
    # d Phi(z) / d sigma^2 = -z density / (2 sigma)
    sd, moving = np.maximum(sigma, LEAST_SIGMA), np.where(np.isfinite(z), z, 0.0) * density
    by_variance = -(moving @ (2 * k - 1) - 2 * mean * moving.sum(-1)) / (2 * sd)
    return CountMoments(base + first + mean, variance, fourth - 3 * variance**2, density.sum(-1), by_variance)


def _window(volts: Array, sigma: Array, transitions: Array) -> tuple[Array, Array, Array, Array]:
    """Transitions surely passed (P, M); of the W next (P, M, W): P(passed), volts above in sigma, d P / d volts."""
    sd = np.maximum(sigma, LEAST_SIGMA)
    width = _widest(sigma, transitions)
    padded = np.pad(transitions, ((0, 0), (0, width)), constant_values=np.inf)
    first = np.empty(volts.shape, dtype=np.int64)
    for i in range(volts.shape[1]):
        row = transitions[i if len(transitions) > 1 else 0]
        first[:, i] = np.searchsorted(row, volts[:, i] - _REACH * sd[:, i])
    row = np.arange(volts.shape[1])[:, None] if len(transitions) > 1 else 0
    z = (volts[..., None] - padded[row, first[..., None] + np.arange(width)]) / sd[..., None]
    density = np.exp(-0.5 * z**2) / (sd[..., None] * np.sqrt(2 * np.pi))
    return first.astype(np.float64), ndtr(z), z, density


def _widest(sigma: Array, transitions: Array) -> int:
    """Transitions within +-6 of the largest sigma, anywhere."""
    reach = 2 * _REACH * max(float(sigma.max(initial=0.0)), LEAST_SIGMA)
    most = 1
    for row in transitions:
        most = max(most, int((np.searchsorted(row, row + reach, side="right") - np.arange(len(row))).max()))
    return most


def _lowest(transitions: Array, lowest: float | None) -> float:
    return -(transitions.shape[-1] + 1) / 2 if lowest is None else lowest


def _check_shapes(given: Prediction) -> None:
    shape = given.counts.shape
    if len(shape) != 3 or shape[0] < 2 or shape[1] < 2 or shape[2] < 1:
        raise ShapeError(
            f"counts must be (P >= 2 points, R >= 2 repeats, M outputs), found {shape}; measure more points"
        )
    expected = {"volts": shape[::2], "sigma": shape[::2], "common": shape[::2]}
    if given.balance is not None:
        expected["balance"] = shape[::2]
    if given.times is not None:
        expected["times"] = shape[:2]
    for name, wanted in expected.items():
        if getattr(given, name).shape != wanted:
            raise ShapeError(f"{name} must be {wanted} for counts {shape}, found {getattr(given, name).shape}")
    if given.transitions is None:
        return
    if given.count_range is None:
        raise ShapeError("transitions need count_range, the rails of the ADC; pass both or neither")
    steps = round(given.count_range[1] - given.count_range[0])
    if given.transitions.shape not in {(1, steps), (shape[2], steps)}:
        raise ShapeError(
            f"transitions must be (1 or {shape[2]}, {steps}) for counts from {given.count_range[0]:g} to "
            f"{given.count_range[1]:g}, found {given.transitions.shape}"
        )


def _check_values(given: Prediction) -> None:
    for name, found in _arrays(given):
        if not np.isfinite(found).all():
            raise RangeError(f"{name} must be finite, found {np.count_nonzero(~np.isfinite(found))} that are not")
    if (given.sigma < 0).any() or ((given.shared**2).sum(0) > given.sigma**2 * (1 + 1e-9)).any():
        raise RangeError("sigma must be at least |common| and not negative; it includes what the outputs share")
    for name, values, axis in (("times", given.times, 1), ("transitions", given.transitions, 1)):
        if values is not None and (np.diff(values, axis=axis) < 0).any():
            raise RangeError(f"{name} must not decrease; sort the repeats by time and the transitions by code")
    if given.count_range is None:
        return
    low, high = given.count_range
    least, most = float(given.counts.min()), float(given.counts.max())
    if least < low or most > high or not np.array_equal(given.counts, np.round(given.counts)):
        raise RangeError(f"counts must be whole and from {low:g} to {high:g}, found {least:g} to {most:g}")


def _arrays(given: Prediction) -> Iterator[tuple[str, Array]]:
    for name in ("counts", "volts", "sigma", "common", "balance", "times", "transitions"):
        values = getattr(given, name)
        if values is not None:
            yield name, values
