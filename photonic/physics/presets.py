"""Named chips: primary quantities only; what follows from them is computed and printed."""

from __future__ import annotations

from typing import Any

from photonic.physics.crossbar import CrossbarParameters
from photonic.physics.mesh import MeshParameters
from photonic.physics.parameters import ChipParameters
from photonic.physics.ringbank import RingBankParameters

_IDEAL: dict[str, Any] = {
    "shot_noise": False,
    "thermal_noise_a_per_rthz": 0.0,
    "rin_db_per_hz": None,
    "input_bits": None,
    "weight_bits": None,
    "adc_bits": None,
    "adc_full_scale": 1.0,
    "extinction_ratio_db": None,
}
# DESIGN 6; 25 dB and 8 bits: reference ranges of link models; RIN of a DFB laser; losses: reference/sim.md e.1
_TYPICAL: dict[str, Any] = {
    "dark_current_a": 50e-9,
    "v_pi_spread": 0.005,
    "bias_spread_rad": 0.01,
    "channel_spread": 0.02,
    "gain_spread": 0.02,
    "offset_spread_lsb": 0.5,
    "coupling_loss_db": 2.0,
    "modulator_loss_db": 1.2,
    "routing_loss_db": 1.0,
}
_PESSIMISTIC: dict[str, Any] = {
    "power_per_pair_w": 0.2e-3,
    "thermal_noise_a_per_rthz": 20e-12,
    "rin_db_per_hz": -140.0,
    "dark_current_a": 60e-9,
    "cmrr_db": 25.0,
    "input_bits": 6,
    "weight_bits": 6,
    "adc_bits": 6,
    "extinction_ratio_db": 15.0,
    "v_pi_spread": 0.02,
    "bias_spread_rad": 0.03,
    "channel_spread": 0.05,
    "gain_spread": 0.05,
    "offset_spread_lsb": 1.0,
    "coupling_loss_db": 4.0,
    "modulator_loss_db": 4.5,
    "routing_loss_db": 2.0,
}
_COHERENT: dict[str, Any] = {"n_outputs": 16, "n_inputs": 16, "adc_full_scale": 1.0}

PRESETS: dict[str, ChipParameters] = {
    "ideal": RingBankParameters(**_IDEAL, channel_leakage=False, max_detuning_nm=None),
    # spreads as left after trimming
    "typical": RingBankParameters(**_TYPICAL, device_loss_db=0.93, resonance_spread_nm=0.0005, fwhm_spread=0.01),
    "pessimistic": RingBankParameters(
        **_PESSIMISTIC, device_loss_db=0.95, resonance_spread_nm=0.002, fwhm_spread=0.03, thermal_crosstalk=0.217
    ),
    "crossbar-ideal": CrossbarParameters(**_IDEAL, cell_levels=None, cell_extinction_db=None),
    "crossbar-typical": CrossbarParameters(**_TYPICAL),
    "crossbar-pessimistic": CrossbarParameters(**_PESSIMISTIC),
    "mesh-ideal": MeshParameters(**_IDEAL, uneven_loss=False),
    "mesh-typical": MeshParameters(
        **{**_TYPICAL, **_COHERENT},
        weight_bits=12,
        device_loss_db=0.1,
        phase_error_rad=0.003,
        splitter_error_rad=0.005,
        lo_phase_spread_rad=0.01,
    ),
    "mesh-pessimistic": MeshParameters(
        **{**_PESSIMISTIC, **_COHERENT, "weight_bits": 8},
        device_loss_db=0.2,
        phase_error_rad=0.01,
        splitter_error_rad=0.02,
        lo_phase_spread_rad=0.05,
        thermal_crosstalk=0.217,
    ),
}
