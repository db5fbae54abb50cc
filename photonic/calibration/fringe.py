"""The fringe of a Mach-Zehnder modulator: V_pi, bias, swing and the lag between its two sweep directions.

    y = a + b cos(pi (v - lag d) / v_pi + phase),    d = +1 while the drive rises, -1 while it falls

Textbook transfer of an interferometer; nonlinear least squares and the rule of 1.5 periods after
reference/calibration.md 3.3. Any unit of drive and output will do: the fit returns the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import norm

from photonic.errors import CalibrationError, RangeError, ShapeError

Array = NDArray[np.float64]

NAMES = ("a", "b", "v_pi", "phase", "lag")
LEAST_PERIODS = 1.5  # below it, a, b and v_pi stand in for each other (calibration.md 3.3: half a fringe is 24 x worse)
_FEWEST, _SAMPLES_PER_PERIOD = 0.1, 8  # what the search covers, in periods of the sweep and samples of a period
_MOST_MISFIT = 0.1  # of b: what of the residual goes on from sample to sample, hence is no noise
_PILED = 3.0  # times the share of samples that a cosine has at its extreme code


@dataclass(frozen=True)
class FringeSweep:
    """One capture, in the order of time.

    Attributes:
        drive: (n,) volts or codes.
        output: (n,) volts or codes of the photodiode.
        direction: (n,) of +1, -1, and 0 for samples to leave out (a reversal); None where direction has no meaning.
        sigma: (n,) standard deviation of each output sample up to a common factor, None for equal ones.
        rails: outputs at or beyond (low, high) are censored: the true one may lie further out. None: no rails.
    """

    drive: Array
    output: Array
    direction: Array | None = None
    sigma: Array | None = None
    rails: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check the shapes and that all is finite."""
        for name in ("drive", "output", "direction", "sigma"):
            values = getattr(self, name)
            if values is None:
                continue
            if values.shape != (self.drive.size,):
                raise ShapeError(f"{name} must have the drive's shape ({self.drive.size},), found {values.shape}")
            if not np.isfinite(values).all():
                raise RangeError(f"{name} holds numbers that are not finite; leave such samples out")
        if self.drive.size < 4 * len(NAMES):
            raise CalibrationError(f"a fringe takes at least {4 * len(NAMES)} samples, found {self.drive.size}")
        if self.sigma is not None and (self.sigma <= 0).any():
            raise RangeError("sigma must be above zero in every sample")
        if np.ptp(self.drive) == 0 or np.ptp(self.output) == 0:
            raise CalibrationError("drive and output must both move; found one of them constant")

    @property
    def used(self) -> NDArray[np.bool_]:
        """(n,) True where the sample counts."""
        return np.ones(self.drive.size, bool) if self.direction is None else self.direction != 0

    @property
    def both_ways(self) -> bool:
        """Whether the drive both rises and falls: without it, lag and phase are one."""
        return self.direction is not None and {-1.0, 1.0} <= set(np.unique(self.direction))

    def railed(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,), (n,): outputs at the low and at the high rail."""
        if self.rails is None:
            return np.zeros(self.output.size, bool), np.zeros(self.output.size, bool)
        return self.output <= self.rails[0], self.output >= self.rails[1]

    def part(self, keep: NDArray[np.bool_], output: Array | None = None) -> FringeSweep:
        """The samples ``keep`` (n,), with another output (n,) if given."""
        return FringeSweep(
            self.drive[keep],
            (self.output if output is None else output)[keep],
            None if self.direction is None else self.direction[keep],
            None if self.sigma is None else self.sigma[keep],
            self.rails,
        )


@dataclass(frozen=True)
class Fringe:
    """A fitted fringe, b and v_pi above zero, phase in (-pi, pi].

    Attributes:
        a, b: mean and half swing, in units of the output.
        v_pi: drive between a maximum and the next minimum, in units of the drive.
        phase: rad, at drive 0.
        lag: half the distance of the two directions, in units of the drive; 0 if the sweep has one direction only.
        covariance: (5, 5) of ``NAMES``, as if the noise were white. It seldom is: see ``bootstrap_fringe``.
        residual_rms: of the samples inside the rails, in units of the output.
        periods: that the sweep covers.
        railed: share of the samples at the rails.
    """

    a: float
    b: float
    v_pi: float
    phase: float
    lag: float
    covariance: Array
    residual_rms: float
    periods: float
    railed: float

    @property
    def values(self) -> Array:
        """(5,) the parameters in the order of ``NAMES``."""
        return np.array([self.a, self.b, self.v_pi, self.phase, self.lag])

    def white_error(self, name: str) -> float:
        """Standard error of a parameter under white noise."""
        return float(np.sqrt(self.covariance[NAMES.index(name), NAMES.index(name)]))

    def at(self, sweep: FringeSweep) -> Array:
        """(n,) what the fit expects of a sweep."""
        return _model(self.values, sweep)


def fit_fringe(sweep: FringeSweep, *, least_periods: float = LEAST_PERIODS, most_railed: float = 0.01) -> Fringe:
    """Bounded least squares from several starts: the best periods of a linear fit, each with three lags.

    Args:
        sweep: the capture.
        least_periods: fewer are refused; pass 0 to look at a degenerate fit all the same.
        most_railed: a larger share of samples at the rails is refused; fewer are censored.

    Raises:
        CalibrationError: an over-range capture, too few periods, no fringe above the noise, or no cosine.
    """
    railed = _refuse_over_range(sweep, most_railed)
    kept = sweep.part(sweep.used)
    span = float(np.ptp(kept.drive))
    starts = [(v_pi, lag * v_pi) for v_pi, lag in product(_periods(kept, span), (0.0, 0.25, -0.25))]
    solved = [_solve(kept, _start(kept, *start), span) for start in (starts if kept.both_ways else starts[::3])]
    values = min(solved, key=lambda each: each[0])[1]
    if railed:
        values = _censored(values, kept, span)
    inside = kept.part(~np.logical_or(*kept.railed()))
    residual = _model(values, inside) - inside.output
    a, b, v_pi, phase, lag = map(float, values)
    fringe = Fringe(
        a,
        b,
        v_pi,
        phase,
        lag,
        covariance=_covariance(_jacobian(values, inside), _residual(values, inside), lag=kept.both_ways),
        residual_rms=float(np.sqrt(np.mean(residual**2))),
        periods=span / (2 * v_pi),
        railed=railed,
    )
    _refuse_degenerate(fringe, least_periods)
    _refuse_misfit(fringe, residual)
    return fringe


def refit(sweep: FringeSweep, fringe: Fringe) -> Array:
    """(5,) parameters of a sweep that differs little from the one behind ``fringe``: one start, nothing refused."""
    kept = sweep.part(sweep.used)
    span = float(np.ptp(kept.drive))
    return _censored(fringe.values, kept, span) if fringe.railed else _solve(kept, fringe.values, span)[1]


def _angle(values: Array, sweep: FringeSweep) -> Array:
    turned = sweep.drive if sweep.direction is None else sweep.drive - values[4] * sweep.direction
    return np.asarray(np.pi * turned / values[2] + values[3])


def _model(values: Array, sweep: FringeSweep) -> Array:
    return np.asarray(values[0] + values[1] * np.cos(_angle(values, sweep)))


def _residual(values: Array, sweep: FringeSweep) -> Array:
    error = _model(values, sweep) - sweep.output
    return np.asarray(error if sweep.sigma is None else error / sweep.sigma)


def _jacobian(values: Array, sweep: FringeSweep) -> Array:
    angle = _angle(values, sweep)
    slope = -values[1] * np.sin(angle)
    way = np.zeros(angle.size) if sweep.direction is None or not sweep.both_ways else sweep.direction
    columns = (
        np.ones(angle.size),
        np.cos(angle),
        -slope * (angle - values[3]) / values[2],
        slope,
        -slope * np.pi * way / values[2],
    )
    weighted = np.stack(columns, axis=1)
    return np.asarray(weighted if sweep.sigma is None else weighted / sweep.sigma[:, None])


def _linear(sweep: FringeSweep, v_pi: float, lag: float) -> tuple[float, Array]:
    """Cost and (a, b cos phase, -b sin phase) of the best fringe with this v_pi and lag."""
    angle = _angle(np.array([0.0, 0.0, v_pi, 0.0, lag]), sweep)
    basis = np.stack((np.ones(angle.size), np.cos(angle), np.sin(angle)), axis=1)
    weight = np.ones(angle.size) if sweep.sigma is None else sweep.sigma**-2.0
    inner, right = (basis.T * weight) @ basis, basis.T @ (weight * sweep.output)
    solution = np.asarray(np.linalg.lstsq(inner, right, rcond=1e-12)[0], np.float64)
    return float(np.sum((basis @ solution - sweep.output) ** 2 * weight)), solution


def _start(sweep: FringeSweep, v_pi: float, lag: float) -> Array:
    a, cosine, sine = _linear(sweep, v_pi, lag)[1]
    return np.array([a, np.hypot(cosine, sine), v_pi, np.arctan2(-sine, cosine), lag])


def _periods(sweep: FringeSweep, span: float) -> list[float]:
    """The v_pi of the three deepest minima of the linear fit's cost over the number of periods."""
    most = min(40.0, sweep.drive.size / _SAMPLES_PER_PERIOD)
    v_pi = span / (2 * np.arange(2 * _FEWEST, most, 0.1))
    costs = np.array([_linear(sweep, each, 0.0)[0] for each in v_pi])
    walled = np.concatenate(([np.inf], costs, [np.inf]))
    minima = np.flatnonzero((costs <= walled[:-2]) & (costs <= walled[2:]))
    return [float(v_pi[index]) for index in minima[np.argsort(costs[minima])[:3]]]


def _censored(start: Array, sweep: FringeSweep, span: float) -> Array:
    """Parameters where samples at the rails lie somewhere beyond: expectation-maximisation (Tobit model).

    Each railed sample is replaced by its expectation given the fit and that it lies beyond the rail, then the fit is
    repeated; eight rounds leave less than a tenth of a standard error for the share of railed samples that is allowed.
    """
    low, high = sweep.railed()
    values = start
    for _ in range(8):
        model = _model(values, sweep)
        inside = ~(low | high)
        spread = np.sqrt(np.mean(_residual(values, sweep)[inside] ** 2)) * (1.0 if sweep.sigma is None else sweep.sigma)
        side = np.where(low, -1.0, 1.0)
        beyond = side * (sweep.output - model) / spread
        excess = np.exp(norm.logpdf(beyond) - norm.logsf(beyond)) * spread
        filled = np.where(inside, sweep.output, model + side * excess)
        complete = FringeSweep(sweep.drive, filled, sweep.direction, sweep.sigma)
        values = _solve(complete, values, span)[1]
    return values


def _solve(sweep: FringeSweep, start: Array, span: float) -> tuple[float, Array]:
    """Cost and parameters (5,) in the gauge of ``Fringe``, every output taken as it stands."""
    scale = np.array([start[1], start[1], start[2], 1.0, start[2]])
    low = np.array([-np.inf, 0.0, 0.0, -np.inf, -span])
    high = np.array([np.inf, np.inf, span / (2 * _FEWEST), np.inf, span])
    found = least_squares(
        _residual, np.clip(start, low + 1e-9 * scale, high), _jacobian, (low, high), x_scale=scale, args=(sweep,)
    )
    values = np.array(found.x)
    values[3] = np.pi - (np.pi - values[3]) % (2 * np.pi)
    return float(found.cost), values


def _covariance(jacobian: Array, residual: Array, *, lag: bool) -> Array:
    """Textbook (J^T J)^-1 s^2; the row of a lag that has no meaning is zero."""
    count = len(NAMES) if lag else len(NAMES) - 1
    covariance = np.zeros((len(NAMES), len(NAMES)))
    inner = jacobian[:, :count]
    variance = np.sum(residual**2) / (residual.size - count)
    covariance[:count, :count] = np.linalg.pinv(inner.T @ inner, hermitian=True) * variance
    return covariance


def _refuse_over_range(sweep: FringeSweep, most_railed: float) -> float:
    low, high = sweep.railed()
    share = float(np.mean(low | high))
    if share > most_railed:
        raise CalibrationError(
            f"over range: {low.sum()} samples at the low rail and {high.sum()} at the high one, {share:.1%} of "
            f"{low.size}, where at most {most_railed:.1%} can be censored; take the capture again with a larger range"
        )
    # A clipped signal has a flat top also where the clipping amplifier sits before the converter.
    swing = float(np.ptp(sweep.output))
    for extreme in (sweep.output.min(), sweep.output.max()):
        piled = float(np.mean(sweep.output == extreme))
        natural = np.arccos(1 - min(2.0 * _step(sweep.output) / swing, 1.0)) / np.pi
        if piled > max(_PILED * natural, most_railed):
            raise CalibrationError(
                f"over range: {piled:.1%} of the samples stand at the extreme output {extreme:g}, a cosine has about "
                f"{natural:.1%} there; something before the rails clips, so take the capture again at less power"
            )
    return share


def _step(values: Array) -> float:
    """The smallest distance of two values that occur: one code of a converter."""
    return float(np.diff(np.unique(values)).min())


def _refuse_degenerate(fringe: Fringe, least_periods: float) -> None:
    if fringe.b < 5 * fringe.white_error("b") and least_periods > 0:
        raise CalibrationError(
            f"no fringe above the noise: half swing {fringe.b:.3g} with standard error {fringe.white_error('b'):.2g}; "
            f"average more, or check that the drive reaches the modulator"
        )
    if fringe.periods >= least_periods:
        return
    errors = np.sqrt(np.diag(fringe.covariance))[:3]
    correlation = fringe.covariance[:3, :3] / np.maximum(np.outer(errors, errors), np.finfo(float).tiny)
    first, second = max(((0, 1), (0, 2), (1, 2)), key=lambda pair: abs(correlation[pair]))
    raise CalibrationError(
        f"the sweep covers {fringe.periods:.2f} periods, expected at least {least_periods:g}: {NAMES[first]} and "
        f"{NAMES[second]} are degenerate (correlation {correlation[first, second]:.3f}; standard errors "
        + ", ".join(f"{name} {error:.2g}" for name, error in zip(NAMES, errors, strict=False))
        + "); sweep further, or pass a smaller least_periods to have the fit all the same"
    )


def _refuse_misfit(fringe: Fringe, residual: Array) -> None:
    going_on = np.sqrt(max(float(np.mean(residual[1:] * residual[:-1])), 0.0))
    if going_on > _MOST_MISFIT * fringe.b:
        raise CalibrationError(
            f"the output is no cosine of the drive: a residual of {going_on:.3g} rms goes on from sample to sample, "
            f"{going_on / fringe.b:.0%} of the half swing, where {_MOST_MISFIT:.0%} is allowed; check for clipping, "
            f"a drive that is delayed against the output, or two fringes at once"
        )
