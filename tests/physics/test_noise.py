"""The simulated chip's noise has the distribution that its formulas say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from photonic.backends.simulated import SimulatedChip
from photonic.physics.parameters import ELEMENTARY_CHARGE_C
from photonic.physics.presets import PRESETS
from photonic.physics.ringbank import RingBankParameters

SHOTS = 200_000  # the standard error of a variance is sqrt(2 / SHOTS) = 0.3 %, so 2 % is more than six of them
QUIET = PRESETS["ideal"].model_dump() | {"n_outputs": 4, "n_inputs": 64}


def _chip(**fields: object) -> SimulatedChip:
    return SimulatedChip(RingBankParameters(**(QUIET | fields)), device=3, seed=7)


def _counts(chip: SimulatedChip, plus: float, level: float, shots: int = SHOTS) -> Tensor:
    """Counts (shots, M) at S = level and D = (2 plus - 1) level: a share ``plus`` of the weights is +1, the rest -1."""
    n = chip.spec.n_inputs
    weights = torch.full((chip.spec.n_outputs, n), -chip.parameters.weight_code_one, dtype=torch.float64)
    weights[:, : round(plus * n)] *= -1
    code = chip.spec.response.inputs.code_one * (2 / math.pi) * math.asin(math.sqrt(level))
    inputs = torch.full((1, shots, n), code, dtype=torch.float64)
    codes = weights.round().reshape(1, 1, -1).to(chip.spec.code_dtype)
    if chip.spec.input_bits is not None:
        inputs = inputs.round()
    return chip.measure(codes, inputs.to(chip.spec.code_dtype)).counts[0, 0].double()


@pytest.mark.parametrize("plus", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_variance_follows_the_formula_with_s_and_d_varied_separately(plus: float, level: float) -> None:
    """V = thermal + shot S + rin D^2, each from SI quantities written out here."""
    power, response, bandwidth, i_n, rin_db = 0.4e-3, 0.9, 8e9, 12e-12, -143.0
    chip = _chip(
        power_per_pair_w=power,
        responsivity_a_per_w=response,
        bandwidth_hz=bandwidth,
        shot_noise=True,
        thermal_noise_a_per_rthz=i_n,
        rin_db_per_hz=rin_db,
    )
    current = response * power
    s, d = level, (2 * plus - 1) * level
    expected = (
        i_n**2 * bandwidth
        + 2 * ELEMENTARY_CHARGE_C * s * current * bandwidth
        + 10 ** (rin_db / 10) * (d * current) ** 2 * bandwidth
    ) / current**2
    counts = _counts(chip, plus, level)
    assert counts.mean().item() == pytest.approx(d, abs=5 * math.sqrt(expected / SHOTS))
    assert counts.var(dim=0).numpy() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("fields", "s", "d", "expected"),
    [
        ({"shot_noise": True}, 1.0, 0.0, 2 * ELEMENTARY_CHARGE_C * 5e9 / 1e-3),
        ({"shot_noise": True, "dark_current_a": 1e-4}, 1.0, 0.0, 2 * ELEMENTARY_CHARGE_C * 5e9 * 1.2 / 1e-3),
        ({"thermal_noise_a_per_rthz": 15e-12}, 1.0, 1.0, 15e-12**2 * 5e9 / 1e-6),
        ({"rin_db_per_hz": -140.0}, 1.0, 1.0, 1e-14 * 5e9),
    ],
)
def test_each_effect_alone_has_its_own_variance(fields: dict[str, float], s: float, d: float, expected: float) -> None:
    """One switch on, all others off."""
    counts = _counts(_chip(**fields), plus=(1 + d) / 2, level=s)
    assert counts.var(dim=0).numpy() == pytest.approx(expected, rel=0.02)


def test_a_chip_with_all_switches_off_is_silent() -> None:
    """No noise is drawn that nobody switched on."""
    counts = _counts(_chip(), plus=1.0, level=0.7, shots=100)
    assert (counts - counts[0]).abs().max().item() < 1e-15


def test_rin_is_one_factor_for_all_outputs_of_a_shot() -> None:
    """Covariance between outputs is rin D_i D_j, and shot and thermal noise add none."""
    chip = _chip(rin_db_per_hz=-130.0, shot_noise=True, thermal_noise_a_per_rthz=15e-12)
    noise = chip.parameters.noise
    covariance = torch.cov(_counts(chip, plus=0.75, level=0.8).T)
    d = 0.5 * 0.8
    off_diagonal = covariance[~torch.eye(4, dtype=torch.bool)]
    assert off_diagonal.numpy() == pytest.approx(noise.rin * d * d, rel=0.05)
    assert covariance.diagonal().numpy() == pytest.approx(noise.variance(0.8, d), rel=0.02)


def test_rin_of_two_tiles_is_drawn_twice() -> None:
    """Every tile is its own shot: row tiles share inputs, not noise."""
    chip = _chip(rin_db_per_hz=-130.0)
    top = chip.parameters.weight_code_one
    weights = torch.full((2, 1, 4 * 64), top, dtype=torch.float64)
    inputs = torch.ones(1, SHOTS, 64, dtype=torch.float64)
    counts = chip.measure(weights, inputs).counts[:, 0, :, 0]
    correlation = torch.corrcoef(counts)[0, 1].item()
    assert abs(correlation) < 5 / math.sqrt(SHOTS)


@pytest.mark.parametrize(("s", "d", "lsb"), [(0.0, 0.0, 0.54), (1.0, 0.0, 0.85), (1.0, 0.25, 0.99)])
def test_typical_stands_at_the_operating_point_of_the_design(s: float, d: float, lsb: float) -> None:
    """Noise before quantisation in LSB, and 6.4 effective bits."""
    typical = PRESETS["typical"]
    assert math.sqrt(typical.noise.variance(s, d)) / typical.lsb == pytest.approx(lsb, abs=0.005)
    chip = SimulatedChip(typical)
    assert chip.spec.enob == pytest.approx(6.4, abs=0.05)


def test_counts_of_an_8_bit_chip_carry_the_noise_and_the_quantisation() -> None:
    """Above half an LSB of noise the quantisation adds 1/12 LSB^2 (Sheppard)."""
    chip = _chip(
        adc_bits=8,
        adc_full_scale=0.25,
        shot_noise=True,
        thermal_noise_a_per_rthz=15e-12,
        rin_db_per_hz=-145.0,
        max_detuning_nm=None,
    )
    expected = chip.parameters.noise.variance(1.0, 0.0) / chip.parameters.lsb**2 + 1 / 12
    assert _counts(chip, plus=0.5, level=1.0).var(dim=0).numpy() == pytest.approx(expected, rel=0.02)


def test_noise_is_normal() -> None:
    """Kolmogorov-Smirnov distance of the standardised counts below its 0.1 % point, 1.95 / sqrt(n)."""
    chip = _chip(shot_noise=True, thermal_noise_a_per_rthz=15e-12, rin_db_per_hz=-140.0)
    counts = _counts(chip, plus=0.75, level=1.0)[:, 0]
    z = (counts - 0.5) / math.sqrt(chip.parameters.noise.variance(1.0, 0.5))
    empirical = torch.arange(1, SHOTS + 1) / SHOTS
    distance = (torch.special.ndtr(z.sort().values) - empirical).abs().max().item()
    assert distance < 1.95 / math.sqrt(SHOTS)
