"""Primary quantities: what cannot be is refused at construction, by field and bound; the rest is derived."""

from __future__ import annotations

import math
from typing import Any

import pytest
from measuring import Q, quiet
from pydantic import ValidationError

from photonic.backends.simulated import SimulatedChip, open_simulated
from photonic.errors import RecordError, SpecError
from photonic.physics.crossbar import CrossbarParameters
from photonic.physics.mesh import MeshParameters
from photonic.physics.parameters import ChipParameters
from photonic.physics.presets import PRESETS
from photonic.physics.ringbank import RingBankParameters

KINDS = (RingBankParameters, CrossbarParameters, MeshParameters)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"power_per_pair_w": -1e-3}, "power_per_pair_w: Input should be greater than 0 .found -0.001"),
        ({"power_per_pair_w": None, "laser_power_w": 0.0}, "laser_power_w: Input should be greater than 0"),
        ({"extinction_ratio_db": -0.1}, "extinction_ratio_db: Input should be greater than 0"),
        ({"adc_enob": 8.5}, "adc_enob must be at most adc_bits = 8, found 8.5"),
        ({"input_enob": 9.0}, "input_enob must be at most input_bits = 8, found 9.0"),
        ({"adc_full_scale": 0.0}, "adc_full_scale: Input should be greater than 0"),
        ({"adc_full_scale": -0.25}, "adc_full_scale"),
        ({"adc_bits": 1}, "adc_bits: Input should be greater than or equal to 2"),
        ({"adc_bits": 17}, "adc_bits: Input should be less than or equal to 16"),
        ({"input_bits": 16}, "input_bits"),
        ({"input_bits": 0}, "input_bits"),
        ({"weight_bits": 1}, "weight_bits"),
        ({"n_outputs": 0}, "n_outputs"),
        ({"n_inputs": -1}, "n_inputs"),
        ({"bandwidth_hz": -1.0}, "bandwidth_hz"),
        ({"bandwidth_hz": math.nan}, "bandwidth_hz"),
        ({"thermal_noise_a_per_rthz": math.inf}, "thermal_noise_a_per_rthz"),
        ({"rin_db_per_hz": 3.0}, "rin_db_per_hz"),
        ({"rin_db_per_hz": -90.0}, "rin_db_per_hz must be at most -97.0"),
        ({"symbol_rate_hz": 0.0}, "symbol_rate_hz"),
        ({"settle_time_s": -1.0}, "settle_time_s"),
        ({"warm_up_s": 0.0}, "warm_up_s"),
        ({"drift_s": 0.0}, "drift_s"),
        ({"thermal_memory_s": 0.0}, "thermal_memory_s"),
        ({"gain_drift": 0.3}, "gain_drift"),
        ({"laser_drift": -0.1}, "laser_drift"),
        ({"bias_drift_rad": 1.0}, "bias_drift_rad"),
        ({"stuck_fraction": 1.0}, "stuck_fraction"),
        ({"wall_plug_efficiency": 1.1}, "wall_plug_efficiency"),
        ({"offset_spread_lsb": -1.0}, "offset_spread_lsb"),
        ({"bandwith_hz": 1e9}, "bandwith_hz: Extra inputs are not permitted"),
        ({"snr_db": 30.0}, "snr_db: Extra inputs are not permitted"),
        ({"enob": 6.0}, "enob: Extra inputs are not permitted"),
    ],
)
def test_what_no_chip_can_be_is_refused(kind: type[ChipParameters], fields: dict[str, Any], said: str) -> None:
    """On every architecture; derived quantities are not stated twice, and unknown keys are not dropped."""
    with pytest.raises(RecordError, match=said):
        kind(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_inputs": 65}, "65 channels 0.5 nm apart need 32.5 nm, fsr_nm is 32.0"),
        ({"fsr_nm": 20.0}, "64 channels 0.5 nm apart need 32 nm, fsr_nm is 20.0"),
        ({"channel_spacing_nm": 0.51}, r"need 32\.64 nm, fsr_nm is 32\.0"),
        ({"channel_spacing_nm": 0.0}, "channel_spacing_nm"),
        ({"fsr_nm": -1.0}, "fsr_nm"),
        ({"fwhm_spread": 0.3}, "fwhm_spread"),
        ({"cell_levels": 16}, "cell_levels: Extra inputs are not permitted"),
        ({"local_oscillator_ratio": 1.0}, "local_oscillator_ratio: Extra inputs"),
    ],
)
def test_channels_that_do_not_fit_an_fsr_are_refused(fields: dict[str, Any], said: str) -> None:
    """And so is what belongs to another architecture."""
    with pytest.raises(RecordError, match=said):
        RingBankParameters(**fields)


@pytest.mark.parametrize("preset", ["crossbar-typical", "mesh-typical"])
def test_a_spec_string_names_the_preset_and_the_field(preset: str) -> None:
    """Out of bounds, unknown, inconsistent; true is not a number."""
    with pytest.raises(SpecError, match=f"sim:{preset}: .*adc_enob must be at most"):
        open_simulated(preset, adc_enob=12.0)
    with pytest.raises(SpecError, match=f"unknown option gain_sprad of sim:{preset}; did you mean gain_spread"):
        open_simulated(preset, gain_sprad=0.1)
    with pytest.raises(SpecError, match=r"gain_spread of sim:.* is a number, found True"):
        open_simulated(preset, gain_spread=True)


def test_a_record_does_not_change() -> None:
    """Frozen: a chip in use keeps its parameters."""
    with pytest.raises(ValidationError, match="frozen"):
        PRESETS["typical"].rin_db_per_hz = -100.0


# ---------------------------------------------------------------- derived


@pytest.mark.parametrize("kind", ["ring", "crossbar", "mesh"])
def test_variances_are_those_of_the_page_in_amperes(kind: str) -> None:
    """In units of the current of D = 1, which each architecture has its own of."""
    power, response, bandwidth, i_n, rin_db, cmrr_db, dark = 0.3e-3, 0.7, 6e9, 11e-12, -142.0, 21.0, 3e-6
    own = {"ring": {}, "crossbar": {"cell_extinction_db": 6.0}, "mesh": {"local_oscillator_ratio": 3.0}}[kind]
    p = quiet(
        kind,
        power_per_pair_w=power,
        responsivity_a_per_w=response,
        bandwidth_hz=bandwidth,
        shot_noise=True,
        thermal_noise_a_per_rthz=i_n,
        rin_db_per_hz=rin_db,
        cmrr_db=cmrr_db,
        dark_current_a=dark,
        **own,
    ).parameters
    darkest = 10**-0.6
    per_pair = {"ring": 1.0, "crossbar": (1 - darkest) / (1 + darkest), "mesh": 2 * math.sqrt(3.0)}[kind]
    current = power * response * per_pair
    assert p.full_scale_current_a == pytest.approx(current)
    rin = 10 ** (rin_db / 10) * bandwidth
    assert p.noise.model_dump() == pytest.approx(
        {
            "thermal": (i_n**2 + 2 * Q * 2 * dark) * bandwidth / current**2,
            "shot": 2 * Q * bandwidth / current,
            "rin": rin,
            "common_mode": rin * 10 ** (-cmrr_db / 10),
            "converter": 0.0,
        }
    )


@pytest.mark.parametrize(
    ("watt", "hertz", "bits"), [(1e-5, 1e9, 4.4), (1e-4, 5e9, 6.4), (1e-4, 1e10, 5.9), (1e-3, 1e9, 9.7)]
)
def test_the_receiver_budget_of_the_reference_comes_out(watt: float, hertz: float, bits: float) -> None:
    """sim.md e.18: log2(I / sigma) at 15 pA/sqrt(Hz) and -150 dB/Hz, by all three noises at full signal."""
    p = RingBankParameters(power_per_pair_w=watt, bandwidth_hz=hertz, rin_db_per_hz=-150.0)
    assert -math.log2(math.sqrt(p.noise.variance(1.0, 1.0))) == pytest.approx(bits, abs=0.05)


def test_effective_bits_fall_with_every_noise() -> None:
    """Quantisation alone leaves all bits of the full scale; noise, the ADC's own too, takes some."""
    still = {"shot_noise": False, "thermal_noise_a_per_rthz": 0.0, "rin_db_per_hz": None}
    assert RingBankParameters(**still).enob == pytest.approx(8.0)
    assert RingBankParameters(**still, adc_enob=6.5).enob == pytest.approx(6.5)
    assert RingBankParameters(**still, adc_bits=None).enob is None
    noisy = [RingBankParameters(power_per_pair_w=watt).enob for watt in (1e-5, 1e-4, 1e-3)]
    assert noisy == sorted(noisy)
    assert noisy[-1] < 8.0


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_s_summary_is_its_own_noise(name: str) -> None:
    """Standard deviations at (0, 0), (1, 0) and (1, full scale), in counts, and effective bits."""
    p = PRESETS[name]
    variance = p.noise
    found = p.summary()
    for s, d in ((0.0, 0.0), (1.0, 0.0), (1.0, p.adc_full_scale)):
        v = variance.thermal + variance.shot * s + variance.rin * d**2 + variance.common_mode * s**2
        assert f"{math.sqrt(v + variance.converter) / p.lsb:.2f}" in found
    bits = SimulatedChip(p).spec.enob
    assert found.endswith("unlimited" if bits is None else f"{bits:.1f}")


def test_presets_become_worse_in_their_order() -> None:
    """Ideal, typical, pessimistic, on each architecture."""
    for kind in ("", "crossbar-", "mesh-"):
        typical, pessimistic = (PRESETS[kind + name].enob for name in ("typical", "pessimistic"))
        assert PRESETS[f"{kind}ideal"].enob is None
        assert typical is not None
        assert pessimistic is not None
        assert typical > pessimistic + 1
