"""Counts back to numbers, in a compiled loop and in parts that stay in cache, against the formula in float64."""

from __future__ import annotations

import pytest
import torch

from photonic.backends import decoding
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


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64])
@pytest.mark.parametrize("cached", [2**17, 100])
def test_products_are_weighted_sums_of_tiles(dtype: torch.dtype, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups, row tiles of which the last is not full, column tiles, and a batch that parts do not divide."""
    monkeypatch.setattr(decoding, "_CACHED_ELEMENTS", cached)
    cut, generator = Geometry(2, 10, 15, 3, 4, 4, 4), torch.Generator().manual_seed(0)
    counts = torch.randint(-128, 128, (3, 8, 13, 4), generator=generator).to(dtype)
    factor = torch.rand(3, 8, 1, 4, generator=generator)
    offset, sums = torch.rand(2, 1, 12, generator=generator), torch.zeros(2, 1, 12)
    encoded = EncodedWeight(cut=cut, codes=torch.zeros(3, 8, 16), factor=factor, offset=offset, sums=sums)
    found = decode(counts, encoded)
    tiles = (counts.double() * factor.double()).reshape(3, 2, 4, 13, 4).sum(2)  # (R, G, B, m)
    expected = tiles.permute(1, 2, 0, 3).reshape(2, 13, 12) - offset.double()
    assert found.shape == (2, 13, 10)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), expected[..., :10], rtol=0, atol=1e-4)
