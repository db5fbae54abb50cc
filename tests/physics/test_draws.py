"""Standard normal samples: many are made by another way than few, and must be as good."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from photonic.physics import draws
from photonic.physics.draws import NormalDraws


def _drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    source = NormalDraws()
    source.seed(seed)
    return source.fill_(torch.empty(shape, dtype=dtype))


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1, 2**70 + 3])
def test_many_samples_are_normal(seed: int) -> None:
    """Two million: mean, variance, skewness, kurtosis, tails and the largest deviation of the distribution."""
    n = 2**21
    samples = _drawn(seed, n).double()
    assert abs(samples.mean()) < 5 / math.sqrt(n)
    assert abs(samples.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs(samples.pow(3).mean()) < 5 * math.sqrt(15 / n)
    assert abs(samples.pow(4).mean() - 3) < 5 * math.sqrt(96 / n)
    for edge in (1.0, 2.0, 3.0, 4.0, 4.5):
        expected = 2 * stats.norm.sf(edge) * n
        assert abs(int((samples.abs() > edge).sum()) - expected) < 5 * math.sqrt(expected)
    assert stats.kstest(samples.numpy(), "norm").statistic < 2.3 / math.sqrt(n)  # p = 5e-5


def test_the_two_samples_of_a_pair_know_nothing_of_each_other() -> None:
    """Cosine and sine of one angle, with one radius: neither they, nor their squares, nor neighbours correlate."""
    n = 2**17
    first, second = _drawn(3, 2 * n).double().view(2, n)
    bound = 5 / math.sqrt(n)
    for one, other in ((first, second), (first**2, second**2), (first[1:], first[:-1]), (first[1:], second[:-1])):
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < bound
    angle = torch.atan2(second, first)
    assert stats.kstest((angle / (2 * math.pi) + 0.5).numpy(), "uniform").statistic < 2.3 / math.sqrt(n)


def test_every_output_has_a_draw_of_its_own() -> None:
    """Four million samples, over several blocks and two fills, hold no block twice."""
    source = NormalDraws()
    source.seed(11)
    size = 2 * draws._PAIRS
    filled = torch.cat([source.fill_(torch.empty(8 * size)), source.fill_(torch.empty(8 * size))]).view(16, size)
    assert len({float(block.double().sum()) for block in filled}) == 16
    assert abs(torch.corrcoef(filled.double()).fill_diagonal_(0)).max() < 6 / math.sqrt(size)


@pytest.mark.parametrize("count", [draws.MANY - 1, draws.MANY, draws.MANY + 1, 2 * draws._PAIRS + 3, 5 * draws._PAIRS])
def test_samples_follow_from_the_seed(count: int) -> None:
    """Of any number, odd ones and parts of a block included; another seed gives others, also 2^32 away."""
    assert torch.equal(_drawn(5, count), _drawn(5, count))
    assert not torch.equal(_drawn(5, count), _drawn(6, count))
    assert bool(torch.isfinite(_drawn(5, count)).all())
    if count >= draws.MANY:
        assert not torch.equal(_drawn(5, count), _drawn(5 + 2**32, count))


def test_views_and_other_precisions_are_filled() -> None:
    """A transposed view takes torch's way; so does float64, whose samples have more digits than this way makes."""
    source = NormalDraws()
    source.seed(1)
    view = source.fill_(torch.zeros(600, 500).mT)
    assert abs(view.var() - 1) < 0.02
    wide = _drawn(1, 2**18, dtype=torch.float64)
    assert not torch.equal(wide, wide.float().double())
