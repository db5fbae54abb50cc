"""The compiled loop from D to counts is the same detection as the one in many passes, with the same draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from photonic.backends.simulated import open_simulated
from photonic.physics.detection import Gain
from photonic.physics.detector import Detector
from photonic.physics.draws import NormalDraws
from photonic.physics.many import MANY
from photonic.physics.shotnoise import ShotNoise
from photonic.records import NoiseModel

NOISE = NoiseModel(thermal=2e-6, shot=3e-6, rin=1e-5, common_mode=2e-6)
# C, B, R, m: whole parts of the stream, parts that end within a shot, shots longer than a part
SHAPES = [(2, 64, 3, 64), (1, 901, 3, 5), (3, 31, 1, 140), (2, 3, 2, 5000)]


def _gain(shape: tuple[int, ...], tiles: bool) -> Gain:
    c, _, r, m = shape
    return Gain(300 + 200 * torch.rand(c if tiles else 1, 1, r if tiles else 1, m), 2 * torch.randn(m))


def _counts(d: Tensor, s: Tensor | tuple[Tensor, ShotNoise], gain: Gain, noise: NoiseModel, *, loop: bool) -> Tensor:
    """Counts (C, B, R, m), laid out as a chip gives them."""
    draws = NormalDraws()
    draws.seed(5)
    reader = Detector(noise, 0.2, (-128.0, 127.0), None, draws)
    c, b, r, m = d.shape
    whole = torch.full((r, c + 1, b + 2, m), 999, dtype=torch.int16)  # of a call, of which these are some shots
    out = whole[:, 1:, 2:].permute(1, 2, 0, 3)
    with pytest.MonkeyPatch.context() as patched:
        if not loop:
            patched.setattr(Detector, "_rounds", lambda *_: False)
        assert reader._rounds(d, gain, out) == loop
        # all in one part, so that both take the stream in the same order
        reader.read(d.clone(), s, gain, torch.empty(2 if isinstance(s, tuple) else 1, d.numel()), out)
    assert (whole[:, 0] == 999).all()
    assert (whole[:, :, :2] == 999).all()
    return out


def _assert_alike(found: Tensor, wanted: Tensor) -> None:
    """A sum that is rounded otherwise moves one count in some 100,000, by one."""
    assert wanted.unique().numel() > 200
    differ = (found - wanted).abs()
    assert differ.max() <= 1
    assert differ.sum() <= 2 + differ.numel() / 10_000


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("noise", [NOISE, NoiseModel(thermal=4e-6, shot=0.0, rin=0.0)])
def test_outputs_of_a_shot_see_the_same_power(shape: tuple[int, ...], tiles: bool, noise: NoiseModel) -> None:
    torch.manual_seed(1)
    gain, d, s = _gain(shape, tiles), 60 * torch.randn(shape), torch.rand(*shape[:3], 1)
    if shape[2] == 3:
        s = s[:, :, :1]  # of all row tiles
    found, wanted = (_counts(d, s, gain, noise, loop=loop) for loop in (True, False))
    _assert_alike(found, wanted)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tiles", [False, True])
def test_every_output_sees_a_power_of_its_own(shape: tuple[int, ...], tiles: bool) -> None:
    torch.manual_seed(2)
    c, b, r, m = shape
    noise = NoiseModel(thermal=2e-6, shot=3e-4, rin=1e-5)
    gain, d, light = _gain(shape, tiles), 60 * torch.randn(shape), torch.rand(c, b, 16)
    shot = ShotNoise.of(torch.rand(c, r, m, 16) / 16, gain, noise, 0.2)
    found, wanted = (_counts(d, (light, shot), gain, noise, loop=loop) for loop in (True, False))
    _assert_alike(found, wanted)


def test_counts_end_at_the_rails_and_halves_go_to_even() -> None:
    """With noise far below a count."""
    d = torch.tensor([-1000.0, -127.6, 126.4, 1000.0, 2.0, 3.0]).repeat(MANY).view(1, -1, 1, 6)
    quiet = NoiseModel(thermal=1e-20, shot=0.0, rin=0.0)
    draws = NormalDraws()
    out = torch.zeros(1, 1, d.shape[1], 6, dtype=torch.int16).permute(1, 2, 0, 3)
    gain = Gain(torch.ones(1, 1, 1, 6), torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5, 0.5]))
    Detector(quiet, 0.0, (-128.0, 127.0), None, draws).read(d, torch.ones(1, 1, 1, 1), gain, torch.empty(1, 6), out)
    assert out.unique(dim=1).flatten().tolist() == [-128, -128, 126, 127, 2, 4]


@pytest.mark.parametrize("preset", ["typical", "crossbar-typical"])
def test_threads_change_no_count(preset: str) -> None:
    """A call of a whole chip, on one of torch's threads and on two."""
    weights = torch.randint(-100, 100, (2, 2, 64 * 64), dtype=torch.int16)
    inputs = torch.randint(0, 255, (2, 200, 64), dtype=torch.int16)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(open_simulated(preset, seed=0).measure(weights, inputs).counts)
    finally:
        torch.set_num_threads(before)
    # products may be summed in another order, which moves a count in some 100,000
    assert (found[0] != found[1]).float().mean() < 1e-4
