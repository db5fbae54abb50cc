"""How long a record is valid, by the drift that was measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from photonic.backends.fromrecord import accepted
from photonic.calibration.predicted import Prediction
from photonic.calibration.reading import Reading, Taken
from photonic.calibration.validity import allowed_gain, valid_s, valid_until
from photonic.errors import ExpiredCalibrationError
from photonic.records import DriftModel

from .synthetic import calibration_of

WALK = DriftModel(kind="random walk", per_root_s=1e-4)
ZERO = np.array([1.0, -2.0, 0.5])


def prediction() -> Prediction:
    rng = np.random.default_rng(0)
    volts = rng.uniform(-100, 100, (30, 3)) * [1.0, 0.5, 0.8] + ZERO
    sigma = np.full(volts.shape, 0.8)
    return Prediction(np.rint(volts)[:, None].repeat(2, 1), volts, sigma, np.zeros_like(sigma), (-128.0, 127.0))


def readings(clock_per_s: float = 1.0) -> list[Taken]:
    """Over 100 s of the world's time."""
    reading = Reading("reference", torch.zeros(4), torch.zeros(1, 2), {}, 0)
    return [Taken(reading, torch.zeros(1, 3), clock_per_s * t, {}, 1.8e9 + t, 0.0) for t in (0.0, 50.0, 100.0)]


@pytest.mark.parametrize(
    "drift", [WALK, DriftModel(kind="ar1", sigma=0.004, time_s=4000.0)], ids=["random walk", "slow AR(1)"]
)
def test_margins_hold_for_19_of_20_chips_until_then(drift: DriftModel) -> None:
    """Of many simulated drifts, the part that keeps the worst output's means inside their margin at that time."""
    given = prediction()
    found = valid_s(drift, allowed_gain(given, ZERO), 100.0)
    assert found is not None
    rng = np.random.default_rng(1)
    if drift.kind == "random walk":
        change = drift.per_root_s * np.sqrt(found) * rng.standard_normal(40_000)
    else:
        assert drift.time_s is not None
        kept, start = np.exp(-found / drift.time_s), drift.sigma * rng.standard_normal(40_000)
        change = start * kept + drift.sigma * np.sqrt(1 - kept**2) * rng.standard_normal(40_000) - start
    size = np.sqrt(((given.volts - ZERO) ** 2).mean(0))
    inside = (np.abs(change[:, None]) * size <= 0.25).all(1)  # 0.1 sigma is less than 1/4 LSB
    assert inside.mean() == pytest.approx(0.95, abs=0.005)


def test_the_interval_s_worse_end_counts() -> None:
    wide = WALK.model_copy(update={"per_root_s_interval": (0.5e-4, 2e-4)})
    assert valid_s(wide, 1e-3, 10.0) == pytest.approx(valid_s(WALK, 1e-3, 10.0) / 4)  # type: ignore[operator]


@pytest.mark.parametrize(
    "drift",
    [
        DriftModel(kind="none found"),
        DriftModel(),
        DriftModel(kind="ar1", sigma=0.01, time_s=20.0),  # the sweep averaged over it
        DriftModel(kind="ar1", sigma=0.0002, time_s=4000.0),  # never more than the margin
    ],
)
def test_without_a_drift_that_uses_up_the_margin_no_time_is_set(drift: DriftModel) -> None:
    assert valid_until(drift, prediction(), ZERO, readings()) is None


def test_the_date_is_of_the_world_s_clock_alone() -> None:
    """A simulated chip's clock, which advances by its shots, says nothing of dates."""
    found = valid_until(WALK, prediction(), ZERO, readings())
    seconds = valid_s(WALK, allowed_gain(prediction(), ZERO), 100.0)
    assert seconds is not None
    assert found == datetime.fromtimestamp(1.8e9 + 100, UTC) + timedelta(seconds=seconds)
    assert valid_until(WALK, prediction(), ZERO, readings(1e-6)) is None


def test_an_expired_record_is_refused_by_name_and_can_be_accepted_by_name() -> None:
    until = valid_until(WALK, prediction(), ZERO, readings())
    assert until is not None
    record = calibration_of(valid_until=until)
    assert accepted(record, now=until - timedelta(seconds=1)) is record
    with pytest.raises(ExpiredCalibrationError, match="was valid until"):
        accepted(record, now=until + timedelta(seconds=1))
    assert accepted(record, allow_expired=True, now=until + timedelta(seconds=1)).overrides == ("expired",)
