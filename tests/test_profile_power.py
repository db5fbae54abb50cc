"""One power drives noise, effective bits and energy; the energy model of the simulated chips is what formulas say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import photonic
from photonic.analysis.profile import profile_model
from photonic.errors import RecordError, SpecError
from photonic.physics import svdmesh
from photonic.physics.converters import walden_j
from photonic.physics.presets import PRESETS
from photonic.physics.ringbank import _detuning
from photonic.records import EnergyModel
from tests.test_profile import ENERGY, images


@pytest.mark.parametrize("field", ["power_per_pair_w", "laser_power_w"])
def test_one_power_drives_noise_effective_bits_and_energy(field):
    """More light: more bits, by shot and thermal noise, and fewer MACs per joule, by the laser; figures by hand."""
    loss = 10 ** ((2.0 + 1.2 + 1.0 + 0.93) / 10)  # of typical, dB
    pairs = 64
    found = []
    for per_pair_w in (0.05e-3, 0.2e-3, 1e-3):
        light_w = pairs * loss * per_pair_w
        given = per_pair_w if field == "power_per_pair_w" else light_w
        with photonic.open_backend(f"sim:typical?{field}={given!r}") as backend:
            profile = profile_model(nn.Linear(64, 64), images(5000, 64), backend)
        current, bandwidth, q, full_scale = 1.0 * per_pair_w, 5e9, 1.602176634e-19, 0.25
        variance = (15e-12**2 * bandwidth + 2 * q * (current + 2 * 50e-9) * bandwidth) / current**2
        variance += (2 * full_scale / 256) ** 2 / 12
        assert profile.enob == pytest.approx(math.log2(2 * full_scale / math.sqrt(12 * variance)), rel=1e-9)
        assert profile.source.light_w == pytest.approx(light_w)
        assert profile.laser_w == pytest.approx(light_w / 0.2)
        seconds = 5000 / 5e9 + 10e-6
        reach = 0.25 / 0.04  # of a heater, in half linewidths
        heaters_w = 64 * 64 * 10e-3 * 2 * math.atan(reach) * 0.04 / 32.0
        always_w = light_w / 0.2 + heaters_w + 64 * 3e-3
        codes_j = 5000 * 64 * (14e-15 * 256 + 200e-15 + 25e-15 * 256) + 64 * 64 * 14e-15 * 256
        assert profile.total.macs_per_j == pytest.approx(5000 * 64 * 64 / (always_w * seconds + codes_j), rel=1e-9)
        found.append((profile.enob, profile.total.macs_per_j))
    bits, efficiency = zip(*found, strict=True)
    assert bits == tuple(sorted(bits))
    assert efficiency == tuple(sorted(efficiency, reverse=True))


def test_the_efficiency_of_the_laser_divides_its_light():
    """Half the wall-plug efficiency is twice the laser's energy, and nothing else."""
    energies = []
    for efficiency in (0.2, 0.1):
        with photonic.open_backend(f"sim?wall_plug_efficiency={efficiency}") as backend:
            energies.append(profile_model(nn.Linear(64, 64), images(1, 64), backend).total.energy)
    assert energies[1].laser_j == pytest.approx(2 * energies[0].laser_j)
    assert energies[1].model_dump(exclude={"laser_j", "total_j"}) == energies[0].model_dump(
        exclude={"laser_j", "total_j"}
    )


# ---------------------------------------------------------------- the energy model of the simulated chips


def test_converters_follow_their_figure_of_merit():
    """FoM 2^ENOB, of the effective bits where they are stated; nothing is stated of a converter that does not exist."""
    with photonic.open_backend("sim?adc_enob=5.9&input_enob=7") as backend:
        model = backend.spec.chip.energy
    assert model.adc_j == pytest.approx(25e-15 * 2**5.9)
    # IEEE 9731625: 14.8 mW at 10 GS/s
    assert model.adc_j == pytest.approx(14.8e-3 / 10e9, rel=0.02)
    assert model.dac_j == pytest.approx(14e-15 * 2**7)
    # IEEE 9162776: 50 mW at 14 GS/s, 8 bits
    assert walden_j(14e-15, 8) == pytest.approx(50e-3 / 14e9, rel=0.01)
    assert walden_j(14e-15, None) is None


@pytest.mark.parametrize("reach", [None, 0.25, 0.05])
def test_rings_are_heated_by_the_mean_detuning(reach):
    """Of weights drawn evenly from -1 to 1, a phase of 2 pi being one free spectral range."""
    parameters = PRESETS["ideal"].model_copy(update={"max_detuning_nm": reach})
    weights = torch.linspace(-1, 1, 2_000_001, dtype=torch.float64)[:-1] + 5e-7
    detuning_nm = float(_detuning(weights, parameters).mean()) * parameters.half_linewidth_nm
    expected = 10e-3 * 2 * detuning_nm / 32.0
    assert parameters.hold_w_per_drive == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("m", "n", "tolerance"), [(6, 12, 0.05), (16, 16, 0.02), (24, 24, 0.02)])
def test_a_mesh_is_heated_by_the_mean_phase(m, n, tolerance):
    """Of the phases that random matrices are programmed with; of many modes it is the formula's."""
    weights = torch.randn(200, m, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drives, _ = svdmesh.program(weights)
    expected = svdmesh.mean_phase(m, n)
    assert float(drives.mean()) == pytest.approx(expected, rel=tolerance)
    parameters = PRESETS["mesh-typical"].model_copy(update={"n_outputs": m, "n_inputs": n})
    assert parameters.energy.hold_w == pytest.approx(drives.shape[1] * 10e-3 * expected / math.pi)


def test_phase_change_cells_take_energy_to_write_and_none_to_hold():
    """Both steps of a pair of cells, 1.7 nJ/dB, each as deep as a weight drawn evenly stands above the floor."""
    parameters = PRESETS["crossbar-typical"]
    magnitude = torch.linspace(0, 1, 1_000_001, dtype=torch.float64)
    transmission = parameters.darkest + (1 - parameters.darkest) * magnitude
    depth_db = 10 * torch.log10(transmission / parameters.darkest)
    assert parameters.energy.hold_w == 0.0
    expected = 2 * 1.7e-9 * float(depth_db.mean()) + 14e-15 * 2**8
    assert parameters.energy.write_j == pytest.approx(expected, rel=1e-5)
    assert PRESETS["crossbar-ideal"].energy.write_j is None


@pytest.mark.parametrize(
    "option",
    [
        "wall_plug_efficiency=1.01",
        "wall_plug_efficiency=0",
        "modulator_j_per_symbol=-1e-15",
        "heater_pi_w=-1e-3",
        "adc_j_per_step=-1e-15",
        "dac_j_per_step=-1e-15",
        "tia_w=-1e-3",
        "laser_power_w=0",
        "tia_w=inf",
    ],
)
def test_unphysical_values_are_refused(option):
    """By name."""
    with pytest.raises(SpecError, match=option.partition("=")[0]):
        photonic.open_backend(f"sim?{option}")


def test_an_energy_model_refuses_negative_energies():
    """Whoever states it."""
    with pytest.raises(RecordError, match="adc_j"):
        EnergyModel(**{**ENERGY.model_dump(), "adc_j": -1.0})
