"""Standard normal samples: many are made by another way than few, and must be as good."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from photonic.physics.compiled import cores, normals
from photonic.physics.draws import NormalDraws
from photonic.physics.many import MANY


def _drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    source = NormalDraws()
    source.seed(seed)
    return source.fill_(torch.empty(shape, dtype=dtype))


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1, 2**128 - 1])
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


def test_samples_of_one_counter_know_nothing_of_each_other() -> None:
    """Of each two of its four: neither they, nor their squares, nor neighbours correlate; angles are even."""
    four = _drawn(3, 2**20).double().view(-1, 4, normals.SAMPLES // 4).transpose(0, 1).flatten(1)
    bound = 5 / math.sqrt(four.shape[1])
    rows = torch.cat([four[:, 1:], four[:, :-1], four[:, 1:] ** 2])
    assert torch.corrcoef(rows).fill_diagonal_(0).abs().max() < bound
    for first, second in ((0, 1), (2, 3), (0, 2)):
        angle = torch.atan2(four[second], four[first]) / (2 * math.pi) + 0.5
        assert stats.kstest(angle.numpy(), "uniform").statistic < 2.3 / math.sqrt(len(angle))


def test_every_output_has_a_draw_of_its_own() -> None:
    """Four million samples, over several fills, hold no block of a part's size twice."""
    source = NormalDraws()
    source.seed(11)
    size = normals.SAMPLES
    filled = torch.cat([source.fill_(torch.empty(512 * size)), source.fill_(torch.empty(512 * size))]).view(-1, size)
    assert len({float(block.double().sum()) for block in filled}) == 1024
    assert abs(torch.corrcoef(filled.double()).fill_diagonal_(0)).max() < 6.5 / math.sqrt(size)


COUNTS = [MANY - 1, MANY, MANY + 1, 2 * normals.SAMPLES + 3, 40 * normals.SAMPLES + 1]


@pytest.mark.parametrize("count", COUNTS)
def test_samples_follow_from_the_seed(count: int) -> None:
    """Of any number, odd ones and parts of a block included; another seed gives others, also 2^32 away."""
    assert torch.equal(_drawn(5, count), _drawn(5, count))
    assert not torch.equal(_drawn(5, count), _drawn(6, count))
    assert bool(torch.isfinite(_drawn(5, count)).all())
    if count >= MANY:
        assert not torch.equal(_drawn(5, count), _drawn(5 + 2**32, count))


def test_views_and_other_precisions_are_filled() -> None:
    """A transposed view takes torch's way; so does float64, whose samples have more digits than this way makes."""
    source = NormalDraws()
    source.seed(1)
    view = source.fill_(torch.zeros(600, 500).mT)
    assert abs(view.var() - 1) < 0.02
    wide = _drawn(1, 2**18, dtype=torch.float64)
    assert not torch.equal(wide, wide.float().double())


@pytest.mark.parametrize("part", [1, 2, 3])
def test_a_seed_counts_with_all_its_words(part: int) -> None:
    """Each of the four words of 32 bits gives a stream of its own."""
    one, other = _drawn(9, 2**16), _drawn(9 + (1 << 32 * part), 2**16)
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 5 / 2**8


# Random123's known answers: counter, key, words
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_bits_are_philox(counter: list[int], key: list[int], words: list[int]) -> None:
    """The published answers of ten rounds."""
    assert list(normals.bits(*map(np.uint32, counter + key))) == words


def test_the_transform_is_exact_to_float32() -> None:
    """Against float64: ends of both words and 20,000 between; 1e-6 of the radius at most, and the rounding of u."""
    random = np.random.default_rng(4)
    ends = np.array([0, 1, 2, 2**30, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
    words = np.concatenate([np.repeat(ends, 8), random.integers(0, 2**32, 20_000)])
    angles = np.concatenate([np.tile(ends, 8), random.integers(0, 2**32, 20_000)])
    found = np.array([normals.pair(np.uint32(w), np.uint32(a)) for w, a in zip(words, angles, strict=True)])
    radius = np.sqrt(-2 * np.log(np.minimum(((words >> 1) + 0.5) / 2.0**31, 1.0)))
    phi = ((angles << 2) % 2**32).astype(np.uint32).view(np.int32) * (np.pi / 4 * 2.0**-31) + np.pi / 4
    signs = np.where(angles >> 31, -1, 1), np.where(angles >> 30 & 1, -1, 1)
    expected = np.stack([signs[0] * radius * np.cos(phi), signs[1] * radius * np.sin(phi)], 1)
    # u is rounded by 6e-8 at most near 1, and r^2 by twice that
    allowed = 1e-6 * radius + np.minimum(6e-8 / radius, 3.5e-4)
    assert (np.abs(found - expected) <= allowed[:, None]).all()


def test_samples_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one of torch's threads, on two, and where torch's threads cannot be had."""
    expected, before = _drawn(8, 2**18), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(_drawn(8, 2**18), expected)
        torch.set_num_threads(2)
        assert torch.equal(_drawn(8, 2**18), expected)
        monkeypatch.setattr(cores, "_parallel", lambda: None)
        assert torch.equal(_drawn(8, 2**18), expected)
    finally:
        torch.set_num_threads(before)


def test_two_threads_get_samples_of_their_own() -> None:
    """On one source, side by side: no block is drawn twice."""
    source = NormalDraws()
    source.seed(2)
    source.fill_(torch.empty(MANY))  # compiled before they start
    found: list[Tensor] = []

    def draw() -> None:
        found.extend([source.fill_(torch.empty(16 * normals.SAMPLES)) for _ in range(20)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({float(block.double().sum()) for each in found for block in each.view(16, -1)}) == 4 * 20 * 16
