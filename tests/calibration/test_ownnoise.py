"""Thermal and shot noise of each output: found where outputs differ, and left alone where they do not."""

from __future__ import annotations

import numpy as np
import pytest

import photonic
from photonic.calibration.model import ChipModel
from photonic.calibration.noise import TERMS, NoiseData, fit_noise, receivers, variance
from photonic.calibration.ownnoise import own_noise
from photonic.errors import ArraysError
from photonic.records import Calibration, NoiseModel
from photonic.testing import OnlyMeasured
from tests.calibration.synthetic import calibration_of

GAIN, RANGE = 512.0, (-128.0, 127.0)
NOISE = NoiseModel(thermal=0.29 / GAIN**2, shot=0.43 / GAIN**2, rin=4.2 / GAIN**2)
EDGES = np.arange(-127.5, 127.0)
CHIP = "sim:typical?n_inputs=16&n_outputs=16&channel_leakage=false"


def made(factors: np.ndarray, seed: int, noise: NoiseModel = NOISE, points: int = 80, repeats: int = 400) -> NoiseData:
    """Counts of outputs with thermal and shot noise of their own, (2, M)."""
    rng, shape = np.random.default_rng(seed), (points, factors.shape[1])
    share = np.array([0.0, 0.25, 0.5, 1.0, 1.0])[np.arange(points) % 5][:, None]
    s = share * rng.uniform(0.9, 1.1, shape)
    d = np.clip(rng.uniform(-0.22, 0.22, shape), -s, s)
    own = np.sqrt(receivers(noise, s, factors))[:, None] * rng.standard_normal((points, repeats, shape[1]))
    own += np.sqrt(noise.rin) * d[:, None] * rng.standard_normal((points, repeats, 1))
    counts = np.searchsorted(EDGES, GAIN * (d[:, None] + own), side="right") - 128.0
    return NoiseData(counts, GAIN * d, s, d, np.full(shape[1], GAIN), RANGE, EDGES[None])


def factors_of(outputs: int, spread: float, seed: int) -> np.ndarray:
    found = np.exp(spread * np.random.default_rng(seed).standard_normal((2, outputs)))
    return np.asarray(found / found.mean(1, keepdims=True))


@pytest.mark.parametrize("spread", [0.08, 0.3])
def test_factors_are_found_within_their_errors(spread: float) -> None:
    deviations, terms = [], []
    for seed in range(12):
        true, data = factors_of(12, spread, seed), made(factors_of(12, spread, seed), seed)
        found = own_noise([data], fit_noise(data))
        assert found is not None
        assert found.factors.mean(1) == pytest.approx(1.0)
        deviations.append((found.factors - true) / found.standard_error)
        terms.append([getattr(found.fit.model, name) / getattr(NOISE, name) for name in TERMS[:3]])
    z = np.array(deviations)
    assert 0.8 < np.sqrt((z**2).mean()) < 1.2
    assert 0.91 < (np.abs(z) < 1.96).mean() < 0.98
    assert np.mean(terms, axis=0) == pytest.approx(1.0, abs=0.03)


def test_errors_are_smaller_than_those_of_each_output_alone() -> None:
    """Outputs that hardly differ are drawn together: the errors are below what they differ by."""
    spread, errors = 0.05, []
    for seed in range(12):
        true = factors_of(12, spread, seed)
        data = made(true, seed)
        found = own_noise([data], fit_noise(data))
        errors.append(np.full_like(true, spread) if found is None else found.factors - true)
    assert np.sqrt(np.mean(np.square(errors))) < 0.8 * spread


def test_outputs_that_are_alike_stay_alike() -> None:
    data = [made(np.ones((2, 12)), seed, points=60, repeats=200) for seed in range(40)]
    assert sum(own_noise([each], fit_noise(each)) is not None for each in data) <= 1  # of 40, at 1e-4 each
    assert own_noise([made(np.ones((2, 1)), 0)], fit_noise(made(np.ones((2, 1)), 0))) is None


def test_noise_without_a_shot_part_has_thermal_factors_alone() -> None:
    noise, true = NOISE.model_copy(update={"shot": 0.0}), factors_of(12, 0.3, 3)
    data = made(true, 3, noise)
    found = own_noise([data], fit_noise(data))
    assert found is not None
    assert found.factors[0] == pytest.approx(true[0], abs=0.05)
    assert np.isfinite(found.factors).all()
    assert np.isfinite(found.standard_error).all()


def test_variances_are_the_outputs_own() -> None:
    s, d, own = np.full((1, 3), 0.5), np.full((1, 3), 0.1), np.array([[0.5, 1.0, 1.5], [2.0, 1.0, 0.0]])
    shared = NOISE.rin * 0.01
    expected = own[0] * NOISE.thermal + own[1] * NOISE.shot * 0.5 + shared
    assert variance(NOISE, s, d, own)[0] == pytest.approx(expected)
    assert variance(NOISE, s, d)[0] == pytest.approx(NOISE.variance(0.5, 0.1))
    # the ADCs are alike
    converted = NOISE.model_copy(update={"converter": 3e-6})
    assert variance(converted, s, d, own)[0] == pytest.approx(expected + 3e-6)


def test_factors_of_another_chip_are_refused() -> None:
    record = calibration_of()
    assert record.spec is not None
    for wrong in (np.ones((2, 5)), np.ones((2, 1)), np.full((2, 16), -1.0), np.full((2, 16), np.nan)):
        with pytest.raises(ArraysError, match="own_noise must be"):
            ChipModel.of(record.replaced(arrays={**record.arrays, "own_noise": wrong}), record.spec)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_chip_of_uneven_receivers_passes(spread: float) -> None:
    """Its record holds their noise, passes a later test, and its own twin has it too."""
    with photonic.open_chip(CHIP, seed=7) as chip:
        alike = photonic.calibrate(OnlyMeasured(chip), seed=1)
    true = factors_of(16, spread, 2)
    uneven = photonic.twin(alike.replaced(arrays={**alike.arrays, "own_noise": true}), seed=3)
    record: Calibration = photonic.calibrate(OnlyMeasured(uneven), seed=4)
    assert record.verification is not None
    assert record.verification.verdict == "pass", record.verification
    rows = {row.name: row for row in record.parameters}
    assert ("thermal noise of outputs" in rows) == ("own_noise" in record.arrays) == (spread > 0)
    for chip in (uneven, photonic.twin(record.replaced(chip_id=uneven.spec.chip_id), seed=5)):
        again = record.replaced(chip_id=chip.spec.chip_id)
        assert photonic.verify(OnlyMeasured(chip), again, seed=9).verdict == "pass"
    if spread:
        z = (record.arrays["own_noise"] - true) / record.arrays["own_noise_se"]
        assert np.sqrt((z**2).mean()) < 1.5
        wrong = record.replaced(arrays={name: a for name, a in record.arrays.items() if not name.startswith("own_")})
        found = photonic.verify(OnlyMeasured(uneven), wrong, seed=9)
        assert found.verdict == "fail"
        assert found.causes == ("noise",)
