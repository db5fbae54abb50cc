"""How long a record is valid: until the drift that was measured has used up the margin of its means.

A relative change delta of the gain that all outputs share moves the means of an output by delta times the rms over
points of g D, of which the verification allows max(1/4 LSB, 0.1 sigma). With 95 % probability |delta| is below 1.96
standard deviations, so the record holds as long as

    sd(delta, t) <= min over outputs of margin / (1.96 rms g D)

where sd(delta, t)^2 is q^2 t of a random walk, and 2 sigma^2 (1 - exp(-t / tau)) of an AR(1) process that is slower
than the sweep (Gardiner, Handbook of Stochastic Methods, 3.8.4), both with the ends of their intervals that make it
largest. A faster one is averaged over in the sweep, and its record has it as it is: then, and without a drift, no time
is set. Time is counted from the end of the held-out readings, which show that the record still matched.

Drift is per second of the chip's clock. Where that is not the world's (a simulated chip's advances by its shots), no
date can be told from it, and none is set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from photonic.calibration.checks import MEAN_LSB, MEAN_SIGMA
from photonic.calibration.model import Array
from photonic.calibration.predicted import Prediction
from photonic.calibration.reading import Taken
from photonic.records import DriftModel

_Z = 1.96
_SAME_CLOCK = 2.0  # at most so much faster or slower than the world's
_LONGEST_S = 100 * 365.25 * 86400.0  # beyond, no date is written


def valid_until(drift: DriftModel, prediction: Prediction, zero: Array, taken: Sequence[Taken]) -> datetime | None:
    """When the record of a sweep is no longer valid; None: nothing says when.

    Args:
        drift: that was found.
        prediction: of the held-out points.
        zero: (M,) counts.
        taken: all readings of the sweep, in order.
    """
    span_s, world_s = (getattr(taken[-1], name) - getattr(taken[0], name) for name in ("clock_s", "utc"))
    if not 1 / _SAME_CLOCK < span_s / max(world_s, 1e-9) < _SAME_CLOCK:
        return None
    found = valid_s(drift, allowed_gain(prediction, zero), span_s)
    if found is None or found > _LONGEST_S:
        return None
    return datetime.fromtimestamp(taken[-1].utc + taken[-1].seconds, UTC) + timedelta(seconds=found)


def allowed_gain(prediction: Prediction, zero: Array) -> float:
    """Standard deviation of the relative gain that the margins of the means allow; inf where no output has a result."""
    signal, margin = prediction.volts - zero, np.maximum(MEAN_LSB, MEAN_SIGMA * np.sqrt((prediction.sigma**2).mean(0)))
    if prediction.count_range is not None:
        low, high = prediction.count_range
        signal = np.clip(prediction.volts, low, high) - zero  # at a rail nothing moves farther
    size = np.sqrt((signal**2).mean(0))
    return float((margin / np.maximum(size, 1e-300)).min()) / _Z


def valid_s(drift: DriftModel, allowed: float, span_s: float) -> float | None:
    """Seconds until the gain's change has the standard deviation ``allowed``; None: never, or not told.

    Args:
        drift: that was found.
        allowed: of the relative gain.
        span_s: of the sweep, over which a faster AR(1) process is averaged.
    """
    if drift.kind == "random walk" and drift.per_root_s > 0:
        most = drift.per_root_s if drift.per_root_s_interval is None else drift.per_root_s_interval[1]
        return (allowed / most) ** 2
    if drift.kind != "ar1" or drift.time_s is None or drift.time_s < span_s or drift.sigma == 0:
        return None
    sigma = drift.sigma if drift.sigma_interval is None else drift.sigma_interval[1]
    time_s = drift.time_s if drift.time_interval_s is None else drift.time_interval_s[0]
    used = allowed**2 / (2 * sigma**2)
    return None if used >= 1 else -time_s * math.log1p(-used)
