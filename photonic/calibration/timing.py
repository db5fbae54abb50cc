"""What moves in time: references over the sweep, and the Allan deviation of one vector, measured and predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from photonic.calibration.allan import Allan, overlapping_allan
from photonic.calibration.checks import AllanSeries
from photonic.calibration.drift import LEAST_READINGS, fit_drift
from photonic.calibration.model import Array
from photonic.calibration.points import MeanModel, Points
from photonic.calibration.predicted import Prediction, count_moments
from photonic.calibration.reading import Taken
from photonic.records import ChipSpec, DriftModel, NoiseModel

# of a series, for every averaging time whose drift is decided (``AllanSeries``)
_WINDOWS = 50
_MOVING = 1e-6  # counts^2, of the predicted variance
_KNOWN = 0.2  # of the variance: by how much two standard errors of the mean may change it


def reference_gains(taken: Sequence[Taken], zero: Array) -> tuple[Array, Array]:
    """Times (T,) and gains (T,) of the reference readings: their results along the mean of all."""
    results = np.array([item.counts.double().numpy().mean(0) for item in taken]) - zero
    mean = results.mean(0)
    return np.array([item.clock_s for item in taken]), results @ mean / (mean @ mean)


def drift_of(spec: ChipSpec, references: Sequence[Taken], series: Taken | None, zero: Array) -> DriftModel:
    """The drift between references, and the longest block to average."""
    allan = None if series is None else allan_of(spec, series)
    block_s = allan.block_s if allan is not None and allan.limited else None
    if len(references) < LEAST_READINGS:
        return DriftModel(block_s=block_s)
    times, gains = reference_gains(references, zero)
    if (np.diff(times) <= 0).any():
        return DriftModel(block_s=block_s)  # a chip whose clock does not advance says nothing of time
    return fit_drift(times, gains, block_s).model


def allan_of(spec: ChipSpec, series: Taken) -> Allan | None:
    """Allan deviation of a vector that was repeated without a pause; None: its counts never move."""
    counts = series.counts.double().numpy()
    moving = counts[:, counts.std(0) > 0]
    return overlapping_allan(moving, _spacing_s(spec, series)) if moving.shape[1] else None


def allan_check(
    spec: ChipSpec, series: Taken, model: MeanModel, noise: NoiseModel, drift: DriftModel
) -> AllanSeries | None:
    """The series with the Allan deviation that a record predicts for it.

    Only of outputs whose counts are predicted to move, and how much: one at a rail says nothing of time, nor one
    whose variance hangs on where between two codes its mean lies exactly. None: no output is left.
    """
    counts, spacing_s = series.counts.double().numpy(), _spacing_s(spec, series)
    longest = max(1, len(counts) // _WINDOWS)
    taus = 2 ** np.arange(int(np.log2(longest)) + 1)
    point = Points.of(spec, [series, series]).prediction(model, noise)
    white = _white(point, 0.0)
    clear = white[0] > _MOVING
    for shift in (-2.0 * point.volts_se, 2.0 * point.volts_se):
        clear &= np.abs(_white(point, shift) / np.maximum(white, _MOVING) - 1)[0] < _KNOWN
    if not clear.any():
        return None
    signal: Array = (point.volts[:1] - model.zero) ** 2
    moving = gain_variance(drift, taus.astype(np.float64), spacing_s)[:, None]
    predicted = np.sqrt(white / taus[:, None] + signal * moving)
    return AllanSeries(readings=counts[:, clear], taus=taus, predicted=predicted[:, clear])


def _white(point: Prediction, shift: float) -> Array:
    """(1, M) variance of the counts of the first point, with other means."""
    found: Array = count_moments(point.volts[:1] + shift, point.sigma[:1], point.table).variance
    return found


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


def _spacing_s(spec: ChipSpec, series: Taken) -> float:
    return spec.shot_time_s or max(series.seconds, 1e-9) / len(series.counts)
