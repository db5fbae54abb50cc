"""What a record keeps for people who look at it: measured against predicted, point by point."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from photonic.calibration.checks import AllanSeries
from photonic.calibration.model import Array
from photonic.calibration.pit import LEVELS, uniformity
from photonic.calibration.points import MeanModel, Points
from photonic.calibration.predicted import count_moments
from photonic.calibration.reading import Taken
from photonic.calibration.timing import allan_of
from photonic.records import ChipSpec, NoiseModel


def diagnostics(name: str, points: Points, model: MeanModel, noise: NoiseModel) -> Mapping[str, Array]:
    """Arrays of P points: ``NAME_mean``, ``NAME_variance`` (P, M) of the counts, measured, and ``..._predicted``.

    Besides, ``NAME_s`` and ``NAME_d`` (P, M), and ``NAME_pit`` (2, L): levels of the probability integral transform and
    what part of the counts lies below each.
    """
    prediction = points.prediction(model, noise)
    expected = count_moments(prediction.volts, prediction.sigma, prediction.table)
    below = uniformity(prediction)
    return {
        f"{name}_mean": points.counts.mean(1),
        f"{name}_variance": points.counts.var(1, ddof=1),
        f"{name}_mean_predicted": expected.mean,
        f"{name}_variance_predicted": expected.variance,
        f"{name}_s": points.powers(model),
        f"{name}_d": points.results(model),
        f"{name}_pit": np.stack([LEVELS, LEVELS + below.mean(0)]),
    }


def allan_arrays(spec: ChipSpec, series: Taken, check: AllanSeries | None) -> Mapping[str, Array]:
    """``allan_tau_s`` (L,), ``allan_deviation``, ``allan_low``, ``allan_high`` (L, M), and ``allan_predicted``."""
    found = None if check is None else allan_of(spec, series, check.readings)
    if found is None or check is None or found.deviation.shape[1] != check.readings.shape[1]:
        return {}
    known = np.isin(found.readings, check.taus)
    return {
        "allan_tau_s": found.tau_s[known],
        "allan_deviation": found.deviation[known],
        "allan_low": found.low[known],
        "allan_high": found.high[known],
        "allan_predicted": check.predicted[np.isin(check.taus, found.readings)],
    }
