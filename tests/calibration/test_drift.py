"""Drift told from noise, its size inside its interval, and a watch that is quiet until something moves."""

from __future__ import annotations

import numpy as np
import pytest

from photonic.calibration.drift import fit_drift
from photonic.calibration.monitor import Cusum, ReferenceMonitor
from photonic.errors import RangeError, ShapeError
from photonic.records import DriftModel


def times_of(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.cumsum(rng.uniform(0.5, 1.5, count))


def ar1(rng: np.random.Generator, times: np.ndarray, sigma: float, tau: float) -> np.ndarray:
    x = np.empty(len(times))
    x[0] = sigma * rng.standard_normal()
    for k, step in enumerate(np.diff(times)):
        kept = np.exp(-step / tau)
        x[k + 1] = kept * x[k] + sigma * np.sqrt(1 - kept**2) * rng.standard_normal()
    return x


def walk(rng: np.random.Generator, times: np.ndarray, per_root: float) -> np.ndarray:
    return np.concatenate([[0], (per_root * np.sqrt(np.diff(times)) * rng.standard_normal(len(times) - 1)).cumsum()])


def test_nothing_is_found_in_white_noise() -> None:
    found = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        found.append(fit_drift(times_of(rng, 64), 3.0 + 0.01 * rng.standard_normal(64)).model.kind)
    assert found.count("none found") >= 147


def test_random_walk() -> None:
    inside, kinds = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        times = times_of(rng, 128)
        gain = 2.0 * (1 + walk(rng, times, 5e-3) + 0.01 * rng.standard_normal(128))
        fit = fit_drift(times, gain, block_s=7.0)
        kinds.append(fit.model.kind)
        if fit.per_root_s_se is not None:
            # relative to the mean reading, which the walk has moved
            size = fit.model.per_root_s * gain.mean() / 2
            inside.append(abs(np.log(size / 5e-3)) < 1.96 * fit.per_root_s_se / fit.model.per_root_s)
            assert fit.white == pytest.approx(0.01, rel=0.4)
    assert kinds.count("random walk") > 50
    assert kinds.count("none found") == 0
    assert 0.88 <= np.mean(inside) <= 1.0
    assert fit.model.block_s == 7.0


def test_ar1() -> None:
    sizes, times_inside, kinds = [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        times = times_of(rng, 300)
        fit = fit_drift(times, 1 + ar1(rng, times, 0.01, 6.0) + 0.004 * rng.standard_normal(300))
        kinds.append(fit.model.kind)
        if fit.sigma_se is not None and fit.time_factor is not None and fit.model.time_s is not None:
            sizes.append(abs(np.log(fit.model.sigma / 0.01)) < 1.96 * fit.sigma_se / fit.model.sigma)
            times_inside.append(abs(np.log(fit.model.time_s / 6.0)) < np.log(fit.time_factor))
    assert kinds.count("ar1") > 55
    assert 0.88 <= np.mean(sizes) <= 1.0
    assert 0.88 <= np.mean(times_inside) <= 1.0


def test_ar1_without_white_noise() -> None:
    rng = np.random.default_rng(3)
    times = times_of(rng, 300)
    fit = fit_drift(times, 1 + ar1(rng, times, 0.01, 5.0))
    assert fit.model.kind == "ar1"
    assert fit.sigma_se is not None
    assert abs(fit.model.sigma - 0.01) < 3 * fit.sigma_se
    assert fit.white < 0.003


def test_readings_that_never_change() -> None:
    assert fit_drift(np.arange(20.0), np.ones(20)).model.kind == "none found"


def test_drift_refusals() -> None:
    with pytest.raises(ShapeError, match="16"):
        fit_drift(np.arange(5.0), np.ones(5))
    with pytest.raises(RangeError, match="rise"):
        fit_drift(np.zeros(20), np.ones(20))
    with pytest.raises(RangeError, match="mean"):
        fit_drift(np.arange(20.0), np.tile([1.0, -1.0], 10))


@pytest.mark.parametrize(("shift", "length"), [(0.0, 465), (0.5, 38), (1.0, 10.4)])
def test_run_lengths_of_the_cusum(shift: float, length: float) -> None:
    rng, runs = np.random.default_rng(0), []
    for _ in range(400):
        chart = Cusum()
        while not chart.update(shift + rng.standard_normal()):
            pass
        runs.append(chart.count)
    assert np.mean(runs) == pytest.approx(length, rel=0.12)


def test_a_chart_refuses_what_is_no_number() -> None:
    with pytest.raises(RangeError, match="finite"):
        Cusum().update(float("nan"))


EXPECTED = np.array([-90.0, -30.0, 20.0, 85.0])
AR1 = DriftModel(kind="ar1", sigma=0.004, time_s=20.0)


def readings(
    rng: np.random.Generator, gain: np.ndarray, offset: np.ndarray | float = 0.0, sd: float = 0.2
) -> np.ndarray:
    noise = sd * rng.standard_normal((len(gain), 4))
    return 2.0 + gain[:, None] * (EXPECTED - 2.0) + np.broadcast_to(offset, gain.shape)[:, None] + noise


@pytest.mark.parametrize("drift", [DriftModel(kind="none found"), AR1, DriftModel(kind="random walk", per_root_s=1e-3)])
def test_what_the_record_knows_is_no_alarm(drift: DriftModel) -> None:
    lengths = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        times = times_of(rng, 400)
        gain = np.ones(400)
        if drift.kind == "ar1":
            gain += ar1(rng, times, 0.004, 20.0)
        if drift.kind == "random walk":
            gain += walk(rng, times, 1e-3)
        monitor = ReferenceMonitor(EXPECTED, 0.2, drift, zero=2.0)
        for k, reading in enumerate(readings(rng, gain)):
            if monitor.update(reading, times[k]):
                break
        lengths.append(k)
        if monitor.alarm is None:
            assert abs(monitor.gain - gain[-1]) < 5 * monitor.gain_se + 1e-12
    # 400 readings of two charts of 465 each: exp(-400 / 230) of the runs survive
    assert 0.06 < np.mean(np.array(lengths) == 399) < 0.36


def test_drift_that_the_record_does_not_know_is_an_alarm() -> None:
    rng = np.random.default_rng(1)
    times = times_of(rng, 300)
    monitor = ReferenceMonitor(EXPECTED, 0.2, DriftModel(kind="none found"), zero=2.0)
    for k, reading in enumerate(readings(rng, 1 + ar1(rng, times, 0.004, 20.0))):
        monitor.update(reading, times[k])
    assert monitor.alarm is not None
    assert monitor.alarm.position < 100


@pytest.mark.parametrize(("gain", "offset", "quantity"), [(0.97, 0.0, "gain"), (1.0, 1.0, "offset")])
@pytest.mark.parametrize("drift", [DriftModel(kind="none found"), AR1])
def test_a_jump_is_found_and_measured(gain: float, offset: float, quantity: str, drift: DriftModel) -> None:
    inside = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        times, after = times_of(rng, 60), np.arange(60) >= 20
        truth = np.where(after, gain, 1.0)
        if drift.kind == "ar1":
            truth = truth + ar1(rng, times, 0.004, 20.0)
        monitor = ReferenceMonitor(EXPECTED, 0.2, drift, zero=2.0)
        for k, reading in enumerate(readings(rng, truth, np.where(after, offset, 0.0))):
            monitor.update(reading, times[k])
        assert monitor.alarm is not None
        if monitor.alarm.position < 20:
            continue  # a false one, 1 in 10 of such runs
        assert monitor.alarm.quantity == quantity
        assert monitor.alarm.position < 20 + 12
        assert abs(monitor.alarm.change - 20) < 4
        inside.append(abs(monitor.gain - truth[-1]) < 1.96 * monitor.gain_se)
        inside.append(abs(monitor.offset - offset) < 1.96 * monitor.offset_se)
    assert len(inside) > 40
    assert np.mean(inside) > 0.87  # a reading from the other side of the change may be in it


def test_monitor_refusals() -> None:
    none = DriftModel(kind="none found")
    with pytest.raises(ShapeError, match="2 references"):
        ReferenceMonitor(np.ones(1), 0.2, none)
    with pytest.raises(RangeError, match="alike"):
        ReferenceMonitor(np.ones(3), 0.2, none)
    with pytest.raises(RangeError, match="sd positive"):
        ReferenceMonitor(EXPECTED, -1.0, none)
    monitor = ReferenceMonitor(EXPECTED, 0.2, none)
    monitor.update(EXPECTED, 5.0)
    with pytest.raises(ShapeError, match="4"):
        monitor.update(EXPECTED[:2], 6.0)
    with pytest.raises(RangeError, match="times rise"):
        monitor.update(EXPECTED, 4.0)
