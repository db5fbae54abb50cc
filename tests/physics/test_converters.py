"""DACs and ADCs: noise for an ENOB, INL and DNL by table or by mismatch, as the chip converts."""

from __future__ import annotations

import math

import pytest
import torch
from measuring import SHOTS, Q, even, quiet, random, raw_codes, read, weight_codes
from torch import Tensor

from photonic.backends.simulated import SimulatedChip
from photonic.errors import RangeError, RecordError, ShapeError
from photonic.physics import converters

TABLE = (0.0, 0.4, -0.3, 0.2, 1.1, 0.7, -0.2, -0.9, 0.0, 0.5, 0.5, -0.4, 0.1, 0.9, 0.2, -0.1)  # of 4 bits


def _sweep(chip: SimulatedChip, d: Tensor) -> Tensor:
    """Counts (B, M) at D from -1/2 to 1/2: two channels, of weights +1 and -1."""
    weights = torch.tensor([[1.0, -1.0]], dtype=torch.float64).expand(chip.spec.n_outputs, 2)
    levels = torch.stack((0.5 + d, 0.5 - d), dim=-1)
    return read(chip, weights, torch.asin(levels.sqrt()) * (2 / math.pi))


def _adc(outputs: int = 1, **fields: object) -> SimulatedChip:
    """An ADC from D = -1/2 to 1/2."""
    return quiet(n_outputs=outputs, n_inputs=2, adc_full_scale=0.5, **fields)


def _ramp(bits: int, steps: int) -> Tensor:
    """D, over the whole range of such an ADC, in ``steps`` for each count, at the middle of each step."""
    lsb = 2.0**-bits
    return (torch.arange(steps * 2**bits, dtype=torch.float64) + 0.5) / steps * lsb - 0.5


def _normal_codes(bits: int, count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float64) - 2 ** (bits - 1)


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize(("bits", "enob"), [(8, 6.0), (10, 8.7)])
@pytest.mark.parametrize("d", [0.0, 0.31])
def test_an_adc_s_noise_and_its_quantisation_are_those_of_its_enob(bits: int, enob: float, d: float) -> None:
    """4^(bits - enob) / 12 LSB^2 in all, independent in every output."""
    counts = _sweep(_adc(2, adc_bits=bits, adc_enob=enob), torch.full((SHOTS,), d, dtype=torch.float64))
    covariance = torch.cov(counts.T)
    assert covariance.diagonal().numpy() == pytest.approx(4 ** (bits - enob) / 12, rel=0.02)
    assert abs(covariance[0, 1].item()) < 5 * covariance[0, 0].item() / math.sqrt(SHOTS)
    assert counts.mean(0).numpy() == pytest.approx(d * 2**bits, abs=0.02)


@pytest.mark.parametrize("enob", [5.0, 7.3])
def test_a_full_scale_sine_has_the_enob(enob: float) -> None:
    """(SNDR - 1.76 dB) / 6.02 dB of a sine over the whole range, IEEE Std 1241."""
    amplitude = 0.5 - 5 * 2.0**-8 if enob > 6 else 0.35  # the peaks must not clip
    d = amplitude * torch.sin(2 * math.pi * 0.3819660113 * torch.arange(SHOTS, dtype=torch.float64))
    counts = _sweep(_adc(adc_bits=8, adc_enob=enob), d)[:, 0]
    basis = torch.stack((d, torch.ones_like(d)), dim=1)
    residual = counts - basis @ torch.linalg.lstsq(basis, counts.unsqueeze(1)).solution[:, 0]
    full = (0.5 * 2**8) ** 2 / 2
    sndr_db = 10 * math.log10(full / residual.square().mean().item())
    assert (sndr_db - 1.76) / 6.02 == pytest.approx(enob, abs=0.02)


def test_a_converter_s_noise_comes_behind_the_analog_gain() -> None:
    """Thermal noise grows with the gain, the ADC's own and the quantisation do not; gains are of each tile."""
    bits, enob, i_n, bandwidth, current = 10, 8.0, 15e-12, 5e9, 1e-3
    chip = quiet(n_inputs=2, adc_bits=bits, adc_enob=enob, adc_full_scale=0.5, thermal_noise_a_per_rthz=i_n)
    weights = weight_codes(chip, torch.zeros(2, 2, 4, 2))
    light = torch.zeros(2, SHOTS // 2, 2, dtype=torch.float64)
    gains = torch.tensor([[1.0, 8.0], [4.0, 2.0]])
    counts = chip.measure(weights, light, {"analog_gain": gains}).counts.double()
    thermal = i_n**2 * bandwidth / current**2 * 4**bits  # one count is 2 * 0.5 / 2^bits of D
    expected = thermal * gains.double().square() + 4 ** (bits - enob) / 12
    assert counts.var(dim=2).mean(-1).numpy() == pytest.approx(expected.numpy(), rel=0.02)


@pytest.mark.parametrize("u", [0.5, 0.2])
@pytest.mark.parametrize(("bits", "enob"), [(8, 6.0), (6, 5.2)])
def test_a_dac_s_noise_is_that_of_its_enob(u: float, bits: int, enob: float) -> None:
    """(4^(bits - enob) - 1) / 12 LSB^2 of drive, through the slope of the modulator, the same at all outputs."""
    chip = quiet(n_outputs=2, input_bits=bits, input_enob=enob)
    weights = torch.tensor([[1.0] * 8, [0.5, -1.0] * 4], dtype=torch.float64)
    codes = raw_codes(chip, torch.full((SHOTS, 8), u, dtype=torch.float64))
    one = 2**bits - 1
    drive, sigma = codes[0, 0].item() / one, math.sqrt((4 ** (bits - enob) - 1) / 12) / one
    # T = (1 - cos(pi u)) / 2, and the variance of a cosine of a normal angle
    spread = (math.pi * sigma) ** 2
    level = (1 - math.exp(-spread / 2) * math.cos(math.pi * drive)) / 2
    square = (1 + math.exp(-2 * spread) * math.cos(2 * math.pi * drive)) / 2
    variance = (square - (1 - 2 * level) ** 2) / 4
    expected = variance / 64 * (weights @ weights.T)
    d = read(chip, weights, codes)
    covariance = torch.cov(d.T)
    assert covariance.numpy() == pytest.approx(expected.numpy(), rel=0.05)
    assert covariance.diagonal().numpy() == pytest.approx(expected.diagonal().numpy(), rel=0.02)
    assert d.mean(0).numpy() == pytest.approx((level * weights.mean(1)).numpy(), abs=5 * math.sqrt(variance / SHOTS))


def test_every_tile_s_shot_has_its_own_dac_noise() -> None:
    """Row tiles share codes, not time."""
    chip = quiet(n_outputs=1, input_bits=8, input_enob=5.0)
    codes = raw_codes(chip, torch.full((1, SHOTS, 8), 0.5, dtype=torch.float64))
    counts = chip.measure(weight_codes(chip, torch.ones(2, 1, 1, 8)), codes).counts[:, 0, :, 0]
    assert counts.var(dim=1).min().item() > 0
    assert abs(torch.corrcoef(counts)[0, 1].item()) < 5 / math.sqrt(SHOTS)


# ---------------------------------------------------------------- the ADC's table


def _inl_by_ramp(counts: Tensor, bits: int, steps: int) -> Tensor:
    """INL (2^bits,) of an ADC, from where on a slow ramp each code is passed, to half a step."""
    low = counts + 2 ** (bits - 1)
    below = torch.stack([(low < k).sum() for k in range(2**bits)]).double() / steps  # from the lowest rail
    ideal = torch.arange(2**bits, dtype=torch.float64) - 0.5
    # the ramp begins in the middle of code 0: D = -1/2 is a count of -2^(bits - 1)
    inl = below - ideal
    inl[0] = 0.0
    return inl


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"adc_inl_lsb": TABLE}, TABLE),
        # 6 values, 3 codes apart, with straight lines between them
        (
            {"adc_inl_lsb": (0.0, 0.6, -0.3, 0.9, 0.0, -0.6)},
            (0.0, 0.2, 0.4, 0.6, 0.3, 0.0, -0.3, 0.1, 0.5, 0.9, 0.6, 0.3, 0.0, -0.2, -0.4, -0.6),
        ),
        # the first transition stays, and the width of code k moves all behind it
        (
            {"adc_dnl_lsb": (0.0, 0.5, -0.5, 0.25, 0.0, 0.0, -1.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, -0.25, 0.0)},
            (0.0, 0.0, 0.5, 0.0, 0.25, 0.25, 0.25, -0.75, -0.75, -0.75, -0.25, -0.25, -0.25, -0.25, -0.25, -0.5),
        ),
    ],
)
def test_a_ramp_finds_the_table(fields: dict[str, object], expected: tuple[float, ...]) -> None:
    """INL[k] = T[k] - (k - 1/2), given for every code, for some, or as DNL; on every ADC alike."""
    steps = 200
    counts = _sweep(_adc(3, adc_bits=4, **fields), _ramp(4, steps))
    for output in counts.T:
        assert _inl_by_ramp(output, 4, steps).numpy() == pytest.approx(expected, abs=1.01 / steps)


def test_a_code_density_test_finds_the_dnl() -> None:
    """On a slow ramp code k is hit 1 + DNL[k] times as often as ideally, and a missing code never."""
    dnl = (0.0, 0.3, -1.0, 0.7, 0.0, -0.2, 0.0, 0.0)
    steps = 1000
    counts = _sweep(_adc(adc_bits=3, adc_dnl_lsb=dnl), _ramp(3, steps))[:, 0]
    hits = torch.stack([(counts == k - 4).sum() for k in range(8)]).double() / steps
    assert (hits[1:-1] - 1).numpy() == pytest.approx(dnl[1:-1], abs=2 / steps)
    assert hits[2].item() == 0


def test_nonlinearity_is_added_behind_the_noise() -> None:
    """A count is the number of transitions below signal and noise together: mean and variance by the normal law."""
    bits, i_n, d = 4, 600e-12, 0.11
    chip = _adc(adc_bits=bits, adc_inl_lsb=TABLE, thermal_noise_a_per_rthz=i_n)
    sigma = i_n * math.sqrt(5e9) / 1e-3 * 2**bits
    transitions = torch.tensor(TABLE[1:], dtype=torch.float64) + torch.arange(1, 16) - 8.5
    above = torch.special.ndtr((d * 2**bits - transitions) / sigma)  # P(count >= k - 8)
    mean = -8 + above.sum()
    square = ((2 * torch.arange(1, 16) - 1 - 16) * above).sum() + 64
    counts = _sweep(chip, torch.full((SHOTS,), d, dtype=torch.float64))[:, 0]
    variance = (square - mean**2).item()
    assert counts.mean().item() == pytest.approx(mean.item(), abs=5 * math.sqrt(variance / SHOTS))
    assert counts.var().item() == pytest.approx(variance, rel=0.02)


# ---------------------------------------------------------------- mismatch


def _width_variance(bits: int, code: int) -> float:
    """Of a SAR's code, in units of the mismatch squared: each capacitor's share of the width, gain taken out."""
    total = 0.0
    for bit in range(bits):
        switched = ((code + 1) >> bit & 1) - (code >> bit & 1)
        spanned = 1 - (1 >> bit & 1)  # from the first transition to the last
        total += 2**bit * (switched - spanned / (2**bits - 2)) ** 2
    return total


@pytest.mark.parametrize(("bits", "mismatch"), [(4, 0.05), (6, 0.02)])
def test_a_sar_s_dnl_has_the_variance_of_the_capacitors_that_switch(bits: int, mismatch: float) -> None:
    """2^k units each; at mid-scale, where all switch, it is (2^bits - 1 - 3 / (2^bits - 2)) mismatch^2."""
    tables = converters.sar_transitions(bits, mismatch, SHOTS, torch.Generator().manual_seed(1))
    assert tables.shape == (SHOTS, 2**bits - 1)
    ends = tables[:, [0, -1]] - (torch.tensor([1.0, 2**bits - 1.0]) - 2 ** (bits - 1) - 0.5)
    assert ends.abs().max().item() < 1e-12
    middle = 2 ** (bits - 1) - 1
    assert _width_variance(bits, middle) == pytest.approx(2**bits - 1 - 3 / (2**bits - 2))
    for code in (middle, 1, 2 ** (bits - 2) - 1):
        width = tables[:, code] - tables[:, code - 1]  # row 0 is the transition into code 1
        assert (width - 1).var().item() == pytest.approx(_width_variance(bits, code) * mismatch**2, rel=0.02)


def test_each_output_of_a_chip_has_a_sar_of_its_own() -> None:
    """The width of the code below mid-scale, by a ramp, over 20000 ADCs; the standard error is 1 %."""
    bits, mismatch, steps = 6, 0.03, 50
    chip = _adc(20_000, adc_bits=bits, adc_mismatch=mismatch)
    d = (torch.arange(4 * steps, dtype=torch.float64) / steps - 2.5) * 2.0**-bits
    hits = (_sweep(chip, d) == -1).sum(dim=0).double() / steps
    expected = (2**bits - 1 - 3 / (2**bits - 2)) * mismatch**2 + 1 / (6 * steps**2)
    assert hits.mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(expected / 20_000))
    assert hits.var().item() == pytest.approx(expected, rel=0.05)


def test_a_bad_sar_misses_codes_and_never_runs_backwards() -> None:
    """Alone, and where a table adds to it: the count never falls on a ramp that rises, and some codes are gone."""
    table = (0.0, 0.9, 0.0) * 5 + (0.0,)
    for fields in ({}, {"adc_inl_lsb": table}):
        chip = _adc(200, adc_bits=4, adc_mismatch=0.25, **fields)
        counts = _sweep(chip, _ramp(4, 40))
        assert (counts.diff(dim=0) >= 0).all()
        assert (chip._evaluation.device.receiver.transitions.diff() >= 0).all()
        seen = torch.stack([torch.bincount((column + 8).long(), minlength=16) for column in counts.T]) > 0
        assert seen[:, 1:-1].double().mean().item() < 0.995


def test_mismatch_and_table_add_up() -> None:
    """The INL of an ADC with both is the sum of one with each, while no code is missing."""
    steps = 100
    inl = {
        name: torch.stack([_inl_by_ramp(column, 4, steps) for column in counts.T])
        for name, fields in {
            "both": {"adc_mismatch": 0.01, "adc_inl_lsb": (0.0, 0.8, 0.3)},
            "own": {"adc_mismatch": 0.01},
            "table": {"adc_inl_lsb": (0.0, 0.8, 0.3)},
        }.items()
        for counts in [_sweep(_adc(5, adc_bits=4, **fields), _ramp(4, steps))]
    }
    assert inl["own"].abs().max().item() > 0.02
    assert (inl["both"] - inl["own"] - inl["table"]).abs().max().item() < 2.1 / steps


@pytest.mark.parametrize("fields", [{"adc_inl_lsb": (0.0, 1.0, 0.0)}, {"adc_mismatch": 0.05}])
def test_a_part_of_the_outputs_has_the_same_adcs(fields: dict[str, object]) -> None:
    """A call that reads m < M outputs reads the first m ADCs."""
    chip = quiet(n_outputs=5, n_inputs=2, adc_bits=6, adc_full_scale=0.5, **fields)
    codes = random(300, 2)
    weights = torch.tensor([[1.0, -1.0]], dtype=torch.float64).expand(5, 2)
    assert torch.equal(read(chip, weights[:3], codes), read(chip, weights, codes)[:, :3])


# ---------------------------------------------------------------- DACs


def _drive(chip: SimulatedChip, codes: Tensor) -> Tensor:
    """What each DAC gives for codes (B,), in LSB, (B, N): from the light of its channel, by the modulator's sine."""
    n, one = chip.spec.n_inputs, 2**chip.spec.input_bits - 1
    inputs = codes[:, None, None] * torch.eye(n, dtype=torch.float64)
    d = read(chip, torch.ones(chip.spec.n_outputs, n, dtype=torch.float64), inputs.flatten(0, 1).to(torch.float64))
    return torch.asin((d[:, 0] * n).sqrt()).view(len(codes), n) * (2 / math.pi) * one


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"input_inl_lsb": TABLE}, TABLE),
        (
            {"input_inl_lsb": (0.0, 0.6, -0.3, 0.9, 0.0, -0.6)},
            (0.0, 0.2, 0.4, 0.6, 0.3, 0.0, -0.3, 0.1, 0.5, 0.9, 0.6, 0.3, 0.0, -0.2, -0.4, -0.6),
        ),
        # a step down, which a DAC can have
        (
            {"input_dnl_lsb": (0.0, 0.5, -1.5, 0.0, 1.0) + (0.0,) * 11},
            (0.0, 0.5, -1.0, -1.0) + (0.0,) * 12,
        ),
    ],
)
def test_a_dac_s_levels_are_its_codes_and_the_table(fields: dict[str, object], expected: tuple[float, ...]) -> None:
    """INL[k] = level k - k; code 0 has a level too."""
    chip = quiet(n_inputs=2, input_bits=4, **fields)
    codes = torch.arange(16, dtype=torch.float64)
    levels = _drive(chip, codes)
    # a sine does not tell a drive beyond V_pi from one below
    wanted = codes + torch.tensor(expected, dtype=torch.float64)
    folded = 15 - (15 - wanted).abs()
    assert levels.T.flatten().numpy() == pytest.approx(folded.abs().repeat(2).numpy(), abs=1e-6)


def test_a_dac_of_fields_counts_its_codes_from_the_lowest() -> None:
    """Code -7 is the first of the table of 4 bits; the last, +8, is not used."""
    chip = quiet("mesh", n_outputs=1, n_inputs=1, input_bits=4, input_inl_lsb=TABLE)
    codes = torch.arange(-7, 8, dtype=torch.float64)
    found = torch.asin(read(chip, torch.ones(1, 1), codes.unsqueeze(1))[:, 0]) * (2 / math.pi) * 7
    wanted = codes + torch.tensor(TABLE[:15], dtype=torch.float64)
    # a sine does not tell a drive beyond V_pi from one below
    folded = wanted.where(wanted.abs() <= 7, wanted.sign() * 14 - wanted)
    assert found.numpy() == pytest.approx(folded.numpy(), abs=1e-6)


@pytest.mark.parametrize(("bits", "mismatch"), [(4, 0.05), (6, 0.01)])
def test_a_dac_s_step_to_mid_scale_has_the_variance_of_its_elements(bits: int, mismatch: float) -> None:
    """(2^bits - 1 - 1 / (2^bits - 1)) u^2; the first and the last level stay."""
    levels = converters.dac_levels(bits, None, mismatch, SHOTS, torch.Generator().manual_seed(2))
    assert levels[:, 0].abs().max().item() < 1e-12
    assert (levels[:, -1] - (2**bits - 1)).abs().max().item() < 1e-9
    step = levels[:, 2 ** (bits - 1)] - levels[:, 2 ** (bits - 1) - 1]
    assert (step - 1).var().item() == pytest.approx((2**bits - 1 - 1 / (2**bits - 1)) * mismatch**2, rel=0.02)


def test_each_input_of_a_chip_has_a_dac_of_its_own() -> None:
    """The step to mid-scale of 1000 inputs; the standard error of its variance is 4.5 %."""
    bits, mismatch = 6, 0.03
    chip = quiet(n_outputs=1, n_inputs=1000, input_bits=bits, input_mismatch=mismatch)
    low, high = _drive(chip, torch.tensor([2.0 ** (bits - 1) - 1, 2.0 ** (bits - 1)]))
    expected = (2**bits - 1 - 1 / (2**bits - 1)) * mismatch**2
    assert (high - low).var().item() == pytest.approx(expected, rel=0.2)
    assert (high - low).mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(expected / 1000))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"adc_bits": 4, "adc_inl_lsb": (0.1, 0.0)}, "adc_inl_lsb: code 0 has no transition"),
        ({"adc_bits": 2, "adc_inl_lsb": (0.0, 0.0, 1.5, 0.2)}, "adc_inl_lsb: INL may fall by 1 LSB.*by 1.3"),
        ({"adc_bits": 2, "adc_inl_lsb": (0.0,) * 5}, "adc_inl_lsb: a table of 2 bits needs 2 to 4"),
        ({"adc_bits": 2, "adc_inl_lsb": (0.0,)}, "adc_inl_lsb: a table of 2 bits needs 2 to 4"),
        ({"adc_bits": 2, "adc_dnl_lsb": (0.0, -1.2, 0.0, 0.0)}, "adc_dnl_lsb: DNL must be at least -1 LSB"),
        ({"adc_bits": 2, "adc_dnl_lsb": (0.0, 0.2, 0.1, 0.3)}, "adc_dnl_lsb: DNL needs 2 or more values, 0 at both"),
        ({"adc_bits": 2, "adc_dnl_lsb": (0.0, 0.0, 0.0)}, "adc_dnl_lsb needs 4 values"),
        ({"adc_bits": 2, "adc_dnl_lsb": (0.0,) * 4, "adc_inl_lsb": (0.0, 0.0)}, "at most one of adc_inl_lsb"),
        ({"input_bits": 2, "input_inl_lsb": (0.0,) * 5}, "input_inl_lsb: a table of 2 bits needs 2 to 4"),
        ({"input_bits": 2, "input_dnl_lsb": (0.5, 0.0, 0.0, 0.0)}, "input_dnl_lsb: code 0 has no step"),
        ({"input_bits": 2, "input_dnl_lsb": (0.0,)}, "input_dnl_lsb needs 4 values"),
        ({"adc_bits": 8, "adc_enob": 8.1}, "adc_enob must be at most adc_bits = 8, found 8.1"),
        ({"input_bits": 6, "input_enob": 7.0}, "input_enob must be at most input_bits = 6, found 7.0"),
        ({"adc_enob": 5.0}, "adc_enob belong to a converter, but adc_bits is None"),
        ({"input_mismatch": 0.1, "input_dnl_lsb": (0.0, 0.0)}, "input_dnl_lsb, input_mismatch belong to a converter"),
        ({"adc_bits": 8, "adc_mismatch": 0.3}, "adc_mismatch"),
    ],
)
def test_what_no_converter_can_be_is_refused(fields: dict[str, object], said: str) -> None:
    """At construction, by field and bound."""
    with pytest.raises(RecordError, match=said):
        quiet(**fields)


@pytest.mark.parametrize("enob", [0.0, -1.0, 8.5, math.nan])
def test_no_converter_has_more_effective_bits_than_bits(enob: float) -> None:
    with pytest.raises(RangeError, match="enob must be above 0 and at most bits = 8"):
        converters.enob_noise_lsb(8, enob)


def test_a_table_s_inl_and_dnl_come_back() -> None:
    """As they are, or with gain and offset taken out at the ends; a perfect ADC has none."""
    inl, dnl = converters.inl_dnl(converters.transitions_from_inl(TABLE, 4), end_point=False)
    assert inl.tolist() == pytest.approx(TABLE)
    widths = [TABLE[k + 1] - TABLE[k] for k in range(1, 15)]
    assert dnl.tolist() == pytest.approx([0.0, *widths, 0.0])
    assert converters.inl_from_dnl(dnl.tolist()) == pytest.approx([0.0, *(v - TABLE[1] for v in TABLE[1:])])
    inl, _ = converters.inl_dnl(converters.transitions_from_inl(TABLE, 4))
    assert inl[[0, 1, -1]].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    straight = converters.transitions_from_inl((0.0, 0.9), 4)  # gain alone
    for part in converters.inl_dnl(straight):
        assert part.abs().max().item() < 1e-12
    with pytest.raises(ShapeError, match="2\\^bits - 1 transitions, found 4"):
        converters.inl_dnl(torch.zeros(4))
    with pytest.raises(RangeError, match="no end points"):
        converters.inl_dnl(torch.zeros(1))


def test_codes_without_a_level_and_tables_that_do_not_fit_are_refused() -> None:
    """NaN too; nothing is clipped."""
    levels = torch.arange(4.0)
    assert converters.convert_levels(torch.tensor([[0.0, 3.0]]), levels).tolist() == [[0.0, 3.0]]
    for codes in (torch.tensor([-1.0]), torch.tensor([4.0]), torch.tensor([math.nan])):
        with pytest.raises(RangeError, match="codes must lie from 0 to 3"):
            converters.convert_levels(codes, levels)
    with pytest.raises(ShapeError, match="table for 3 converters"):
        converters.convert_levels(torch.zeros(5, 3), torch.zeros(2, 4))
    volts = torch.tensor([[0.2, math.nan, 9.0]])
    found = converters.quantise_(volts, converters.transitions_from_inl((0.0, 0.0), 3).float())
    assert found[0, [0, 2]].tolist() == [0.0, 3.0]
    assert found[0, 1].isnan()


def test_the_noise_of_a_chip_with_everything_is_the_sum() -> None:
    """Thermal, shot and the ADC's: i_n^2 B + 2 q I S B in amperes, (4^(bits - enob)) / 12 in counts."""
    bits, enob, s = 9, 7.5, 0.6
    chip = quiet(adc_bits=bits, adc_enob=enob, adc_full_scale=1.0, shot_noise=True, thermal_noise_a_per_rthz=20e-12)
    one_count = 2.0 / 2**bits * 1e-3
    expected = (20e-12**2 * 5e9 + 2 * Q * s * 1e-3 * 5e9) / one_count**2 + 4 ** (bits - enob) / 12
    assert even(chip, plus=0.5, level=s).var(dim=0).numpy() == pytest.approx(expected, rel=0.02)
