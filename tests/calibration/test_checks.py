"""Verification of counts: right twins pass, wrong ones fail by their cause, and so does drift."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from photonic.calibration.checks import AllanSeries, allan_ratios, verify_counts
from photonic.calibration.equivalence import Confidence, decide
from photonic.calibration.predicted import Prediction
from photonic.errors import RangeError, ShapeError
from tests.calibration.truths import DARK, measure, predicted, truth, verdicts

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


def test_a_series_that_does_not_fit_is_refused():
    good = series(0, 300)
    with pytest.raises(ShapeError, match="expected readings"):
        replace(good, predicted=good.predicted[:2])
    with pytest.raises(RangeError, match="taus must be from 1"):
        replace(good, taus=good.taus * 2)
    with pytest.raises(RangeError, match="positive"):
        replace(good, predicted=0 * good.predicted)
