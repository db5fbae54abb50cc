"""What a drift of the common gain adds to variances, and what is noise of single shots beside it.

A record keeps the two apart: its noise is that of a shot about the gain of the moment, its drift moves that gain. Over
the repeats of a vector the drift is seen as intensity noise, the more of it the longer they take; so it is taken out of
the fitted RIN (``beside_drift``) and put in again where repeats are predicted (``over_repeats``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from photonic.calibration.model import Array
from photonic.calibration.noise import TERMS, NoiseFit
from photonic.calibration.points import MeanModel, Points
from photonic.calibration.pooled import Sample
from photonic.calibration.predicted import Prediction
from photonic.calibration.reading import Taken
from photonic.records import ChipSpec, DriftModel, NoiseModel

_RIN = TERMS.index("rin")
_Z = 1.96


def gain_variance(drift: DriftModel, taus: Array, spacing_s: float) -> Array:
    """Allan variance (K,) of the relative gain at averaging times of ``taus`` readings.

    A random walk of variance q per step has q (2 m^2 + 1) / (6 m); of AR(1) it is the variance of the difference of two
    neighbouring means of m readings, halved (Riley, NIST SP 1065, 5.2).
    """
    if drift.kind == "random walk":
        found: Array = drift.per_root_s**2 * spacing_s * (2.0 * taus**2 + 1) / (6.0 * taus)
        return found
    if drift.kind != "ar1" or drift.time_s is None:
        return np.zeros(len(taus))
    keep = np.exp(-spacing_s / drift.time_s)
    variances = []
    for m in taus.astype(int):
        lag = np.arange(2 * m)
        sign = np.where(lag < m, 1.0, -1.0) / m
        # sum over pairs by lag, from the autocorrelation of the signs
        pairs = np.correlate(sign, sign, "full")[2 * m - 1 :]
        variances.append(0.5 * drift.sigma**2 * (pairs[0] + 2 * (pairs[1:] * keep ** lag[1:]).sum()))
    return np.array(variances)


def variance_within(drift: DriftModel, shots: int, spacing_s: float) -> float:
    """Expected sample variance of the relative gain over so many shots in a row: half the mean square of a difference.

    sigma^2 (1 - r) averaged over all pairs, r the autocorrelation at their distance; of a walk q (n + 1) / 6.
    """
    if drift.kind == "random walk":
        return drift.per_root_s**2 * spacing_s * (shots + 1) / 6
    if drift.kind != "ar1" or drift.time_s is None or shots < 2:
        return 0.0
    lag = np.arange(1, shots)
    apart = -np.expm1(-lag * spacing_s / drift.time_s)
    return drift.sigma**2 * float(((shots - lag) * apart).sum()) * 2 / (shots * (shots - 1))


def variance_of_mean(drift: DriftModel, duration_s: float) -> float:
    """Variance of the mean relative gain over a stretch of time, about what it is in the long run or at its beginning.

    Of AR(1) 2 sigma^2 (t / T) (1 - (t / T) (1 - exp(-T / t))); of a walk q T / 3.
    """
    if drift.kind == "random walk":
        return drift.per_root_s**2 * duration_s / 3
    if drift.kind != "ar1" or drift.time_s is None or duration_s <= 0:
        return 0.0
    share = drift.time_s / duration_s
    return 2 * drift.sigma**2 * share * (1 + share * math.expm1(-1 / share))


def shot_s(spec: ChipSpec, taken: Sequence[Taken]) -> float:
    """Time from shot to shot of readings, on average."""
    return spec.shot_time_s or float(np.mean([max(item.seconds, 1e-9) / len(item.counts) for item in taken]))


def beside_drift(fit: NoiseFit, drift: DriftModel) -> NoiseFit:
    """The noise without what is drift within the repeats of the points that it was fitted to, ``drift.within``."""
    ends = drift.sigma_interval if drift.kind == "ar1" else drift.per_root_s_interval
    if drift.within == 0:
        return fit
    # variances go with the square; where the size is hardly known, so is what is left
    unsure = drift.within * (math.log(ends[1] / ends[0]) / _Z if ends else 1.0)
    term, covariance = fit.terms["rin"], fit.covariance.copy()
    covariance[_RIN, _RIN] += unsure**2
    error = math.hypot(term.standard_error, unsure)
    # ``low`` is that of the estimate without its bound at 0
    free = fit.model.rin - drift.within
    low = free - _Z * error
    changed = replace(
        term,
        value=max(0.0, free),
        standard_error=error,
        low=low,
        high=max(free + _Z * error, _Z * error),
        identified=term.identified and low > 0,
    )
    model = fit.model.model_copy(update={"rin": max(0.0, free)})
    return fit._replace(model=model, terms={**fit.terms, "rin": changed}, covariance=covariance)


def over_repeats(noise: NoiseModel, drift: DriftModel, shots: int, spacing_s: float) -> NoiseModel:
    """Noise as so many repeats in a row show it: RIN with the drift in them."""
    return noise.model_copy(update={"rin": noise.rin + variance_within(drift, shots, spacing_s)})


def predicted_points(
    spec: ChipSpec, taken: Sequence[Taken], model: MeanModel, noise: NoiseModel, drift: DriftModel
) -> Prediction:
    """What a record predicts for repeated vectors; of variances, over blocks as long as those that they come from."""
    points = Points.of(spec, taken)
    length = Sample(points.prediction(model, noise)).length
    return points.prediction(model, over_repeats(noise, drift, length, shot_s(spec, taken)))
