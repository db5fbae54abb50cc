"""Modulators, channels and their lasers: what hides in them has the distribution of its field."""

from __future__ import annotations

import math

import pytest
import torch
from measuring import SHOTS, even, measure, quiet, random, raw_codes, read, single_channels, weight_codes
from torch import Tensor

from photonic.errors import RecordError
from photonic.physics import seeds
from photonic.physics.presets import PRESETS
from photonic.physics.transmitter import Transmitter

DEVICES, CHANNELS = 100, 100  # 10000 channels: the standard error of a variance is 1.4 %


def _channels(u: float, **fields: object) -> Tensor:
    """Light (DEVICES x CHANNELS,) of many devices' channels, each by itself, at one drive."""
    size = {"n_outputs": CHANNELS, "n_inputs": CHANNELS}
    return torch.cat([single_channels(quiet(device=100 + d, **size, **fields), u) for d in range(DEVICES)])


def _normal(sample: Tensor, sigma: float) -> None:
    """Mean 0, variance sigma^2, and the shape of a normal law at the 0.1 % point of Kolmogorov and Smirnov."""
    n = len(sample)
    assert abs(sample.mean().item()) < 5 * sigma / math.sqrt(n)
    assert sample.var().item() == pytest.approx(sigma**2, rel=0.06)
    below = torch.arange(1, n + 1, dtype=torch.float64) / n
    distance = (torch.special.ndtr(sample.sort().values / sigma) - below).abs().max().item()
    assert distance < 1.95 / math.sqrt(n)


# ---------------------------------------------------------------- transfer


@pytest.mark.parametrize("extinction", [10.0, 25.0, None])
def test_light_is_the_modulator_s_sine_over_its_extinction(extinction: float | None) -> None:
    """T_min + (1 - T_min) sin^2(pi/2 u), T_min = 10^(-ER / 10): never dark, and full at V_pi."""
    chip = quiet(extinction_ratio_db=extinction)
    u = random(100, 8)
    u[:2] = torch.tensor([[0.0], [1.0]])
    darkest = 0.0 if extinction is None else 10 ** (-extinction / 10)
    level = darkest + (1 - darkest) * torch.sin(math.pi / 2 * u) ** 2
    weights = random(4, 8, seed=2, low=-1.0)
    d = read(chip, weights, raw_codes(chip, u))
    assert (d - level @ weights.T / 8).abs().max().item() < 1e-14
    full, dark = d[1], d[0]
    if extinction is not None:
        assert (full / dark).numpy() == pytest.approx(10 ** (extinction / 10))


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_even_steps_of_drive(bits: int) -> None:
    """V_pi at the last code; a code that a level is rounded to is off by at most half a step."""
    chip = quiet(n_inputs=1, input_bits=bits)
    codes = torch.arange(2**bits, dtype=torch.float64).unsqueeze(1)
    d = read(chip, torch.ones(4, 1), codes)[:, 0]
    assert (d - torch.sin(math.pi / 2 * codes[:, 0] / (2**bits - 1)) ** 2).abs().max().item() < 1e-14
    levels = random(500, 1)
    found = measure(chip, torch.ones(4, 1), levels)[:, :1]
    error = (torch.asin(found.sqrt()) - torch.asin(levels.sqrt())) * (2 / math.pi)
    assert error.abs().max().item() <= 0.5 / (2**bits - 1) + 1e-12
    assert error.var().item() == pytest.approx((2**bits - 1) ** -2 / 12, rel=0.2)


# ---------------------------------------------------------------- hidden spreads


@pytest.mark.parametrize(("sigma", "u"), [(0.02, 1.0), (0.1, 0.4)])
def test_every_channel_has_its_own_power(sigma: float, u: float) -> None:
    """log-normal, whatever the level."""
    _normal((_channels(u, channel_spread=sigma) / math.sin(math.pi / 2 * u) ** 2).log(), sigma)


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_every_modulator_has_its_own_v_pi(sigma: float) -> None:
    """The phase of one drive is log-normal."""
    phase = torch.asin(_channels(0.5, v_pi_spread=sigma).sqrt())
    _normal((phase / (math.pi / 4)).log(), sigma)


@pytest.mark.parametrize("sigma", [0.01, 0.2])
def test_every_modulator_has_its_own_null(sigma: float) -> None:
    """T = sin^2(pi/2 u + b/2): b is an angle of the full phase."""
    phase = 2 * torch.asin(_channels(0.5, bias_spread_rad=sigma).sqrt())
    _normal(phase - math.pi / 2, sigma)


def test_hidden_quantities_are_independent_and_stay_when_others_are_switched_off() -> None:
    """Draws do not depend on the fields; DACs with a mismatch of their own come last."""
    base = PRESETS["typical"].model_dump() | {"n_inputs": 20_000}
    fields = {"v_pi_spread": 0.02, "bias_spread_rad": 0.03, "channel_spread": 0.04}

    def drawn(**changed: object) -> Transmitter:
        return Transmitter.draw(type(PRESETS["typical"])(**(base | changed)), seeds.generator(5))

    small = {"channel_leakage": False}
    whole = drawn(**fields, **small)
    logs = torch.stack((-whole.inverse_v_pi.log(), 2 * whole.bias_rad, whole.power.log()))
    covariance = torch.cov(logs)
    assert covariance.diagonal().sqrt().numpy() == pytest.approx([0.02, 0.03, 0.04], rel=0.03)
    correlation = torch.corrcoef(logs) - torch.eye(3)
    assert correlation.abs().max().item() < 5 / math.sqrt(20_000)
    for name, value in fields.items():
        alone = drawn(**(dict.fromkeys(fields, 0.0) | {name: value}), **small, input_mismatch=0.01, input_bits=4)
        for part in ("inverse_v_pi", "bias_rad", "power"):
            mine = {"v_pi_spread": "inverse_v_pi", "bias_spread_rad": "bias_rad", "channel_spread": "power"}[name]
            same = torch.equal(getattr(alone, part), getattr(whole, part))
            assert same == (part == mine)


# ---------------------------------------------------------------- a laser for each channel


@pytest.mark.parametrize("level", [0.4, 1.0])
def test_lines_with_lasers_of_their_own_have_rin_of_their_own(level: float) -> None:
    """Cov(D_i, D_k) = 10^(RIN/10) B sum_j w_ij w_kj T_j^2 / N^2: not rank one, and 1 / N of the common one at w = 1."""
    rin_db, bandwidth = -120.0, 5e9
    chip = quiet(rin_db_per_hz=rin_db, rin_per_line=True)
    weights = random(4, 8, seed=5, low=-1.0)
    weights[0] = 1.0
    rin = 10 ** (rin_db / 10) * bandwidth
    expected = rin * level**2 / 64 * weights @ weights.T
    assert expected[0, 0].item() == pytest.approx(rin * level**2 / 8)
    d = measure(chip, weights, torch.full((SHOTS, 8), level, dtype=torch.float64))
    assert d.mean(0).numpy() == pytest.approx((level * weights.mean(1)).numpy(), abs=1e-3)
    covariance = torch.cov(d.T)
    assert covariance.diagonal().numpy() == pytest.approx(expected.diagonal().numpy(), rel=0.02)
    assert (covariance - expected).abs().max().item() < 0.05 * expected[0, 0].item()
    values = torch.linalg.eigvalsh(covariance)
    assert values[-2].item() > 0.05 * values[-1].item()


def test_lines_do_not_share_rin_between_tiles() -> None:
    """Row tiles are shots of their own."""
    chip = quiet(n_outputs=1, rin_db_per_hz=-120.0, rin_per_line=True)
    codes = raw_codes(chip, torch.ones(1, SHOTS, 8))
    counts = chip.measure(weight_codes(chip, torch.ones(2, 1, 1, 8)), codes).counts[:, 0, :, 0]
    assert abs(torch.corrcoef(counts)[0, 1].item()) < 5 / math.sqrt(SHOTS)


def test_noise_makes_no_light_negative() -> None:
    """At a variance of 1, of thermal light: the shot noise is still a number."""
    chip = quiet(n_inputs=1, rin_db_per_hz=-96.99, rin_per_line=True, shot_noise=True)
    d = even(chip, plus=1.0, level=1.0, shots=20_000)
    assert d.isfinite().all()
    assert d.min().item() > -0.01


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rin_db_per_hz": -96.9}, "rin_db_per_hz must be at most -97.0 with bandwidth_hz 5e"),
        ({"rin_db_per_hz": -110.0, "bandwidth_hz": 2e11}, "rin_db_per_hz must be at most -113.0"),
        ({"rin_db_per_hz": 0.0}, "rin_db_per_hz"),
        ({"rin_db_per_hz": -140.0, "rin_per_line": True, "cmrr_db": 25.0}, "cmrr_db must be None with rin_per_line"),
        ({"extinction_ratio_db": 0.0}, "extinction_ratio_db"),
        ({"extinction_ratio_db": -3.0}, "extinction_ratio_db"),
        ({"channel_spread": 0.3}, "channel_spread"),
        ({"v_pi_spread": -0.01}, "v_pi_spread"),
        ({"bias_spread_rad": 1.0}, "bias_spread_rad"),
        ({"input_crosstalk": 0.5}, "input_crosstalk"),
    ],
)
def test_what_no_source_can_be_is_refused(fields: dict[str, object], said: str) -> None:
    """At construction, by field and bound."""
    with pytest.raises(RecordError, match=said):
        quiet(**fields)
