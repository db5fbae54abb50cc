"""Drift within a call: a long call has the law of many short ones, and both have the closed form's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from measuring import input_codes, measure, quiet, random, weight_codes
from torch import Tensor

from photonic.backends.simulated import SimulatedChip
from photonic.calibration.allan import overlapping_allan
from photonic.errors import RangeError
from photonic.physics.drift import HELD, OrnsteinUhlenbeck, RandomWalk

SECOND = {"symbol_rate_hz": 1.0, "settle_time_s": 0.0}  # one shot is one second
OUTPUTS = 64


def _allan_ar1(sigma: float, tau: float, m: int) -> float:
    """Allan variance of means of m samples of an AR(1) process, from the variance of their sums."""

    def of_sum(n: int) -> float:
        lag = np.arange(1, n)
        return n + 2 * float(((n - lag) * np.exp(-lag / tau)).sum())

    # (sum of the second m) - (sum of the first m): 4 Var(S_m) - Var(S_2m)
    return sigma**2 * (4 * of_sum(m) - of_sum(2 * m)) / (2 * m**2)


def _logs(chip: SimulatedChip, shots: int, each: int) -> Tensor:
    """log of the outputs' gains, (shots, M), in calls of ``each`` shots."""
    weights = torch.ones(chip.spec.n_outputs, 1)
    calls = [measure(chip, weights, torch.ones(each, 1)) for _ in range(shots // each)]
    return torch.cat(calls).log()


@pytest.mark.parametrize("each", [16384, 512, 8], ids=lambda n: f"calls of {n}")
@pytest.mark.parametrize("tau", [5.0, 50.0])
def test_the_allan_deviation_is_that_of_the_process_however_calls_are_cut(each: int, tau: float) -> None:
    """Of 64 gains over 16,384 shots: the standard error of each ratio is at most 3 %."""
    chip = quiet(n_outputs=OUTPUTS, n_inputs=1, gain_drift=0.02, drift_s=tau, **SECOND)
    found = overlapping_allan(_logs(chip, 16384, each).numpy(), 1.0)
    for size, deviation, degrees in zip(found.readings[:9], found.deviation, found.degrees, strict=False):
        wanted = _allan_ar1(0.02, tau, int(size))
        ratio = float((deviation**2).mean()) / wanted
        assert ratio == pytest.approx(1.0, abs=5 * math.sqrt(2 / (degrees * OUTPUTS)) + 0.005)


def test_the_laser_s_drift_is_one_for_all_and_scales_result_and_power() -> None:
    """All outputs follow one factor, and shot noise follows the power, not its square."""
    chip = quiet(n_outputs=8, n_inputs=1, laser_drift=0.05, drift_s=20.0, **SECOND)
    logs = _logs(chip, 4096, 4096)
    assert (logs - logs[:, :1]).abs().max().item() < 1e-12
    assert logs[:, 0].std().item() == pytest.approx(0.05, rel=0.3)
    lit = {"n_outputs": 2000, "n_inputs": 1, "shot_noise": True, "drift_s": 2.0, **SECOND}
    d = measure(quiet(**lit, laser_drift=0.29), torch.ones(2000, 1), torch.ones(400, 1))
    still = measure(quiet(**lit), torch.ones(2000, 1), torch.ones(400, 1)).var().item()
    # each shot has one power, which the mean over outputs shows
    slope = (d.var(1) / d.mean(1)).mean().item()
    assert slope == pytest.approx(still, rel=0.02)


def test_a_walk_begins_at_0_and_has_the_allan_variance_of_its_form() -> None:
    """q (2 m^2 + 1) / (6 m) over devices' runs; variance q t."""
    runs = []
    for seed in range(60):
        chip = quiet(n_outputs=1, n_inputs=1, laser_walk_per_root_s=2e-3, seed=seed, **SECOND)
        runs.append(_logs(chip, 2048, 512)[:, 0])
    logs = torch.stack(runs, 1)
    assert logs[0].abs().max().item() == 0
    t = torch.arange(1, 2048, dtype=torch.float64).unsqueeze(1)
    assert (logs[1:].square() / t).mean().item() == pytest.approx(4e-6, rel=0.4)
    found = overlapping_allan(logs.numpy(), 1.0)
    for size, deviation in zip(found.readings[:6], found.deviation, strict=False):
        m = int(size)
        assert float((deviation**2).mean()) == pytest.approx(4e-6 * (2 * m**2 + 1) / (6 * m), rel=0.08)


def test_tiles_of_a_call_follow_each_other_with_their_settling() -> None:
    """The covariance between two tiles is that of the time from the one to the other."""
    fields = {"n_outputs": 20_000, "n_inputs": 1, "gain_drift": 0.05, "drift_s": 10.0}
    chip = quiet(**fields, symbol_rate_hz=1.0, settle_time_s=3.0)
    codes = weight_codes(
        chip, torch.stack([torch.full((20_000, 1), w) for w in (1.0, 0.9, 0.8, 0.7)]).view(2, 2, -1, 1)
    )
    counts = chip.measure(codes, input_codes(chip, torch.ones(2, 4, 1))).counts
    logs = (counts / counts.new_tensor([[1.0, 0.9], [0.8, 0.7]])[..., None, None]).log().flatten(0, 2)
    covariance = torch.cov(logs)
    shots = torch.tensor([3 + 7 * tile + shot for tile in range(4) for shot in range(4)], dtype=torch.float64)
    wanted = 0.05**2 * torch.exp(-(shots[:, None] - shots).abs() / 10)
    assert (covariance - wanted).abs().max().item() < 5 * 0.05**2 * math.sqrt(2 / 20_000)


@pytest.mark.parametrize(("name", "kind"), [("bias_drift_rad", "crossbar"), ("lo_phase_drift_rad", "mesh")])
def test_what_changes_tiles_drifts_within_a_call(name: str, kind: str) -> None:
    """Shots of one call differ as those of one-shot calls do: mean square change at lags of 1 and 16."""
    found, shots = {}, 1024
    for each in (256, 1):
        chip = quiet(kind, n_outputs=4, n_inputs=4, drift_s=40.0, extinction_ratio_db=20.0, **{name: 0.1}, **SECOND)
        weights, levels = random(4, 4, low=-1.0), torch.full((each, 4), 0.3 if kind == "crossbar" else 0.0)
        d = torch.cat([measure(chip, weights, levels) for _ in range(shots // each)])
        found[each] = [(d[lag:] - d[:-lag]).square().mean().item() for lag in (1, 16)]
        assert found[each][0] > 0
    # 1024 shots are some 25 correlation times, of 4 processes
    assert found[256][0] == pytest.approx(found[1][0], rel=0.35)
    assert found[256][1] == pytest.approx(found[1][1], rel=0.6)


def test_modulators_remember_over_the_blocks_of_a_call() -> None:
    """With a drift too small to see, a call that is evaluated shot by shot is the one that is not."""
    fields = {"modulator_bandwidth_hz": 0.05, **SECOND}
    weights, levels = random(4, 8, low=-1.0), random(60, 8)
    still = measure(quiet(**fields), weights, levels)
    found = measure(quiet(bias_drift_rad=1e-9, drift_s=1.0, **fields), weights, levels)
    assert (found - still).abs().max().item() < 1e-8
    forgetful = measure(quiet(**SECOND), weights, levels)
    assert (forgetful - still).abs().max().item() > 1e-3


def test_a_chip_without_drift_draws_nothing_for_it() -> None:
    """Nor does one whose call is short: one value for the call."""
    noisy = {"shot_noise": True, "n_outputs": 4, "n_inputs": 8}
    assert OrnsteinUhlenbeck(1.0, 60.0, 1).held_s() == pytest.approx(60.0 * HELD**2 / 2, rel=1e-3)
    assert RandomWalk(0.0, 1).held_s() == math.inf
    plain, slow = quiet(**noisy), quiet(laser_drift=0.01, drift_s=60.0, **noisy)
    weights, levels = random(4, 8, low=-1.0), random(5000, 8)
    one, other = measure(plain, weights, levels), measure(slow, weights, levels)
    assert torch.equal(one, measure(quiet(**noisy), weights, levels))
    assert len(slow.state()["drifts"]["laser"]) == 1
    assert slow.state()["drawn_s"] == 0.0
    assert not torch.equal(one, other)


def test_a_walk_refuses_what_cannot_be() -> None:
    for arguments in ((-1.0, 1), (1.0, 0), (math.nan, 1)):
        with pytest.raises(RangeError, match="per_root_s must be 0 or more"):
            RandomWalk(*arguments)
