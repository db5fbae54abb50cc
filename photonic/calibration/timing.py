"""What moves in time: references over the sweep, and the Allan deviation of one vector, measured and predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.allan import Allan, overlapping_allan
from photonic.calibration.checks import AllanSeries
from photonic.calibration.drift import LEAST_READINGS, DriftFit, fit_drift
from photonic.calibration.driftnoise import gain_variance, shot_s, variance_within
from photonic.calibration.model import Array
from photonic.calibration.points import MeanModel, Points
from photonic.calibration.predicted import Prediction, count_moments
from photonic.calibration.reading import Taken
from photonic.records import ChipSpec, DriftModel, NoiseModel

Flags = NDArray[np.bool_]

# of a series, for every averaging time whose drift is decided (``AllanSeries``)
_WINDOWS = 50
_MOVING = 1e-6  # counts^2, of the predicted variance
_NOISE_REPEATS, _MESH_NOISE_REPEATS = 512, 400  # of a noise point, as ``plan`` and ``meshplan`` take them
_LEAST_SEEN = 0.5  # of a gain's change; with less, outputs are at rails and their slope says nothing
_KNOWN = 0.2  # of the variance: by how much two standard errors of the mean may change it


def shot_gains(spec: ChipSpec, taken: Sequence[Taken], zero: Array) -> tuple[Array, Array]:
    """Times (T,) and gains (T,) of the single shots of readings of one vector: counts along the mean of all, in time.

    A reading other than the Allan series has been programmed first; the clock is that of its start.
    """
    counts = [item.counts.double().numpy() - zero for item in taken]
    mean = np.concatenate(counts).mean(0)
    times = [
        item.clock_s
        + (0.0 if item.reading.purpose == "allan" else spec.settle_time_s)
        + _spacing_s(spec, item) * np.arange(len(item.counts))
        for item in taken
    ]
    order = np.argsort([each[0] for each in times], kind="stable")
    gains = [counts[k] @ mean / (mean @ mean) for k in order]
    return np.concatenate([times[k] for k in order]), np.concatenate(gains)


def drift_of(spec: ChipSpec, references: Sequence[Taken], series: Taken | None, zero: Array) -> DriftFit:
    """The drift over the shots of the first Allan series and of all references, and the longest block to average."""
    nothing = DriftFit(DriftModel(), {}, None, None, None, 0.0)
    allan = None if series is None else allan_of(spec, series)
    block_s = allan.block_s if allan is not None and allan.limited else None
    taken = [*references, *([] if series is None else [series])]
    if sum(len(item.counts) for item in taken) < LEAST_READINGS:
        return nothing._replace(model=DriftModel(block_s=block_s))
    times, gains = shot_gains(spec, taken, zero)
    if (np.diff(times) <= 0).any():
        return nothing._replace(
            model=DriftModel(block_s=block_s)
        )  # a chip whose clock does not advance says nothing of time
    found = fit_drift(times, gains, block_s)
    return found._replace(model=with_repeats(spec, found.model, shot_s(spec, taken)))


def with_repeats(spec: ChipSpec, drift: DriftModel, spacing_s: float) -> DriftModel:
    """The drift with what it adds to the repeats of a noise point."""
    repeats = _NOISE_REPEATS if spec.layout == "elementwise" else _MESH_NOISE_REPEATS
    return drift.model_copy(update={"within": variance_within(drift, repeats, spacing_s)})


def through_adc(spec: ChipSpec, series: Taken, model: MeanModel, noise: NoiseModel, drift: DriftModel) -> DriftModel:
    """The drift of the gain, where ``drift_of`` has that of the counts: the ADC's own slope at their means differs."""
    point = Points.of(spec, [series, series]).prediction(model, noise)
    slope = count_moments(point.volts[:1], point.sigma[:1], point.table).slope[0]
    mean = series.counts.double().numpy().mean(0) - model.zero
    seen = float(mean @ (slope * (point.volts[0] - model.zero)) / (mean @ mean))
    if not seen > _LEAST_SEEN:
        return drift
    changes: dict[str, object] = {name: getattr(drift, name) / seen for name in ("sigma", "per_root_s")}
    for name in ("sigma_interval", "per_root_s_interval"):
        ends = getattr(drift, name)
        changes[name] = None if ends is None else (ends[0] / seen, ends[1] / seen)
    return drift.model_copy(update={**changes, "within": drift.within / seen**2})


def allan_of(spec: ChipSpec, series: Taken, readings: Array | None = None) -> Allan | None:
    """Allan deviation of a vector that was repeated without a pause; None: its counts never move.

    Args:
        spec: of the chip.
        series: as it was measured.
        readings: (T, M) in place of its counts.
    """
    counts = series.counts.double().numpy() if readings is None else readings
    moving = counts[:, counts.std(0) > 0]
    return overlapping_allan(moving, _spacing_s(spec, series)) if moving.shape[1] else None


def allan_check(
    spec: ChipSpec, series: Taken, model: MeanModel, noise: NoiseModel, drift: DriftModel
) -> AllanSeries | None:
    """The series with the Allan deviation that a record predicts for it.

    Only of outputs whose counts are predicted to move, and how much: one at a rail says nothing of time, nor one
    whose variance hangs on where between two codes its mean lies exactly. None: no output is left.

    Where the record has a drift, which all outputs share, they are read together as that one gain (times their rms
    signal): the noise of the outputs averages, so that drift shows at shorter times and with more degrees of freedom.
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
    moving = gain_variance(drift, taus.astype(np.float64), spacing_s)[:, None]
    signal: Array = (point.volts[:1] - model.zero)[:, clear]
    if not moving.any() or not signal.any():
        predicted = np.sqrt(white[:, clear] / taus[:, None] + signal**2 * moving)
        return AllanSeries(readings=counts[:, clear], taus=taus, predicted=predicted)
    together, noise_of_it, size = _together(point, clear, signal[0])
    predicted = np.sqrt(noise_of_it / taus[:, None] + size**2 * moving)
    return AllanSeries(readings=counts[:, clear] @ together[:, None], taus=taus, predicted=predicted)


def _together(point: Prediction, clear: Flags, signal: Array) -> tuple[Array, float, float]:
    """Weights (M,) of the outputs, and of their sum: its variance from shot to shot, and how it follows the gain.

    Weights are those of least variance where outputs' own noise is alike.
    """
    moments = count_moments(point.volts[:1], point.sigma[:1], point.table)
    slope = moments.slope[0, clear]
    shared, own = slope * point.shared[:, 0, clear], moments.variance[0, clear]
    seen = slope * signal
    weights = seen / np.linalg.norm(seen) / len(seen) ** 0.5 if seen.any() else np.ones(len(seen)) / len(seen)
    variance = (weights**2 * (own - (shared**2).sum(0))).sum() + ((shared @ weights) ** 2).sum()
    return weights, float(max(variance, _MOVING / len(seen))), float(weights @ seen)


def _white(point: Prediction, shift: float) -> Array:
    """(1, M) variance of the counts of the first point, with other means."""
    found: Array = count_moments(point.volts[:1] + shift, point.sigma[:1], point.table).variance
    return found


def _spacing_s(spec: ChipSpec, series: Taken) -> float:
    return spec.shot_time_s or max(series.seconds, 1e-9) / len(series.counts)
