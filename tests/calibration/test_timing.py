"""Drift from a chip to its record, to what is predicted, and to the twin that simulates it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import photonic
from photonic.backends.fromrecord import FromRecord
from photonic.backends.simulated import SimulatedChip
from photonic.calibration import timing
from photonic.calibration.driftnoise import gain_variance, over_repeats, shot_s, variance_of_mean, variance_within
from photonic.calibration.meshplan import make_mesh_plan
from photonic.calibration.plan import make_plan
from photonic.calibration.reading import Reading, Taken
from photonic.calibration.timing import drift_of
from photonic.errors import CalibrationError
from photonic.physics.presets import PRESETS
from photonic.records import DriftModel, NoiseModel
from tests.calibration.synthetic import calibration_of

SHOT = 2e-10
AR1 = DriftModel(kind="ar1", sigma=0.005, time_s=2e-9, within=2.4e-5)
WALK = DriftModel(kind="random walk", per_root_s=5.0)
FIELDS = {"n_outputs": 16, "n_inputs": 16, "channel_leakage": False}


def _chip(seed: int, **fields: object) -> SimulatedChip:
    base = PRESETS["typical"]
    return SimulatedChip(type(base)(**{**base.model_dump(), **FIELDS, **fields}), device=seed, seed=seed)


def _taken(chip: SimulatedChip, seed: int, shots: int = 4096) -> tuple[list[Taken], Taken]:
    """References, and a series without a pause, as a sweep takes them."""
    plan = make_plan(chip.spec, 200_000, torch.Generator().manual_seed(seed))
    reference = next(item for item in plan if item.purpose == "reference")
    other = next(item for item in plan if item.purpose == "matrix")

    def take(purpose: str, count: int) -> Taken:
        inputs = reference.inputs[:1].expand(count, -1).contiguous()
        found = chip.measure(reference.weights[None, None], inputs[None], reference.conditions)
        reading = Reading(purpose, reference.weights, inputs, reference.conditions, 0)
        clock = found.telemetry["clock_s"].item()
        return Taken(reading, found.counts[0, 0], clock, {}, 0.0, 1e-3)

    references = [take("reference", 32)]
    series = take("allan", shots)
    for _ in range(15):
        chip.measure(other.weights[None, None], other.inputs[None], other.conditions)
        references.append(take("reference", 32))
    return references, series


def _of(chip: SimulatedChip, seed: int, shots: int = 4096) -> DriftModel:
    references, series = _taken(chip, seed, shots)
    return drift_of(chip.spec, references, series, np.zeros(chip.spec.n_outputs)).model


@pytest.mark.slow
def test_a_drift_within_one_call_is_found_with_its_interval() -> None:
    """References are milliseconds apart and tell nothing of 2 ns; single shots do."""
    found = [_of(_chip(seed, laser_drift=0.005, drift_s=2e-9), seed) for seed in range(12)]
    assert [each.kind for each in found].count("ar1") == 12
    inside = [
        (
            each.sigma_interval[0] < 0.005 < each.sigma_interval[1],
            each.time_interval_s[0] < 2e-9 < each.time_interval_s[1],
        )
        for each in found
        if each.sigma_interval is not None and each.time_interval_s is not None
    ]
    assert len(inside) == 12
    assert np.mean(inside) >= 0.8  # of 24, at 95 % each
    assert np.mean([each.sigma for each in found]) == pytest.approx(0.005, rel=0.05)
    assert np.mean([each.within for each in found]) == pytest.approx(variance_within(AR1, 512, SHOT), rel=0.1)


@pytest.mark.slow
def test_kinds_are_told_apart() -> None:
    """A chip at rest has none; a walk of the laser is a walk."""
    still = [_of(_chip(seed), seed) for seed in range(10)]
    assert [each.kind for each in still].count("none found") >= 9
    assert all(each.within == 0 for each in still if each.kind == "none found")
    walks = [_of(_chip(seed, laser_walk_per_root_s=5.0, settle_time_s=0.0), seed) for seed in range(8)]
    assert [each.kind for each in walks].count("random walk") >= 7
    sizes = [each.per_root_s for each in walks if each.kind == "random walk"]
    assert np.mean(sizes) == pytest.approx(5.0, rel=0.15)


@pytest.mark.parametrize("drift", [AR1, WALK])
@pytest.mark.parametrize("shots", [8, 32, 512])
def test_what_repeats_see_of_a_drift(drift: DriftModel, shots: int) -> None:
    """Mean sample variance, and Allan variance, of 4,000 simulated runs."""
    rng = np.random.default_rng(shots)
    kicks = rng.standard_normal((4000, shots))
    if drift.kind == "ar1":
        kept, x = np.exp(-SHOT / 2e-9), np.empty((4000, shots))
        x[:, 0] = drift.sigma * kicks[:, 0]
        for k in range(1, shots):
            x[:, k] = kept * x[:, k - 1] + drift.sigma * np.sqrt(1 - kept**2) * kicks[:, k]
    else:
        x = drift.per_root_s * np.sqrt(SHOT) * kicks.cumsum(1)
    assert x.var(1, ddof=1).mean() == pytest.approx(variance_within(drift, shots, SHOT), rel=0.06)
    halves = x.reshape(4000, 2, -1).mean(2)
    wanted = gain_variance(drift, np.array([shots / 2]), SHOT)[0]
    assert 0.5 * np.diff(halves).var() == pytest.approx(wanted, rel=0.1)
    noise = NoiseModel(thermal=1e-6, rin=1e-5)
    assert over_repeats(noise, drift, shots, SHOT).rin == pytest.approx(1e-5 + variance_within(drift, shots, SHOT))


def test_the_repeats_of_noise_points_are_those_of_the_plans() -> None:
    """``DriftModel.within`` is of so many."""
    chip = _chip(0)
    plan = make_plan(chip.spec, 200_000, torch.Generator())
    assert {len(each.inputs) for each in plan if each.purpose == "noise"} == {timing._NOISE_REPEATS}
    mesh = photonic.open_chip("sim:mesh-typical?n_outputs=8&n_inputs=8")
    plan = make_mesh_plan(mesh.spec, 200_000, torch.Generator())
    assert {len(each.inputs) for each in plan if each.purpose == "noise"} == {timing._MESH_NOISE_REPEATS}
    assert shot_s(chip.spec, []) == pytest.approx(SHOT)


def test_a_twin_has_the_drift_of_its_record_once() -> None:
    """The exact one simulates it; the fast one, which has no time, takes it for intensity noise."""
    record = calibration_of().replaced(drift=AR1)
    rin = record.response.noise.rin
    exact = photonic.twin(record).parameters
    assert (exact.laser_drift, exact.drift_s, exact.noise.rin) == (0.005, 2e-9, rin)
    assert FromRecord.of(record).parameters.noise.rin == pytest.approx(rin + 2.4e-5)
    assert FromRecord.of(record).parameters.laser_drift == 0
    walking = photonic.twin(record.replaced(drift=WALK)).parameters
    assert (walking.laser_drift, walking.laser_walk_per_root_s) == (0.0, 5.0)
    assert photonic.twin(calibration_of()).parameters.laser_drift == 0
    for impossible in (AR1.model_copy(update={"sigma": 0.4}), DriftModel(kind="ar1", sigma=0.01)):
        with pytest.raises(CalibrationError, match="drift below 0"):
            photonic.twin(record.replaced(drift=impossible))


@pytest.mark.slow
def test_a_drifting_chip_s_twin_passes_its_record_and_one_with_twice_the_drift_fails() -> None:
    """From the chip to the record, and back."""
    with _chip(5, laser_drift=0.005, drift_s=2e-9) as chip:
        record = photonic.calibrate(chip, seed=5)
    assert record.verification is not None
    assert record.verification.verdict == "pass"
    assert record.drift.sigma_interval is not None
    assert record.drift.sigma_interval[0] < 0.005 < record.drift.sigma_interval[1]
    twin = photonic.twin(record, seed=1)
    assert twin.calibration is not None
    assert photonic.verify(twin, twin.calibration, seed=2).verdict == "pass"
    twice = record.drift.model_copy(update={"sigma": 2 * record.drift.sigma})
    louder = photonic.twin(record.replaced(drift=twice), seed=1)
    found = photonic.verify(louder, record.replaced(chip_id=louder.spec.chip_id), seed=2)
    assert found.verdict == "fail"
    assert "drift" in found.causes


def test_the_variance_of_a_mean_is_that_of_simulated_ones() -> None:
    """Of AR(1) much faster and much slower than the stretch, and of a walk from its beginning on."""
    rng, shots = np.random.default_rng(4), 400
    for time in (5.0, 100.0, 2000.0):
        keep, x = math.exp(-1 / time), np.empty((4000, shots))
        x[:, 0] = rng.standard_normal(4000)
        for k in range(1, shots):
            x[:, k] = keep * x[:, k - 1] + math.sqrt(1 - keep**2) * rng.standard_normal(4000)
        drift = DriftModel(kind="ar1", sigma=0.01, time_s=time * SHOT)
        assert variance_of_mean(drift, shots * SHOT) == pytest.approx(1e-4 * x.mean(1).var(), rel=0.1)
    walk = rng.standard_normal((4000, shots)).cumsum(1)
    drift = DriftModel(kind="random walk", per_root_s=0.01 / SHOT**0.5)
    assert variance_of_mean(drift, shots * SHOT) == pytest.approx(1e-4 * walk.mean(1).var(), rel=0.1)
    assert variance_of_mean(DriftModel(kind="none found"), 1.0) == 0.0
    assert variance_of_mean(DriftModel(kind="ar1", sigma=0.01, time_s=1.0), 0.0) == 0.0
