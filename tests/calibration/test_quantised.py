"""A Gaussian behind an ADC: mean and deviation inside their intervals, at any sub-LSB phase."""

from __future__ import annotations

import numpy as np
import pytest

from photonic.calibration.quantised import cells, cramer_rao, gaussian_moments
from photonic.errors import RangeError, ShapeError
from photonic.physics.converters import sar_transitions, transitions_from_inl

RANGE = (-128.0, 127.0)
IDEAL = np.arange(-127.5, 127.0)


def counts_of(volts: np.ndarray, sigma: float, repeats: int, seed: int, edges: np.ndarray = IDEAL) -> np.ndarray:
    values = volts[..., None] + sigma * np.random.default_rng(seed).standard_normal((*volts.shape, repeats))
    return np.searchsorted(edges, values, side="right") - 128.0


@pytest.mark.parametrize(("sigma", "repeats"), [(0.35, 4000), (0.5, 500), (0.8, 200), (3.0, 100)])
def test_intervals_cover_the_truth(sigma: float, repeats: int) -> None:
    volts = np.linspace(-3, 3, 2000)
    found = gaussian_moments(counts_of(volts, sigma, repeats, 1), None, RANGE)
    assert found.identified.all()
    assert (found.exact == (found.sd < 0.6)).mean() > 0.9
    mean = np.abs(found.mean - volts) / found.mean_se
    sd = np.abs(found.sd - sigma) / found.sd_se
    assert 0.93 < (mean < 1.96).mean() < 0.97
    assert 0.93 < (sd < 1.96).mean() < 0.97
    assert np.abs((found.sd.mean() - sigma) / sigma) < 0.006


def test_below_a_third_of_a_step_the_middle_of_a_code_is_not_identified() -> None:
    volts = np.tile([0.0, 0.5], 500)
    found = gaussian_moments(counts_of(volts, 0.12, 200, 2), None, RANGE)
    assert not found.identified.any()
    assert np.isnan(found.mean).all()
    assert np.isnan(found.sd_se).all()


def test_the_variance_of_few_readings_is_not_too_small() -> None:
    found = gaussian_moments(counts_of(np.zeros(4000), 3.0, 12, 11), IDEAL, RANGE)
    assert found.exact.all()
    assert (found.sd**2).mean() == pytest.approx(9.0, abs=0.25)  # 4 standard errors; divided by n it were 8.25


def test_a_deviation_that_is_hardly_known_is_not_identified() -> None:
    found = gaussian_moments(np.array([125.0, 126.0] + [127.0] * 10), None, RANGE)
    assert not found.identified
    assert gaussian_moments(np.array([100.0, 101.0] + [102.0] * 10), None, RANGE).identified


def test_a_rail_is_censored() -> None:
    volts = np.full(1000, 127.0)
    found = gaussian_moments(counts_of(volts, 1.5, 400, 3), None, RANGE)
    assert found.exact.all()
    assert np.abs(found.mean.mean() - 127.0) < 4 * found.mean_se.mean() / np.sqrt(1000)
    assert np.abs(found.sd.mean() - 1.5) < 0.02
    assert 0.93 < (np.abs(found.sd - 1.5) < 1.96 * found.sd_se).mean() < 0.97


def test_own_transitions_of_each_output() -> None:
    tables = np.stack([transitions_from_inl([0.0, *np.random.default_rng(0).uniform(-0.3, 0.3, 255)], 8)] * 2)
    tables[1] = IDEAL
    volts = np.random.default_rng(4).uniform(-90, 90, (600, 2))
    counts = np.stack([counts_of(volts[:, i], 0.5, 600, 5 + i, tables[i]) for i in range(2)], axis=1)
    found = gaussian_moments(counts, tables, RANGE)
    good = found.identified
    assert good.mean() > 0.97
    z = (np.abs(found.mean - volts) / found.mean_se)[good]
    assert 0.93 < (z < 1.96).mean() < 0.97
    blind = gaussian_moments(counts, None, RANGE)  # the same without the table must not cover
    assert (np.abs(blind.mean - volts) / blind.mean_se < 1.96)[:, 0].mean() < 0.5


def test_missing_codes_are_no_trouble() -> None:
    import torch

    table = sar_transitions(8, 0.15, 1, torch.Generator().manual_seed(1)).numpy()[0]
    assert (np.diff(table) == 0).any()
    volts = np.random.default_rng(6).uniform(-100, 100, 500)
    found = gaussian_moments(counts_of(volts, 1.0, 400, 7, table), table, RANGE)
    z = ((found.mean - volts) / found.mean_se)[found.identified]
    assert 0.92 < (np.abs(z) < 1.96).mean() < 0.98


def test_without_a_converter_plain_moments() -> None:
    x = np.random.default_rng(8).normal(3.0, 0.1, (4, 50))
    found = gaussian_moments(x, None, None)
    np.testing.assert_allclose(found.sd, x.std(1, ddof=1))
    assert not found.exact.any()
    assert gaussian_moments(x[0], None, None).mean.shape == ()


def test_refusals() -> None:
    with pytest.raises(ShapeError, match="R >= 2"):
        gaussian_moments(np.zeros((3, 1)), None, RANGE)
    with pytest.raises(RangeError, match="not averages"):
        gaussian_moments(np.full((3, 4), 0.5), None, RANGE)
    with pytest.raises(RangeError, match="found -129"):
        gaussian_moments(np.array([-129.0, 3.0]), None, RANGE)
    with pytest.raises(RangeError, match="found nan"):
        gaussian_moments(np.array([np.nan, 3.0]), None, RANGE)
    with pytest.raises(ShapeError, match="255"):
        gaussian_moments(np.zeros((3, 4)), np.zeros(12), RANGE)
    with pytest.raises(RangeError, match="decrease"):
        gaussian_moments(np.zeros((3, 4)), IDEAL[::-1], RANGE)


def test_derivatives_of_cells() -> None:
    borders, h = np.concatenate([[-np.inf], IDEAL[100:140], [np.inf]]), 1e-6
    mean, sd = np.array([2.3]), np.array([0.7])
    p, by_mean, by_log = cells(borders, mean, sd)
    assert p.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(by_mean, (cells(borders, mean + h, sd)[0] - p) / h, atol=1e-5)
    np.testing.assert_allclose(by_log, (cells(borders, mean, sd * np.exp(h))[0] - p) / h, atol=1e-5)


def test_bound_is_the_textbook_where_steps_are_fine() -> None:
    rng, gain = np.random.default_rng(9), np.array([400.0])
    edges = np.arange(-2000.0, 2000.0)
    noise = np.array([2.5e-4, 0.0, 0.0, 0.0])  # 6 counts
    zero = np.zeros((3, 1))
    bound = cramer_rao(noise, zero, zero, zero, gain, edges, 100, rng, draws=20_000)
    assert bound[0, 0] == pytest.approx(2 * noise[0] ** 2 / 300, rel=0.05)
    assert not bound[1:].any()


def test_bound_of_what_outputs_share() -> None:
    """With RIN far above the rest, each shot gives one sample of it however many outputs there are."""
    rng, D = np.random.default_rng(10), np.full((2, 6), 0.2)
    noise = np.array([1e-4, 0.0, 0.01, 0.0])
    edges = np.arange(-3000.0, 3000.0)
    bound = cramer_rao(noise, 1000 * D, 0 * D, D, np.full(6, 1000.0), edges, 50, rng, draws=8000, nodes=101)
    total = noise[2] + noise[0] / (6 * 0.04)  # as the sum over outputs weighs it
    assert bound[2, 2] == pytest.approx(2 * total**2 / 100, rel=0.06)
