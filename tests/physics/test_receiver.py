"""Detector pairs and amplifiers: hidden spreads, what balancing lets through, and one power for everything."""

from __future__ import annotations

import math

import pytest
import torch
from measuring import SHOTS, Q, even, measure, quiet, weight_codes
from torch import Tensor

from photonic.backends.simulated import SimulatedChip
from photonic.errors import RecordError
from photonic.physics import seeds
from photonic.physics.presets import PRESETS
from photonic.physics.receiver import Receiver

OUTPUTS = 100_000  # the standard error of a variance is 0.45 %
MANY = {"n_outputs": OUTPUTS, "n_inputs": 1}
CURRENT, BANDWIDTH = 1e-3, 5e9  # the defaults: 1 mW at 1 A/W


def _once(weight: float, level: float, **fields: object) -> Tensor:
    """Counts (OUTPUTS,) of one shot, every output with the same weight."""
    chip = quiet(**MANY, **fields)
    one = torch.full((1, 1), level, dtype=torch.float64)
    return measure(chip, torch.full((OUTPUTS, 1), weight, dtype=torch.float64), one)[0]


# ---------------------------------------------------------------- hidden spreads


@pytest.mark.parametrize("sigma", [0.02, 0.2])
@pytest.mark.parametrize(("weight", "level"), [(1.0, 1.0), (-0.5, 0.6)])
def test_every_amplifier_has_its_own_gain(sigma: float, weight: float, level: float) -> None:
    """log-normal, on the whole signal."""
    logs = (_once(weight, level, gain_spread=sigma) / (weight * level)).log()
    assert logs.var().item() == pytest.approx(sigma**2, rel=0.025)
    assert abs(logs.mean().item()) < 5 * sigma / math.sqrt(OUTPUTS)


def test_a_gain_amplifies_the_receiver_s_noise_too() -> None:
    """Thermal noise is referred to the input: g^2 i_n^2 B, output by output."""
    chip = quiet(gain_spread=0.25, thermal_noise_a_per_rthz=15e-12)
    d = even(chip, plus=1.0, level=0.5)
    gain = d.mean(0) / 0.5
    assert gain.std().item() > 0.05
    expected = (15e-12**2 * BANDWIDTH / CURRENT**2) * gain**2
    assert d.var(dim=0).numpy() == pytest.approx(expected.numpy(), rel=0.02)


@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_every_adc_has_its_own_offset(sigma: float) -> None:
    """Normal, in LSB; of D = 1/256 where the ADC has no bits. Quantised, with 1/12 LSB^2 more (Sheppard)."""
    assert _once(0.0, 1.0, offset_spread_lsb=sigma).var().item() == pytest.approx((sigma / 256) ** 2, rel=0.025)
    counts = _once(0.0, 1.0, offset_spread_lsb=sigma, adc_bits=12, adc_full_scale=0.5)
    assert counts.var().item() == pytest.approx(sigma**2 + 1 / 12, rel=0.025)


def test_offsets_are_the_adc_s_and_do_not_follow_gain_or_light() -> None:
    """The same count at every analog gain and laser power."""
    chip = quiet(offset_spread_lsb=3.0, gain_spread=0.1)
    dark = even(chip, plus=1.0, level=0.0, shots=1)
    for name, values in (("laser_power", (0.0, 0.25, 1.0)), ("analog_gain", (1.0, 4.0, 8.0))):
        for value in values:
            assert torch.equal(even(chip, plus=1.0, level=0.0, shots=1, **{name: value}), dark)
    assert dark.abs().min().item() > 0


@pytest.mark.parametrize("sigma", [0.02, 0.1])
@pytest.mark.parametrize(("weight", "level"), [(0.0, 1.0), (0.6, 0.4)])
def test_unequal_arms_turn_total_power_into_a_result(sigma: float, weight: float, level: float) -> None:
    """D + d/2 S, d the difference of the pair's responsivities over their mean."""
    error = _once(weight, level, arm_imbalance_spread=sigma) - weight * level
    assert error.var().item() == pytest.approx((sigma / 2 * level) ** 2, rel=0.025)
    assert abs(error.mean().item()) < 5 * sigma / 2 * level / math.sqrt(OUTPUTS)


def test_an_unbalanced_arm_is_no_offset_of_unused_channels_alone() -> None:
    """Light of unused channels, at the dark code, unbalances the pair like any other."""
    chip = quiet(arm_imbalance_spread=0.2, extinction_ratio_db=3.0)
    part = measure(chip, torch.zeros(4, 5), torch.zeros(1, 5))
    whole = measure(chip, torch.zeros(4, 8), torch.zeros(1, 8))
    assert (part - whole).abs().max().item() < 1e-15
    assert whole.abs().max().item() > 0.01


def test_a_device_keeps_what_is_not_switched() -> None:
    """The number of draws does not depend on the fields; the spreads do not correlate."""
    base = PRESETS["typical"].model_dump() | MANY | {"channel_leakage": False, "adc_bits": 4}
    fields = {"gain_spread": 0.05, "offset_spread_lsb": 0.5, "arm_imbalance_spread": 0.02}

    def drawn(**changed: object) -> Receiver:
        return Receiver.draw(type(PRESETS["typical"])(**(base | changed)), seeds.generator(1))

    whole = drawn(**fields)
    parts = {"gain_spread": "gain", "offset_spread_lsb": "offset_d", "arm_imbalance_spread": "imbalance"}
    sample = torch.stack((whole.gain.log(), whole.offset_d, whole.imbalance))
    assert (torch.corrcoef(sample) - torch.eye(3)).abs().max().item() < 5 / math.sqrt(OUTPUTS)
    for name, value in fields.items():
        alone = drawn(**(dict.fromkeys(fields, 0.0) | {name: value}), adc_inl_lsb=(0.0, 0.2))
        for field, part in parts.items():
            assert torch.equal(getattr(alone, part), getattr(whole, part)) == (field == name)


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("cmrr_db", [10.0, 25.0])
@pytest.mark.parametrize(("plus", "level"), [(0.5, 1.0), (0.75, 0.6)])
def test_what_balancing_lets_through_follows_the_total_power(cmrr_db: float, plus: float, level: float) -> None:
    """V = rin (D^2 + S^2 10^(-CMRR/10)), both factors common to all outputs; balancing never cancels D's own part."""
    rin_db = -125.0
    chip = quiet(rin_db_per_hz=rin_db, cmrr_db=cmrr_db)
    d = (2 * plus - 1) * level
    expected = 10 ** (rin_db / 10) * BANDWIDTH * (d**2 + level**2 * 10 ** (-cmrr_db / 10))
    covariance = torch.cov(even(chip, plus, level).T)
    assert covariance.numpy() == pytest.approx(expected, rel=0.02)


def test_rin_acts_on_an_imbalance_that_the_mean_shows() -> None:
    """rin (D + d/2 S)^2: an output of a weight of zero that reads an offset, from light, has that offset's RIN."""
    rin_db = -125.0
    d = even(quiet(rin_db_per_hz=rin_db, arm_imbalance_spread=0.2), plus=0.5, level=0.8)
    mean = d.mean(0)
    assert mean.abs().min().item() > 1e-3
    expected = 10 ** (rin_db / 10) * BANDWIDTH * torch.outer(mean, mean)
    assert torch.cov(d.T).numpy() == pytest.approx(expected.numpy(), rel=0.03)


@pytest.mark.parametrize("dark", [50e-9, 1e-4])
@pytest.mark.parametrize("level", [0.0, 0.7])
def test_dark_currents_of_both_photodiodes_make_shot_noise(dark: float, level: float) -> None:
    """2 q (I S + 2 I_dark) B; they cancel in the mean."""
    chip = quiet(dark_current_a=dark, shot_noise=True)
    d = even(chip, plus=0.75, level=level)
    expected = 2 * Q * (CURRENT * level + 2 * dark) * BANDWIDTH / CURRENT**2
    assert d.var(dim=0).numpy() == pytest.approx(expected, rel=0.02)
    assert d.mean(0).numpy() == pytest.approx(level / 2, abs=5 * math.sqrt(expected / SHOTS))


@pytest.mark.parametrize("extinction", [None, 6.0])
@pytest.mark.parametrize(("weight", "level"), [(0.0, 1.0), (0.5, 0.6), (-1.0, 1.0)])
def test_shot_noise_follows_a_crossbar_s_weights_and_not_a_ring_bank_s(
    extinction: float | None, weight: float, level: float
) -> None:
    """S = (|w| + 2 T_min / (1 - T_min)) T of two cells, with D = 1 at (1 - T_min) / (1 + T_min) of the light; S = T."""
    darkest = 0.0 if extinction is None else 10 ** (-extinction / 10)
    cells = (abs(weight) + 2 * darkest / (1 - darkest)) * level * CURRENT * (1 - darkest) / (1 + darkest)
    for kind, amperes, full, fields in (
        ("crossbar", cells, CURRENT * (1 - darkest) / (1 + darkest), {"cell_extinction_db": extinction}),
        ("ring", level * CURRENT, CURRENT, {}),
    ):
        chip = quiet(kind, shot_noise=True, **fields)
        weights = torch.full((4, 8), weight, dtype=torch.float64)
        d = measure(chip, weights, torch.full((SHOTS, 8), level, dtype=torch.float64))
        assert d.var(dim=0).numpy() == pytest.approx(2 * Q * amperes * BANDWIDTH / full**2, rel=0.02, abs=1e-30)
        assert d.mean(0).numpy() == pytest.approx(weight * level, abs=2e-5)


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5])
def test_the_laser_s_power_scales_each_noise_by_its_law(power: float) -> None:
    """Thermal and dark not at all, shot noise with P, RIN with P^2; 0 is dark."""
    dark, i_n, rin_db, level, plus = 1e-4, 12e-12, -135.0, 0.8, 0.75
    chip = quiet(shot_noise=True, dark_current_a=dark, thermal_noise_a_per_rthz=i_n, rin_db_per_hz=rin_db)
    s, d = power * level, power * level * 0.5
    amperes = i_n**2 + 2 * Q * (CURRENT * s + 2 * dark) + 10 ** (rin_db / 10) * (d * CURRENT) ** 2
    counts = even(chip, plus, level, laser_power=power)
    assert counts.var(dim=0).numpy() == pytest.approx(amperes * BANDWIDTH / CURRENT**2, rel=0.02)
    assert counts.mean(0).numpy() == pytest.approx(d, abs=5e-5)


def test_every_tile_may_have_its_own_analog_gain() -> None:
    """Signal and receiver noise times g, tile by tile."""
    chip = quiet(thermal_noise_a_per_rthz=15e-12)
    gains = torch.tensor([[1.0, 2.0, 4.0], [8.0, 1.0, 2.0]])
    weights = weight_codes(chip, torch.full((2, 3, 4, 8), 0.5))
    counts = chip.measure(weights, torch.ones(3, SHOTS // 4, 8, dtype=torch.float64), {"analog_gain": gains}).counts
    assert counts.mean((2, 3)).numpy() == pytest.approx(0.5 * gains.numpy(), rel=1e-3)
    expected = 15e-12**2 * BANDWIDTH / CURRENT**2 * gains.square()
    assert counts.var(dim=2).mean(-1).numpy() == pytest.approx(expected.numpy(), rel=0.02)


# ---------------------------------------------------------------- one power

LOSSES = {"coupling_loss_db": 2.0, "modulator_loss_db": 1.2, "routing_loss_db": 1.0, "device_loss_db": 0.5}


def _source_w(kind: str, pair_w: float) -> float:
    """All light of the source, by the link budget written out: 4 outputs, 8 inputs."""
    if kind == "ring":  # one comb, split among the buses
        return pair_w * 4 * 10 ** (4.7 / 10)
    if kind == "crossbar":  # both arms of every output are fed what the clear cell gives; the dark one keeps the rest
        darkest = 10 ** (-8.92 / 10)
        return pair_w / (1 + darkest) * 2 * 4 * 10 ** (4.7 / 10)
    path_db = (4 + 8 + 1) * 0.5  # a column of interferometers for each mode of either mesh, and the attenuators
    signal = pair_w * 8 * 10 ** ((4.2 + path_db) / 10)
    return signal + 2.5 * pair_w * 4 * 10 ** (3.0 / 10)  # the local oscillators pass coupling and routing


FIELDS = {"ring": {}, "crossbar": {"cell_extinction_db": 8.92}, "mesh": {"local_oscillator_ratio": 2.5}}


@pytest.mark.parametrize("kind", FIELDS)
def test_laser_power_and_power_at_a_pair_state_the_same(kind: str) -> None:
    """Either gives the other by the link budget, and the same noise, effective bits and counts."""
    fields = {**FIELDS[kind], **LOSSES, "shot_noise": True, "thermal_noise_a_per_rthz": 15e-12}
    given = quiet(kind, power_per_pair_w=0.4e-3, **fields)
    assert given.parameters.source_power_w == pytest.approx(_source_w(kind, 0.4e-3))
    laser = quiet(kind, power_per_pair_w=None, laser_power_w=_source_w(kind, 0.4e-3), **fields)
    assert laser.parameters.signal_power_w == pytest.approx(0.4e-3)
    assert laser.parameters.noise.shot == pytest.approx(given.parameters.noise.shot)
    assert laser.spec.enob == pytest.approx(given.spec.enob)
    counts = [even(chip, plus=0.75, level=0.9, shots=50) for chip in (given, laser)]
    assert (counts[0] - counts[1]).abs().max().item() < 1e-12


@pytest.mark.parametrize(("laser_w", "bits_lost"), [(8e-3, 0.0), (2e-3, 2.0)])
def test_less_light_costs_effective_bits(laser_w: float, bits_lost: float) -> None:
    """Where thermal noise rules, a quarter of the light is two bits less: noise measured, in D of full scale."""
    chip = quiet(power_per_pair_w=None, laser_power_w=laser_w, coupling_loss_db=3.0, thermal_noise_a_per_rthz=15e-12)
    current = laser_w / 4 / 10**0.3
    sigma = math.sqrt(15e-12**2 * BANDWIDTH) / current
    found = even(chip, plus=0.5, level=1.0).std(dim=0).mean().item()
    assert found == pytest.approx(sigma, rel=0.01)
    bits = math.log2(2 / (found * math.sqrt(12)))
    assert bits == pytest.approx(chip.spec.enob, abs=0.02)
    reference = SimulatedChip(chip.parameters.model_copy(update={"laser_power_w": 8e-3}))
    assert reference.spec.enob - bits == pytest.approx(bits_lost, abs=0.02)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"power_per_pair_w": -1e-3}, "power_per_pair_w"),
        ({"power_per_pair_w": 0.0}, "power_per_pair_w"),
        ({"laser_power_w": 0.01}, "exactly one of power_per_pair_w and laser_power_w"),
        ({"power_per_pair_w": None}, "exactly one of power_per_pair_w and laser_power_w"),
        ({"power_per_pair_w": None, "laser_power_w": -0.01}, "laser_power_w"),
        ({"coupling_loss_db": -0.1}, "coupling_loss_db"),
        ({"responsivity_a_per_w": 1.7}, "responsivity_a_per_w"),
        ({"responsivity_a_per_w": 0.0}, "responsivity_a_per_w"),
        ({"bandwidth_hz": 0.0}, "bandwidth_hz"),
        ({"thermal_noise_a_per_rthz": -1e-12}, "thermal_noise_a_per_rthz"),
        ({"dark_current_a": -1e-9}, "dark_current_a"),
        ({"cmrr_db": 0.0}, "cmrr_db"),
        ({"arm_imbalance_spread": 0.3}, "arm_imbalance_spread"),
        ({"gain_spread": 0.3}, "gain_spread"),
        ({"adc_full_scale": 0.0}, "adc_full_scale"),
    ],
)
def test_what_no_receiver_can_be_is_refused(fields: dict[str, object], said: str) -> None:
    """At construction, by field and bound."""
    with pytest.raises(RecordError, match=said):
        quiet(**fields)
