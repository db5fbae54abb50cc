"""A twin's outputs get their noise in one compiled loop: the same, with the same draws, as in many passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from photonic.backends.twin import convolution, statistics
from photonic.backends.twin.convolution import Convolved
from photonic.physics.draws import NormalDraws

DTYPES = [torch.float32, torch.bfloat16]


def _draws(seed: int = 3) -> NormalDraws:
    draws = NormalDraws()
    draws.seed(seed)
    return draws


def _both_ways(given: Convolved, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """By the loop, and by many passes over all images at once, so that samples come in the same order."""
    found = Convolved(given.y.clone(), given.others, given.power, given.shot, given.fixed).finish_(_draws())
    monkeypatch.setattr(convolution, "many", lambda _: False)
    monkeypatch.setattr(convolution, "blocks", lambda count, _: [slice(0, count)])
    return found, given.finish_(_draws())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", [(16, 16), (7, 13), (70, 71)])
def test_column_tiles_of_one_power(
    dtype: torch.dtype, groups: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    b, m, columns = 9, 14, 3
    y, others = torch.randn(b, groups * m, *size), torch.randn(b, groups * m, *size).to(dtype)
    power, shot = torch.rand(b, groups * columns, *size).to(dtype), torch.rand(groups, m, columns)
    fixed = torch.rand(1, groups * m, 1, 1) - 0.3  # some variances are 0
    found, wanted = _both_ways(Convolved(y.clone(), others, power, shot, fixed), monkeypatch)
    assert (wanted - y).std() > 1
    assert torch.allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("others", [True, False])
def test_a_variance_for_each_output(dtype: torch.dtype, others: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    shape = 5, 6, 301  # one dimension
    more = torch.randn(shape).to(dtype) if others else None
    given = Convolved(torch.randn(shape), more, torch.rand(shape).to(dtype), None, torch.rand(1, 6, 1))
    found, wanted = _both_ways(given, monkeypatch)
    assert torch.allclose(found, wanted, atol=2e-5)


def test_fixed_noise_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Convolved(torch.zeros(4, 8, 50, 50), None, None, None, torch.arange(8.0).view(1, 8, 1, 1))
    found, wanted = _both_ways(given, monkeypatch)
    assert torch.allclose(found, wanted, atol=2e-5)
    assert torch.allclose(found.var(dim=(0, 2, 3)), torch.arange(8.0), rtol=0.06)


@pytest.mark.parametrize("shape", [(1, 64, 1000), (3, 50, 77)])
def test_outputs_of_a_product(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    y, variance = torch.randn(shape), torch.rand(shape)
    found = statistics.add_noise_(y.clone(), variance.clone(), _draws())
    monkeypatch.setattr(statistics, "many", lambda *_: False)
    assert torch.allclose(found, statistics.add_noise_(y.clone(), variance, _draws()), atol=1e-5)
