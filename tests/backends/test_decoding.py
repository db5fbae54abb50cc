"""Counts back to numbers: the compiled loop against the formula in float64."""

from __future__ import annotations

import pytest
import torch

from photonic.backends.decoding import decode
from photonic.backends.encoding import EncodedWeight, Geometry
from photonic.backends.simulated import open_simulated


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("outputs", "inputs", "shots"), [(64, 64, 200), (130, 200, 77), (5, 900, 333), (700, 1, 40)])
@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_tiles_are_weighed_and_added(groups: int, outputs: int, inputs: int, shots: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    cut = Geometry.of(open_simulated("typical").spec, groups, outputs, inputs)
    tiles = groups * cut.columns
    counts = torch.randint(-128, 128, (cut.rows, tiles, shots, cut.m)).to(dtype)
    factor, offset = torch.randn(cut.rows, tiles, 1, cut.m), torch.randn(groups, 1, cut.rows * cut.m)
    codes = torch.zeros(cut.rows, tiles, cut.m * cut.n, dtype=torch.int16)
    found = decode(counts, EncodedWeight(cut, codes, factor, offset, offset))
    each = (counts.double() * factor.double()).unflatten(1, (groups, cut.columns)).sum(2)
    wanted = each.permute(1, 2, 0, 3).flatten(2) - offset.double()
    assert found.shape == (groups, shots, outputs)
    assert torch.allclose(found.double(), wanted[..., :outputs], atol=2e-3)
