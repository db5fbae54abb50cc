"""Verification of counts: the distributions that a record predicts, intervals that cover the truth, and refusals."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from photonic.calibration import checks
from photonic.calibration.checks import mean_errors, verify_counts
from photonic.calibration.pit import LEVELS, uniformity
from photonic.calibration.predicted import Prediction, code_probabilities, count_moments, quantised_moments
from photonic.errors import RangeError, ShapeError
from tests.calibration.truths import DARK, IDEAL, measure, predicted, truth, verdicts

# ---------------------------------------------------------------- the predicted distribution


@pytest.mark.parametrize("inl", [0.0, 0.5])
@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0, 6.0])
def test_moments_are_those_of_the_codes(sigma, inl):
    chip = truth(3, points=6, outputs=3, inl=inl)
    table = IDEAL if chip.transitions is None else chip.transitions
    volts = chip.volts.copy()
    volts[0], volts[1] = 127.3, -140.0  # at a rail and beyond the other
    sd = np.full(volts.shape, sigma)
    edges = np.pad(table, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
    share = np.diff(norm.cdf((edges - volts[..., None]) / sigma), axis=-1)  # over all 256 codes
    codes = np.arange(-128, 128)
    mean = share @ codes
    central = [(share * (codes - mean[..., None]) ** power).sum(-1) for power in (2, 4)]
    found = count_moments(volts, sd, table)
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)
    np.testing.assert_allclose(found.variance, central[0], atol=1e-6)
    np.testing.assert_allclose(found.excess, central[1] - 3 * central[0] ** 2, atol=2e-4 * sigma**4 + 1e-5)
    step = 1e-4
    rise = quantised_moments(volts + step, sd, table)[0] - quantised_moments(volts - step, sd, table)[0]
    np.testing.assert_allclose(found.slope, rise / (2 * step), atol=1e-4)
    first, window = code_probabilities(volts, sd, table)
    whole = first.astype(int)[..., None] + 128 + np.arange(window.shape[-1])
    np.testing.assert_allclose(window.sum(-1), 1.0, atol=1e-8)
    expected = np.where(whole < 256, np.take_along_axis(share, np.minimum(whole, 255), -1), 0.0)
    np.testing.assert_allclose(window, expected, atol=1e-8)


def test_work_in_parts_changes_nothing(monkeypatch):
    chip = truth(4, points=10, outputs=3, inl=0.5)
    given = predicted(chip, measure(chip, 20, 0))
    whole = count_moments(chip.volts, chip.sigma, chip.transitions), uniformity(given)
    monkeypatch.setattr("photonic.calibration.predicted._CHUNK", 1)
    monkeypatch.setattr("photonic.calibration.pit._CHUNK", 1)
    parts = count_moments(chip.volts, chip.sigma, chip.transitions)
    np.testing.assert_allclose(whole[0].mean, parts.mean, atol=1e-9)
    np.testing.assert_allclose(whole[1], uniformity(given), atol=1e-9)


def test_uniformity_is_the_mean_over_random_draws():
    chip = truth(5, points=3, outputs=4, noise=0.5, inl=0.5)
    counts = measure(chip, 50, 0)
    counts[0, 0, 0] = 100.0  # a code that has no probability
    found = uniformity(predicted(chip, counts)) + LEVELS
    edges = np.pad(chip.transitions, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
    generator = np.random.default_rng(0)
    index, row = (counts + 128).astype(int), np.arange(4)
    below, above = (norm.cdf((edges[row, index + k] - chip.volts[:, None]) / chip.sigma[:, None]) for k in (0, 1))
    draws = below + (above - below) * generator.random((2000, *counts.shape))
    direct = np.stack([(draws <= level).mean(axis=(0, 2, 3)) for level in LEVELS[::20]], -1)
    np.testing.assert_allclose(found[:, ::20], direct, atol=0.004)


def test_the_prediction_of_a_right_twin_is_uniform_and_covers():
    chip = truth(6, noise=0.6, inl=0.5)
    deviation = uniformity(predicted(chip, measure(chip, 200, 1)))
    assert np.abs(deviation.mean(0)).max() < 0.004
    shares = checks.coverage(deviation)
    assert all(share == pytest.approx(nominal, abs=0.006) for nominal, share in shares.items())


# ---------------------------------------------------------------- intervals


def test_intervals_cover_what_is_true():
    """One-sided bounds at 95 % hold in 95 % of the statements, for errors along the common factor and others."""
    misses = Counter()
    for seed in range(12):
        chip = truth(seed)
        signs = np.where(np.random.default_rng(seed).random(chip.volts.shape) < 0.5, -0.2, 0.2)
        off = np.where((np.arange(48) % 2 == 0)[:, None], signs, 0.004 * chip.volts)
        given = predicted(replace(chip, volts=chip.volts - off), measure(chip, 100, seed))
        given = replace(given, sigma=chip.sigma / np.sqrt(1.08), common=chip.common / np.sqrt(1.08))
        exact, assumed = (
            quantised_moments(chip.volts - shift, sd, IDEAL) for shift, sd in ((0, chip.sigma), (off, given.sigma))
        )
        error = (exact[0] - assumed[0]) ** 2
        weight = 1 / (assumed[1] + 1 / 12)
        means, ratios = mean_errors(given), checks.variance_ratios(given)
        for axis in (0, 1):
            parts = (weight * exact[1]).sum(1 - axis) / (weight * assumed[1]).sum(1 - axis)
            for name, found, value in (("mean", means, np.sqrt(error.mean(1 - axis))), ("ratio", ratios, parts)):
                low, high = found[axis].bounds(0.05)
                misses[name, axis, "low"] += int((low > value).sum())
                misses[name, axis, "high"] += int((high < value).sum())
    for (name, axis, side), missed in misses.items():
        share = missed / (12 * (48, 16)[axis])
        assert share < 0.05 + 3 * np.sqrt(0.05 * 0.95 / (12 * (48, 16)[axis])), (name, axis, side, share)
    assert sum(misses.values()) > 0.02 * 12 * 64 * 4  # nor are they needlessly wide


def test_the_noise_of_means_is_subtracted_from_their_errors():
    chip = truth(34)
    signs = np.where(np.random.default_rng(34).random(chip.volts.shape) < 0.5, -0.2, 0.2)
    for repeats in (10, 40):  # noise of the means is 1.6 and 0.4 times their error, in square
        by_point, by_output = mean_errors(
            predicted(replace(chip, volts=chip.volts - signs), measure(chip, repeats, 34))
        )
        for found in (by_point, by_output):
            assert (found.value**2).mean() == pytest.approx(0.04, abs=0.008)


def test_too_few_shots_say_how_many_would_do():
    chip = truth(31)
    first = verify_counts(predicted(chip, measure(chip, 40, 31)))
    found = verdicts(first)
    assert first.verdict == found["variance ratio by point"] == "not distinguishable"
    assert found["mean error by output"] == found["shape"] == "pass"
    needed = max(check.shots_needed or 0 for check in first.checks)
    assert 4 < needed / first.shots < 30
    assert verify_counts(predicted(chip, measure(chip, -(-needed // 48), 32))).verdict == "pass"


@pytest.mark.parametrize("noise", [0.15 / DARK, 0.3 / DARK, 1.0])
@pytest.mark.parametrize("repeats", [2, 5])
def test_a_handful_of_shots_decides_nothing(noise, repeats):
    found = Counter()
    for seed in range(60):
        chip = truth(seed, points=3, noise=noise)
        given = verify_counts(predicted(chip, measure(chip, repeats, seed)))
        found[given.verdict] += 1
        assert all(check.low <= check.value <= check.high for check in given.checks)
    assert found["pass"] == 0
    assert found["fail"] <= 3  # 5 %


# ---------------------------------------------------------------- refusals


def test_what_does_not_fit_is_refused():
    chip = truth(51, points=4, outputs=2)
    given = predicted(chip, measure(chip, 3, 0))
    for changes, message in (
        ({"counts": given.counts[:1]}, "P >= 2"),
        ({"volts": chip.volts[:, :1]}, "volts must be"),
        ({"times": np.zeros((4, 2))}, "times must be"),
        ({"transitions": IDEAL[:, 1:]}, r"transitions must be \(1 or 2, 255\)"),
        ({"transitions": IDEAL, "count_range": None}, "transitions need count_range"),
    ):
        with pytest.raises(ShapeError, match=message):
            replace(given, **changes)
    for changes, message in (
        ({"sigma": chip.sigma * np.nan}, "sigma must be finite"),
        ({"sigma": np.abs(chip.common) / 2}, r"at least \|common\|"),
        ({"times": np.array([[0.0, 2.0, 1.0]] * 4)}, "times must not decrease"),
        ({"transitions": IDEAL[:, ::-1]}, "transitions must not decrease"),
        ({"counts": given.counts + 0.5}, "whole"),
        ({"counts": given.counts + 1000}, "from -128 to 127"),
    ):
        with pytest.raises(RangeError, match=message):
            replace(given, **changes)


@pytest.mark.parametrize("signs", ["alike", "mixed"])
def test_two_factors_that_outputs_share_are_told_from_one(signs):
    """Intensity noise along D, and what balancing lets through along S: with one of them, or both as one, it shows."""
    rng, (points, repeats, m) = np.random.default_rng(6), (60, 400, 8)
    d = rng.uniform(5, 40, (points, m)) * (1 if signs == "alike" else np.where(np.arange(m) % 2, 1, -1))
    first, second = 0.02 * d, np.full((points, m), 0.7)
    values = d[:, None] + 0.8 * rng.standard_normal((points, repeats, m))
    values += first[:, None] * rng.standard_normal((points, repeats, 1))
    values += second[:, None] * rng.standard_normal((points, repeats, 1))
    both = Prediction(
        np.rint(values), d, np.sqrt(0.8**2 + first**2 + second**2), first, (-128.0, 127.0), balance=second
    )
    merged = replace(both, common=np.sign(d) * np.hypot(first, second), balance=None)

    def value(given):
        return next(check.value for check in verify_counts(given, None).checks if check.name == "common mode")

    assert value(both) == pytest.approx(1.0, abs=0.03)
    assert abs(value(replace(both, balance=None)) - 1) > 0.1
    assert (abs(value(merged) - 1) > 0.1) == (signs == "mixed")
    with pytest.raises(RangeError, match="sigma"):
        replace(both, balance=second + 5)
    with pytest.raises(ShapeError, match="balance"):
        replace(both, balance=second[:, :2])
