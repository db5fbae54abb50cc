from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import norm

from photonic.calibration import checks
from photonic.calibration.checks import AllanSeries, allan_ratios, mean_errors, verify_counts
from photonic.calibration.equivalence import Confidence, decide
from photonic.calibration.pit import LEVELS, uniformity
from photonic.calibration.predicted import Prediction, code_probabilities, count_moments, quantised_moments
from photonic.errors import RangeError, ShapeError

RAILS = (-128.0, 127.0)
IDEAL = np.arange(-127.5, 127)[None]
DARK, LIT, RIN = 0.54, 0.66, 0.5  # LSB of `typical`: floor, shot noise at S = 1, RIN at the ADC's full scale


@dataclass(frozen=True)
class Truth:
    """A chip of ``typical`` noise at random points; all in counts."""

    volts: np.ndarray
    sigma: np.ndarray
    common: np.ndarray
    light: np.ndarray
    transitions: np.ndarray | None = None


def truth(seed, points=48, outputs=16, *, noise=1.0, reach=0.9, inl=0.0):
    generator = np.random.default_rng([seed, 1])
    light = np.array([0.0, 0.25, 0.5, 1.0])[np.arange(points) % 4][:, None] * np.ones(outputs)
    result = np.where(light > 0, reach * generator.uniform(-1, 1, light.shape), 0.0)  # of full scale
    gain = 128 * (1 + 0.05 * generator.standard_normal(outputs))
    common = noise * RIN * result * gain / 128
    sigma = np.sqrt(noise**2 * (DARK**2 + LIT**2 * light) + common**2)
    table = None
    if inl:
        place = np.linspace(0, 1, 255)
        wave = np.sqrt(2) * np.sin(2 * np.pi * 3 * place + generator.uniform(0, 6, (outputs, 1)))
        table = np.maximum.accumulate(IDEAL + inl * wave, axis=1)
    return Truth(gain * result + generator.normal(0, 2, outputs), sigma, common, light, table)


def measure(chip, repeats, seed, *, heavy=False, drift=None):
    """Counts of the chip; an independent way to quantise, one output at a time."""
    generator = np.random.default_rng([seed, 2])
    shape = (len(chip.volts), repeats, chip.volts.shape[1])
    draws = generator.laplace(0, np.sqrt(0.5), shape) if heavy else generator.standard_normal(shape)
    own = np.sqrt(chip.sigma**2 - chip.common**2)
    volts = chip.volts[:, None] + own[:, None] * draws
    volts += chip.common[:, None] * generator.standard_normal((*shape[:2], 1))
    if drift is not None:
        volts += drift
    table = IDEAL if chip.transitions is None else chip.transitions
    codes = [np.searchsorted(table[i if len(table) > 1 else 0], volts[..., i], side="right") for i in range(shape[2])]
    return np.stack(codes, -1) + RAILS[0]


def predicted(chip, counts, **changes):
    fields = {"volts": chip.volts, "sigma": chip.sigma, "common": chip.common, "transitions": chip.transitions}
    return Prediction(counts=counts, count_range=RAILS, **{**fields, **changes})


def verdicts(verification):
    return {check.name: check.verdict for check in verification.checks}


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


# ---------------------------------------------------------------- right twins


KINDS = {"typical": {}, "sub-LSB noise": {"noise": 0.3 / DARK}, "rails": {"reach": 1.1}, "INL": {"inl": 0.5}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_twin_passes(kind):
    chip = truth(11, **KINDS[kind])
    found = verify_counts(predicted(chip, measure(chip, 600, 11)))
    assert found.verdict == "pass", verdicts(found)
    assert (found.causes, found.shots) == ((), 48 * 600)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_right_twins_pass_at_the_stated_rate(kind):
    passed = []
    for seed in range(80):
        chip = truth(seed, **KINDS[kind])
        passed.append(verify_counts(predicted(chip, measure(chip, 500, seed))).verdict)
    assert Counter(passed)["pass"] >= 0.95 * len(passed)
    assert "fail" not in passed


def test_a_chip_without_noise_or_without_a_converter_is_verified():
    chip = truth(12)
    silent = replace(chip, sigma=np.zeros_like(chip.sigma), common=np.zeros_like(chip.common))
    found = verify_counts(predicted(silent, measure(silent, 4, 0)))
    assert found.verdict == "not distinguishable"
    undecided = {check.name for check in found.checks if check.verdict != "pass"}
    assert undecided == {"variance ratio by point", "variance ratio by output", "common mode"}  # 0 / 0 is no match
    assert all("no count moves" in check.worst for check in found.checks if check.name in undecided)
    assert verify_counts(predicted(silent, measure(chip, 4, 0))).verdict == "fail"
    generator = np.random.default_rng(0)
    own = np.sqrt(chip.sigma**2 - chip.common**2)[:, None]
    shared = chip.common[:, None] * generator.standard_normal((48, 600, 1))
    analog = chip.volts[:, None] + own * generator.standard_normal((48, 600, 16)) + shared
    right = Prediction(analog, chip.volts, chip.sigma, chip.common, None)
    assert verify_counts(right).verdict == "pass"
    assert verify_counts(replace(right, sigma=1.2 * chip.sigma)).causes == ("noise",)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.25])
def test_what_rounding_alone_can_have_made_is_no_proof_of_an_error(noise):
    """Means known to 0.1 of a count, of counts that step by whole ones: no failure. Known to one count only: wrong."""
    chip = truth(12)
    small = replace(chip, sigma=np.full_like(chip.sigma, noise), common=np.zeros_like(chip.common))
    counts, generator = measure(small, 400, 0), np.random.default_rng(3)
    side = np.sign(generator.standard_normal(small.volts.shape))
    found = {
        error: verdicts(verify_counts(predicted(small, counts, volts=small.volts + error * side)))[
            "mean error by point"
        ]
        for error in (0.0, 0.1, 1.0)
    }
    off = small.volts + 0.02 * side  # which decides variances where a mean lies near a transition
    assert verify_counts(predicted(small, counts, volts=off)).verdict != "fail"
    assert found[0.0] == "pass"
    assert found[0.1] == ("pass" if noise else "not distinguishable")
    assert found[1.0] == "fail"


def at_rails(seed, points=48, outputs=16):
    """Every third point lies wholly at a rail, by 4 to 30 standard deviations; of many outputs, one does elsewhere."""
    chip, generator = truth(seed, points, outputs), np.random.default_rng([seed, 4])
    volts = chip.volts.copy()
    beyond = np.sign(volts) * (128 + chip.sigma * generator.uniform(4, 30, volts.shape))
    volts[::3] = beyond[::3]
    if outputs > 2:
        volts[1::3, 0] = beyond[1::3, 0]
    return replace(chip, volts=volts)


@pytest.mark.parametrize("outputs", [1, 2, 16])
def test_points_at_a_rail_say_nothing_of_variance_and_a_stray_count_there_is_no_failure(outputs):
    for seed in range(12):
        chip = at_rails(seed, outputs=outputs)
        counts = measure(chip, 8000 // outputs, seed)
        with np.errstate(all="raise", under="ignore"):
            found = verify_counts(predicted(chip, counts))
        assert found.verdict == "pass", verdicts(found)
        note = next(check.worst for check in found.checks if check.name == "variance ratio by point")
        assert "at 16 of 48 points next to nothing varies" in note
        counts[0, 7, 0] -= np.sign(counts[0, 7, 0])  # one reading of a point where none is predicted to move
        assert verify_counts(predicted(chip, counts)).verdict != "fail"


def test_a_point_that_moves_though_none_is_predicted_to_fails():
    chip = at_rails(3)
    wrong = chip.volts.copy()
    wrong[0] = 124.0 * np.sign(wrong[0])  # the chip is where it varies, its record at the rail
    given = predicted(replace(chip, volts=wrong), measure(replace(chip, volts=wrong), 500, 3), volts=chip.volts)
    assert {"mean error by point", "variance ratio by point"} <= {
        check.name for check in verify_counts(given).checks if check.verdict == "fail"
    }


def test_drift_within_a_point_is_not_taken_for_noise():
    chip = truth(13)
    repeats = 600
    ramp = np.linspace(-1, 1, repeats)[None, :, None] * chip.sigma[:, None] * np.sign(chip.volts)[:, None]
    counts = measure(chip, repeats, 13, drift=ramp)  # 2 sigma in all: a third more variance
    assert (counts.var(1, ddof=1).sum() / measure(chip, repeats, 13).var(1, ddof=1).sum()) > 1.25
    found = verdicts(verify_counts(predicted(chip, counts)))
    assert found["variance ratio by point"] == found["variance ratio by output"] == found["common mode"] == "pass"


# ---------------------------------------------------------------- wrong twins


def mean_noise(chip):
    """Noise that follows the result, not the light, with the right variance over all points."""
    own = chip.sigma**2 - DARK**2 - chip.common**2
    share = np.abs(chip.volts) / np.abs(chip.volts).mean()
    return np.sqrt(DARK**2 + own.mean() * share + chip.common**2)


def wrong(chip, kind):
    generator = np.random.default_rng(9)
    return {
        "variance": {"sigma": chip.sigma / np.sqrt(1.25), "common": chip.common / np.sqrt(1.25)},
        "one output's variance": {"sigma": chip.sigma * np.where(np.arange(16) == 5, 1.1, 1.0)},
        "gain": {"volts": chip.volts * (1 + 0.05 * generator.standard_normal(16))},
        "INL left out": {"transitions": None},
        "shared made independent": {"common": np.zeros_like(chip.common)},
        "shared with the wrong signs": {"common": np.abs(chip.common)},
        "noise of the mean": {"sigma": np.maximum(mean_noise(chip), np.abs(chip.common))},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("variance", "noise"),
        ("one output's variance", "noise"),
        ("gain", "response"),
        ("INL left out", "response"),
        ("shared made independent", "common mode"),
        ("shared with the wrong signs", "common mode"),
        ("noise of the mean", "noise"),
    ],
)
def test_a_wrong_twin_fails_by_its_cause(kind, cause):
    chip = truth(21, inl=0.5)
    found = verify_counts(predicted(chip, measure(chip, 600, 21), **wrong(chip, kind)))
    assert found.verdict == "fail"
    assert found.causes[0] == cause
    assert "shape" not in found.causes
    if kind == "one output's variance":
        worst = {check.name: check.worst for check in found.checks}
        assert worst["variance ratio by output"] == "output 5"


def test_tails_that_are_not_gaussian_fail_by_shape():
    chip = truth(22, noise=2.0)
    found = verify_counts(predicted(chip, measure(chip, 600, 22, heavy=True)))
    assert found.causes == ("shape",)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["variance", "gain", "INL left out", "shared made independent", "noise of the mean"])
def test_wrong_twins_always_fail(kind):
    for seed in range(20):
        chip = truth(seed, inl=0.5)
        given = predicted(chip, measure(chip, 440, seed), **wrong(chip, kind))
        assert verify_counts(given).verdict == "fail"


def test_noise_alone_does_not_blame_the_common_mode():
    chip = truth(23)
    own = chip.sigma**2 - chip.common**2
    less = np.sqrt(own / 1.3 + chip.common**2)
    assert verify_counts(predicted(chip, measure(chip, 600, 23), sigma=less)).causes == ("noise",)


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


# ---------------------------------------------------------------- drift


def series(seed, length, *, factor=1.0, sigma=0.01, time=60.0, white=0.8, outputs=16):
    """Readings with white noise and AR(1) gain common to all outputs, and their Allan deviation."""
    generator = np.random.default_rng([seed, 3])
    gain = np.linspace(-100, 100, outputs)
    decay = np.exp(-1 / time)
    steps = generator.standard_normal(length) * np.sqrt(1 - decay**2)
    walk = np.empty(length)
    state = generator.standard_normal()
    for t in range(length):
        state = walk[t] = decay * state + steps[t]
    readings = white * generator.standard_normal((length, outputs)) + factor * sigma * walk[:, None] * gain
    taus = 2 ** np.arange(7)
    return AllanSeries(readings, taus, np.array([_deviation(tau, decay, sigma * gain, white) for tau in taus]))


def _deviation(tau, decay, sigma, white):
    filter_ = np.repeat([-1.0, 1.0], tau) / (tau * np.sqrt(2))
    lags = np.convolve(filter_, filter_[::-1])
    return np.sqrt(white**2 / tau + sigma**2 * (lags * decay ** np.abs(np.arange(1 - 2 * tau, 2 * tau))).sum())


def test_drift_as_predicted_passes_and_twice_as_much_fails():
    chip = truth(41)
    given = predicted(chip, measure(chip, 600, 41))
    assert verify_counts(given, series(41, 30_000)).verdict == "pass"
    found = verify_counts(given, series(41, 30_000, factor=2.0))
    assert (found.verdict, found.causes, found.shots) == ("fail", ("drift",), 48 * 600 + 30_000)
    assert found.checks[-1].worst == "averaging 64 readings"
    assert verify_counts(given, series(41, 30_000, factor=0.0)).causes == ("drift",)  # and where there is none


def test_a_short_series_cannot_decide():
    check = decide(allan_ratios(series(42, 400)), Confidence())
    assert check.verdict == "not distinguishable"
    assert decide(allan_ratios(series(43, check.shots_needed)), Confidence()).verdict == "pass"


def test_allan_intervals_cover_the_predicted_deviation():
    inside = []
    for seed in range(100):
        low, high = allan_ratios(series(seed, 2000)).bounds(0.05)
        inside.append((low <= 1) & (high >= 1))
    assert np.all(np.mean(inside, axis=0) >= 0.83)  # 90 %, less 2.3 standard errors
    assert np.mean(inside) < 0.985


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


def test_a_series_that_does_not_fit_is_refused():
    good = series(0, 300)
    with pytest.raises(ShapeError, match="expected readings"):
        replace(good, predicted=good.predicted[:2])
    with pytest.raises(RangeError, match="taus must be from 1"):
        replace(good, taus=good.taus * 2)
    with pytest.raises(RangeError, match="positive"):
        replace(good, predicted=0 * good.predicted)
