"""A modulator of finite bandwidth keeps a part of the symbols before."""

from __future__ import annotations

import math

import pytest
import torch
from measuring import SHOTS, quiet, random, raw_codes, read, weight_codes
from torch import Tensor

from photonic.errors import RangeError, RecordError
from photonic.physics.memory import low_pass, memory_coefficient

RATE = 5e9  # of symbols, the default


def _one_by_one(u: Tensor, a: float, initial: float | Tensor = 0.0) -> Tensor:
    """y_t = a y_(t-1) + (1 - a) u_t, step by step."""
    y, last = torch.empty_like(u), torch.zeros_like(u[0]) + initial
    for t in range(len(u)):
        last = a * last + (1 - a) * u[t]
        y[t] = last
    return y


# ---------------------------------------------------------------- through the chip


@pytest.mark.parametrize("bandwidth", [0.2e9, 1e9, 20e9])
def test_a_step_of_the_drive_arrives_exponentially(bandwidth: float) -> None:
    """1 - exp(-2 pi f t) of the drive, through the modulator's sine; 20 GHz are gone within a symbol of 5 GBd."""
    chip = quiet(modulator_bandwidth_hz=bandwidth)
    d = read(chip, torch.ones(4, 8), raw_codes(chip, torch.full((40, 8), 0.8)))
    t = torch.arange(1, 41, dtype=torch.float64) / RATE
    drive = 0.8 * (1 - torch.exp(-2 * math.pi * bandwidth * t))
    expected = torch.sin(math.pi / 2 * drive) ** 2
    assert (d - expected.unsqueeze(1)).abs().max().item() < 1e-7  # 0.8 is a float32


@pytest.mark.parametrize(
    ("kind", "low", "n"),
    [("ring", 0.0, 8), ("ring", 0.0, 5), ("crossbar", 0.0, 8), ("crossbar", 0.0, 5), ("mesh", -1.0, 8)],
)
def test_every_channel_remembers_its_own_symbols(kind: str, low: float, n: int) -> None:
    """From the dark at the start of a call, for every column of tiles, partial ones too; rows of tiles see the same."""
    f = 0.7e9
    chip = quiet(kind, modulator_bandwidth_hz=f)
    weights, u = random(2, 3, 4, n, low=-1.0), random(3, 300, n, low=low)
    counts = chip.measure(weight_codes(chip, weights), raw_codes(chip, u)).counts
    a = math.exp(-2 * math.pi * f / RATE)
    scale = torch.linalg.matrix_norm(weights, 2) if kind == "mesh" else torch.full((2, 3), 8.0)
    for c in range(3):
        phase = math.pi / 2 * _one_by_one(u[c], a)
        light = torch.sin(phase) if kind == "mesh" else torch.sin(phase) ** 2
        for r in range(2):
            expected = light @ weights[r, c].mT / scale[r, c]
            assert (counts[r, c] - expected).abs().max().item() < 1e-10
    again = chip.measure(weight_codes(chip, weights), raw_codes(chip, u)).counts
    assert torch.equal(again, counts)


def test_a_dac_that_is_off_at_code_0_stands_there_before_the_first_symbol() -> None:
    """Light of the dark code is the same in every shot, of used channels and of unused ones."""
    fields = {"input_bits": 4, "input_inl_lsb": (1.5, 0.5, 0.0), "weight_bits": 8}
    slow, fast = quiet(modulator_bandwidth_hz=0.1e9, **fields), quiet(**fields)
    codes = torch.zeros(20, 5, dtype=torch.int16)
    for chip in (slow, fast):
        d = read(chip, torch.ones(4, 5), codes)
        # the three unused channels meet weights of zero
        assert d.flatten().numpy() == pytest.approx(5 / 8 * math.sin(math.pi / 2 * 1.5 / 15) ** 2)


@pytest.mark.parametrize("bandwidth", [0.3e9, 1e9])
def test_noise_of_the_dac_is_filtered_with_the_drive(bandwidth: float) -> None:
    """White noise of variance s^2 comes out as (1 - a) / (1 + a) s^2, and shots that are k apart correlate by a^k."""
    chip = quiet(n_inputs=1, n_outputs=1, input_bits=10, input_enob=8.0, modulator_bandwidth_hz=bandwidth)
    a = math.exp(-2 * math.pi * bandwidth / RATE)
    codes = raw_codes(chip, torch.full((SHOTS, 1), 0.5))
    phase = torch.asin(read(chip, torch.ones(1, 1), codes)[200:, 0].sqrt())  # behind the step
    expected = (4.0**2 - 1) / 12 * (math.pi / 2 / 1023) ** 2 * (1 - a) / (1 + a)
    assert phase.var().item() == pytest.approx(expected, rel=0.05)
    centred = phase - phase.mean()
    for k in (1, 2):
        assert (centred[k:] * centred[:-k]).mean().item() / expected == pytest.approx(a**k, abs=0.02)


# ---------------------------------------------------------------- the filter


@pytest.mark.parametrize("a", [0.0, 1e-9, 0.05, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("length", [1, 2, 3, 17, 64, 1000])
def test_sums_over_doubling_windows_are_the_recursion(a: float, length: int) -> None:
    """Whatever the coefficient, from an initial value for each channel; the argument is left alone."""
    u, initial = random(length, 3, low=-1.0), random(3, seed=4)
    kept = u.clone()
    found = low_pass(u, a, initial)
    assert torch.equal(u, kept)
    assert (found - _one_by_one(u, a, initial)).abs().max().item() < 1e-14
    batched = low_pass(torch.stack((u, -u)), a, 0.0)
    assert (batched[1] + batched[0]).abs().max().item() == 0.0


def test_no_symbols_no_memory() -> None:
    assert low_pass(torch.zeros(0, 3), 0.5, 1.0).shape == (0, 3)


def test_the_coefficient_is_that_of_one_symbol() -> None:
    """exp(-2 pi f T); after n symbols a^n is exp(-2 pi f n T)."""
    assert memory_coefficient(1e9, 5e9) == pytest.approx(0.2846095, rel=1e-6)
    assert memory_coefficient(1e9, 1e9) == pytest.approx(memory_coefficient(1e9, 5e9) ** 5)


@pytest.mark.parametrize("pair", [(0.0, 1e9), (1e9, 0.0), (-1e9, 1e9), (math.nan, 1e9)])
def test_frequencies_that_are_not_positive_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(RangeError, match="bandwidth and symbol rate must be positive"):
        memory_coefficient(*pair)
    with pytest.raises(RecordError, match=r"modulator_bandwidth_hz|symbol_rate_hz"):
        quiet(modulator_bandwidth_hz=pair[0], symbol_rate_hz=pair[1])


@pytest.mark.parametrize("a", [-0.1, 1.1, math.nan])
def test_a_memory_that_grows_is_refused(a: float) -> None:
    with pytest.raises(RangeError, match=r"must lie in \[0, 1\]"):
        low_pass(torch.zeros(3, 1), a, 0.0)
