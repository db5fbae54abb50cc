"""Allan deviation against white noise, flicker and random walks of known size."""

from __future__ import annotations

import numpy as np
import pytest

from photonic.calibration.allan import degrees_of_freedom, overlapping_allan
from photonic.errors import RangeError, ShapeError


def flicker(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """1/f noise by its spectrum, four times as long as needed, so that it does not come round."""
    length = 4 * shape[0]
    spectrum = np.fft.rfft(rng.standard_normal((length, shape[1])), axis=0)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))[:, None] / np.sqrt(len(spectrum))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, n=length, axis=0)[: shape[0]]


def test_definition() -> None:
    series = np.random.default_rng(0).standard_normal((40, 1))
    found = overlapping_allan(series, 0.5)
    for row, m in enumerate(found.readings):
        means = np.convolve(series[:, 0], np.ones(m) / m, "valid")
        steps = means[m:] - means[:-m]
        assert found.deviation[row, 0] == pytest.approx(np.sqrt((steps**2).mean() / 2))
    np.testing.assert_array_equal(found.readings, [1, 2, 4, 8])
    np.testing.assert_allclose(found.tau_s, [0.5, 1, 2, 4])


def test_white_noise_averages_and_intervals_cover() -> None:
    series = np.random.default_rng(1).normal(0, 2.0, (1024, 400))
    found = overlapping_allan(series, 1.0)
    truth = 2.0 / np.sqrt(found.readings)[:, None]
    assert found.noise == ["white"] * len(found.tau_s)
    covered = ((found.low < truth) & (truth < found.high)).mean(1)
    assert (np.abs(covered - 0.95) < 0.04).all()  # chi-square is a shape near enough, not the exact one
    assert found.block_s == found.tau_s[-1]
    assert not found.limited


def test_a_random_walk_rises_and_intervals_cover() -> None:
    series = np.random.default_rng(2).standard_normal((1024, 400)).cumsum(0)
    found = overlapping_allan(series, 1.0)
    m = found.readings.astype(float)
    truth = np.sqrt((2 * m**2 + 1) / (6 * m))[:, None]  # of a walk in steps, m / 3 for long averages
    assert found.noise[2:] == ["random walk"] * (len(m) - 2)
    covered = ((found.low < truth) & (truth < found.high)).mean(1)
    assert (np.abs(covered[2:] - 0.95) < 0.05).all()
    assert (found.block_s, found.limited) == (1.0, True)


def test_flicker_stays() -> None:
    found = overlapping_allan(flicker(np.random.default_rng(3), (4096, 50)), 1.0)
    assert found.noise[2:-1] == ["flicker"] * (len(found.noise) - 3)
    assert found.pooled[2:].max() < 1.3 * found.pooled[2:].min()


def test_block_is_where_white_noise_meets_the_walk() -> None:
    """White r and walk q per reading: the least of r / m + q m / 3, at sqrt(3 r / q)."""
    rng = np.random.default_rng(4)
    walk = 0.02 * rng.standard_normal((8192, 8)).cumsum(0)
    found = overlapping_allan(rng.standard_normal((8192, 8)) + walk, 1e-3)
    assert found.limited
    assert found.block_s in (64e-3, 128e-3)  # 87 readings


def test_degrees_of_a_textbook_case() -> None:
    """Riley's handbook, section 5.4.5: white noise of frequency, non-overlapping steps of the whole record."""
    assert degrees_of_freedom(1023, 1, "white") == pytest.approx((1.5 * 1023 - 2 * 1022 / 1024) * 4 / 9)
    assert degrees_of_freedom(32, 8, "random walk") < degrees_of_freedom(32, 8, "white")


def test_a_stuck_output_does_not_count() -> None:
    series = np.random.default_rng(5).standard_normal((128, 2)) * [1, 0]
    assert np.isfinite(overlapping_allan(series, 1.0).pooled).all()


def test_refusals() -> None:
    with pytest.raises(ShapeError, match="32"):
        overlapping_allan(np.zeros((8, 2)), 1.0)
    with pytest.raises(RangeError, match="spacing"):
        overlapping_allan(np.ones((64, 2)), 0.0)
    with pytest.raises(RangeError, match="never changes"):
        overlapping_allan(np.ones((64, 2)), 1.0)
    with pytest.raises(RangeError, match="finite"):
        overlapping_allan(np.full((64, 2), np.nan), 1.0)
