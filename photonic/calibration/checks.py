"""Checks of a record against counts that its fit has not seen, and the verdict.

| check | statements | margin | cause |
| --- | --- | --- | --- |
| mean error | RMS over outputs of each point; RMS over points of each output | max(1/4 LSB, 0.1 sigma) | response |
| variance ratio | pooled over outputs for each point; over points for each output | 0.9 .. 1.1 | noise |
| shape | ECDF of the probability integral transform (PIT) of all counts | 0.02 | shape |
| common mode | variance of the sum over outputs, weighted by what they share | 0.9 .. 1.1 | common mode |
| Allan deviation | ratio to the predicted one for each averaging time | 1/1.5 .. 1.5 | drift |

Samples. The relative standard error of a pooled variance is sqrt(2 / n), n = R M for a point and P R for an output, so
1.8 % at 6,500: the margin is 1.645 + 3.6 of them, of which the 1.645 are the interval's and the rest is for chance. 48
points of 500 repeats with 16 outputs pass in 95 % of the cases or more (tests), 200 points take a fifth more repeats.
Three things take more: outputs at a rail do not count; below 0.5 LSB quantisation adds kurtosis; and noise that outputs
share counts once, so that a correlation rho between all takes 1 + (M - 1) rho^2 times as many (64 outputs of a typical
chip: 220 repeats and not 110). With 200 points of 40 repeats, outputs are decided and points are not. The shape takes
20,000 samples in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from photonic.calibration.allan import least_degrees
from photonic.calibration.equivalence import Confidence, Statements, decide, overall
from photonic.calibration.pit import LEVELS, coverage, uniformity
from photonic.calibration.pooled import Sample, ratio_bounds, rms
from photonic.calibration.predicted import Prediction
from photonic.calibration.ratios import common_mode_statements, ratio_statements
from photonic.errors import RangeError, ShapeError
from photonic.records.calibration import Check, Verification

Array = NDArray[np.float64]

MEAN_LSB, MEAN_SIGMA = 0.25, 0.1
SHAPE = 0.02
ALLAN = 1.5


@dataclass(frozen=True)
class AllanSeries:
    """Reference readings without a pause, and their predicted Allan deviation.

    Attributes:
        readings: (T, M) evenly spaced in time, any unit.
        taus: (K,) averaging times in readings, at most T / 3; with less than T / 50 drift common to all outputs is
            decided, too.
        predicted: (K,) or (K, M) Allan deviation in the unit of the readings, positive.

    Raises:
        ShapeError, RangeError: arrays that do not fit, or values out of these bounds.
    """

    readings: Array
    taus: NDArray[np.int64]
    predicted: Array

    def __post_init__(self) -> None:
        shape, count = self.readings.shape, len(self.taus)
        if len(shape) != 2 or not count or self.predicted.shape not in {(count,), (count, shape[1])}:
            raise ShapeError(
                f"expected readings (T, M), taus (K,) and predicted (K,) or (K, M), found {shape}, {self.taus.shape} "
                f"and {self.predicted.shape}"
            )
        if self.taus.min() < 1 or 3 * self.taus.max() > shape[0]:
            raise RangeError(f"taus must be from 1 to a third of the {shape[0]} readings, found {self.taus.tolist()}")
        if not (np.isfinite(self.readings).all() and np.isfinite(self.predicted).all() and (self.predicted > 0).all()):
            raise RangeError("readings must be finite, predicted Allan deviations finite and positive")


def verify_counts(
    prediction: Prediction,
    allan: AllanSeries | None = None,
    level: float = 0.95,
    more: Sequence[Statements] = (),
) -> Verification:
    """Whether counts match their prediction: every check, and the verdict on all (see ``equivalence``).

    ``causes`` are those of checks that fail, the first ones first. The PIT and the sum over outputs see every error of
    means and variances, too: shape is a cause only if response and noise are not, and common mode beside noise only if
    the covariances alone are out of the margin.

    Args:
        prediction: counts that were not used by the fit, and what the record says of them.
        allan: a series for the drift; None: drift is not verified.
        level: probability that a verdict of pass is right, and that one of fail is.
        more: statements on the fit, which must hold for a pass.
    """
    sample = Sample(prediction)
    statements = [*_mean_errors(sample), *ratio_statements(sample), shape(prediction)]
    common, covariance = common_mode_statements(sample)
    statements += [common, *([] if allan is None else [allan_ratios(allan)]), *more]
    confidence = Confidence(level, len(statements))
    checks = tuple(decide(each, confidence) for each in statements)
    return Verification(
        verdict=overall(checks),
        checks=checks,
        causes=_causes(checks, decide(covariance, confidence)),
        shots=prediction.shots + (0 if allan is None else len(allan.readings)),
    )


def mean_errors(prediction: Prediction) -> tuple[Statements, Statements]:
    """RMS over outputs and over points of mean error, the part owed to noise subtracted.

    The sum of n squared errors of means is taken as a scaled noncentral chi-square variable. Its degrees of freedom are
    those of the covariance of the means (Satterthwaite), or less where the errors point to where that is largest. What
    rounding alone may have made of a match, where there is next to no noise, is no proof of an error (``proven``).
    """
    return _mean_errors(Sample(prediction))


def variance_ratios(prediction: Prediction) -> tuple[Statements, Statements]:
    """Measured variance over predicted, of counts, pooled over outputs and over points.

    Its standard error is that of a variance with the excess kurtosis k of the predicted counts, V^2 (2 / nu + k / n) in
    square, and with what outputs share. It is enlarged by how much more than this blocks of repeats differ, and by what
    the error of the predicted means makes of the predicted variances. Points where next to nothing varies, as at a
    rail, make no statement (``ratios``).
    """
    return ratio_statements(Sample(prediction))


def shape(prediction: Prediction) -> Statements:
    """Largest deviation of the PIT's distribution function from uniform, all counts pooled.

    Points are the independent units, so that what outputs share and drift within a point widen the interval: Student's
    t at every level. The upper bound is the largest over levels, each with its own one-sided bound (the level where the
    true deviation is largest must look small; no correction, see ``equivalence``), which is sharper than the band of
    Dvoretzky, Kiefer and Wolfowitz; the lower bound is simultaneous over levels.
    """
    deviation = uniformity(prediction)
    points = len(deviation)
    mean, error = deviation.mean(0), deviation.std(0, ddof=1) / np.sqrt(points)
    size = np.abs(mean)

    def bounds(tail: float) -> tuple[Array, Array]:
        single, all_levels = (-float(stdtrit(points - 1, at)) for at in (tail, tail / (2 * len(LEVELS))))
        return np.maximum((size - all_levels * error).max(keepdims=True), 0), (size + single * error).max(keepdims=True)

    covered = coverage(deviation)
    note = ", ".join(f"{100 * share:.1f} % in {100 * nominal:g} %" for nominal, share in covered.items())
    where = (f"at PIT {LEVELS[size.argmax()]:.3g}",)
    return Statements(
        "shape", "shape", where, size.max(keepdims=True), error[size.argmax()][None], bounds, 0.0, 0.0,
        np.array([SHAPE]), prediction.shots, note=note,
    )  # fmt: skip


def common_mode(prediction: Prediction) -> Statements:
    """Measured over predicted variance of sum_i mu_i count_i, mu being what the record says that outputs share.

    Points count by how much of the sum's variance is covariance. Where the record says that nothing is shared, mu is
    the output itself, as of a factor common to all (RIN), so that one which the record lacks is found.
    """
    return common_mode_statements(Sample(prediction))[0]


def allan_ratios(series: AllanSeries) -> Statements:
    """Measured over predicted overlapping Allan deviation, all outputs pooled, for each averaging time.

    Intervals are chi-square's with the equivalent degrees of freedom of white, flicker and random-walk noise, whichever
    are fewest (Riley, NIST SP 1065, table 5), times the effective number of outputs, (trace G)^2 / trace(G^2) with G
    the outputs' covariance at this averaging time: drift common to all counts once.
    """
    total = np.concatenate([np.zeros((1, series.readings.shape[1])), series.readings.cumsum(0)])
    value, degrees = np.empty(len(series.taus)), np.empty(len(series.taus))
    for k, tau in enumerate(series.taus.tolist()):
        steps = (total[2 * tau :] - 2 * total[tau:-tau] + total[: -2 * tau]) / (np.sqrt(2) * tau * series.predicted[k])
        covariance = steps.T @ steps / len(steps)
        trace, square = float(np.trace(covariance)), float((covariance**2).sum())
        value[k] = np.sqrt(trace / len(covariance))
        degrees[k] = least_degrees(len(series.readings), tau) * (trace**2 / square if square else 1.0)

    squares = ratio_bounds(value**2, degrees)

    def bounds(tail: float) -> tuple[Array, Array]:
        low, high = squares(tail)
        return np.sqrt(low), np.sqrt(high)

    where = [f"averaging {tau} readings" for tau in series.taus.tolist()]
    high, error = np.full(len(value), ALLAN), 1 / np.sqrt(2 * degrees)
    return Statements(
        "Allan deviation", "drift", where, value, error, bounds, 1.0, 1 / ALLAN, high, len(series.readings),
        "of predicted",
    )  # fmt: skip


def _mean_errors(sample: Sample) -> tuple[Statements, Statements]:
    errors = sample.means - sample.moments.mean
    repeats = sample.given.counts.shape[1]
    noise, shared = sample.variances / repeats, sample.shared / np.sqrt(repeats)
    margin = [np.maximum(MEAN_LSB, MEAN_SIGMA * np.sqrt((sample.given.sigma**2).mean(axis))) for axis in (1, 0)]
    expected, degrees = sample.moments.variance / repeats, sample.blocks * (sample.length - 1)
    by_point = rms(errors, noise, expected, shared, degrees, sample.proven)
    # points share no shot
    by_output = rms(errors.T, noise.T, expected.T, np.zeros((1, *noise.T.shape)), degrees, sample.proven.T)
    point, output = (
        Statements(
            f"mean error by {kind}", "response", _names(kind, len(value)), value, error, bounds, 0.0, 0.0,
            high, sample.given.shots, "LSB",
        )
        for kind, (value, error, bounds), high in zip(("point", "output"), (by_point, by_output), margin, strict=True)
    )  # fmt: skip
    return point, output


def _causes(checks: Sequence[Check], covariance: Check) -> tuple[str, ...]:
    failed = list(dict.fromkeys(check.cause for check in checks if check.verdict == "fail"))
    if "shape" in failed and {"response", "noise"} & set(failed):
        failed.remove("shape")
    if "common mode" in failed and "noise" in failed and covariance.verdict != "fail":
        failed.remove("common mode")
    return tuple(failed)


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind} {index}" for index in range(count)]
