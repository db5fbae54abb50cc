"""A test of a record later: what moved is named, and what did not move is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import photonic
from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.calibration.moved import Retested, moved
from photonic.calibration.moves import Family, relative
from photonic.calibration.predicted import Prediction
from photonic.calibration.pursuit import Left, explain
from photonic.records import Calibration, InputTransfer, NoiseModel, Response, Verification

from .synthetic import arrays_of, calibration_of, spec_of

NOISE = NoiseModel(thermal=1.5e-6, shot=2e-6, rin=4e-4)
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def record() -> Calibration:
    return record_of(NOISE)


def record_of(noise: NoiseModel, change: Callable[[Arrays], None] | None = None) -> Calibration:
    """Of a chip that is exactly like it, or whose arrays were changed."""
    spec = spec_of(
        conditions={"laser_power": (0.0, 1.0)},
        tile_conditions=(),
        response=Response(inputs=InputTransfer(shape="mzm", extinction_ratio_db=25.0), counts_per_d=(512.0,)),
    )
    arrays = arrays_of(spec)
    if change is not None:
        change(arrays)
    return calibration_of(spec, arrays, noise=noise)


def chip_of(
    record: Calibration, change: Callable[[Arrays], None] | None = None, noise: NoiseModel = NOISE, seed: int = 0
) -> Chip:
    """What the record says, with a change."""
    return photonic.twin(record_of(noise, change), seed=seed)


def verified(record: Calibration, chip: Chip, **more: Any) -> Verification:
    with chip:
        return photonic.verify(chip, record.replaced(chip_id=chip.spec.chip_id), seed=3, **more)


def names(found: Verification) -> list[str]:
    return [suspect.name for suspect in found.suspects]


def scaled(name: str, index: Any, factor: float) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][index] *= factor

    return change


def stuck(arrays: Arrays) -> None:
    """The weight of output 3 and input 7 is -0.6 whatever its code."""
    arrays["element"] = arrays["element"].copy()
    arrays["element"][3, 7] = (-0.6, 0.0, 0.0)
    arrays["neighbour"] = np.zeros((4, 2))


def alone(arrays: Arrays) -> None:
    arrays["neighbour"] = np.zeros((4, 2))


def biased(arrays: Arrays) -> None:
    arrays["bias_rad"] = arrays["bias_rad"].copy()
    arrays["bias_rad"][9] += 0.05


def warm(arrays: Arrays) -> None:
    """All weights move by a function of their code, none at the ends, as of rings that all shift."""
    curves = arrays["curves"].copy()
    line = np.linspace(-1, 1, curves.shape[1])
    curves[1] += 0.02 * (1 - line**2) * (1 + line)
    arrays["curves"] = curves


@pytest.mark.parametrize(
    ("change", "first", "note"),
    [
        (scaled("counts_per_d", 5, 0.95), "gain of output 5", "-5"),
        (scaled("counts_per_d", slice(None), 0.95), "gain of all outputs", "-5"),
        (scaled("power", 4, 0.0), "light of input 4", "none is left"),
        (scaled("power", 11, 0.9), "light of input 11", "-10"),
        (scaled("power", slice(None), 0.95), "light of all inputs", "-5"),
        (biased, "bias of input 9", "+0.049"),
        (warm, "curve of all weights", "temperature"),
    ],
)
def test_what_moved_is_named_first_and_alone(
    record: Calibration, change: Callable[[Arrays], None], first: str, note: str
) -> None:
    found = verified(record, chip_of(record, change))
    assert found.verdict == "fail"
    assert "response" in found.causes
    assert names(found) == [first]
    assert note in found.suspects[0].note
    assert found.suspects[0].z > found.suspects[0].threshold


def test_a_zero_that_moved_is_named(record: Calibration) -> None:
    def change(arrays: Arrays) -> None:
        arrays["zero_count"] = arrays["zero_count"] + 1.5 * (np.arange(16) == 2)

    assert names(verified(record, chip_of(record, change))) == ["zero of output 2"]


def test_a_stuck_weight_is_named_with_what_it_holds() -> None:
    record = record_of(NOISE, alone)
    found = verified(record, chip_of(record, stuck))
    assert names(found)[0] == "weight of output 3, input 7"
    assert "stuck at -0.6" in found.suspects[0].note


@pytest.mark.parametrize(
    ("term", "name"), [("thermal", "thermal noise"), ("shot", "shot noise"), ("rin", "intensity noise")]
)
def test_a_term_of_the_noise_is_named(record: Calibration, term: str, name: str) -> None:
    louder = NOISE.model_copy(update={term: 2.0 * getattr(NOISE, term)})
    found = verified(record, chip_of(record, noise=louder))
    assert found.verdict == "fail"
    assert {"noise", "common mode"} & set(found.causes)
    assert names(found) == [name]


def test_two_things_at_once_are_both_named(record: Calibration) -> None:
    for light in (0.9, 0.0):  # as large, and ten times as large

        def change(arrays: Arrays, light: float = light) -> None:
            scaled("counts_per_d", 5, 0.95)(arrays)
            scaled("power", 4, light)(arrays)

        assert sorted(names(verified(record, chip_of(record, change)))) == ["gain of output 5", "light of input 4"]


def test_an_output_that_is_gone_is_named_alone(record: Calibration) -> None:
    """The noise of the others is not blamed for what it no longer shows."""
    found = verified(record, chip_of(record, scaled("counts_per_d", 5, 1e-9)))
    assert [(each.name, each.note) for each in found.suspects] == [("gain of output 5", "none is left")]


def test_of_a_chip_that_is_the_same_nothing_is_named(record: Calibration) -> None:
    for seed in range(4):
        found = verified(record, chip_of(record, seed=seed))
        assert found.verdict != "fail"
        assert found.suspects == ()


def test_light_that_failed_is_named(record: Calibration) -> None:
    """Nothing but dark counts: the first thing that a lab must be told."""

    class Dark(Chip):
        def __init__(self, inner: Chip) -> None:
            self._inner = inner
            super().__init__(inner.spec)

        def _measure(self, weights: Any, inputs: Any, conditions: Conditions) -> Measurement:
            return self._inner.measure(weights, inputs, {"laser_power": 0.0})

    found = verified(record, Dark(chip_of(record)))
    assert found.verdict == "fail"
    assert names(found)[0].startswith(("gain of all outputs", "light of all inputs"))
    assert "none is left" in found.suspects[0].note


def test_a_gain_that_wanders_is_named(record: Calibration) -> None:
    """From point to point by a percent, none of which lasts."""

    class Wandering(Chip):
        def __init__(self, inner: Chip) -> None:
            self._inner, self._rng = inner, np.random.default_rng(0)
            super().__init__(inner.spec)

        def _measure(self, weights: Any, inputs: Any, conditions: Conditions) -> Measurement:
            counts = self._inner.measure(weights, inputs, conditions).counts.double()
            gain = 1 + 0.02 * self._rng.standard_normal()
            return Measurement((gain * counts).round().clamp(*self.spec.count_range).to(self.spec.count_dtype))

    found = verified(record, Wandering(chip_of(record)))
    assert found.verdict == "fail"
    assert names(found)[0] == "gain of all outputs, from point to point"
    assert "it drifts" in found.suspects[0].note


def left(rest: np.ndarray) -> Left:
    return Left(rest, np.full(rest.shape, 1 / 0.05**2), np.full(rest.shape, 0.25))


def test_chance_and_what_is_small_are_not_named() -> None:
    rng = np.random.default_rng(0)
    outputs = np.arange(6)[None]
    for size, named in ((0.0, 0), (0.01, 0), (0.5, 1)):
        design = rng.standard_normal((20, 1, 30, 6))
        family = Family([relative(f"a {k}") for k in range(20)], design, np.repeat(outputs, 20, axis=0))
        rest = 0.05 * rng.standard_normal((30, 6)) + size * design[3, 0]
        assert len(explain(left(rest), [family]).suspects) == named


def test_the_simpler_of_two_explanations_is_taken() -> None:
    """Every output's gain by itself would do as well as the gain of all."""
    rng = np.random.default_rng(1)
    d = rng.standard_normal((30, 6))
    all_of_them = Family([relative("all")], d[None, None], np.arange(6)[None])
    curve = np.concatenate([d[None], rng.standard_normal((3, 30, 6))])
    more = Family([relative("curve")], curve[None], np.arange(6)[None])
    found = explain(left(0.3 * d + 0.05 * rng.standard_normal(d.shape)), [more, all_of_them])
    assert [each.name for each in found.suspects] == ["all"]


def test_variances_are_not_looked_at_where_means_are_far_off() -> None:
    """Nothing explains these means, so that nothing is known of the points where variances were predicted."""
    rng = np.random.default_rng(2)
    volts, sigma = rng.uniform(-60, 60, (20, 4)), np.full((20, 4), 0.8)
    odd = volts + 20 * rng.standard_normal(volts.shape)
    counts = np.rint(odd[:, None] + 1.6 * rng.standard_normal((20, 400, 4)))
    given = Prediction(counts, volts, sigma, np.zeros_like(sigma), (-128.0, 127.0))
    test = Retested(given, [], volts / 512, np.ones_like(volts), np.full(4, 512.0), NOISE)
    assert moved(test) == ()
