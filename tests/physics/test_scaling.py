"""Rows of a weight to codes: the compiled loop against torch's operations."""

from __future__ import annotations

import pytest
import torch

from photonic.physics.compiled.scaling import rows_to_codes


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (1, 1, 5, 2000), (7, 1, 300, 9), (2, 2, 10000, 1)])
@pytest.mark.parametrize("whole", [True, False])
def test_rows_are_scaled_to_their_largest(shape: tuple[int, ...], whole: bool) -> None:
    """Rows of zeros, of a single number and of halves between codes included."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    flat = values.view(-1, shape[-1])
    flat[0] = 0.0
    flat[1] = torch.where(torch.arange(shape[-1]) == 0, -3.0, 0.0)
    flat[2] = (torch.arange(shape[-1]) + 0.5) / 127 * torch.where(torch.arange(shape[-1]) < 126, 1.0, 0.0)
    flat[2, 0] = 1.0
    codes, most, sums = rows_to_codes(values, 127.0, whole=whole)
    largest = values.abs().amax(-1)
    wanted = values * (torch.where(largest > 0, largest, 1.0).reciprocal() * 127.0).unsqueeze(-1)
    wanted = wanted.round() if whole else wanted
    assert torch.equal(most, largest)
    assert torch.allclose(codes, wanted, rtol=0.0 if whole else 1e-6, atol=0.0)
    assert torch.allclose(sums, wanted.double().sum(-1).float(), rtol=1e-5, atol=0.1)
    apart = torch.zeros(shape[0], shape[2], shape[1], shape[3] + 2)[..., 1:-1].transpose(1, 2).copy_(values)
    for found, expected in zip(rows_to_codes(apart, 127.0, whole=whole), (codes, most, sums), strict=True):
        assert torch.equal(found, expected)
    if whole:
        assert torch.equal(sums, wanted.sum(-1))
        assert torch.equal(codes.abs().amax(-1), torch.where(largest > 0, 127.0, 0.0))
