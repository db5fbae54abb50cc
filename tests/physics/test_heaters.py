"""Heat on a ring bank, as the chip shows it: neighbours' heaters, and a temperature that all rings share."""

from __future__ import annotations

import math

import pytest
import torch
from measuring import measure, quiet, random
from torch import Tensor

FIELDS = {"channel_leakage": False, "max_detuning_nm": 0.25}


def _held(chip_fields: dict[str, object], weights: Tensor) -> Tensor:
    """Weights (M, N) that the chip has, channel by channel."""
    chip = quiet(**FIELDS, **chip_fields)
    return measure(chip, weights, torch.eye(8, dtype=torch.float64)).T * 8


def _detuning_nm(weights: Tensor) -> Tensor:
    """Of a nominal ring alone, 0.08 nm wide: 2 L - 1 = w with L = 1 / (1 + (2 delta / FWHM)^2), up to the reach."""
    return (0.04 * ((1 - weights) / (1 + weights)).sqrt()).clamp(max=0.25)


def _weights(nm: Tensor) -> Tensor:
    return 2 / (1 + (nm / 0.04) ** 2) - 1


@pytest.mark.parametrize(("a", "b", "pitch"), [(0.217, 0.127, 60.0), (0.5, 0.02, 30.0)])
def test_every_heater_detunes_the_other_rings(a: float, b: float, pitch: float) -> None:
    """By a exp(-b d) of its own detuning, d on a grid of M x N."""
    weights = random(4, 8, low=-0.95)
    nm = _detuning_nm(weights)
    row, column = torch.arange(32) // 8, torch.arange(32) % 8
    d = pitch * torch.hypot((row[:, None] - row).double(), (column[:, None] - column).double())
    gamma = (a * torch.exp(-b * d)).fill_diagonal_(1.0)
    expected = _weights((gamma @ nm.flatten()).view(4, 8))
    found = _held({"thermal_crosstalk": a, "thermal_decay_per_um": b, "heater_pitch_um": pitch}, weights)
    assert (found - expected).abs().max().item() < 1e-5  # couplings below 1e-7 are left out
    assert (found - weights.clamp(min=_weights(torch.tensor(0.25)).item())).abs().max().item() > 1e-4


@pytest.mark.parametrize("kelvin", [-0.8, 0.3, 5.0])
def test_a_temperature_shifts_every_resonance_alike(kelvin: float) -> None:
    """resonance_nm_per_k times the deviation, towards longer wavelengths, whatever the weight."""
    weights = random(4, 8, low=-0.95)
    expected = _weights(_detuning_nm(weights) + 0.09 * kelvin)
    found = _held({"temperature_error_k": kelvin, "resonance_nm_per_k": 0.09}, weights)
    assert (found - expected).abs().max().item() < 1e-12


@pytest.mark.parametrize("sigma", [0.0005, 0.004])
def test_rings_stand_where_their_spread_puts_them(sigma: float) -> None:
    """A bank told to be on the flank, w = 0: each ring's own offset in nm, of variance sigma^2."""
    n = 100
    offsets = []
    for device in range(2):
        chip = quiet(n_outputs=n, n_inputs=n, resonance_spread_nm=sigma, device=device, channel_leakage=False)
        held = measure(chip, torch.zeros(n, n), torch.eye(n, dtype=torch.float64)).T * n
        offsets.append(0.04 * ((1 - held) / (1 + held)).sqrt() - 0.04)
    assert torch.stack(offsets).var().item() == pytest.approx(sigma**2, rel=0.05)  # standard error 1 %
    assert abs(torch.stack(offsets).mean().item()) < 5 * sigma / math.sqrt(2 * n * n)


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_rings_are_as_wide_as_their_spread_makes_them(sigma: float) -> None:
    """The linewidth is log-normal: on the flank 1 / L - 1 = (FWHM_nominal / FWHM)^2."""
    n = 100
    logs = []
    for device in range(2):
        chip = quiet(n_outputs=n, n_inputs=n, fwhm_spread=sigma, device=device, channel_leakage=False)
        held = measure(chip, torch.zeros(n, n), torch.eye(n, dtype=torch.float64)).T * n
        logs.append(-0.5 * ((1 - held) / (1 + held)).log())
    assert torch.stack(logs).var().item() == pytest.approx(sigma**2, rel=0.05)
    assert abs(torch.stack(logs).mean().item()) < 5 * sigma / math.sqrt(2 * n * n)
