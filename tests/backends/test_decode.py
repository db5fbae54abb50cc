"""Decoding in parts that stay in cache."""

from __future__ import annotations

import pytest
import torch

from photonic.backends import encoding
from photonic.backends.encoding import EncodedWeight, Geometry


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64])
@pytest.mark.parametrize("cached", [2**18, 200])
def test_products_are_weighted_sums_of_tiles(dtype: torch.dtype, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups, row tiles of which the last is not full, column tiles, and a batch that parts do not divide."""
    monkeypatch.setattr(encoding, "_CACHED_ELEMENTS", cached)
    cut, generator = Geometry(2, 10, 15, 3, 4, 4, 4), torch.Generator().manual_seed(0)
    counts = torch.randint(-128, 128, (3, 8, 13, 4), generator=generator).to(dtype)
    factor = torch.rand(3, 8, 1, 4, generator=generator)
    offset, sums = torch.rand(2, 1, 12, generator=generator), torch.zeros(2, 1, 12)
    encoded = EncodedWeight(cut=cut, codes=torch.zeros(3, 8, 16), factor=factor, offset=offset, sums=sums)
    found = encoding.decode(counts, encoded)
    tiles = (counts.double() * factor.double()).reshape(3, 2, 4, 13, 4).sum(2)  # (R, G, B, m)
    expected = tiles.permute(1, 2, 0, 3).reshape(2, 13, 12) - offset.double()
    assert found.shape == (2, 13, 10)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), expected[..., :10], rtol=0, atol=1e-4)
