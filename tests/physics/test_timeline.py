"""What no calibration has a parameter for: heat that earlier tiles leave behind, and channels that heat each other."""

from __future__ import annotations

import math

import pytest
import torch
from measuring import input_codes, measure, quiet, random, weight_codes
from torch import Tensor

from photonic.backends.simulated import SimulatedChip
from photonic.errors import RecordError

RING = {"channel_leakage": False, "settle_time_s": 2e-4, "symbol_rate_hz": 1e6}


def _alone(kind: str, kelvin: float, weights: Tensor, codes: Tensor, **fields: object) -> Tensor:
    """Counts of one tile on a chip that is that warm all the time."""
    return quiet(kind, temperature_error_k=kelvin, **fields).measure(weights[None, None], codes[None]).counts[0, 0]


def _load(chip: SimulatedChip, weights: Tensor) -> float:
    """Mean heater drive: from +1, where a ring stands without heat, to -1; from a phase of 0 to 2 pi."""
    if chip.parameters.coherent:
        return weights.mean().item() / (2 * math.pi)
    return ((1 - weights) / 2).mean().item()


@pytest.mark.parametrize(("kind", "fields"), [("ring", RING), ("mesh", {"settle_time_s": 2e-4, "symbol_rate_hz": 1e6})])
@pytest.mark.parametrize("tau", [1e-3, 1e-1])
def test_a_tile_meets_the_heat_of_those_before(kind: str, fields: dict[str, object], tau: float) -> None:
    """First order towards k times the load: tile by tile in the order r, c, on into the next call."""
    k, shots = 5.0, 100
    chip = quiet(kind, thermal_memory_k=k, thermal_memory_s=tau, **fields)
    codes = input_codes(chip, random(3, shots, 8))
    a = math.exp(-(2e-4 + shots * 1e-6) / tau)
    kelvin, hottest = 0.0, 0.0
    for call in range(2):
        weights = weight_codes(chip, random(2, 3, 4, 8, seed=call, low=-1.0))
        counts = chip.measure(weights, codes).counts
        for r in range(2):
            for c in range(3):
                expected = _alone(kind, kelvin, weights[r, c], codes[c], **fields)
                assert (counts[r, c] - expected).abs().max().item() < 1e-12
                hottest = max(hottest, kelvin)
                kelvin = a * kelvin + (1 - a) * k * _load(chip, weights[r, c])
    assert hottest > (1.0 if tau < 0.01 else 0.02)
    cold = _alone(kind, 0.0, weights[1, 2], codes[2], **fields)
    assert (counts[1, 2] - cold).abs().max().item() > 1e-6


def test_full_drive_for_long_is_the_stated_rise() -> None:
    """All rings at -1: after many time constants the next tile is k warmer."""
    fields = RING | {"settle_time_s": 1.0}
    chip = quiet(thermal_memory_k=3.0, **fields)
    hot, codes = -torch.ones(4, 8, dtype=torch.float64), input_codes(chip, random(5, 8))
    measure(chip, hot, random(5, 8))
    weights = weight_codes(chip, random(1, 1, 4, 8, low=-1.0))
    found = chip.measure(weights, codes[None]).counts[0, 0]
    assert (found - _alone("ring", 3.0, weights[0, 0], codes, **fields)).abs().max().item() < 1e-12


@pytest.mark.parametrize("name", ["temperature_error_k", "warm_up_k", "temperature_drift_k", "thermal_memory_k"])
def test_a_crossbar_refuses_what_would_do_nothing(name: str) -> None:
    """Its cells have no first-order temperature effect; a setting that cannot be honoured is not taken."""
    with pytest.raises(RecordError, match=f"{name} must be 0"):
        quiet("crossbar", **{name: 1.0})


# ---------------------------------------------------------------- input-dependent crosstalk


@pytest.mark.parametrize("kind", ["ring", "crossbar"])
@pytest.mark.parametrize("k", [0.02, 0.4])
@pytest.mark.parametrize("n", [8, 5])
def test_a_channel_s_light_depends_on_its_neighbours(kind: str, k: float, n: int) -> None:
    """T_j (1 + k (T_{j-1} + T_{j+1}) / 2), the first and the last with one neighbour; unused ones are dark."""
    chip = quiet(kind, input_crosstalk=k)
    weights, t = random(4, n, low=-1.0), random(50, n, seed=1)
    padded = torch.nn.functional.pad(t, (1, 1))
    expected = (t * (1 + k * (padded[:, :-2] + padded[:, 2:]) / 2)) @ weights.T / 8
    assert (measure(chip, weights, t) - expected).abs().max().item() < 1e-14


@pytest.mark.parametrize("extinction", [None, 15.0])
def test_a_field_is_changed_by_its_neighbours_power(extinction: float | None) -> None:
    """E_j (1 + k (P_{j-1} + P_{j+1}) / 2) whatever the signs, P with the quadrature; which goes the same way."""
    k, phase = 0.3, 0.4
    chip = quiet("mesh", input_crosstalk=k, extinction_ratio_db=extinction, temperature_error_k=phase / 0.05)
    weights, field = random(4, 8, low=-1.0), random(50, 8, seed=1, low=-1.0)
    leak = 0.0 if extinction is None else 10 ** (-extinction / 20)
    quadrature = leak * (1 - field**2).sqrt()
    power = torch.nn.functional.pad(field**2 + quadrature**2, (1, 1))
    factor = 1 + k * (power[:, :-2] + power[:, 2:]) / 2
    # the local oscillators stand at the phase that a warm chip gives them, so that the quadrature is seen
    sent = factor * (field * math.cos(phase) + quadrature * math.sin(phase))
    expected = sent @ weights.T / torch.linalg.matrix_norm(weights, 2)
    assert (measure(chip, weights, field) - expected).abs().max().item() < 1e-12


def test_no_linear_response_has_input_crosstalk() -> None:
    """Two channels together give more than the sum of each alone: what a calibration's own model cannot hold."""
    chip = quiet(input_crosstalk=0.1)
    both = torch.zeros(3, 8, dtype=torch.float64)
    both[0, 2] = both[1, 3] = both[2, 2] = both[2, 3] = 0.7
    d = measure(chip, torch.ones(4, 8), both)
    assert (d[2] - d[0] - d[1]).numpy() == pytest.approx(0.1 * 0.7**2 / 8)
