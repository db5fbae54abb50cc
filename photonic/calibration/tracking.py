"""A matrix that drifts: an alarm from a few reference vectors, and the update that they allow.

Reference vectors are ordinary inputs measured again and again. What one scalar explains (a common gain, the phase of
an interferometer) is not drift of the matrix; the rest of the reading is compared with how far readings of a baseline
differ from one another. A chart of cumulative sums (Page, Biometrika 41, 100, 1954) raises the alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from photonic.errors import CalibrationError, RangeError, ShapeError

Array = NDArray[np.float64]
Reading = NDArray[Any]  # real or complex

LEAST_BASELINE = 8
SHIFT = 3.0


def distance(expected: Reading, reading: Reading) -> float:
    """Share of a reading that no multiple of the expected one explains: min over s of |reading - s expected|, relative.

    Args:
        expected: (R, M) responses to R reference vectors, real or complex.
        reading: (R, M).
    """
    if expected.shape != reading.shape:
        raise ShapeError(f"a reading must have the references' shape {expected.shape}, found {reading.shape}")
    if not np.isfinite(reading).all():
        raise RangeError("a reading holds numbers that are not finite; take it again")
    power = float(np.vdot(reading, reading).real)
    if power == 0 or not expected.any():
        raise CalibrationError("a reading of the reference vectors is all zero: no light reaches the outputs")
    explained = abs(np.vdot(expected, reading)) ** 2 / float(np.vdot(expected, expected).real)
    return float(np.sqrt(max(1 - explained / power, 0.0)))


def aligned_mean(readings: Reading) -> Reading:
    """Mean of readings (n, ...) after the common phase (the sign, if real) of each is turned to that of the first.

    The phase of the factor follows from the mean and the mean from the factors: a few rounds settle both.
    """
    mean = readings[0]
    for _ in range(5):
        mean = np.mean([each * _phase(np.vdot(each, mean)) for each in readings], axis=0)
    return np.asarray(mean)


def _phase(product: complex) -> complex:
    return 1.0 if product == 0 else product / abs(product)


@dataclass(frozen=True)
class DriftMonitor:
    """An alarm for readings of the same reference vectors.

    Attributes:
        expected: (R, M) mean of the baseline.
        mean, deviation: of the baseline's distances, each reading against the mean of the others.
        allowance: of the cumulative sum, in deviations.
        limit: of the cumulative sum, in deviations.
    """

    expected: Reading
    mean: float
    deviation: float
    allowance: float
    limit: float

    @classmethod
    def learn(
        cls, baseline: Reading, rng: Generator, *, horizon: int = 100, false_alarm: float = 0.05, shift: float = SHIFT
    ) -> DriftMonitor:
        """Learn from readings of a chip that has not drifted.

        The limit is such that a chip which goes on as in the baseline raises an alarm within ``horizon`` readings with
        probability ``false_alarm``, the error of a mean and a deviation known from n readings included (a chart with
        an estimated baseline has another run length than the tables say: reference/calibration.md 3.5). Assumed is
        that distances are independent and near normal, as the root of a sum of several squares is.

        Args:
            baseline: (n, R, M) readings, at least 8.
            rng: of the simulation behind the limit; owned by the caller.
            horizon: readings until the next calibration.
            false_alarm: probability in that time.
            shift: in deviations of the baseline, that must be found soon; the allowance is half of it.

        Raises:
            CalibrationError: too few readings, or readings that do not differ.
        """
        if baseline.ndim != 3 or len(baseline) < LEAST_BASELINE:
            raise CalibrationError(
                f"a baseline takes (n, references, outputs) with at least {LEAST_BASELINE} readings, "
                f"found {baseline.shape}"
            )
        if not 0 < false_alarm < 1 or horizon < 1 or shift <= 0:
            raise RangeError(
                f"expected 0 < false_alarm < 1, horizon >= 1 and shift > 0, found {false_alarm}, {horizon}, {shift}"
            )
        others = (np.delete(baseline, index, axis=0) for index in range(len(baseline)))
        distances = np.array([distance(aligned_mean(rest), each) for rest, each in zip(others, baseline, strict=True)])
        deviation = float(np.std(distances, ddof=1))
        if deviation == 0:
            raise CalibrationError("the baseline's readings are all alike: without noise there is no scale for a drift")
        limit = _limit(len(baseline), shift / 2, horizon, false_alarm, rng)
        return cls(aligned_mean(baseline), float(distances.mean()), deviation, shift / 2, limit)

    def sums(self, readings: Reading) -> Array:
        """(n,) cumulative sum after each reading (n, R, M), in deviations."""
        total, sums = 0.0, []
        for reading in readings:
            score = (distance(self.expected, reading) - self.mean) / self.deviation
            total = max(0.0, total + score - self.allowance)
            sums.append(total)
        return np.array(sums)

    def first_alarm(self, readings: Reading) -> int | None:
        """Index of the first reading (n, R, M) with an alarm, None if there is none."""
        alarms = np.flatnonzero(self.sums(readings) > self.limit)
        return int(alarms[0]) if alarms.size else None


def _limit(
    baseline: int, allowance: float, horizon: int, false_alarm: float, rng: Generator, runs: int = 20_000
) -> float:
    """Quantile of the largest cumulative sum over ``horizon`` normal readings, scaled by ``baseline`` other ones."""
    known = rng.standard_normal((runs, baseline))
    mean, deviation = known.mean(axis=1), known.std(axis=1, ddof=1)
    total, largest = np.zeros(runs), np.zeros(runs)
    for _ in range(horizon):
        total = np.maximum(0.0, total + (rng.standard_normal(runs) - mean) / deviation - allowance)
        largest = np.maximum(largest, total)
    return float(np.quantile(largest, 1 - false_alarm))


@dataclass(frozen=True)
class OutputUpdate:
    """Measured = gain x expected + offset, for each output.

    Attributes:
        gain: (M,) real or complex.
        offset: (M,) in units of the readings; zero where it was not fitted.
    """

    gain: Reading
    offset: Reading

    def __call__(self, expected: Reading) -> Reading:
        """Updated expectation (n, M)."""
        return np.asarray(self.gain * expected + self.offset)


def fit_outputs(expected: Reading, reading: Reading, *, offset: bool = True) -> OutputUpdate:
    """Gain and offset of each output by least squares over the reference vectors.

    Args:
        expected: (R, M), real or complex.
        reading: (R, M).
        offset: fit one; without it, the sum goes through zero.

    Raises:
        CalibrationError: fewer than 3 vectors with an offset, 1 without, or an output that sees the same from all.
    """
    if expected.shape != reading.shape or expected.ndim != 2:
        raise ShapeError(
            f"expected and reading must be (references, outputs) alike, found {expected.shape}, {reading.shape}"
        )
    if len(expected) < (3 if offset else 1):
        raise CalibrationError(f"gain and offset of an output take 3 reference vectors, found {len(expected)}")
    middle = expected.mean(axis=0) if offset else np.zeros_like(expected[0])
    level = reading.mean(axis=0) if offset else np.zeros_like(reading[0])
    moved = expected - middle
    power = np.sum(np.abs(moved) ** 2, axis=0)
    if (power == 0).any():
        raise CalibrationError(
            f"outputs {np.flatnonzero(power == 0).tolist()} expect the same of every reference vector"
        )
    gain = np.sum(moved.conj() * (reading - level), axis=0) / power
    return OutputUpdate(np.asarray(gain), np.asarray(level - gain * middle))


def best_update(expected: Reading, reading: Reading) -> tuple[str, OutputUpdate]:
    """The update that predicts each reference vector best from the others, and its name.

    The candidates are "none", one "common" gain, "outputs" (a gain each) and "outputs and offsets". A few vectors carry
    few gains: M of them, fitted to a drift that mixes outputs, predict new vectors worse than one gain does.

    Args:
        expected: (R, M), at least 2 vectors; offsets are tried from 4 on.
        reading: (R, M).

    Raises:
        CalibrationError: a single vector: none is left to judge by.
    """
    count = len(expected)
    if count < 2:
        raise CalibrationError("choosing an update takes at least 2 reference vectors, found 1")
    candidates = ["none", "common", "outputs"] + ["outputs and offsets"] * (count >= 4)

    def left_out(name: str) -> float:
        kept = ~np.eye(count, dtype=bool)
        errors = (_update(name, expected[keep], reading[keep])(expected) - reading for keep in kept)
        return float(sum(np.sum(np.abs(error[index]) ** 2) for index, error in enumerate(errors)))

    best = min(candidates, key=left_out)
    return best, _update(best, expected, reading)


def _update(name: str, expected: Reading, reading: Reading) -> OutputUpdate:
    if name.startswith("outputs"):
        return fit_outputs(expected, reading, offset=name != "outputs")
    outputs = expected.shape[1]
    gain = np.vdot(expected, reading) / np.vdot(expected, expected) if name == "common" else 1.0
    return OutputUpdate(np.full(outputs, gain), np.zeros(outputs))


def fit_inputs(matrix: Reading, vectors: Reading, reading: Reading) -> Reading:
    """Gain of each input: reading = (vectors x gain) matrix^T, least squares over all outputs and reference vectors.

    A few vectors are enough for all inputs, since every output sees every input through a known matrix.

    Args:
        matrix: (M, N) as calibrated.
        vectors: (R, N) inputs.
        reading: (R, M).

    Returns:
        (N,) gains, real or complex.

    Raises:
        CalibrationError: more inputs than R x M readings, or an input that no vector uses.
    """
    count, inputs = vectors.shape
    if reading.shape != (count, matrix.shape[0]) or matrix.shape[1] != inputs:
        raise ShapeError(
            f"matrix {matrix.shape}, vectors {vectors.shape} and reading {reading.shape} do not fit: expected (M, N), "
            f"(R, N), (R, M)"
        )
    equations = (matrix[None, :, :] * vectors[:, None, :]).reshape(-1, inputs)
    gains, _, rank, _ = np.linalg.lstsq(equations, reading.ravel(), rcond=1e-6)
    if rank < inputs:
        raise CalibrationError(f"these reference vectors tell {rank} of {inputs} inputs apart; use more or other ones")
    return np.asarray(gains)
