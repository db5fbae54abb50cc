"""Where S has a product of its own, its matrix is kept compact and gives the variance in counts."""

from __future__ import annotations

import pytest
import torch

from photonic.backends.simulated import open_simulated
from photonic.physics.detection import Gain
from photonic.physics.optics import Surroundings
from photonic.physics.shotnoise import COMPACT, ShotNoise
from photonic.records import NoiseModel

NOISE = NoiseModel(thermal=2e-6, shot=3e-6, rin=1e-5)


def _case() -> tuple[torch.Tensor, torch.Tensor, Gain]:
    """W_S of 2 columns of 3 tiles of 5 outputs, light of 7 shots, and a gain for each tile."""
    torch.manual_seed(0)
    power = (0.2 + torch.rand(2, 3, 5, 64)) / 64  # cells as of a crossbar, of which the darkest is at 0.13
    return power, torch.rand(2, 7, 64), Gain(400 + 100 * torch.rand(2, 1, 3, 5), torch.zeros(5))


def _wanted(power: torch.Tensor, light: torch.Tensor, gain: Gain, adc: float) -> torch.Tensor:
    s = torch.einsum("crmk,cbk->cbrm", power.double(), light.double())
    return ((NOISE.thermal + NOISE.shot * s) * gain.counts_per_d.double().square() + adc**2).sqrt()


def _sigma(noise: ShotNoise, light: torch.Tensor) -> torch.Tensor:
    out = torch.empty(len(light), 7, 3, 5)
    return noise.variance(light, out).add(noise.fixed).sqrt()


@pytest.mark.parametrize("adc", [0.0, 0.3])
def test_sigma_is_that_of_the_total_power_in_counts(adc: float) -> None:
    power, light, gain = _case()
    found = _sigma(ShotNoise.of(power, gain, NOISE, adc), light)
    assert torch.allclose(found.double(), _wanted(power, light, gain, adc), rtol=1e-5)


def test_a_compact_matrix_moves_no_sigma_by_more_than_a_ten_thousandth() -> None:
    power, light, gain = _case()
    noise = ShotNoise.of(power.to(COMPACT[torch.float32]), gain, NOISE, 0.0)
    assert noise.matrix.dtype == torch.float32
    found = _sigma(noise, light)
    wanted = _wanted(power, light, gain, 0.0)
    assert ((found.double() - wanted) / wanted).abs().max() < 1e-4


def test_some_of_the_columns() -> None:
    power, light, gain = _case()
    noise = ShotNoise.of(power, gain, NOISE, 0.0)
    assert torch.allclose(_sigma(noise.columns(slice(1, 2)), light[1:]), _sigma(noise, light)[1:])


def test_a_crossbar_keeps_its_power_compact_and_its_signed_matrix_in_full() -> None:
    chip = open_simulated("crossbar-typical", seed=0)
    weights = torch.randint(-100, 100, (2, 2, 64 * 64), dtype=torch.int16)
    inputs = torch.randint(0, 255, (2, 200, 64), dtype=torch.int16)
    evaluation, seen = chip._evaluation, []
    tiles = evaluation.tiles

    def watched(*arguments: object) -> object:
        seen.append(tiles(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    evaluation.tiles = watched  # type: ignore[method-assign, assignment]
    chip.measure(weights, inputs)
    assert (seen[0].signed.dtype, seen[0].power.dtype) == (torch.float32, torch.float16)


def test_variances_of_a_crossbar_follow_the_total_power() -> None:
    """By many shots of the same codes; the bound is of the shots, of which the tolerance is nothing."""
    chip = open_simulated("crossbar-typical", seed=0, rin_db_per_hz=None, adc_bits=None)
    weights = torch.randint(-100, 100, (1, 1, 64 * 64), dtype=torch.int16)
    inputs = torch.randint(0, 255, (1, 1, 64), dtype=torch.int16).expand(-1, 20000, -1)
    counts = chip.measure(weights, inputs).counts[0, 0].double()
    p = chip.parameters
    assert counts.shape == (20000, 64)
    gain = chip._evaluation.gain(64, 1.0, None, torch.float32).counts_per_d.flatten().double()
    _, w_s, _ = chip._evaluation.programmed(weights[0], 64, None, Surroundings(torch.Generator()), torch.float64)
    light = chip._evaluation.device.transmitter.light(inputs[0, :1].double(), None, torch.Generator())[0]
    wanted = (p.noise.thermal + p.noise.shot * (w_s[0] @ light)) * gain.square()
    ratio = counts.var(0) / wanted
    assert (ratio - 1).abs().max() < 5 * (2 / 20000) ** 0.5
    assert abs(float(ratio.mean()) - 1) < 4 * (2 / 20000 / 64) ** 0.5
