"""Intervals and hold-out for a fringe whose residuals go on in time: by blocks, never by samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import t as student

from photonic.calibration.fringe import NAMES, Fringe, FringeSweep, refit
from photonic.errors import CalibrationError, RangeError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FringeInterval:
    """What a block bootstrap says about a fringe.

    Attributes:
        draws: (resamples, 5) refitted parameters, in the order of ``NAMES``.
        centre: (5,) of the fit itself.
        block: samples in a block.
        degrees: of freedom: blocks that fit into the capture, less the parameters.
    """

    draws: Array
    centre: Array
    block: int
    degrees: float

    def error(self, name: str) -> float:
        """Standard error of a parameter within this capture."""
        return float(np.std(self.draws[:, NAMES.index(name)], ddof=1))

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Student interval with the bootstrap's standard error."""
        centre = float(self.centre[NAMES.index(name)])
        half = float(student.ppf((1 + level) / 2, self.degrees)) * self.error(name)
        return centre - half, centre + half


def block_length(residual: Array) -> int:
    """Length of a block for the moving-block bootstrap of a mean, from the residuals' autocorrelation.

    Politis and White, Econometric Reviews 23, 53 (2004), with the correction of Patton, Politis and White (2009):
    (2 G^2 / D)^(1/3) n^(1/3), G = sum |k| R(k), D = 4/3 (sum R(k))^2, flat-top window to twice the lag from which on
    the autocorrelation stays below 2 sqrt(log10(n) / n).
    """
    n = residual.size
    centred = residual - residual.mean()
    lags = min(n // 4, int(np.ceil(np.sqrt(n))) + 200)
    covariance = np.array([centred[: n - k] @ centred[k:] for k in range(lags)]) / n
    if covariance[0] == 0:
        return 1
    quiet = max(5, int(np.ceil(np.sqrt(np.log10(n)))))
    small = np.abs(covariance / covariance[0]) < 2 * np.sqrt(np.log10(n) / n)
    runs = np.convolve(small[1:], np.ones(quiet), mode="valid") == quiet
    reach = min(2 * max(int(np.argmax(runs)), 1), lags - 1) if runs.any() else lags - 1
    k = np.arange(1, reach + 1)
    window = np.clip(2 * (1 - k / reach), 0.0, 1.0) * covariance[k]
    spread, total = 2 * float(np.sum(window * k)), covariance[0] + 2 * float(np.sum(window))
    if total <= 0 or spread <= 0:
        return max(1, reach)
    length = (1.5 * spread**2 / total**2) ** (1 / 3) * n ** (1 / 3)
    return int(np.clip(np.ceil(length), 1, n // 10))


def bootstrap_fringe(
    sweep: FringeSweep, fringe: Fringe, rng: Generator, *, resamples: int = 400, block: int | None = None
) -> FringeInterval:
    """Moving-block bootstrap of the residuals (Kuensch, Ann. Stat. 17, 1217, 1989): the sweep stays, its errors move.

    Args:
        sweep: the capture.
        fringe: fitted to it.
        rng: owned by the caller.
        resamples: refits.
        block: samples in a block; by default twice ``block_length`` of the residuals: that length is best for the
            variance of a mean, and intervals at it cover too little (85 % for 95 % on AR(1) noise of 0.95).

    Raises:
        RangeError: a block longer than a tenth of the capture: too few blocks to say anything.
    """
    kept = sweep.part(sweep.used)
    expected = fringe.at(kept)
    residual = kept.output - expected  # at a rail: of what was read, not of what lies beyond
    n = residual.size
    length = min(2 * block_length(residual), n // 10) if block is None else block
    if not 1 <= length <= n // 10:
        raise RangeError(f"block must be between 1 and {n // 10}, a tenth of the {n} samples in use, found {length}")
    # A fit takes its parameters out of the residuals; where these go on in time, it takes them out of the blocks.
    degrees = max(n / length - len(NAMES), 1.0)
    residual = (residual - residual.mean()) * np.sqrt(1 + len(NAMES) / degrees)
    scale = np.ones(n) if kept.sigma is None else kept.sigma
    everything = np.ones(n, bool)
    draws = np.empty((resamples, len(NAMES)))
    for index in range(resamples):
        starts = rng.integers(0, n - length + 1, size=-(-n // length))
        taken = (starts[:, None] + np.arange(length)).ravel()[:n]
        output = expected + residual[taken] / scale[taken] * scale
        if kept.rails is not None:
            output = np.clip(output, *kept.rails)
        draws[index] = refit(kept.part(everything, output), fringe)
    draws[:, 3] = fringe.phase + (draws[:, 3] - fringe.phase + np.pi) % (2 * np.pi) - np.pi
    return FringeInterval(draws, fringe.values, length, degrees)


def held_out_rms(sweep: FringeSweep, fringe: Fringe, blocks: int = 8) -> float:
    """Residual of samples that the fit has not seen, rms: each of ``blocks`` stretches of time is held out in turn.

    Raises:
        CalibrationError: fewer than 4 samples for each block.
    """
    kept = sweep.part(sweep.used)
    if not 2 <= blocks <= kept.drive.size // 4:
        raise CalibrationError(f"{kept.drive.size} samples cannot be split into {blocks} blocks of time")
    stretch = np.arange(kept.drive.size) * blocks // kept.drive.size
    squares = 0.0
    for held in range(blocks):
        a, b, v_pi, phase, lag = refit(kept.part(stretch != held), fringe)
        unseen = kept.part(stretch == held)
        way = 0.0 if unseen.direction is None else unseen.direction
        expected = a + b * np.cos(np.pi * (unseen.drive - lag * way) / v_pi + phase)
        squares += float(np.sum((unseen.output - expected) ** 2))
    return float(np.sqrt(squares / kept.drive.size))
