"""The simulated chip: its codes, its hidden spread, its seeds and its conditions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from photonic.backends.simulated import SimulatedChip, open_simulated
from photonic.errors import RangeError, SaturationError, SpecError
from photonic.physics.presets import PRESETS
from photonic.physics.ringbank import RingBankParameters

QUIET = {"shot_noise": False, "thermal_noise_a_per_rthz": 0.0, "rin_db_per_hz": None}


def _random_codes(chip: SimulatedChip, shots: int = 50, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    spec = chip.spec
    weights = torch.randint(-127, 128, (2, 3, spec.drives), generator=generator, dtype=torch.int16)
    inputs = torch.randint(0, 256, (3, shots, spec.n_inputs), generator=generator, dtype=torch.int16)
    return weights, inputs


def test_counts_follow_the_transfer_functions_written_out() -> None:
    """Noise off, spread on: MZM, ring and ADC of one device, from its hidden truth, to the count."""
    chip = open_simulated("typical", device=5, n_outputs=4, n_inputs=6, channel_leakage=False, **QUIET)
    weights, inputs = _random_codes(chip)
    hidden, parameters = chip._evaluation.device, chip.parameters
    optics, sent, read = hidden.optics, hidden.transmitter, hidden.receiver
    t_min = 10 ** (-25 / 10)
    phase = math.pi / 2 * inputs.double() / 255 * sent.inverse_v_pi + sent.bias_rad
    levels = t_min + (1 - t_min) * torch.sin(phase) ** 2
    w = weights.double().reshape(2, 3, 4, 6) / 127
    reach = 0.25 / 0.04
    detuning = torch.sqrt((1 - w) / (1 + w)).clamp(max=reach)
    lorentzian = 1 / (1 + ((detuning + optics.offset) * optics.inverse_width) ** 2)
    d = torch.einsum("rcmn,cbn->rcbm", (2 * lorentzian - 1) * sent.power / 6, levels)
    counts = (d / parameters.lsb * read.gain + read.offset_d / parameters.lsb).round().clamp(-128, 127)
    measured = chip.measure(weights, inputs).counts
    # float32 inside the chip: a count next to a rounding edge may fall to the other side
    differ = (measured - counts).abs()
    assert differ.max().item() <= 1
    assert (differ > 0).double().mean().item() < 0.002


def test_unused_inputs_and_outputs_are_dark_and_unread() -> None:
    """A partial tile equals the whole tile with dark codes and weights of zero, read in part."""
    chip = open_simulated("typical", n_outputs=8, n_inputs=16, extinction_ratio_db=10.0, **QUIET)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randint(-127, 128, (1, 1, 5, 11), generator=generator, dtype=torch.int16)
    inputs = torch.randint(0, 256, (1, 40, 11), generator=generator, dtype=torch.int16)
    whole_weights = torch.nn.functional.pad(weights, (0, 5, 0, 3)).flatten(-2)
    whole = chip.measure(whole_weights, torch.nn.functional.pad(inputs, (0, 5))).counts[..., :5]
    part = chip.measure(weights.flatten(-2), inputs).counts
    assert (whole - part).abs().max().item() <= 1
    assert (whole != part).double().mean().item() < 0.01


def test_the_adc_clips_and_the_rails_are_counted() -> None:
    """D beyond the full scale stands at the rail, and is counted, not hidden."""
    chip = open_simulated("typical", n_outputs=2, n_inputs=8, **QUIET)
    weights = torch.full((1, 1, 16), 127, dtype=torch.int16)
    weights[..., 8:] = -127
    measured = chip.measure(weights, torch.full((1, 10, 8), 255, dtype=torch.int16))
    assert measured.counts[..., 0].unique().tolist() == [127]
    assert measured.counts[..., 1].unique().tolist() == [-128]
    assert measured.usage.saturated == 20
    assert measured.usage.saturated_fraction == 1.0


def test_saturation_above_the_limit_raises() -> None:
    """A chip may be told how many counts at the rails it accepts."""
    chip = open_simulated("typical", n_outputs=2, n_inputs=8, max_saturated_fraction=0.5, **QUIET)
    weights = torch.full((1, 1, 16), 127, dtype=torch.int16)
    with pytest.raises(SaturationError, match=r"100.0% of the counts.*limit is 50.0%"):
        chip.measure(weights, torch.full((1, 10, 8), 255, dtype=torch.int16))


def test_same_seeds_same_counts_and_other_seeds_other_counts() -> None:
    """Device and run seed both matter, the order of calls too, and each alone changes the counts."""

    def run(**seeds: int) -> list[Tensor]:
        chip = open_simulated("typical", **seeds)
        codes = _random_codes(chip)
        return [chip.measure(*codes).counts for _ in range(2)]

    first, second = run(seed=1, device=2)
    again = run(seed=1, device=2)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, run(seed=2, device=2)[0])
    assert not torch.equal(first, run(seed=1, device=3)[0])


def test_the_device_seed_alone_fixes_the_hidden_spread() -> None:
    """Without noise, the run seed changes nothing and the device does."""

    def run(**seeds: int) -> Tensor:
        chip = open_simulated("typical", **seeds, **QUIET)
        return chip.measure(*_random_codes(chip)).counts

    assert torch.equal(run(seed=1, device=2), run(seed=9, device=2))
    assert not torch.equal(run(seed=1, device=2), run(seed=1, device=3))


def test_purposes_never_share_draws() -> None:
    """Calibration, verification and training of one device and seed have streams of their own."""
    runs = [open_simulated("typical", seed=1, purpose=name) for name in ("calibrate", "verify", "run")]
    counts = [chip.measure(*_random_codes(chip)).counts for chip in runs]
    assert not torch.equal(counts[0], counts[1])
    assert not torch.equal(counts[1], counts[2])


def test_state_resumes_the_noise() -> None:
    """A chip that takes another's state draws the noise that the other would have drawn next."""
    chip = open_simulated("typical", seed=4)
    codes = _random_codes(chip)
    chip.measure(*codes)
    state = chip.state()
    expected = chip.measure(*codes).counts
    resumed = open_simulated("typical", seed=4)
    resumed.restore(state)
    assert torch.equal(resumed.measure(*codes).counts, expected)


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5])
def test_laser_power_scales_the_signal(power: float) -> None:
    """Counts above the offset are proportional to the power; 0 is dark."""
    chip = open_simulated("ideal", n_outputs=4, n_inputs=4)
    weights = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(1, 1, 16)
    inputs = torch.rand(1, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full = chip.measure(weights, inputs).counts
    torch.testing.assert_close(chip.measure(weights, inputs, {"laser_power": power}).counts, full * power)


def test_analog_gain_multiplies_before_the_adc() -> None:
    """A gain of 4 gives four times the counts, to a count of rounding each."""
    chip = open_simulated("typical", adc_full_scale=1.0, gain_spread=0.0, offset_spread_lsb=0.0, **QUIET)
    weights, inputs = _random_codes(chip)
    weights = weights // 4
    low, high = chip.measure(weights, inputs).counts, chip.measure(weights, inputs, {"analog_gain": 4.0}).counts
    assert (high - 4 * low).abs().max().item() <= 2


@pytest.mark.parametrize("conditions", [{"laser_power": 0.3}, {"analog_gain": 3.0}, {"temperature": 20.0}])
def test_conditions_are_never_rounded(conditions: dict[str, float]) -> None:
    """A setting that the chip does not offer is refused before anything is measured."""
    chip = open_simulated("typical")
    with pytest.raises(RangeError):
        chip.measure(*_random_codes(chip), conditions)
    assert chip.usage.calls == 0
    assert chip.state() == open_simulated("typical").state()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"power_per_pair_w": -1e-3}, "power_per_pair_w"),
        ({"extinction_ratio_db": -3.0}, "extinction_ratio_db"),
        ({"adc_full_scale": 0.0}, "adc_full_scale"),
        ({"adc_bits": 40}, "adc_bits"),
        ({"bandwidth_hz": float("nan")}, "bandwidth_hz"),
        ({"bandwith_hz": 1e9}, "did you mean bandwidth_hz"),
    ],
)
def test_unphysical_parameters_are_refused_by_name(fields: dict[str, float], message: str) -> None:
    """The field and its bound, or the nearest known name."""
    with pytest.raises(SpecError, match=message):
        open_simulated("typical", **fields)


def test_unknown_presets_list_the_known() -> None:
    """The message names every preset."""
    with pytest.raises(SpecError, match="ideal, typical, pessimistic"):
        open_simulated("typicla")


def test_presets_hold_primary_quantities_only() -> None:
    """Derived numbers are computed: more power means more effective bits."""
    kinds = ("", "crossbar-", "mesh-")
    assert set(PRESETS) == {kind + name for kind in kinds for name in ("ideal", "typical", "pessimistic")}
    weak = SimulatedChip(RingBankParameters(power_per_pair_w=1e-4)).spec.enob
    strong = SimulatedChip(RingBankParameters(power_per_pair_w=1e-3)).spec.enob
    assert weak is not None
    assert strong is not None
    assert strong - weak > 1
    assert SimulatedChip(PRESETS["ideal"]).spec.enob is None


def test_pessimistic_effective_bits_match_the_formula() -> None:
    """log2(span / (sigma sqrt 12)) with the quantisation in sigma, written out."""
    p = PRESETS["pessimistic"]
    variance = p.noise.thermal + p.noise.shot + p.noise.common_mode + p.lsb**2 / 12
    expected = math.log2(2 * p.adc_full_scale / math.sqrt(12 * variance))
    assert SimulatedChip(p).spec.enob == pytest.approx(expected)


def test_every_preset_prints_its_derived_effective_bits() -> None:
    """The parameters' and the data sheet's effective bits are one number."""
    assert PRESETS["typical"].summary() == (
        "noise 0.54 / 0.85 / 0.99 LSB at (S, D) = (0, 0) / (1, 0) / (1, 0.25), effective bits 6.4"
    )
    assert PRESETS["ideal"].summary().endswith("effective bits unlimited")
    for parameters in PRESETS.values():
        assert parameters.enob == SimulatedChip(parameters).spec.enob


@pytest.mark.parametrize(("columns", "shots"), [(9, 290), (8, 200), (5, 700)])
def test_a_column_s_counts_are_its_own_whatever_the_blocks(columns: int, shots: int) -> None:
    """Blocks of light and of products have widths of their own; 9 columns of 290 shots end inside both."""
    chip = open_simulated("typical", channel_leakage=False, **QUIET)
    generator = torch.Generator().manual_seed(2)
    weights = torch.randint(-127, 128, (8, columns, 64 * 64), generator=generator, dtype=torch.int16)
    inputs = torch.randint(0, 256, (columns, shots, 64), generator=generator, dtype=torch.int16)
    whole = chip.measure(weights, inputs).counts
    for column in range(columns):
        alone = chip.measure(weights[:, column : column + 1], inputs[column : column + 1]).counts
        differ = (whole[:, column : column + 1] - alone).abs()
        # a product of another size may round to the other side of a code's edge
        assert differ.max().item() <= 1
        assert (differ > 0).double().mean().item() < 0.002
