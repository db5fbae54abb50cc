"""A sine at the ADCs: measured where a chip offers it, and written down beside what the light says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from photonic.calibration.plan import default_budget, make_plan, make_retest
from photonic.calibration.reading import Reading, Taken
from photonic.calibration.sinetest import SHOTS, sine_test
from photonic.physics import seeds
from photonic.records import ChipSpec

from .synthetic import spec_of


def taken_of(spec: ChipSpec, counts: np.ndarray) -> list[Taken]:
    inputs = torch.zeros(len(counts), spec.n_inputs, dtype=torch.int16)
    reading = Reading("sine", torch.zeros(spec.drives, dtype=torch.int16), inputs, {"electrical_input": "sine"}, 0)
    return [Taken(reading, torch.from_numpy(counts).to(torch.int16), 0.0, {}, 0.0, 1.0)]


def sampled(sigma: float, amplitude: float = 120.0, frequency: float = 0.1234567) -> np.ndarray:
    rng = np.random.default_rng(0)
    sine = amplitude * np.cos(2 * np.pi * frequency * np.arange(SHOTS) + 0.3)
    return np.clip(np.rint(sine[:, None] + sigma * rng.standard_normal((SHOTS, 16))), -128, 127)


def test_effective_bits_are_those_of_the_noise() -> None:
    """log2(2^8 / (rms sqrt(12))), with rounding in the rms."""
    spec = spec_of()
    for sigma in (0.5, 2.0):
        found = sine_test(spec, taken_of(spec, sampled(sigma)))
        expected = np.log2(256 / np.sqrt(12 * (sigma**2 + 1 / 12)))
        z = (found.arrays["enob_sine"] - expected) / found.arrays["enob_sine_se"]
        assert np.abs(z).max() < 5
        assert [row.name for row in found.parameters] == ["ADC, sine test", "ADC INL, sine test"]
        assert found.parameters[0].value == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (np.zeros((SHOTS, 16)), "no sine"),
        (sampled(0.0, amplitude=1.0), "4 codes or more"),
        (sampled(0.3, frequency=0.125), "simple fraction"),
    ],
)
def test_a_sine_that_cannot_be_used_says_why_and_loses_nothing(counts: np.ndarray, reason: str) -> None:
    spec = spec_of()
    found = sine_test(spec, taken_of(spec, counts))
    assert dict(found.arrays) == {}
    for row in found.parameters:
        assert row.status == "not identified"
        assert reason in row.note


def test_it_is_planned_where_it_is_offered_and_the_rest_is_measured_without() -> None:
    spec = spec_of()
    plan = make_plan(spec, default_budget(spec), seeds.generator("test", 0))
    sines = [reading for reading in plan if reading.purpose == "sine"]
    assert [(len(each.inputs), each.conditions) for each in sines] == [
        (SHOTS, {"laser_power": 0.0, "electrical_input": "sine"})
    ]
    others = [
        *(each for each in plan if each.purpose != "sine"),
        *make_retest(spec, 60_000, seeds.generator("test", 1)),
    ]
    assert {each.conditions["electrical_input"] for each in others} == {"off"}
    assert sum(len(each.inputs) for each in plan) <= default_budget(spec)


def test_a_chip_without_one_is_not_asked() -> None:
    spec = spec_of(conditions={"laser_power": (0.0, 1.0)}, tile_conditions=())
    plan = make_plan(spec, default_budget(spec), seeds.generator("test", 0))
    assert "sine" not in {reading.purpose for reading in plan}
    assert not any("electrical_input" in reading.conditions for reading in plan)
    assert sine_test(spec, []).parameters == ()
