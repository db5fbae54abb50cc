"""Fits of fringes: against known truth, with errors that hold; how drives are followed and captures differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from photonic.calibration import blocks, captures, fringe
from photonic.calibration.fringe import FringeSweep, fit_fringe
from photonic.errors import CalibrationError, DataError, RangeError, ShapeError
from tests.calibration.fringesweeps import LAG, PHASE, V_PI, fringe_sweep, triangle

# ---------------------------------------------------------------- fringe


def test_a_fringe_is_recovered_within_its_errors() -> None:
    """All five parameters, in the gauge b > 0, with white noise and white errors."""
    rng = np.random.default_rng(0)
    truth = np.array([10, 40, V_PI, PHASE, LAG])
    scores = []
    for _ in range(30):
        found = fit_fringe(fringe_sweep(rng))
        scores.append((found.values - truth) / np.sqrt(np.diag(found.covariance)))
    assert np.abs(np.mean(scores, axis=0)).max() < 4 / np.sqrt(30)
    assert np.std(scores) == pytest.approx(1, abs=0.15)


def test_the_jacobian_is_the_derivative() -> None:
    """The errors come from it; a wrong one would only slow the fit down."""
    sweep = fringe_sweep(np.random.default_rng(0), 100, sigma=np.linspace(1, 2, 100))
    values = np.array([10, 40, V_PI, PHASE, LAG])
    steps = 1e-6 * np.eye(5)
    slope = [(fringe._residual(values + h, sweep) - fringe._residual(values - h, sweep)) / 2e-6 for h in steps]
    assert fringe._jacobian(values, sweep) == pytest.approx(np.array(slope).T, rel=1e-5, abs=1e-5)


def test_block_errors_are_those_of_correlated_noise() -> None:
    """The error under white noise is too small; that of blocks agrees with the spread of many captures."""
    rng = np.random.default_rng(1)
    found, block_errors, white_errors = [], [], []
    for _ in range(30):
        sweep = fringe_sweep(rng, 600, rho=0.9)
        fitted = fit_fringe(sweep)
        found.append(fitted.v_pi)
        white_errors.append(fitted.white_error("v_pi"))
        block_errors.append(blocks.bootstrap_fringe(sweep, fitted, rng, resamples=20).error("v_pi"))
    spread = np.std(found, ddof=1)
    assert np.mean(white_errors) < 0.5 * spread
    assert np.mean(block_errors) == pytest.approx(spread, rel=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.8, 0.95])
def test_block_intervals_cover(rho: float) -> None:
    """95 % intervals of V_pi hold the truth in 90.5 to 99 % of 250 captures."""
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(250):
        sweep = fringe_sweep(rng, 1000, rho)
        low, high = blocks.bootstrap_fringe(sweep, fit_fringe(sweep), rng, resamples=60).interval("v_pi")
        inside += low < V_PI < high
    assert 0.905 < inside / 250 < 0.99


def test_a_short_sweep_says_what_is_degenerate() -> None:
    """Half a fringe is refused with the parameters that stand in for each other; asked for, it comes with errors."""
    sweep = fringe_sweep(np.random.default_rng(3), reach=1.4)
    with pytest.raises(CalibrationError, match=r"periods.*are degenerate \(correlation -?0\.9"):
        fit_fringe(sweep)
    short = fit_fringe(sweep, least_periods=0)
    full = fit_fringe(fringe_sweep(np.random.default_rng(3)))
    assert short.white_error("v_pi") > 10 * full.white_error("v_pi")


def test_what_is_no_fringe_is_refused() -> None:
    """Noise alone, and a shape that is no cosine."""
    rng = np.random.default_rng(4)
    sweep = fringe_sweep(rng)
    with pytest.raises(CalibrationError, match=r"no fringe above the noise|periods"):
        fit_fringe(FringeSweep(sweep.drive, rng.standard_normal(sweep.drive.size)))
    folded = np.abs((sweep.drive / 1.3) % 2 - 1) ** 3 * 40
    with pytest.raises(CalibrationError, match="no cosine"):
        fit_fringe(FringeSweep(sweep.drive, folded + 0.01 * rng.standard_normal(folded.size)))


@pytest.mark.parametrize("rails", [(-20.0, 127.0), None])
def test_an_over_range_capture_is_refused(rails: tuple[float, float] | None) -> None:
    """At the converter's rail, or at an amplifier's before it, which no rail tells of."""
    sweep = fringe_sweep(np.random.default_rng(5))
    clipped = np.maximum(np.round(sweep.output), -20.0)
    with pytest.raises(CalibrationError, match="over range"):
        fit_fringe(FringeSweep(sweep.drive, clipped, sweep.direction, rails=rails))


def test_few_railed_samples_are_censored() -> None:
    """Read as values they would pull the swing down."""
    sweep = fringe_sweep(np.random.default_rng(6), 4000)
    clipped = np.minimum(sweep.output, 48.0)
    censored = fit_fringe(FringeSweep(sweep.drive, clipped, sweep.direction, rails=(-128.0, 48.0)), most_railed=0.3)
    believed = fit_fringe(FringeSweep(sweep.drive, clipped, sweep.direction), most_railed=0.3)
    assert censored.railed > 0.05
    assert censored.b == pytest.approx(40, abs=5 * censored.white_error("b"))
    assert believed.b < 40 - 5 * believed.white_error("b")


def test_weights_favour_the_quiet_samples() -> None:
    """Half of the samples ten times noisier: weighted, the fit's error is nearly that of the other half alone."""
    rng = np.random.default_rng(7)
    scores = []
    for _ in range(16):
        sweep = fringe_sweep(rng)
        sigma = np.where(np.arange(sweep.drive.size) % 2, 20.0, 2.0)
        noisy = sweep.output + np.where(sigma > 2, rng.standard_normal(sigma.size) * 20, 0.0)
        weighted = fit_fringe(FringeSweep(sweep.drive, noisy, sweep.direction, sigma))
        scores.append((weighted.v_pi - V_PI) / weighted.white_error("v_pi"))
    equal = fit_fringe(FringeSweep(sweep.drive, noisy, sweep.direction))
    assert weighted.white_error("v_pi") < 0.3 * equal.white_error("v_pi")
    assert 0.6 < np.std(scores) < 1.5


def test_sweeps_that_cannot_be_fitted() -> None:
    """Shapes, numbers that are not finite, constants, too few samples, blocks that are too long."""
    good = fringe_sweep(np.random.default_rng(8))
    with pytest.raises(ShapeError):
        FringeSweep(good.drive, good.output[:-1])
    with pytest.raises(RangeError, match="finite"):
        FringeSweep(good.drive, np.full(good.drive.size, np.nan))
    with pytest.raises(RangeError, match="sigma"):
        FringeSweep(good.drive, good.output, sigma=np.zeros(good.drive.size))
    with pytest.raises(CalibrationError, match="constant"):
        FringeSweep(good.drive, np.zeros(good.drive.size))
    with pytest.raises(CalibrationError, match="at least"):
        FringeSweep(good.drive[:10], good.output[:10])
    with pytest.raises(RangeError, match="block"):
        blocks.bootstrap_fringe(good, fit_fringe(good), np.random.default_rng(0), block=500)


def test_blocks_grow_with_the_correlation() -> None:
    """Blocks of a few samples for white noise, of tens for AR(1) noise of 0.95."""
    rng = np.random.default_rng(9)
    white = [blocks.block_length(rng.standard_normal(2000)) for _ in range(20)]
    slow = [blocks.block_length(lfilter([1], [1, -0.95], rng.standard_normal(2000))) for _ in range(20)]
    assert np.median(white) <= 5
    assert 30 < np.median(slow) <= 200


def test_held_out_stretches_see_a_wrong_model() -> None:
    """A right model holds at the noise; one that lacks the lag does not reach it."""
    sweep = fringe_sweep(np.random.default_rng(10))
    assert blocks.held_out_rms(sweep, fit_fringe(sweep)) == pytest.approx(2, rel=0.1)
    without = FringeSweep(sweep.drive, sweep.output)
    assert blocks.held_out_rms(without, fit_fringe(without)) > 2.4


# ---------------------------------------------------------------- captures


def test_a_drive_is_followed_behind_its_codes() -> None:
    """Closer than its codes are, with the direction; a drive in random order comes back as it is."""
    rng = np.random.default_rng(11)
    true = triangle(2500, 60)
    codes = np.round(true + 0.3 * rng.standard_normal(true.size))
    drive, direction = captures.follow_drive(codes)
    used = direction != 0
    assert np.std(drive[used] - true[used]) < 0.35 * np.std(codes - true)
    assert used.mean() > 0.9
    inner = np.flatnonzero(used)[5:-5]  # at the very ends there are no neighbours on one side
    assert np.abs(drive[inner] - true[inner]).max() < 0.4  # at a reversal it would cut the corner by 0.9
    assert (direction[used] == np.sign(np.gradient(true))[used]).all()
    shuffled = rng.permutation(codes)
    drive, direction = captures.follow_drive(shuffled)
    assert (drive == shuffled).all()
    assert not direction.any()


def test_the_component_between_captures() -> None:
    """2 % between captures is found among errors of 1 %; without a pair it is unknown, and says so."""
    rng = np.random.default_rng(12)
    devices = [f"device{index // 3}" for index in range(600)]
    values = 2.7 * (1 + 0.02 * rng.standard_normal(600) + 0.01 * rng.standard_normal(600))
    between = captures.between_captures(values, np.full(600, 0.027), devices)
    assert between.relative == pytest.approx(0.02, rel=0.1)
    assert between.degrees == 400
    pair = captures.between_captures(np.array([2.6, 2.64]), np.array([0.001, 0.001]), ["a", "a"])
    mean, half, error = pair.interval(np.array([2.6, 2.64]), np.array([0.001, 0.001]))
    assert half == pytest.approx(12.706 * error, rel=1e-3)
    assert error == pytest.approx(0.02, rel=0.01)
    assert mean == pytest.approx(2.62)
    alone = captures.between_captures(np.array([2.6]), np.array([0.001]), ["a"])
    assert np.isnan(alone.relative)
    assert np.isnan(alone.interval(np.array([2.6]), np.array([0.001]))[1])


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_files_that_are_no_arrays(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty or of another kind: one error."""
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="npz"):
        captures.read_arrays(path)
