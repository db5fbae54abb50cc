"""What changes on the chip's own clock: warm-up, power law, and AR(1) drift, as the chip shows them."""

from __future__ import annotations

import json
import math

import pytest
import torch
from measuring import SHOTS, input_codes, measure, quiet, random, weight_codes
from torch import Tensor

from photonic.backends.simulated import SimulatedChip, open_simulated
from photonic.errors import ChipError, RangeError, ShapeError
from photonic.physics import drift
from photonic.physics.drift import OrnsteinUhlenbeck

WIDTH = 100_000  # the standard error of a variance is 0.45 %, of a covariance at most that
SECOND = {"symbol_rate_hz": 1.0, "settle_time_s": 0.0}  # one shot is one second


def _kelvin(chip: SimulatedChip, weights: Tensor, levels: Tensor) -> tuple[Tensor, float]:
    """Counts, and what the chip's thermometer says."""
    found = chip.measure(weight_codes(chip, weights[None, None]), input_codes(chip, levels)[None])
    return found.counts[0, 0], found.telemetry["kelvin"].item()


# ---------------------------------------------------------------- through the chip


@pytest.mark.parametrize(("sigma", "tau", "dt"), [(0.02, 60.0, 20), (0.1, 10.0, 8)])
def test_every_output_s_gain_is_an_ar1_process(sigma: float, tau: float, dt: int) -> None:
    """log g has the variance s^2 from the start, and the covariance s^2 exp(-dt / tau) between two times."""
    chip = quiet(n_outputs=WIDTH, n_inputs=1, gain_drift=sigma, drift_s=tau, **SECOND)
    weights, levels = torch.ones(WIDTH, 1), torch.ones(dt, 1)
    logs = torch.stack([measure(chip, weights, levels)[0].log() for _ in range(3)])
    covariance = torch.cov(logs)
    assert covariance.diagonal().numpy() == pytest.approx(sigma**2, rel=0.025)
    kept = math.exp(-dt / tau)
    assert covariance[0, 1].item() == pytest.approx(sigma**2 * kept, rel=0.03)
    assert covariance[1, 2].item() == pytest.approx(sigma**2 * kept, rel=0.03)
    assert covariance[0, 2].item() == pytest.approx(sigma**2 * kept**2, rel=0.05)
    assert logs.mean(1).abs().max().item() < 5 * sigma / math.sqrt(WIDTH)


def test_nothing_drifts_within_a_call_that_is_short_against_the_drift() -> None:
    """The gain is that of the call's start, the same for every shot and every tile; all outputs have their own."""
    chip = quiet(gain_drift=0.1, drift_s=1e6, **SECOND)
    counts = chip.measure(weight_codes(chip, torch.ones(2, 3, 4, 8)), torch.ones(3, 5, 8, dtype=torch.float64)).counts
    assert (counts - counts[0, 0, 0]).abs().max().item() < 1e-14
    assert counts[0, 0, 0].unique().numel() == 4


@pytest.mark.parametrize(("sigma", "kind"), [(0.03, "ring"), (0.1, "mesh")])
def test_the_laser_drifts_for_all_outputs_and_says_so(sigma: float, kind: str) -> None:
    """log P has the variance s^2; D follows the power that the chip's monitor shows."""
    chip = quiet(kind, laser_drift=sigma, drift_s=1.0, **SECOND)
    weights = weight_codes(chip, torch.eye(4, 8)[None, None])
    codes = torch.ones(1, 8, 8, dtype=torch.float64)  # each call is 8 correlation times long
    found = [chip.measure(weights, codes) for _ in range(2500)]
    power = torch.stack([item.telemetry["laser_power"] for item in found])
    d = torch.stack([item.counts[0, 0, 0] for item in found])
    assert (d / d[0] - (power / power[0]).unsqueeze(1)).abs().max().item() < 1e-12
    assert d[0, 0].item() == pytest.approx(power[0].item() * (1 if kind == "mesh" else 1 / 8))
    assert power.log().var().item() == pytest.approx(sigma**2, rel=0.14)  # standard error 2.8 %
    assert abs(torch.corrcoef(torch.stack((power[1:], power[:-1])).log())[0, 1].item()) < 5 / math.sqrt(2500)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_every_modulator_s_null_drifts(sigma: float) -> None:
    """At the middle of the fringe T = sin^2(pi/4 + b/2), so b = 2 asin(sqrt(T)) - pi/2, of variance s^2."""
    n = 1000
    chip = quiet(n_outputs=n, n_inputs=n, bias_drift_rad=sigma, drift_s=10.0, **SECOND)
    eye, half = torch.eye(n), torch.full((5, n), 0.5)
    nulls = torch.stack([2 * torch.asin((measure(chip, eye, half)[0] * n).sqrt()) - math.pi / 2 for _ in range(8)])
    kept = math.exp(-5 / 10)
    covariance = torch.cov(nulls)
    # 8 calls of 1000 processes, the neighbours correlated by 0.37 of a variance: standard error 2 %
    assert covariance.diagonal().mean().item() == pytest.approx(sigma**2, rel=0.1)
    assert covariance.diagonal(offset=1).mean().item() == pytest.approx(sigma**2 * kept, rel=0.1)
    assert covariance.diagonal(offset=4).mean().item() == pytest.approx(sigma**2 * kept**4, abs=0.06 * sigma**2)


def test_the_chip_warms_up_on_its_own_clock() -> None:
    """dT exp(-t / tau), t in shots and settling times; the rings see it as any other temperature."""
    fields = {"settle_time_s": 0.25, "symbol_rate_hz": 1.0, "channel_leakage": False}
    chip = quiet(warm_up_k=3.0, warm_up_s=20.0, **fields)
    weights, levels = random(4, 8, low=-1.0), random(6, 8)
    for t in (0.0, 6.25, 12.25):  # the same tile settles once
        counts, kelvin = _kelvin(chip, weights, levels)
        assert kelvin == pytest.approx(3.0 * math.exp(-t / 20), rel=1e-12)
        for shot in range(6):  # a block is 1 % of warm_up_s, which is less than a shot
            now = 3.0 * math.exp(-(t + (0.25 if t == 0 else 0.0) + shot) / 20)
            fixed, _ = _kelvin(quiet(temperature_error_k=now, **fields), weights, levels)
            assert (counts[shot] - fixed[shot]).abs().max().item() < 1e-14
    cold, _ = _kelvin(quiet(**fields), weights, levels)
    assert (counts - cold).abs().max().item() > 1e-3


@pytest.mark.parametrize("sigma", [0.05, 2.0])
def test_the_temperature_is_an_ar1_process(sigma: float) -> None:
    """Variance s^2 around the warm-up and the fixed error, covariance s^2 exp(-dt / tau)."""
    chip = quiet(n_outputs=1, n_inputs=1, temperature_drift_k=sigma, temperature_error_k=5.0, drift_s=2.0, **SECOND)
    weights, levels = torch.ones(1, 1), torch.ones(1, 1)
    kelvin = torch.tensor([_kelvin(chip, weights, levels)[1] for _ in range(2500)]) - 5.0
    kept = math.exp(-1 / 2)
    # neighbours correlate, so that 2500 calls are worth 2500 (1 - a^2) / (1 + a^2): a standard error of 4.1 %
    assert kelvin.square().mean().item() == pytest.approx(sigma**2, rel=0.2)
    steps = kelvin[1:] - kept * kelvin[:-1]
    assert steps.var().item() == pytest.approx(sigma**2 * (1 - kept**2), rel=0.15)
    assert abs(torch.corrcoef(torch.stack((steps[1:], steps[:-1])))[0, 1].item()) < 0.1


def test_the_clock_counts_shots_and_settling_and_no_wall_time() -> None:
    """A tile that the chip holds already does not settle again."""
    chip = quiet(symbol_rate_hz=1e6, settle_time_s=1e-3)
    weights, levels = weight_codes(chip, random(1, 2, 4, 8)), random(2, 50, 8)
    assert chip.measure(weights, levels).telemetry["clock_s"].item() == 0.0
    expected = 2 * 1e-3 + 2 * 50e-6
    assert chip.measure(weights, levels).telemetry["clock_s"].item() == pytest.approx(expected)
    chip.measure(weights[:, 1:], levels[1:])  # the last tile is still there
    assert chip.state()["clock_s"] == pytest.approx(2 * expected + 50e-6)


# ---------------------------------------------------------------- what a refit can undo


def _refit(found: Tensor, meant: Tensor) -> Tensor:
    """Residual (B, M) behind the best gain and offset of each output."""
    residual = []
    for y, x in zip(found.T, meant.T, strict=True):
        basis = torch.stack((x, torch.ones_like(x)), dim=1)
        residual.append(y - basis @ torch.linalg.lstsq(basis, y.unsqueeze(1)).solution[:, 0])
    return torch.stack(residual, dim=1)


def test_a_gain_and_offset_refit_undoes_a_gain_drift_and_not_a_common_resonance_shift() -> None:
    """What is left of a drift is the noise; what is left of half a kelvin is many times that."""
    fields = {
        "n_outputs": 16,
        "n_inputs": 16,
        "shot_noise": True,
        "thermal_noise_a_per_rthz": 15e-12,
        "channel_leakage": True,
        "max_detuning_nm": 0.25,
    }
    weights, levels = random(16, 16, low=-1.0), random(4000, 16, seed=1)
    meant = measure(quiet(**(fields | {"shot_noise": False, "thermal_noise_a_per_rthz": 0.0})), weights, levels)
    rest = {
        name: _refit(measure(quiet(**fields, **more), weights, levels), meant).square().mean().sqrt().item()
        for name, more in {
            "nothing": {},
            "gain": {"gain_drift": 0.05},
            "laser": {"laser_drift": 0.05},
            "temperature": {"temperature_error_k": 0.5},
        }.items()
    }
    floor = math.sqrt(15e-12**2 * 5e9 / 1e-6 + 2 * 1.602176634e-19 * 5e9 * 0.5 / 1e-3)
    assert rest["nothing"] == pytest.approx(floor, rel=0.02)
    assert rest["gain"] == pytest.approx(floor, rel=0.1)  # a larger gain has more noise
    assert rest["laser"] == pytest.approx(floor, rel=0.1)
    assert rest["temperature"] > 10 * floor


# ---------------------------------------------------------------- resumed

DRIFTING = {
    "gain_drift": 0.05,
    "laser_drift": 0.05,
    "bias_drift_rad": 0.05,
    "drift_s": 1e-6,
    "rin_db_per_hz": -140.0,
    "shot_noise": True,
    "input_bits": 8,
    "input_enob": 6.0,
}
HOT = {"temperature_drift_k": 0.3, "warm_up_k": 1.0, "warm_up_s": 1e-4, "thermal_memory_k": 2.0}
EVERYTHING = {
    "ring": {**DRIFTING, **HOT},
    "crossbar": {**DRIFTING, "read_spread": 0.01},
    "mesh": {**DRIFTING, **HOT, "lo_phase_drift_rad": 0.1},
}


@pytest.mark.parametrize("kind", EVERYTHING)
@pytest.mark.parametrize("calls", [0, 3])
@pytest.mark.parametrize("tiles", [4, 1])
def test_a_resumed_chip_goes_on_bit_for_bit(kind: str, calls: int, tiles: int) -> None:
    """Noise, drift, temperature and clock, through JSON as a checkpoint holds them; a tile that it held it holds."""
    chip, resumed = (quiet(kind, **EVERYTHING[kind]) for _ in range(2))
    codes = weight_codes(chip, random(tiles, 1, 4, 8, low=-1.0)), random(1, 70, 8).round().to(chip.spec.code_dtype)
    for _ in range(calls):
        chip.measure(*codes)
    state = chip.state()
    expected = [chip.measure(*codes) for _ in range(2)]
    resumed.restore(json.loads(json.dumps(state)))
    for wanted in expected:
        found = resumed.measure(*codes)
        assert torch.equal(found.counts, wanted.counts)
        assert found.telemetry == wanted.telemetry
    assert not torch.equal(expected[0].counts, expected[1].counts)


def test_the_state_of_another_chip_is_refused_and_changes_nothing() -> None:
    """One with other drifts, or of another size."""
    plain, drifting = quiet(), quiet(gain_drift=0.1)
    wide = quiet(gain_drift=0.1, n_outputs=5)
    for chip in (drifting, wide):
        measure(chip, torch.ones(4, 8), torch.ones(1, 8))
    for chip, state in ((drifting, plain.state()), (plain, drifting.state()), (drifting, wide.state())):
        before = chip.state()
        with pytest.raises(ChipError, match="drifts"):
            chip.restore(state | {"calls": before["calls"], "clock_s": 99.0})
        assert chip.state() == before


# ---------------------------------------------------------------- the formulas themselves


@pytest.mark.parametrize("steps", [(0.0, 0.5, 0.5), (2.0, 1e-6, 3.0), (0.1,) * 9])
def test_ornstein_uhlenbeck_is_exact_for_any_step(steps: tuple[float, ...]) -> None:
    """Covariance s^2 exp(-|dt| / tau) between all times, and stationary from the start."""
    process = OrnsteinUhlenbeck(1.5, 0.8, SHOTS)
    values = process.advance(torch.tensor(steps), torch.Generator().manual_seed(3))
    times = torch.tensor(steps, dtype=torch.float64).cumsum(0)
    expected = 1.5**2 * torch.exp(-(times.unsqueeze(1) - times).abs() / 0.8)
    assert torch.cov(values).numpy() == pytest.approx(expected.numpy(), abs=0.02 * 1.5**2)
    assert values.mean(1).abs().max().item() < 5 * 1.5 / math.sqrt(SHOTS)


def test_a_step_of_no_length_changes_nothing() -> None:
    """And one of many correlation times forgets."""
    process, generator = OrnsteinUhlenbeck(1.0, 1.0, SHOTS), torch.Generator().manual_seed(4)
    first = process.advance(torch.zeros(1), generator)
    assert torch.equal(process.advance(torch.zeros(2), generator), first.expand(2, -1))
    later = process.advance(torch.tensor([50.0]), generator)
    assert abs(torch.corrcoef(torch.cat((first, later)))[0, 1].item()) < 5 / math.sqrt(SHOTS)
    assert process.advance(torch.zeros(0), generator).shape == (0, SHOTS)


def test_a_process_goes_on_where_its_state_was_taken() -> None:
    """Before the first step too."""
    one, other = OrnsteinUhlenbeck(1.0, 2.0, 3), OrnsteinUhlenbeck(1.0, 2.0, 3)
    assert one.state() == []
    one.advance(torch.ones(4), torch.Generator().manual_seed(0))
    other.restore(one.state())
    found = [process.advance(torch.ones(4), torch.Generator().manual_seed(1)) for process in (one, other)]
    assert torch.equal(*found)
    other.restore([])
    assert other.state() == []


@pytest.mark.parametrize(("age", "nu"), [(1.0, 0.05), (3600.0, 0.05), (1e5, 0.11), (0.5, 0.11)])
def test_the_power_law_is_that_of_the_page(age: float, nu: float) -> None:
    """(t / t0)^-nu; before t0 it is more than 1."""
    found = drift.power_law(torch.tensor([age], dtype=torch.float64), nu, 2.0)
    assert found.item() == pytest.approx(math.exp(-nu * math.log(age / 2.0)))


def test_warm_up_is_exponential() -> None:
    found = drift.warm_up(torch.tensor([0.0, 5.0, 10.0], dtype=torch.float64), 4.0, 5.0)
    assert found.tolist() == pytest.approx([4.0, 4.0 / math.e, 4.0 / math.e**2])


def test_times_that_cannot_be_are_refused() -> None:
    """By what was found."""
    generator = torch.Generator()
    for arguments in ((-1.0, 1.0, 1), (1.0, 0.0, 1), (1.0, 1.0, 0), (math.nan, 1.0, 1)):
        with pytest.raises(RangeError, match="sigma must be 0 or more"):
            OrnsteinUhlenbeck(*arguments)
    process = OrnsteinUhlenbeck(1.0, 1.0, 2)
    with pytest.raises(RangeError, match=r"steps must be 0 s or more, found -1.0"):
        process.advance(torch.tensor([-1.0]), generator)
    with pytest.raises(ShapeError, match=r"steps must be \(K,\)"):
        process.advance(torch.zeros(1, 1), generator)
    with pytest.raises(ShapeError, match="0 or 2 values, found 3"):
        process.restore([1.0, 2.0, 3.0])
    with pytest.raises(RangeError, match="tau_s must be positive"):
        drift.warm_up(torch.zeros(1), 1.0, 0.0)
    for age, t0 in ((0.0, 1.0), (1.0, 0.0)):
        with pytest.raises(RangeError, match="ages and t0_s must be positive"):
            drift.power_law(torch.tensor([age]), 0.1, t0)


def test_power_and_gain_never_turn_negative() -> None:
    """Drifts of 29 %, at which a normal law would: 3.4 sigma, of 256000 gains and 2500 powers."""
    chip = quiet(n_outputs=64_000, n_inputs=1, gain_drift=0.29, shot_noise=True, **SECOND)
    counts = [measure(chip, torch.ones(64_000, 1), torch.ones(1, 1)) for _ in range(4)]
    assert min(values.min().item() for values in counts) > 0
    bright = open_simulated("ideal", n_outputs=1, n_inputs=1, laser_drift=0.29, shot_noise=True, drift_s=1e-12)
    codes = torch.ones(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    assert min(bright.measure(*codes).counts.item() for _ in range(2500)) > 0
