"""The study's values in a compiled loop: those of torch's operations."""

from __future__ import annotations

import pytest
import torch

from photonic.physics import codes
from photonic.physics.codes import MidTread


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
