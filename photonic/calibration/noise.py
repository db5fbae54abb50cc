"""Noise terms from repeated vectors: V = thermal + shot S + rin D^2 + common_mode S^2 (outputs: ``ownnoise``).

RIN is one factor per shot for all outputs of one laser, and so is what an imperfect common-mode rejection lets through;
they show in the covariance of outputs as well as in each variance, and are fitted to both by generalised least squares
on second moments (``secondmoments``), none below 0. ``converter`` noise cannot be told from ``thermal`` at one analog
gain and is in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from scipy.optimize import minimize_scalar, nnls
from scipy.stats import chi2

from photonic.calibration.secondmoments import (
    Array,
    Flags,
    NoiseData,
    Rin,
    State,
    all_thermal,
    clear_of_rails,
    unit_covariances,
)
from photonic.errors import CalibrationError
from photonic.records import NoiseModel

__all__ = [
    "TERMS",
    "Choice",
    "Evidence",
    "NoiseData",
    "NoiseFit",
    "Power",
    "Term",
    "choose_power",
    "choose_rin",
    "compare",
    "fit_noise",
    "receivers",
    "variance",
    "variance_error",
]

TERMS = ("thermal", "shot", "rin", "common_mode")
TWO_SIDED = 1.96
SHARE = 0.02  # of the variance, where a term weighs most: smaller ones are not worth shots
_FLAT = 1e-9  # eigenvalue of the scaled information below which terms cannot be told apart
_STEPS = 30
_SHARE_TOLERANCE = 0.02  # of the weighted power in S


@dataclass(frozen=True)
class Term:
    """One term of V.

    Attributes:
        value: not negative.
        standard_error: inf where the points cannot tell it from another term.
        low: 95 % interval, from the estimate without the bound at 0; the upper end never below 1.96 standard errors.
        high: see ``low``.
        identified: whether the interval excludes 0, so that the error is about half of the value or less.
        shots_needed: to identify the term if it is as large as it looks, or as ``SHARE`` of the variance where it
            weighs most; None: identified, or these shots would have shown that, or more of the same points cannot.
    """

    value: float
    standard_error: float
    low: float
    high: float
    identified: bool
    shots_needed: int | None


class NoiseFit(NamedTuple):
    """What the repeats say of noise.

    Attributes:
        model: fitted terms, all of them, identified or not: V(S, D) is known better than its parts.
        terms: by name as ``TERMS``.
        covariance: (4, 4) of the terms, as far as the points fix them: with a term whose error is inf it holds for V
            at S and D like the points' own, and not elsewhere.
        variance: (P, M) predicted before the ADC, counts^2.
        ratio: (M,) measured over predicted variance of each output, all points; nan without any.
        ratio_se: (M,) standard error, the terms taken as known.
        outputs_p: probability of a sum of squared deviations of ``ratio`` as large, by chance.
        correlation_p: of a pattern of correlations between outputs, the same at all points, that D D^T and S S^T do not
            explain: another common source.
        correlation_any_p: of correlations that differ from point to point.
        log_likelihood: (P,) Gaussian, of each point's sample covariance, up to a constant that only data decide.
        used: share of (point, output) pairs that were clear of the rails.
        singles: what single readings of other vectors have to do with it (``evidence``).
    """

    model: NoiseModel
    terms: dict[str, Term]
    covariance: Array
    variance: Array
    ratio: Array
    ratio_se: Array
    outputs_p: float
    correlation_p: float
    correlation_any_p: float
    log_likelihood: Array
    used: float
    singles: str = "not asked"


class Evidence(Protocol):
    """Readings of another kind that know of the terms, too."""

    @property
    def shots(self) -> int:
        """How many."""

    def score(self, theta: Array) -> tuple[Array, Array]:
        """Score (4,) and information (4, 4) of the terms (4,), as of a likelihood."""


class Choice(NamedTuple):
    """Which of several hypotheses the points favour.

    Attributes:
        best: name of the most likely.
        decided: whether every other one is rejected.
        z: of each name, by how many standard errors it is less likely than the best (Vuong, Econometrica 57, 307
            (1989)); above 1.96: rejected.
        log_likelihood: of each name.
    """

    best: str
    decided: bool
    z: dict[str, float]
    log_likelihood: dict[str, float]


def fit_noise(
    data: NoiseData, rin: Rin = "common", more: Sequence[NoiseData] = (), beside: Evidence | None = None
) -> NoiseFit:
    """Fits the four terms, none below 0.

    Args:
        data: points at several S and D; the same S everywhere cannot tell shot from thermal noise.
        rin: "common": one factor for all inputs; "per line": each input its own, variance rin sum_j (w p T / N)^2.
        more: points with other numbers of repeats. What is said of outputs and of correlations is of ``data``.
        beside: of another kind.

    Raises:
        ShapeError: "per line" without ``data.lines``.
        CalibrationError: all outputs at the rails, or the iteration does not settle.
    """
    known = [(each, unit_covariances(each, rin), clear_of_rails(each)) for each in (data, *more)]
    theta = all_thermal(data, known[0][2])
    for _ in range(_STEPS):
        _, score, information = _equations(known, beside, theta)
        free, errors, _ = _solve(information, score)
        step = _bounded(information, theta + free) - theta
        theta = theta + step
        if (np.abs(step) <= 1e-3 * errors).all():
            break
    else:
        raise CalibrationError("the fit of the noise terms does not settle; check gain, S and D against the counts")
    state, score, information = _equations(known, beside, theta)
    free, errors, covariance = _solve(information, score)
    shots = sum(each.shots for each in (data, *more)) + (0 if beside is None else beside.shots)
    return _report(data, state, (theta, theta + free, errors), covariance, shots)


def _equations(
    known: Sequence[tuple[NoiseData, Array, Flags]], beside: Evidence | None, theta: Array
) -> tuple[State, Array, Array]:
    """State of the first points, and score (4,) and information (4, 4) of all."""
    states = [State.at(data, basis, theta, keep) for data, basis, keep in known]
    parts = [state.equations() for state in states] + ([] if beside is None else [beside.score(theta)])
    return states[0], np.sum([score for score, _ in parts], axis=0), np.sum([found for _, found in parts], axis=0)


def variance(noise: NoiseModel, S: Array, D: Array, own: Array | None = None) -> Array:
    """V in D^2 at S and D (..., M), quantisation not included.

    Args:
        noise: of all outputs.
        S: total power.
        D: signed result.
        own: (2, M) thermal and shot noise of each output, relative to those of all; None: alike, and any shape.
    """
    return np.asarray(receivers(noise, S, own) + noise.rin * D**2 + noise.common_mode * S**2)


def receivers(noise: NoiseModel, S: Array, own: Array | None) -> Array:
    """The part of ``variance`` that outputs do not share."""
    thermal, shot = (1.0, 1.0) if own is None else own
    return np.asarray(thermal * noise.thermal + noise.converter + shot * noise.shot * S)


def compare(fits: Mapping[str, NoiseFit]) -> Choice:
    """Chooses between fits of the same counts by likelihood; 2 or more of them."""
    total = {name: float(fit.log_likelihood.sum()) for name, fit in fits.items()}
    best = max(total, key=lambda name: total[name])
    z = {}
    for name, fit in fits.items():
        gap = fits[best].log_likelihood - fit.log_likelihood
        spread = math.sqrt(len(gap)) * float(gap.std(ddof=1)) if len(gap) > 1 else math.inf
        z[name] = float(gap.sum()) / spread if spread > 1e-9 else 0.0
    decided = all(value > TWO_SIDED for name, value in z.items() if name != best)
    return Choice(best, decided, z, total)


class Power(NamedTuple):
    """Which total power the noise follows: S = (1 - share) S_inputs + share S_weighted.

    Attributes:
        share: of the weighted power; 0 or 1 unless the points reject both.
        choice: between the two and the most likely mixture.
        fit: of the noise with that S.
    """

    share: float
    choice: Choice
    fit: NoiseFit


def choose_power(data: NoiseData, inputs: Array, weighted: Array) -> Power:
    """Finds the S that explains the noise best; what is simpler is kept unless it is rejected.

    Args:
        data: points; its S is not used.
        inputs: (P, M) the light of all inputs, whatever their weights.
        weighted: (P, M) the light of the inputs times the size of their weights.
    """

    def fitted(share: float) -> NoiseFit:
        return fit_noise(replace(data, S=(1 - share) * inputs + share * weighted))

    found = minimize_scalar(
        lambda share: -float(fitted(share).log_likelihood.sum()), bounds=(0, 1), method="bounded",
        options={"xatol": _SHARE_TOLERANCE},
    )  # fmt: skip
    best = float(found.x)
    shares = {"input power": 0.0, "weighted power": 1.0, f"{1 - best:.0%} input power, {best:.0%} weighted": best}
    fits = {name: fitted(share) for name, share in shares.items()}
    choice = compare(fits)
    name = next((name for name in shares if choice.z[name] <= TWO_SIDED), choice.best)
    return Power(shares[name], choice._replace(best=name), fits[name])


def choose_rin(data: NoiseData) -> tuple[Choice, NoiseFit]:
    """Whether all inputs share one RIN factor ("common") or each has its own ("per line"); needs ``data.lines``."""
    fits = {"common": fit_noise(data, "common"), "per line": fit_noise(data, "per line")}
    choice = compare(fits)
    return choice, fits[choice.best]


def variance_error(covariance: Array, S: Array, D: Array) -> Array:
    """Standard error of V (in D^2) at S and D, any shape, from the ``covariance`` of a fit with common RIN."""
    by_term = np.stack((np.ones_like(S), S, D**2, S**2), -1)
    found: Array = np.sqrt(np.einsum("...a,ab,...b->...", by_term, covariance, by_term))
    return found


def _solve(information: Array, score: Array) -> tuple[Array, Array, Array]:
    """Newton step (4,), standard errors (4,), inf for terms that the points do not fix, and covariance (4, 4)."""
    scale = np.sqrt(np.diagonal(information))
    safe = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(information / np.outer(safe, safe))
    good = values > _FLAT
    inverse = (vectors[:, good] / values[good]) @ vectors[:, good].T
    lost = (np.abs(vectors[:, ~good]) > 1e-3).any(1) | (scale == 0)
    covariance = inverse / np.outer(safe, safe)
    return covariance @ score, np.where(lost, np.inf, np.sqrt(np.diagonal(covariance))), covariance


def _bounded(information: Array, target: Array) -> Array:
    """The theta >= 0 nearest to ``target`` in the metric of the information."""
    scale = np.sqrt(np.diagonal(information))
    safe = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(information / np.outer(safe, safe))
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    found: Array = nnls(root, root @ (target * safe))[0] / safe
    return found


def _report(
    data: NoiseData, state: State, found: tuple[Array, Array, Array], covariance: Array, shots: int
) -> NoiseFit:
    """The fit from the terms (4,): bounded, not bounded, and their standard errors."""
    theta, free, errors = found
    seen = np.diagonal(state.predicted, axis1=1, axis2=2)
    measured = np.diagonal(data.covariance, axis1=1, axis2=2) / seen
    heard = state.keep & (state.variance > 0)
    weight = np.where(heard, state.nu / np.maximum(2 + state.excess / seen**2, 2 / (state.nu + 1)), 0.0)
    sums = weight.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio, ratio_se = (weight * measured).sum(0) / sums, 1 / np.sqrt(sums)  # nan: always at a rail, or no noise
    z = ((ratio - 1) / ratio_se)[sums > 0]
    fixed, anywhere = state.left_over()
    sizes = np.diagonal(state.slopes, axis1=2, axis2=3) / seen
    weighs = np.where(state.keep, sizes, 0.0).max((1, 2))
    terms = {
        name: _term(theta[a], free[a], errors[a], SHARE / weighs[a] if weighs[a] > 0 else math.inf, shots)
        for a, name in enumerate(TERMS)
    }
    return NoiseFit(
        NoiseModel(**{name: float(value) for name, value in zip(TERMS, theta, strict=True)}),
        terms, covariance, state.variance, ratio, ratio_se, float(chi2.sf((z**2).sum(), max(1, len(z)))),
        fixed, anywhere, state.log_likelihood(), float(state.keep.mean()),
    )  # fmt: skip


def _term(value: float, free: float, error: float, worth: float, shots: int) -> Term:
    if not math.isfinite(error):
        return Term(float(value), math.inf, 0.0, math.inf, False, None)
    ratio = 2 * error / max(value, worth)
    low, high = max(0.0, free - TWO_SIDED * error), max(0.0, free) + TWO_SIDED * error
    needed = None if low > 0 or ratio <= 1 else math.ceil(shots * ratio**2)
    return Term(float(value), float(error), float(low), float(high), bool(low > 0), needed)
