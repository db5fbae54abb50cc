"""Drift from single readings: its size and time within their errors, and nothing where they disagree."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from photonic.calibration.drift import DriftFit, fit_drift
from photonic.calibration.gaincorrelation import Correlations, gain_correlations, lags_of, together
from photonic.calibration.singles import Receivers, Shots
from photonic.records import DriftModel

M, N, B, SPACING_S = 8, 8, 100, 2e-9
GAIN = np.full(M, 512.0)
THETA = np.array([1.2e-6, 1.7e-6, 1.6e-5, 0.0])
RECEIVERS = Receivers(GAIN, None, None)


def ar1(rng: np.random.Generator, shape: tuple[int, int], sigma: float, time: float) -> np.ndarray:
    """Rows of a stationary process, ``time`` in shots."""
    keep, found = math.exp(-1 / time), np.empty(shape)
    found[:, 0] = rng.standard_normal(shape[0])
    for k in range(1, shape[1]):
        found[:, k] = keep * found[:, k - 1] + math.sqrt(1 - keep**2) * rng.standard_normal(shape[0])
    return sigma * found


def settings(seed: int, sigma: float, time: float, count: int = 300, error: float = 0.0) -> list[Shots]:
    """Random results of settings; ``error``: of the response's gain, another in each setting, relative."""
    rng = np.random.default_rng(seed)
    drift = ar1(rng, (count, B), sigma, time)
    found = []
    for k in range(count):
        light = rng.uniform(0, 1, (B, N))
        d, s = light @ rng.uniform(-0.25, 0.25, (N, M)) / 2, np.repeat(light.mean(1, keepdims=True), M, 1)
        own = np.sqrt(THETA[0] + THETA[1] * s) * rng.standard_normal((B, M))
        gain = 1 + drift[k][:, None] + math.sqrt(THETA[2]) * rng.standard_normal((B, 1)) + error * rng.standard_normal()
        found.append(Shots(GAIN * (d * gain + own), GAIN * d, s, d, light))
    return found


def of_one_vector(seed: int, sigma: float, time: float, shots: int = 4000) -> DriftFit:
    rng = np.random.default_rng(seed)
    gain = 1 + ar1(rng, (1, shots), sigma, time)[0] + 0.005 * rng.standard_normal(shots)
    return fit_drift(SPACING_S * np.arange(shots), gain)


def seen(seed: int, fit: DriftFit, sigma: float, time: float, **options: float) -> Correlations:
    lags = lags_of(fit.model, SPACING_S, B)
    assert lags is not None
    found = gain_correlations(settings(seed, sigma, time, **options), RECEIVERS, THETA, lags)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(
    "time", [pytest.param(1.5, marks=pytest.mark.slow), 6.0, pytest.param(14.0, marks=pytest.mark.slow)]
)
def test_covariances_are_those_of_the_drift(time: float) -> None:
    """Neither outputs' own noise nor intensity noise has a part; an error of the response is one for all lags."""
    sigma, z = 0.005, list[float]()
    for seed in range(8):
        fit = of_one_vector(100 + seed, sigma, time)
        found = seen(seed, fit, sigma, time)
        true = sigma**2 * np.exp(-found.lags / time)
        z += ((found.value - true) / np.sqrt(np.diagonal(found.covariance))).tolist()
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1.0, abs=0.3)


@pytest.mark.slow
def test_both_together_are_within_their_errors_and_better() -> None:
    sigma, time, errors, alone, inside, refused = 0.005, 6.0, [], [], [], 0
    for seed in range(60):
        fit = of_one_vector(100 + seed, sigma, time)
        model, _ = together(fit, seen(seed, fit, sigma, time, error=0.001), SPACING_S)
        low, high = (model or fit.model).sigma_interval or (0.0, 0.0)
        before = fit.model.sigma_interval or (0.0, 0.0)
        inside.append(low <= sigma <= high)
        if model is None:
            refused += 1
            continue
        assert math.log(high / low) < math.log(before[1] / before[0])
        errors.append([math.log(model.sigma / sigma), math.log((model.time_s or 0.0) / (time * SPACING_S))])
        alone.append([math.log(fit.model.sigma / sigma), math.log((fit.model.time_s or 0.0) / (time * SPACING_S))])
    assert refused <= 3  # 1 % by chance
    assert np.mean(inside) > 0.88
    assert (np.mean(np.square(errors), 0) < 0.6 * np.mean(np.square(alone), 0)).all()


def test_readings_that_disagree_change_nothing() -> None:
    """Twice the drift in single readings, as where another part of the sweep was restless."""
    fit = of_one_vector(7, 0.005, 6.0)
    model, chance = together(fit, seen(7, fit, 0.010, 6.0), SPACING_S)
    assert chance < 0.01
    assert model is None
    # less than the drift alone: no covariance of such products exists
    assert together(fit, replace(seen(7, fit, 0.005, 6.0), total=0.9 * fit.model.sigma**2), SPACING_S) == (None, 0.0)


def test_only_a_drift_that_settings_can_show_is_looked_for() -> None:
    def lags(time: float) -> np.ndarray | None:
        return lags_of(DriftModel(kind="ar1", sigma=0.01, time_s=time * SPACING_S), SPACING_S, B)

    assert lags(0.3) is None
    assert lags(30.0) is None
    slow = lags(20.0)
    assert slow is not None
    assert slow[-1] == B / 2
    found = lags(5.0)
    assert found is not None
    assert found[0] == 1
    assert found[-1] == 25
    assert lags_of(DriftModel(kind="random walk", per_root_s=1.0), SPACING_S, B) is None
    assert lags_of(DriftModel(kind="none found"), SPACING_S, B) is None
    assert gain_correlations(settings(0, 0.005, 5.0, count=10), RECEIVERS, THETA, found) is None
