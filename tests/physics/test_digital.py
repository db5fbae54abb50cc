"""The study's values and their noise in compiled loops: those of torch's operations."""

from __future__ import annotations

import pytest
import torch

from photonic.physics import codenoise, codes
from photonic.physics.codenoise import Gaussian
from photonic.physics.codes import MidTread
from photonic.physics.draws import NormalDraws


@pytest.mark.parametrize("precision", [1, 2, 3, 64, 255, 1000])
def test_the_nearest_value(precision: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, ties, both zeros, infinities and NaN included."""
    torch.manual_seed(0)
    ties = (torch.arange(-2 * precision, 2 * precision + 1) + 0.5) / precision
    odd = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 7.3, -1e6, torch.inf, -torch.inf, torch.nan])
    x = torch.cat([3 * torch.rand(20_000) - 1.5, ties, odd])
    found = MidTread(precision).quantise(x)
    monkeypatch.setattr(codes, "many", lambda _: False)
    wanted = MidTread(precision).quantise(x)
    assert torch.equal(found.nan_to_num(nan=9.0), wanted.nan_to_num(nan=9.0))
    assert torch.equal(found.isnan(), wanted.isnan())


def test_gaussian_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same samples as one pass after the other takes; images that lie as channels last stay so."""
    first, second = NormalDraws(), NormalDraws()
    first.seed(4)
    second.seed(4)
    x = torch.randn(7, 5, 33, 29)
    found = Gaussian(0.3).noisy(x, first)
    monkeypatch.setattr(codenoise, "many", lambda _: False)
    assert torch.allclose(found, Gaussian(0.3).noisy(x, second), atol=1e-6)
    monkeypatch.undo()
    apart = x.to(memory_format=torch.channels_last)
    assert Gaussian(0.3).noisy(apart, first).shape == apart.shape
