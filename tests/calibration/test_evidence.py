"""Errors of transitions in what repeats say of noise, and which readings are used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from photonic.calibration.noise import NoiseData, fit_noise
from photonic.calibration.predicted import RIPPLED, count_moments, rippled_moments, variance_by_transitions
from photonic.calibration.secondmoments import unsure_of_transitions
from photonic.errors import ShapeError

GAIN, M, K = 512.0, 8, 255
NOISE = np.array([0.29, 0.43, 4.2, 0.0]) / GAIN**2
IDEAL = np.arange(-127.5, 127.0)


def repeats(seed: int, error: float, points: int = 40, shots: int = 400) -> tuple[NoiseData, NoiseData]:
    """Points, half of them in the dark, and more in the dark, as seen with transitions that are off by ``error``."""
    rng = np.random.default_rng(seed)
    zero = rng.uniform(-0.5, 0.5, M)
    share = np.where(np.arange(points) % 2, 1.0, 0.0)[:, None]
    off = IDEAL + error * rng.standard_normal((M, K))
    found = []
    for lit, n in ((share, shots), (np.zeros((8, 1)), 300)):
        S = np.repeat(lit, M, 1)
        D = lit * rng.uniform(-0.2, 0.2, S.shape)
        y = np.sqrt(NOISE[0] + NOISE[1] * S)[:, None] * rng.standard_normal((len(S), n, M))
        y += np.sqrt(NOISE[2]) * D[:, None] * rng.standard_normal((len(S), n, 1))
        counts = np.round(GAIN * (D[:, None] + y) + zero)
        # where the mean would have to be for these transitions to give the counts' mean
        data = NoiseData(counts, GAIN * D + zero, S, D, np.full(M, GAIN), (-128.0, 127.0), off)
        sigma = GAIN * np.sqrt(NOISE[0] + NOISE[1] * S + NOISE[2] * D**2)
        volts = data.volts
        for _ in range(6):
            seen = count_moments(volts, sigma, off)
            volts = volts + (counts.mean(1) - seen.mean) / seen.slope
        found.append(replace(data, volts=volts))
    return found[0], found[1]


def test_the_slope_by_transitions_is_that_of_differences() -> None:
    rng = np.random.default_rng(0)
    volts, sigma = rng.uniform(-60, 60, (5, M)), rng.uniform(0.4, 1.2, (5, M))
    table, step = IDEAL + 0.1 * rng.standard_normal((M, K)), 1e-4
    slopes = variance_by_transitions(volts, sigma, table)
    here = count_moments(volts, sigma, table)
    for place in (-1, 0, 1):
        k = np.searchsorted(IDEAL, volts[0]) + place
        ends = []
        for sign in (1, -1):
            moved = table.copy()
            moved[np.arange(M), k] += sign * step
            mean = count_moments(volts, sigma, moved).mean
            ends.append(count_moments(volts - (mean - here.mean) / here.slope, sigma, moved).variance)
        expected = (ends[0] - ends[1])[0] / (2 * step)
        np.testing.assert_allclose(slopes[0, np.arange(M), k], expected, atol=2e-3)


def test_the_slope_by_the_analog_variance_is_that_of_differences() -> None:
    rng = np.random.default_rng(1)
    volts, sigma = rng.uniform(-129, 129, (30, M)), rng.uniform(0.3, 2.5, (30, M))
    for table in (None, IDEAL[None], IDEAL + 0.1 * rng.standard_normal((M, K))):
        ends = [count_moments(volts, np.sqrt(sigma**2 + step), table).variance for step in (1e-4, -1e-4)]
        np.testing.assert_allclose(
            count_moments(volts, sigma, table).by_variance, (ends[0] - ends[1]) / 2e-4, atol=1e-3
        )


def test_two_harmonics_are_all_of_the_ripple_of_an_ideal_adc() -> None:
    rng = np.random.default_rng(2)
    volts, sigma = rng.uniform(-60, 60, (60, M)), rng.uniform(RIPPLED, 1.2, (60, M))
    exact, closed = count_moments(volts, sigma, IDEAL[None]), rippled_moments(volts, sigma)
    for name in ("mean", "variance", "slope", "by_variance"):
        np.testing.assert_allclose(getattr(closed, name), getattr(exact, name), atol=2e-6)
    assert np.abs(closed.excess - exact.excess).max() < 0.1


@pytest.mark.parametrize("error", [0.0, 0.03])
def test_intervals_hold_where_all_dark_points_meet_the_same_wrong_transitions(error: float) -> None:
    z: dict[str, list[float]] = {"stated": [], "not stated": []}
    for seed in range(24):
        plain = repeats(seed, error)
        for name, parts in (("not stated", plain), ("stated", unsure_of_transitions(plain, np.full((1, K), error)))):
            fit = fit_noise(parts[0], more=parts[1:])
            z[name].append((fit.model.thermal - NOISE[0]) / fit.terms["thermal"].standard_error)
    assert 0.75 < np.std(z["stated"]) < 1.3
    if error:
        assert np.std(z["not stated"]) > 1.4 * np.std(z["stated"])


def test_more_points_of_the_same_kind_make_it_surer() -> None:
    first, dark = repeats(0, 0.0)
    alone, both = fit_noise(first), fit_noise(first, more=[dark])
    assert both.terms["thermal"].standard_error < 0.95 * alone.terms["thermal"].standard_error
    assert both.terms["rin"].standard_error == pytest.approx(alone.terms["rin"].standard_error, rel=0.03)


def test_some_points_are_points_too() -> None:
    data = repeats(0, 0.0)[0]
    lit = data.S[:, 0] > 0
    kept = data.only(lit)
    assert kept.counts.shape[0] == lit.sum()
    assert (kept.S == 1).all()


def test_points_without_a_converter_have_no_transitions() -> None:
    data = repeats(0, 0.0)[0]
    with pytest.raises(ShapeError, match="no transitions"):
        unsure_of_transitions([replace(data, count_range=None, transitions=None)], np.zeros((1, K)))
