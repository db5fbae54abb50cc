"""How far measured counts are from their predicted distribution: the probability integral transform (PIT)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from photonic.calibration.predicted import LEAST_SIGMA, Prediction

Array = NDArray[np.float64]

LEVELS = np.linspace(0.0, 1.0, 201)[1:-1]  # where the ECDF is compared; it hardly bends between two of them
COVERAGE = (0.5, 0.68, 0.9, 0.95, 0.99)
_CHUNK = 1_000_000  # values worked on at once


def uniformity(prediction: Prediction) -> Array:
    """(P, L) mean over repeats and outputs of the PIT's distribution function at each of ``LEVELS``, less the level.

    The randomised PIT of a count k is drawn evenly from F(k - 1) to F(k). This is the mean over all such draws, a ramp
    for each count (Czado, Gneiting and Held, Biometrics 65, 1254 (2009)): the same expectation, less noise, and no
    generator. It is 0 for all points if the prediction holds.
    """
    points, repeats, outputs = prediction.counts.shape
    step = max(1, _CHUNK // (repeats * outputs))
    parts = [_ramps(*_cells(prediction, slice(i, i + step))) for i in range(0, points, step)]
    return np.concatenate(parts) - LEVELS


def coverage(deviation: Array) -> dict[float, float]:
    """Share of counts in the predicted central interval of each nominal ``COVERAGE``, by ``uniformity`` (P, L)."""
    reached = deviation.mean(0) + LEVELS
    low, high = ((1 - np.array(COVERAGE)) / 2, (1 + np.array(COVERAGE)) / 2)
    shares = np.interp(high, LEVELS, reached) - np.interp(low, LEVELS, reached)
    return dict(zip(COVERAGE, shares.tolist(), strict=True))


def _cells(prediction: Prediction, rows: slice) -> tuple[Array, Array]:
    """F(k - 1) and F(k) of each count, (p, R M) each."""
    counts, volts, sigma = prediction.counts[rows], prediction.volts[rows], prediction.sigma[rows]
    table = prediction.table
    sd = np.maximum(sigma, LEAST_SIGMA)[:, None]
    if table is None or prediction.count_range is None:
        whole: Array = ndtr((counts - volts[:, None]) / sd)
        return whole.reshape(len(counts), -1), whole.reshape(len(counts), -1)
    index = (counts - prediction.count_range[0]).astype(np.int64)
    edges = np.pad(table, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
    row = np.arange(len(edges)) if len(edges) > 1 else 0
    below: Array = ndtr((edges[row, index] - volts[:, None]) / sd)
    above: Array = ndtr((edges[row, index + 1] - volts[:, None]) / sd)
    return below.reshape(len(counts), -1), above.reshape(len(counts), -1)


def _ramps(below: Array, above: Array) -> Array:
    """(p, L) mean over the last axis of clip((level - below) / (above - below), 0, 1), without a loop over levels.

    The sum over ramps that have started is level sum(1 / width) - sum(below / width), less the same for those that
    have ended: four cumulated histograms.
    """
    points, samples = below.shape
    count = len(LEVELS)
    weight = 1 / np.maximum(above - below, 1e-9)  # a step where a count has no probability
    ends = below + 1 / weight
    offset = np.arange(points)[:, None] * (count + 1)

    def started(at: Array) -> Array:
        place = (np.searchsorted(LEVELS, at) + offset).ravel()
        slope, start = (
            np.bincount(place, values.ravel(), points * (count + 1)).reshape(points, -1)[:, :-1].cumsum(1)
            for values in (weight, weight * at)
        )
        sums: Array = LEVELS * slope - start
        return sums

    found: Array = (started(below) - started(ends)) / samples
    return found
