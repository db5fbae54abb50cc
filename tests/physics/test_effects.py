"""Every effect has a switch that does what it says, alone, and with all of them off a chip is exact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from measuring import IDEAL, input_codes, random, weight_codes
from torch import Tensor

from photonic.backends.simulated import SimulatedChip
from photonic.errors import RecordError, SpecError
from photonic.physics.crossbar import CrossbarParameters
from photonic.physics.effects import effects, without
from photonic.physics.mesh import MeshParameters
from photonic.physics.parameters import ChipParameters
from photonic.physics.presets import PRESETS
from photonic.physics.ringbank import RingBankParameters

KINDS: dict[str, type[ChipParameters]] = {
    "ring": RingBankParameters,
    "crossbar": CrossbarParameters,
    "mesh": MeshParameters,
}
PAGE = Path(__file__).parents[2] / "docs" / "physics.md"

# each effect by itself on an ideal chip: the fields that switch it on, and what it needs beside it on both chips
COMMON: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shot noise": ({"shot_noise": True}, {}),
    "thermal noise": ({"thermal_noise_a_per_rthz": 15e-12}, {}),
    "RIN": ({"rin_db_per_hz": -145.0}, {}),
    # without a result RIN itself makes none
    "common-mode RIN": ({"cmrr_db": 20.0}, {"rin_db_per_hz": -145.0, "weights": 0.0}),
    "dark current": ({"dark_current_a": 50e-9}, {"shot_noise": True, "laser_power": 0.0}),
    "arm imbalance": ({"arm_imbalance_spread": 0.02}, {}),
    "gain spread": ({"gain_spread": 0.02}, {}),
    "input quantisation": ({"input_bits": 4}, {}),
    "input DAC noise": ({"input_enob": 6.0}, {"input_bits": 8}),
    "input INL": ({"input_inl_lsb": (0.0, 0.5, 0.0)}, {"input_bits": 8}),
    "weight quantisation": ({"weight_bits": 4}, {}),
    "ADC quantisation and clipping": ({"adc_bits": 6}, {}),
    "ADC noise": ({"adc_enob": 5.0}, {"adc_bits": 8}),
    "ADC INL": ({"adc_inl_lsb": (0.0, 1.0, 0.0)}, {"adc_bits": 8}),
    "offset spread": ({"offset_spread_lsb": 0.5}, {}),
    "finite extinction": ({"extinction_ratio_db": 20.0}, {}),
    "modulator memory": ({"modulator_bandwidth_hz": 1e9}, {}),
    "channel imbalance": ({"channel_spread": 0.02}, {}),
    "modulator spread": ({"v_pi_spread": 0.01, "bias_spread_rad": 0.01}, {}),
    "stuck elements": ({"stuck_fraction": 0.1}, {}),
    "dead elements": ({"dead_fraction": 0.1}, {}),
    "laser drift": ({"laser_drift": 0.02}, {}),
    "gain drift": ({"gain_drift": 0.02}, {}),
    "bias drift": ({"bias_drift_rad": 0.02}, {}),
    "input crosstalk": ({"input_crosstalk": 0.02}, {}),
}
WARM = {
    "temperature": ({"temperature_error_k": 0.5}, {}),
    "warm-up": ({"warm_up_k": 0.5}, {}),
    "temperature drift": ({"temperature_drift_k": 0.5}, {}),
    "thermal memory": ({"thermal_memory_k": 50.0}, {}),
}
OWN: dict[str, dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "ring": {
        **WARM,
        "heater reach": ({"max_detuning_nm": 0.25}, {}),
        "channel leakage": ({"channel_leakage": True}, {"max_detuning_nm": 0.25}),
        "ring spread": ({"resonance_spread_nm": 0.001, "fwhm_spread": 0.01}, {}),
        "thermal crosstalk": ({"thermal_crosstalk": 0.2}, {}),
    },
    "crossbar": {
        # dark cells let light through, which a weight of zero balances
        "common-mode RIN": ({"cmrr_db": 20.0}, {"rin_db_per_hz": -145.0, "cell_extinction_db": 9.0, "weights": 0.0}),
        "cell levels": ({"cell_levels": 16}, {"cell_extinction_db": 8.92}),
        # the pair's floor makes no result, but light, and so shot noise
        "cell extinction": ({"cell_extinction_db": 8.92}, {"shot_noise": True}),
        "cell spread": ({"cell_spread": 0.02}, {}),
        "cell read noise": ({"read_spread": 0.007}, {}),
        "cell drift": ({"drift_exponent": 0.05, "age_s": 1e4}, {}),
    },
    "mesh": {
        **WARM,
        "finite extinction": ({"extinction_ratio_db": 20.0}, {"lo_phase_spread_rad": 0.1}),
        "phase error": ({"phase_error_rad": 0.01}, {}),
        "splitter error": ({"splitter_error_rad": 0.01}, {}),
        "uneven loss": ({"uneven_loss": True}, {"device_loss_db": 0.1}),
        "local oscillator phase": ({"lo_phase_spread_rad": 0.1}, {}),
        "local oscillator drift": ({"lo_phase_drift_rad": 0.1}, {}),
        "thermal crosstalk": ({"thermal_crosstalk": 0.2}, {}),
    },
}
# a converter that is gone takes its own faults with it
CONVERTERS = {
    "input quantisation": {"input DAC noise", "input INL"},
    "ADC quantisation and clipping": {"ADC noise", "ADC INL"},
}
SIZE = {"n_outputs": 4, "n_inputs": 8}
ALL = [(kind, effect) for kind in KINDS for effect in COMMON | OWN[kind]]


def _parameters(kind: str, fields: Mapping[str, Any]) -> ChipParameters:
    base = PRESETS[IDEAL[kind]].model_dump()
    return KINDS[kind](**(base | SIZE | fields))


def _counts(p: ChipParameters, weights: float = 1.0, laser_power: float = 1.0) -> Tensor:
    """Counts, in D, of the second of two calls: two tiles, levels that change from shot to shot."""
    chip = SimulatedChip(p, device=2, seed=1)
    codes = weight_codes(chip, random(2, 1, 4, 8, low=-1.0) * weights)
    light = input_codes(chip, random(1, 40, 8, seed=3))
    chip.measure(codes, light, {"laser_power": laser_power})
    counts = chip.measure(codes, light, {"laser_power": laser_power}).counts
    return counts.double() * (1.0 if p.adc_bits is None else p.lsb)


def _everything(kind: str) -> ChipParameters:
    fields: dict[str, Any] = {}
    for on, beside in (COMMON | OWN[kind]).values():
        fields |= {name: value for name, value in beside.items() if name not in ("weights", "laser_power")} | on
    return _parameters(kind, fields)


@pytest.mark.parametrize("kind", KINDS)
def test_every_effect_of_an_architecture_is_tested_here(kind: str) -> None:
    """With all of them on, all are listed, and none beside; ideal presets list none."""
    assert set(effects(_everything(kind))) == set(COMMON | OWN[kind])
    assert effects(PRESETS[IDEAL[kind]]) == {}


@pytest.mark.parametrize(("kind", "effect"), ALL)
def test_a_switch_switches_its_effect_and_nothing_else(kind: str, effect: str) -> None:
    """On, the chip differs from the one without, which ``without`` gives back."""
    on, beside = (COMMON | OWN[kind])[effect]
    how = {name: beside[name] for name in ("weights", "laser_power") if name in beside}
    beside = {name: value for name, value in beside.items() if name not in how}
    whole, rest = _parameters(kind, beside | on), _parameters(kind, beside)
    assert effect in effects(whole)
    assert set(effects(whole)) - {effect} == set(effects(rest))
    off = without(whole, effect)
    harmless = {"age_s"}  # of a cell that does not drift
    assert off.model_dump(exclude=harmless) == rest.model_dump(exclude=harmless)
    found, expected = _counts(whole, **how), _counts(rest, **how)
    assert torch.equal(_counts(off, **how), expected)
    assert (found - expected).abs().max().item() > 1e-7
    assert found.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_with_every_effect_off_a_chip_is_exact(kind: str) -> None:
    """An effect without a switch would show here."""
    p = without(_everything(kind), *effects(_everything(kind)))
    assert effects(p) == {}
    weights, light = random(2, 1, 4, 8, low=-1.0), random(1, 40, 8, seed=3)
    scale = torch.linalg.matrix_norm(weights[:, 0], 2) if kind == "mesh" else torch.full((2,), 8.0)
    expected = light[0] @ weights[:, 0].mT / scale.view(-1, 1, 1)
    assert (_counts(p)[:, 0] - expected).abs().max().item() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_all_effects_can_be_switched_off_alone(kind: str) -> None:
    """The others stay as they are; where that chip cannot exist, the error says what it needs."""
    p = _everything(kind)
    refused = set()
    for effect in effects(p):
        try:
            changed = without(p, effect)
        except RecordError:
            refused.add(effect)
            continue
        assert effect not in effects(changed)
        assert set(effects(p)) - set(effects(changed)) == {effect} | CONVERTERS.get(effect, set())
    assert refused == {"ring": {"heater reach"}, "crossbar": {"cell extinction"}, "mesh": set()}[kind]


def test_a_switch_that_does_not_exist_is_refused() -> None:
    """With the names that are near; an effect that is off already stays off."""
    with pytest.raises(SpecError, match="no effect 'shot nois' to switch off; it has shot noise"):
        without(PRESETS["typical"], "shot nois")
    with pytest.raises(SpecError, match="a crossbar chip has no effect 'channel leakage'"):
        without(PRESETS["crossbar-typical"], "channel leakage")
    assert without(PRESETS["ideal"], "shot noise") == PRESETS["ideal"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_has_every_effect_with_its_fields(kind: str) -> None:
    """docs/physics.md names each effect, and each field that switches it."""
    page = PAGE.read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("|")]
    for effect, fields in effects(_everything(kind)).items():
        row = [line for line in lines if line.split("|")[1].strip() == effect]
        assert row, f"docs/physics.md has no row for {effect!r}"
        for name in fields:
            assert any(f"`{name}`" in line for line in row), f"docs/physics.md, {effect}: {name} is missing"


def test_the_page_prints_the_presets_as_they_are() -> None:
    """What ``photonic doctor`` says of each."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for name, parameters in PRESETS.items():
        printed = [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"sim:{name} ")]
        assert printed == [parameters.summary()], name
