"""Twins that are wrong on purpose: the verification must refuse them, on the readings that the right twin passes on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibration_chips import Array
from calibration_tables import Row

from photonic.backends.chip import Chip
from photonic.calibration.checks import verify_counts
from photonic.calibration.driftnoise import predicted_points
from photonic.calibration.fit import by_purpose
from photonic.calibration.layouts import RETEST_SHOTS
from photonic.calibration.model import ChipModel
from photonic.calibration.plan import make_retest
from photonic.calibration.points import Points
from photonic.calibration.predicted import Prediction
from photonic.calibration.raw import RawStore
from photonic.calibration.reading import Taken
from photonic.calibration.sweep import sweep
from photonic.calibration.timing import allan_check
from photonic.physics import seeds
from photonic.records import Calibration, DriftModel, NoiseModel

GAIN_ERROR = 0.05  # of each output, standard deviation
Twin = tuple[ChipModel, NoiseModel, DriftModel]


def judged(chip: Chip, record: Calibration, seed: int) -> Row:
    """Verdict and causes of each twin; "right" is the record itself. The measurement is ``photonic.verify``'s."""
    later = _measured(chip, seed)
    assert record.spec is not None
    right = ChipModel.of(record, record.spec), record.response.noise, record.drift
    return {name: _verdict(later, *made(right, seed)) for name, made in TWINS.items()}


def _measured(chip: Chip, seed: int) -> dict[str, list[Taken]]:
    plan = make_retest(chip.spec, RETEST_SHOTS, seeds.generator("verification plan", seed))
    with (
        tempfile.TemporaryDirectory() as folder,
        RawStore.create(Path(folder) / "raw", chip.spec, plan, budget=RETEST_SHOTS, seed=seed) as store,
    ):
        sweep(chip, plan, store)
        return by_purpose(store.taken(), 1)


Changed = Callable[[Prediction, Points, ChipModel, NoiseModel], Prediction]


def _verdict(later: dict[str, list[Taken]], twin: Twin, changed: Changed) -> list[str]:
    model, noise, drift = twin
    points = Points.of(model.spec, later["verify"])
    prediction = changed(predicted_points(model.spec, later["verify"], model, noise, drift), points, model, noise)
    allan = allan_check(model.spec, later["allan"][0], model, noise, drift)
    found = verify_counts(prediction, allan)
    return [found.verdict, *found.causes]


def _as_it_is(prediction: Prediction, points: Points, model: ChipModel, noise: NoiseModel) -> Prediction:
    return prediction


def _by_the_mean(prediction: Prediction, points: Points, model: ChipModel, noise: NoiseModel) -> Prediction:
    """Shot noise that follows |D|, the sum of variances over points and outputs kept."""
    d, s = np.abs(points.results(model)), points.powers(model)
    own = prediction.sigma**2 + model.gain**2 * noise.shot * (d * (s.sum() / d.sum()) - s)
    return replace(prediction, sigma=np.sqrt(np.maximum(own, (prediction.shared**2).sum(0))))


def _independent(prediction: Prediction, points: Points, model: ChipModel, noise: NoiseModel) -> Prediction:
    return replace(prediction, common=np.zeros_like(prediction.common), balance=None)


def _right(twin: Twin, seed: int) -> tuple[Twin, Changed]:
    return twin, _as_it_is


def _noisier(twin: Twin, seed: int) -> tuple[Twin, Changed]:
    model, noise, drift = twin
    more = {name: 1.25 * getattr(noise, name) for name in ("thermal", "shot", "rin", "common_mode", "converter")}
    return (model, noise.model_copy(update=more), drift), _as_it_is


def _other_noise(twin: Twin, seed: int) -> tuple[Twin, Changed]:
    return twin, _by_the_mean


def _other_gains(twin: Twin, seed: int) -> tuple[Twin, Changed]:
    model, noise, drift = twin
    pattern: Array = 1 + GAIN_ERROR * np.random.default_rng(seed).standard_normal(len(model.gain))
    return (replace(model, gain=model.gain * pattern), noise, drift), _as_it_is


def _no_inl(twin: Twin, seed: int) -> tuple[Twin, Changed]:
    model, noise, drift = twin
    return (replace(model, transitions=None), noise, drift), _as_it_is


def _apart(twin: Twin, seed: int) -> tuple[Twin, Changed]:
    return twin, _independent


def _drifting(twin: Twin, seed: int) -> tuple[Twin, Changed]:
    model, noise, drift = twin
    twice = {"sigma": 2 * drift.sigma, "per_root_s": 2 * drift.per_root_s}
    return (model, noise, drift.model_copy(update=twice)), _as_it_is


TWINS: dict[str, Callable[[Twin, int], tuple[Twin, Changed]]] = {
    "right": _right,
    "variance x 1.25": _noisier,
    "noise by the mean": _other_noise,
    "gains off by 5 %": _other_gains,
    "INL left out": _no_inl,
    "common mode independent": _apart,
    "drift x 2": _drifting,
}
