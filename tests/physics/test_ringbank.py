"""A ring bank's weights are those of its rings, each at its own tuning, one after the other on the bus."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from photonic.errors import RecordError
from photonic.physics.heaters import HeaterGrid
from photonic.physics.optics import Surroundings
from photonic.physics.ringbank import RingBank, RingBankParameters

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
SPREADS = {"resonance_spread_nm": 0.002, "fwhm_spread": 0.03}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bank(seed: int = 1, **fields: object) -> RingBank:
    return RingBank.draw(RingBankParameters(**fields), _generator(seed))


def _codes(bank: RingBank, tiles: int = 4, rows: int | None = None) -> Tensor:
    """Random codes, and the extremes: all rings tuned as far as they go, none, and one beside the other."""
    p = bank.parameters
    top = int(p.weight_code_one)
    shape = tiles + 3, rows or p.n_outputs, p.n_inputs
    codes = torch.randint(-top, top + 1, shape, generator=_generator(2)).to(torch.float64)
    codes[0], codes[1], codes[2] = -top, top, top
    codes[2, :, ::2] *= -1
    return codes


def _weights(bank: RingBank, codes: Tensor, kelvin: Tensor | None = None) -> Tensor:
    """What the matrices say, in units of a weight."""
    return bank.matrices(codes, Surroundings(_generator(), kelvin))[0].double() * bank.parameters.n_inputs


def _detuning_nm(bank: RingBank, codes: Tensor, kelvin: Tensor | None = None) -> Tensor:
    """Shift (T, m, N) of every ring, float64, from the formulas, with the full crosstalk matrix."""
    p = bank.parameters
    m, n = p.n_outputs, p.n_inputs
    rows = torch.nn.functional.pad(codes.double(), (0, 0, 0, m - codes.shape[1]))
    w = rows / p.weight_code_one
    reach = math.inf if p.max_detuning_nm is None else p.max_detuning_nm
    nm = (p.ring_fwhm_nm / 2 * ((1 - w) / (1 + w)).sqrt()).clamp(max=reach)
    row, column = torch.arange(m * n).div(n, rounding_mode="floor").double(), (torch.arange(m * n) % n).double()
    distance = torch.hypot(row[:, None] - row, column[:, None] - column) * p.heater_pitch_um
    gamma = (p.thermal_crosstalk * torch.exp(-p.thermal_decay_per_um * distance)).fill_diagonal_(0.0)
    nm = nm + (nm.clamp(max=p.fsr_nm / 2).flatten(1) @ gamma).view_as(nm)
    nm = nm + bank.offset * (p.ring_fwhm_nm / 2)
    if kelvin is not None:
        nm = nm + kelvin.reshape(-1, 1, 1) * p.resonance_nm_per_k
    return nm[:, : codes.shape[1]]


def _direct(bank: RingBank, codes: Tensor, kelvin: Tensor | None = None) -> Tensor:
    """1 - 2 prod_i (1 - L_ij), pair by pair."""
    p = bank.parameters
    m, n = codes.shape[1], p.n_inputs
    channel = torch.arange(n, dtype=torch.float64) * p.channel_spacing_nm
    # from ring i to channel j
    nm = channel - (channel + _detuning_nm(bank, codes, kelvin)).unsqueeze(-1)
    nm = torch.remainder(nm + p.fsr_nm / 2, p.fsr_nm) - p.fsr_nm / 2
    fwhm = p.ring_fwhm_nm / bank.inverse_width[:m].unsqueeze(-1)
    lorentzian = 1 / (1 + (2 * nm / fwhm) ** 2)
    return 1 - 2 * (1 - lorentzian).prod(dim=-2)


def _assert_direct(bank: RingBank, codes: Tensor, kelvin: Tensor | None = None) -> None:
    expected = _direct(bank, codes, kelvin)
    p, warmest = bank.parameters, 0.0 if kelvin is None else kelvin.abs().max().item()
    shift = abs(p.resonance_nm_per_k) * warmest / (p.ring_fwhm_nm / 2)
    for dtype, tolerance in TOLERANCE.items():
        found = _weights(bank, codes.to(dtype), kelvin)
        # a ring that the temperature brings to a channel from afar: rounding of the way, times the slope, 1.3
        rounding = 3 * torch.finfo(dtype).eps * shift
        assert (found - expected).abs().max().item() < tolerance + rounding


# ---------------------------------------------------------------- a ring alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_nominal_ring_alone_has_the_weight_of_its_code(dtype: torch.dtype) -> None:
    """Within the heater's reach; codes stay what they were, and the power is the same for all weights."""
    bank = _bank(n_outputs=8, n_inputs=16, channel_leakage=False, max_detuning_nm=None)
    codes = _codes(bank).to(dtype)
    before = codes.clone()
    w_d, w_s = bank.matrices(codes, Surroundings(_generator()))
    assert torch.equal(codes, before)
    assert (w_d * 16 - codes / 127).abs().max().item() < (1e-5 if dtype == torch.float32 else 1e-14)
    assert w_d.dtype == w_s.dtype == dtype
    assert torch.equal(w_s, torch.full((1, 1, 16), 1 / 16, dtype=dtype))


def test_a_ring_alone_is_a_lorentzian_with_its_own_width_and_place() -> None:
    """Spreads, reach and temperature, without neighbours."""
    bank = _bank(n_outputs=8, n_inputs=16, channel_leakage=False, **SPREADS)
    codes, kelvin = _codes(bank), torch.linspace(-2, 2, 7, dtype=torch.float64)
    z = 2 * _detuning_nm(bank, codes, kelvin) * bank.inverse_width / bank.parameters.ring_fwhm_nm
    assert (_weights(bank, codes, kelvin) - (2 / (1 + z**2) - 1)).abs().max().item() < 1e-13


# ---------------------------------------------------------------- leakage


@pytest.mark.parametrize("n", [1, 2, 3, 5, 17, 40, 63, 64])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        SPREADS,
        {"ring_fwhm_nm": 0.02, "fwhm_spread": 0.05},
        {"ring_fwhm_nm": 0.16, "resonance_spread_nm": 0.005},
        {"ring_fwhm_nm": 0.24, **SPREADS},
        {"ring_fwhm_nm": 1.54},
        {"channel_spacing_nm": 0.2, "max_detuning_nm": 0.1, "fsr_nm": 13.1},
        {"fwhm_spread": 0.25, "resonance_spread_nm": 0.1},
        {**SPREADS, "thermal_crosstalk": 0.5, "heater_pitch_um": 120.0},
    ],
)
def test_weights_are_the_serial_product_of_lorentzians(n: int, fields: dict[str, float]) -> None:
    """Against the product over all pairs, from narrow rings to those that no expansion suits."""
    bank = _bank(n_outputs=3, n_inputs=n, **fields)
    _assert_direct(bank, _codes(bank))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 20),
    fwhm=st.floats(0.005, 4.0),
    spacing=st.floats(0.1, 1.0),
    reach=st.floats(0.01, 0.5),
    spare=st.floats(1.0, 2.0),
    spreads=st.tuples(st.floats(0, 0.1), st.floats(0, 0.29)),
    kelvin=st.none() | st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
)
def test_no_parameters_in_range_miss_the_product(
    n: int,
    fwhm: float,
    spacing: float,
    reach: float,
    spare: float,
    spreads: tuple[float, float],
    kelvin: tuple[float, float] | None,
) -> None:
    """Whatever the plan, its error is within what it says."""
    bank = _bank(
        n_outputs=2,
        n_inputs=n,
        ring_fwhm_nm=fwhm,
        channel_spacing_nm=spacing,
        max_detuning_nm=reach * spacing,
        fsr_nm=n * spacing * spare,
        resonance_spread_nm=spreads[0],
        fwhm_spread=spreads[1],
    )
    codes = _codes(bank, tiles=2)
    temperature = None if kelvin is None else torch.linspace(*kelvin, len(codes), dtype=torch.float64)
    _assert_direct(bank, codes, temperature)


def test_narrow_rings_are_expanded_and_wide_spreads_multiplied_out() -> None:
    """The typical bank in float32 has few near pairs; with 20 % of spread, float64 has no polynomial good enough."""
    typical = _bank(resonance_spread_nm=0.0005, fwhm_spread=0.01)._leakage.plan(torch.float32)
    assert len(typical.near) <= 15
    assert len(typical.terms) <= 4
    wide = _bank(fwhm_spread=0.2, resonance_spread_nm=0.05)._leakage.plan(torch.float64)
    assert len(wide.near) == 127
    assert wide.terms.numel() == 0


def test_a_warmer_chip_takes_more_pairs_for_near_ones() -> None:
    """The criterion sees the temperature: rings 20 K off stand between other channels."""
    leakage = _bank(**SPREADS)._leakage
    cold, warm = leakage.plan(torch.float32), leakage.plan(torch.float32, 0.0, 20 * 0.07 / 0.04)
    assert set(cold.near) < set(warm.near)


def test_plans_are_kept_while_a_temperature_drifts() -> None:
    """A hundredth of a kelvin meets the same plan again, and old plans are forgotten."""
    bank = _bank(n_outputs=2, n_inputs=8)
    codes = _codes(bank, tiles=0)
    for kelvin in (0.02, 0.021, 0.03):
        _weights(bank, codes, torch.full((3,), kelvin, dtype=torch.float64))
    assert len(bank._leakage._plans) == 1
    for kelvin in range(20):
        _weights(bank, codes, torch.full((3,), float(kelvin), dtype=torch.float64))
    assert len(bank._leakage._plans) <= 8


def test_codes_of_any_strides_give_the_same_weights() -> None:
    """Transposed codes, and fewer rows than the chip has, stay what they were."""
    bank = _bank(n_outputs=16, n_inputs=16, thermal_crosstalk=0.2, **SPREADS)
    codes = _codes(bank, rows=16)
    before = codes.clone()
    assert torch.equal(_weights(bank, codes.mT.contiguous().mT), _weights(bank, codes))
    assert torch.equal(codes, before)


def test_heat_moves_a_ring_towards_the_next_channel() -> None:
    """Ring 3 tuned as far as it goes takes light of channel 4, not of channel 2, and a warmer chip the same way."""
    bank = _bank(n_outputs=1, n_inputs=8, fsr_nm=32.0)
    codes = torch.full((1, 1, 8), 127.0, dtype=torch.float64)
    codes[..., 2::2] = 0.0
    tuned = codes.clone()
    tuned[..., 3] = -127.0
    change = _weights(bank, tuned) - _weights(bank, codes)
    assert change[0, 0, 4] > 4 * abs(change[0, 0, 2])
    warm = torch.full((1,), 0.5, dtype=torch.float64)
    dark = torch.full((1, 1, 8), -127.0, dtype=torch.float64)
    # each ring nears the next channel; the first one has no ring on that side
    gain = _weights(bank, dark, warm) - _weights(bank, dark)
    assert (gain[..., 1:] > 0).all()
    assert (gain[..., 0] < 0).all()


def test_a_comb_that_fills_the_fsr_has_no_edge() -> None:
    """Rolled codes give rolled weights where the last channel's neighbour is the first."""
    bank = _bank(n_outputs=2, n_inputs=16, fsr_nm=8.0)
    codes = _codes(bank)
    assert (_weights(bank, codes.roll(5, -1)) - _weights(bank, codes).roll(5, -1)).abs().max().item() < 1e-9


def test_leakage_moves_light_and_loses_none() -> None:
    """S does not depend on the weights, with all effects on."""
    bank = _bank(n_outputs=4, n_inputs=16, thermal_crosstalk=0.2, **SPREADS)
    w_d, w_s = bank.matrices(_codes(bank), Surroundings(_generator(), torch.ones(7, dtype=torch.float64)))
    assert torch.equal(w_s, torch.full((1, 1, 16), 1 / 16, dtype=torch.float64))
    assert (w_d.abs() <= w_s).all()


@pytest.mark.parametrize(
    ("fwhm", "zero", "normal", "uniform"), [(0.24, 0.184, 0.196, 0.227), (0.08, 0.0207, 0.0215, 0.0252)]
)
def test_leakage_makes_the_weight_error_of_the_design(fwhm: float, zero: float, normal: float, uniform: float) -> None:
    """DESIGN 6: 64 channels in 32 nm, FWHM 0.24 nm, error 0.19 rms; of which weights, it does not say.

    All zero 0.184, normal ones scaled to the largest 0.196, evenly in [-1, 1] 0.227; a tenth of it at 0.08 nm.
    """
    leaky = _bank(ring_fwhm_nm=fwhm, weight_bits=None)
    alone = _bank(ring_fwhm_nm=fwhm, weight_bits=None, channel_leakage=False)
    draws = torch.randn(32, 64, 64, generator=_generator(), dtype=torch.float64)
    kinds = {
        zero: torch.zeros(1, 64, 64, dtype=torch.float64),
        normal: draws / draws.abs().amax(dim=(1, 2), keepdim=True),
        uniform: 2 * torch.special.ndtr(draws) - 1,
    }
    for expected, weights in kinds.items():
        error = _weights(leaky, weights) - _weights(alone, weights)
        assert error.square().mean().sqrt().item() == pytest.approx(expected, rel=0.02)


# ---------------------------------------------------------------- heat


@pytest.mark.parametrize("rows", [1, 3, 6])
@pytest.mark.parametrize(("pitch", "decay"), [(60.0, 0.127), (24.0, 0.127), (30.0, 0.01)])
def test_heat_reaches_neighbours_by_the_exponential(rows: int, pitch: float, decay: float) -> None:
    """Rows that are not in use stand at a weight of zero, and heat too."""
    bank = _bank(
        n_outputs=6,
        n_inputs=9,
        channel_leakage=False,
        thermal_crosstalk=0.217,
        heater_pitch_um=pitch,
        thermal_decay_per_um=decay,
        **SPREADS,
    )
    codes = _codes(bank, rows=rows)
    nm = (bank._tuning(codes) + bank.offset[: codes.shape[1]].to(codes.dtype)) * bank.parameters.ring_fwhm_nm / 2
    assert (nm - _detuning_nm(bank, codes)).abs().max().item() < 1e-6


def test_heat_with_an_unlimited_heater_is_that_of_half_an_fsr() -> None:
    """A weight of -1 is a ring off by infinity; what its neighbours feel is finite."""
    bank = _bank(n_outputs=2, n_inputs=4, channel_leakage=False, max_detuning_nm=None, thermal_crosstalk=0.217)
    codes = torch.zeros(1, 2, 4, dtype=torch.float64)
    codes[0, 0, 0] = -127
    nm = (bank._tuning(codes) + bank.offset[: codes.shape[1]].to(codes.dtype)) * bank.parameters.ring_fwhm_nm / 2
    expected = _detuning_nm(bank, codes)
    assert nm[0, 0, 0] == expected[0, 0, 0] == math.inf
    assert (nm - expected).flatten()[1:].abs().max().item() < 1e-5
    assert _weights(bank, codes)[0, 0, 0] == -1


def test_heat_falls_off_and_its_bound_holds() -> None:
    """One heater on: every other ring receives a exp(-b d); all on: none receives more than the bound."""
    grid = HeaterGrid(5, 7, 0.3, 0.1, 25.0)
    one = torch.zeros(1, 5, 7, dtype=torch.float64)
    one[0, 1, 2] = 1.0
    received = grid.received(one, idle=0.0)[0]
    assert received[1, 2].item() == 0.0
    assert received[4, 6].item() == pytest.approx(0.3 * math.exp(-0.1 * 125))
    assert received[0, 2].item() == pytest.approx(0.3 * math.exp(-2.5))
    everywhere = grid.received(torch.ones(1, 5, 7, dtype=torch.float64), idle=0.0)
    assert everywhere.max().item() <= grid.most <= 1.3 * everywhere.max().item()


@pytest.mark.parametrize("kelvin", [-3.0, 0.4, 40.0])
def test_temperature_shifts_every_ring_of_a_tile(kelvin: float) -> None:
    """Tile by tile, with leakage, crosstalk and spreads; hundreds of kelvin are the property test's."""
    bank = _bank(n_outputs=3, n_inputs=24, thermal_crosstalk=0.217, heater_pitch_um=100.0, **SPREADS)
    _assert_direct(bank, _codes(bank), torch.linspace(0, kelvin, 7, dtype=torch.float64))


# ---------------------------------------------------------------- devices and parameters


def test_spreads_have_the_variances_of_the_parameters() -> None:
    """262144 rings: the standard error of a variance is 0.3 %."""
    bank = _bank(n_outputs=512, n_inputs=512, channel_leakage=False, resonance_spread_nm=0.003, fwhm_spread=0.05)
    nm, log_width = bank.offset * bank.parameters.ring_fwhm_nm / 2, -bank.inverse_width.log()
    for sample, expected in ((nm, 0.003), (log_width, 0.05)):
        assert sample.var().item() == pytest.approx(expected**2, rel=0.02)
        assert abs(sample.mean().item()) < 5 * expected / 512
    assert abs(torch.corrcoef(torch.stack([nm.flatten(), log_width.flatten()]))[0, 1].item()) < 0.01


def test_a_device_is_the_same_whatever_its_spreads_are() -> None:
    """Draws do not depend on the switches, so an effect can be switched off alone."""
    both, one = _bank(**SPREADS), _bank(**(SPREADS | {"fwhm_spread": 0.0}))
    assert torch.equal(both.offset, one.offset)
    assert torch.equal(one.inverse_width, torch.ones_like(one.inverse_width))
    generators = _generator(), _generator()
    for generator, fields in zip(generators, ({}, SPREADS), strict=True):
        RingBank.draw(RingBankParameters(**fields), generator)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"thermal_crosstalk": 0.1, "heater_pitch_um": 20.0}, "heater_pitch_um must be above 23"),
        ({"thermal_crosstalk": 0.1, "heater_pitch_um": 23.0}, "heater_pitch_um must be above 23"),
        ({"thermal_crosstalk": 1.0}, "thermal_crosstalk"),
        ({"max_detuning_nm": 0.26}, "max_detuning_nm must be at most half a channel_spacing_nm"),
        ({"max_detuning_nm": None}, "max_detuning_nm"),
        ({"fsr_nm": 31.0}, "fsr_nm"),
        ({"ring_fwhm_nm": 0.0}, "ring_fwhm_nm"),
    ],
)
def test_what_the_formulas_do_not_hold_for_is_refused(fields: dict[str, object], said: str) -> None:
    """At construction, by field and bound."""
    with pytest.raises(RecordError, match=said):
        RingBankParameters(**fields)


def test_a_small_pitch_is_allowed_without_crosstalk() -> None:
    """The bound is the exponential's, not the chip's."""
    assert RingBankParameters(heater_pitch_um=10.0).heater_pitch_um == 10.0
