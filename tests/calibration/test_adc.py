"""INL from predicted readings and from a sine: smooth curves, capacitor mismatch, and nothing where there is none."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from photonic.calibration.adc import fit_inl
from photonic.calibration.sine import sine_fit, sine_histogram_inl
from photonic.errors import CalibrationError, RangeError, ShapeError
from photonic.physics.converters import enob_noise_lsb, sar_transitions

RANGE = (-128.0, 127.0)
IDEAL = np.arange(-127.5, 127.0)
X = IDEAL / 127.5
SMOOTH = IDEAL + 0.8 * (X**2 - 1) + 1.2 * (X**3 - X)
ROUGH = np.sort(IDEAL + np.random.default_rng(9).normal(0, 0.35, (4, 255)), axis=1)
SAR = sar_transitions(8, 0.03, 4, torch.Generator().manual_seed(1)).numpy()
BENDS = np.interp(IDEAL, np.linspace(-128, 127, 8), (0.0, 1.05, 1.4, 0.6, -0.6, -1.4, -1.05, 0.0))


def read(tables: np.ndarray, n: int, seed: int, sigma: tuple[float, float] = (0.54, 1.0)) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    shape = n, len(tables)
    volts, sd = rng.normal(0, 50, shape), rng.uniform(*sigma, shape)
    seen = volts + sd * rng.standard_normal(shape)
    counts = np.stack([np.searchsorted(t, seen[:, i], side="right") for i, t in enumerate(tables)], 1) - 128.0
    return volts, counts, sd


def without_line(transitions: np.ndarray, known: np.ndarray) -> np.ndarray:
    inl = transitions - IDEAL
    return inl - np.polyval(np.polyfit(IDEAL[known], inl[known], 1), IDEAL)


CASES = [
    (tables, kind, sigma)
    for tables, kind in ((ROUGH, "per output"), (np.stack([ROUGH[0]] * 4), "pooled"), (SAR, "binary"))
    for sigma in ((0.3, 0.4), (0.54, 1.0), (2.0, 3.0))
]
# a curve that is no polynomial of low degree, which little noise shows
CASES += [(np.tile(SAR, (3, 1)) + BENDS, "binary about pooled", sigma) for sigma in ((0.3, 0.4), (0.54, 1.0))]


@pytest.mark.parametrize(("tables", "kind", "sigma"), CASES)
def test_intervals_cover_the_truth(tables: np.ndarray, kind: str, sigma: tuple[float, float]) -> None:
    z = []
    for seed in (2, 3, 4, 5):
        found = fit_inl(*read(tables, 50_000, seed, sigma), RANGE)
        assert found.kind == kind
        error = (found.transitions - IDEAL)[found.identified].std()
        assert not kind.startswith("binary") or found.standard_error[found.identified].mean() < 0.3 * error
        assert found.identified.mean() > 0.9
        assert (np.diff(found.transitions) >= 0).all()
        truth = np.stack([without_line(t, k) for t, k in zip(tables, found.identified, strict=True)])
        z.append(((found.transitions - IDEAL - truth) / found.standard_error)[found.identified])
    covered = (np.abs(np.concatenate(z)) < 1.96).mean()  # neighbours' errors are alike, so not 1 in 1000 of it
    least = 0.89 if kind.startswith("binary") else 0.92  # of a dozen numbers for each output, in 16 fits
    assert least < covered < 0.985


def test_error_is_that_of_the_best_estimator() -> None:
    """A reading near a transition has the information of a probit, 1.806 / sigma per reading and LSB in all."""
    volts, counts, _ = read(SAR, 200_000, 3)
    rng = np.random.default_rng(0)
    volts = rng.uniform(-140, 140, volts.shape)
    seen = volts + 0.8 * rng.standard_normal(volts.shape)
    counts = np.stack([np.searchsorted(t, seen[:, i], side="right") for i, t in enumerate(SAR)], 1) - 128.0
    found = fit_inl(volts, counts, np.full(volts.shape, 0.8), RANGE, "per output")
    assert found.standard_error.mean() == pytest.approx(np.sqrt(0.8 / (1.806 * 200_000 / 280)), rel=0.03)


def test_no_inl_is_said_where_there_is_none() -> None:
    tables = np.stack([IDEAL] * 4)
    for seed in range(8):
        found = fit_inl(*read(tables, 20_000, seed), RANGE)
        assert found.kind == "none"
        np.testing.assert_array_equal(found.transitions, tables)


def test_too_few_readings_are_no_inl_but_pooled_ones_may_be() -> None:
    assert fit_inl(*read(SAR, 500, 1), RANGE).kind == "none"
    assert fit_inl(*read(np.stack([ROUGH[0]] * 16), 2000, 1), RANGE).kind == "pooled"


def test_many_codes_are_seen_to_be_too_many_before_memory_is_spent() -> None:
    """65,536 codes by 480,000 readings with noise of 260 LSB; of 2,048 codes, outputs alike tell them together."""
    rng = np.random.default_rng(0)
    for bits, kind in ((16, "none"), (11, "pooled")):
        half, n = 2 ** (bits - 1), 60_000
        ideal = np.arange(-half + 0.5, half - 1)
        bent = ideal + 2.5 * np.cos(np.pi * ideal / half)
        sigma = half * 0.008
        volts = rng.uniform(-half, half - 1, (n, 8))
        seen = volts + sigma * rng.standard_normal(volts.shape)
        counts = np.searchsorted(bent, seen, side="right") - float(half)
        tracemalloc.start()
        found = fit_inl(volts, counts, np.full(volts.shape, sigma), (-float(half), half - 1.0))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.kind == kind
        assert peak < 4e8
        assert found.identified.any() == (kind == "pooled")
        assert (np.isinf(found.standard_error) == ~found.identified).all()


def test_gain_and_offset_are_no_inl() -> None:
    volts, counts, sd = read(SAR, 60_000, 4)
    plain = fit_inl(volts, counts, sd, RANGE)
    moved = fit_inl(volts / 1.01 - 0.3, counts, sd / 1.01, RANGE)
    np.testing.assert_allclose(moved.transitions, plain.transitions, atol=0.06)
    change = moved.line - plain.line
    np.testing.assert_allclose(change[:, 0], -0.3, atol=0.03)
    np.testing.assert_allclose(change[:, 1], -0.01, atol=0.001)


def test_codes_that_were_never_visited_are_marked_and_continued() -> None:
    volts, counts, sd = read(np.stack([SMOOTH] * 2), 100_000, 5)
    few = np.abs(volts).max(1) < 60
    found = fit_inl(volts[few], counts[few], sd[few], RANGE)
    assert found.identified[:, np.abs(IDEAL) < 58].all()
    assert not found.identified[:, np.abs(IDEAL) > 64].any()
    assert np.isinf(found.standard_error[:, 0]).all()
    assert found.transitions[0, 0] - IDEAL[0] == pytest.approx(found.transitions[0, 40] - IDEAL[40])


def test_missing_codes_stay_equal_transitions() -> None:
    table = IDEAL.copy()
    table[128] = table[127]
    found = fit_inl(*read(np.stack([table] * 2), 200_000, 6), RANGE, "per output")
    width = np.diff(found.transitions)[:, 127]
    assert (width < 0.1).all()
    assert np.diff(found.transitions)[:, 128] == pytest.approx(2.0, abs=0.2)


def test_a_wrong_sigma_shows_in_no_transition_but_noise_read_as_none_would() -> None:
    volts, counts, sd = read(SAR, 100_000, 7)
    right, wrong = fit_inl(volts, counts, sd, RANGE), fit_inl(volts, counts, 1.3 * sd, RANGE)
    assert (right.transitions - wrong.transitions).std() < 0.03


def test_refusals() -> None:
    volts, counts, sd = read(SAR, 100, 8)
    with pytest.raises(ShapeError, match="alike"):
        fit_inl(volts, counts[:, :2], sd, RANGE)
    with pytest.raises(RangeError, match="sigma positive"):
        fit_inl(volts, counts, 0 * sd, RANGE)
    with pytest.raises(RangeError, match="not averages"):
        fit_inl(volts, counts + 0.5, sd, RANGE)


def sine(n: int, frequency: float, amplitude: float, noise: float, table: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    seen = 0.7 + amplitude * np.cos(2 * np.pi * frequency * np.arange(n) + 1.1) + noise * rng.standard_normal(n)
    return np.searchsorted(table, seen, side="right") - 128.0


@pytest.mark.parametrize("amplitude", [140.0, 110.0])
def test_histogram_of_a_sine(amplitude: float) -> None:
    counts = sine(400_000, 0.0123456789 * 2**0.5, amplitude, 0.1, SAR[0], 1)
    found, error = sine_histogram_inl(counts, 8)
    known = np.isfinite(error) & (np.abs(IDEAL) < 105)
    difference = (found - IDEAL) - without_line(SAR[0], np.isfinite(error))
    assert np.abs(difference[known]).max() < 0.1
    assert known.sum() > 200
    assert (np.abs(difference) < 3 * error)[known].all()


@pytest.mark.parametrize("given", [None, 0.0712345])
def test_effective_bits_of_a_sine(given: float | None) -> None:
    z = []
    for seed in range(40):
        fit = sine_fit(sine(4096, 0.0712345, 120.0, enob_noise_lsb(8, 6.5), IDEAL, seed), 8, given)
        z.append((fit.enob - 6.5) / fit.enob_se)
        assert fit.amplitude == pytest.approx(120.0, abs=0.2)
        assert fit.offset == pytest.approx(0.7, abs=0.15)
        assert fit.phase == pytest.approx(1.1, abs=0.01)
        assert fit.frequency == pytest.approx(0.0712345, abs=1e-6)
    assert abs(np.mean(z)) < 0.6
    assert 0.7 < np.std(z) < 1.3
    assert fit.sinad_db == pytest.approx(20 * np.log10(120 / (np.sqrt(2) * fit.residual)), abs=0.05)


def test_no_sine() -> None:
    with pytest.raises(CalibrationError, match="all alike"):
        sine_fit(np.zeros(100), 8)
    with pytest.raises(RangeError, match="no simple fraction"):
        sine_histogram_inl(sine(100_000, 1 / 81, 120.0, 0.1, IDEAL, 1), 8)
    with pytest.raises(RangeError, match="4 codes"):
        sine_histogram_inl(np.zeros(100), 8)
    with pytest.raises(ShapeError, match="16"):
        sine_fit(np.zeros(3), 8)
    with pytest.raises(RangeError, match="frequency"):
        sine_fit(np.zeros(30), 8, 0.7)
