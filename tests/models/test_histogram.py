"""The streaming histogram: exact whatever the order, and its range is as good as any."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from photonic.backends import encoding, signs
from photonic.backends.signs import Sign
from photonic.errors import RangeError, SpecError
from photonic.models.histogram import Histogram
from photonic.models.quantiser import Quantiser
from photonic.physics import modulator
from photonic.records import ChipSpec, InputTransfer, Response

SAMPLES = 5_000


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw(shape: str, seed: int, count: int = SAMPLES) -> Tensor:
    g = _generator(seed)
    normal = torch.randn(count, generator=g, dtype=torch.float64)
    uniform = torch.rand(count, generator=g, dtype=torch.float64)
    return {
        "normal": normal,
        "relu": normal.clamp(min=0),
        "uniform": uniform,
        "laplace": -normal.sign() * uniform.log(),
        "lognormal": normal.sign() * torch.randn(count, generator=g, dtype=torch.float64).exp(),
        "negative": -uniform,
    }[shape]


SHAPES = ["normal", "relu", "uniform", "laplace", "lognormal", "negative"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=6),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_counts_do_not_depend_on_how_the_numbers_come(
    numbers: list[float], cuts: list[int], dtype: torch.dtype
) -> None:
    """Streamed in any parts, or at once, or binned by hand at the final width: the same counts."""
    x = torch.tensor(numbers, dtype=torch.float64).to(dtype)
    streamed, whole = Histogram(bins=16), Histogram(bins=16)
    for part in x.tensor_split(sorted(cuts)):
        streamed.update(part)
    whole.update(x)
    size = x.double().abs()
    by_hand = torch.bincount((size[size > 0] / whole.width).long(), minlength=16).double()
    for found in (streamed, whole):
        assert torch.equal(found.counts, by_hand)
        assert (found.zeros, found.largest) == (int((size == 0).sum()), float(size.max()))
        assert found.signed == bool((x < 0).any())
    assert streamed.width == whole.width


def test_bins_double_their_width_and_pairs_are_merged() -> None:
    """Memory stays; what was counted stays counted."""
    histogram = Histogram(bins=4)
    histogram.update(torch.tensor([0.5, 1.5, 2.5, 3.5]))
    assert (histogram.width, histogram.counts.tolist()) == (1.0, [1, 1, 1, 1])
    histogram.update(torch.tensor([-9.0, 0.0]))
    assert (histogram.width, histogram.counts.tolist(), histogram.zeros) == (4.0, [4, 0, 1, 0], 1)
    assert histogram.total == 6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_nothing_is_counted(bad: float) -> None:
    """Also among millions of others."""
    histogram = Histogram()
    with pytest.raises(RangeError, match="NaN or infinite"):
        histogram.update(torch.tensor([1.0, bad, 2.0]))
    assert (histogram.total, histogram.largest) == (0, 0)


def test_a_range_needs_numbers_other_than_zero() -> None:
    """Nothing, an empty tensor and zeros alone are refused, and bins that cannot be paired."""
    histogram = Histogram()
    histogram.update(torch.empty(0, 3))
    histogram.update(torch.zeros(5))
    assert histogram.zeros == 5
    with pytest.raises(RangeError, match="nothing but zeros"):
        histogram.best_range(Quantiser.uniform(8))
    with pytest.raises(SpecError, match="power of two"):
        Histogram(bins=100)


def test_many_numbers_at_once() -> None:
    """More than one chunk in one tensor: 9 million."""
    x = torch.rand(9_000_000, generator=_generator(0))
    histogram = Histogram()
    histogram.update(x)
    assert histogram.total == len(x)
    assert histogram.best_range(Quantiser.uniform(8)) == pytest.approx(1.0, rel=0.01)


def test_the_range_is_of_magnitudes() -> None:
    """reference trap: the 0.99 quantile of signed inputs in [-5, 0] is below 0.05."""
    histogram = Histogram()
    histogram.update(-5 * torch.rand(100_000, generator=_generator(0)))
    assert histogram.best_range(Quantiser.uniform(8)) > 4.9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_moments(dtype: torch.dtype) -> None:
    """The mean square and the mean level of what was counted, to the width of a bin or of the numbers' own grid."""
    x = torch.randn(50_000, generator=_generator(0)).to(dtype)
    histogram = Histogram()
    histogram.update(x)
    assert histogram.mean_square == pytest.approx(
        float(x.double().square().mean()), rel=2e-3 if dtype.itemsize == 2 else 1e-4
    )
    ranges = torch.tensor([0.5, 2.0], dtype=torch.float64)
    expected = torch.stack([x.double().abs().clamp(max=float(r)).mean() / r for r in ranges])
    torch.testing.assert_close(histogram.clamped_mean(ranges), expected, rtol=2e-3, atol=0)


TRANSFERS = {
    "mzm": lambda top: InputTransfer(shape="mzm", code_one=top, extinction_ratio_db=20.0),
    "mzm off its codes": lambda top: InputTransfer(shape="mzm", code_zero=0.3, code_one=top - 0.4),
    "falling": lambda top: InputTransfer(shape="mzm", code_zero=top, code_one=0.0),
    "field": lambda top: InputTransfer(shape="field", code_one=top),
    "linear": lambda top: InputTransfer(shape="linear", code_one=top),
}


def _through_the_chip(v: Tensor, transfer: InputTransfer, bits: int, sign: Sign) -> Tensor:
    """What v in [0, 1] becomes: by the code that sends numbers to a chip, and the light of its codes."""
    response = Response(inputs=transfer, counts_per_d=(1.0,))
    spec = ChipSpec(
        chip_id="one", n_outputs=1, n_inputs=1, input_bits=bits, input_code_range=(0, 2**bits - 1), response=response
    )
    values = signs.encode_input_signs(v.clone(), sign)
    light = modulator.levels(transfer, encoding.input_codes(values, spec, response).double())
    levels = (light - transfer.level_min) / (1 - transfer.level_min)
    return 2 * levels - 1 if sign == "offset" else levels


@pytest.mark.parametrize("name", TRANSFERS)
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_the_quantiser_makes_the_chip_s_error(name: str, bits: int) -> None:
    """Its integral of the squared error is that of the codes and levels which a chip gets."""
    transfer = TRANSFERS[name](2.0**bits - 1)
    quantiser = Quantiser.of(transfer, bits)
    v = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    error = (_through_the_chip(v, transfer, bits, "plain") - v).square()
    summed = error.view(20, -1).mean(1).cumsum(0) / 20
    ends = torch.linspace(0.05, 1.0, 20, dtype=torch.float64)
    torch.testing.assert_close(quantiser.squared_error(ends), summed, rtol=2e-3, atol=float(summed[-1]) * 2e-3)


def test_an_evenly_stepped_error_would_be_wrong() -> None:
    """Even in drive is fine at the ends: small numbers get a tenth of r^2 / 12 per squared step, those halfway more."""
    quantiser = Quantiser.of(InputTransfer(shape="mzm", code_one=255.0), 8)
    ends = torch.tensor([0.0, 0.02, 0.48, 0.52], dtype=torch.float64)
    low, _, middle = quantiser.squared_error(ends).diff() / ends.diff()
    assert float(low) < 0.1 / 12 / 255**2
    assert float(middle) > 2.0 / 12 / 255**2
    assert Quantiser.of(InputTransfer(), None) is None
    with pytest.raises(SpecError, match="at least 1 bit"):
        Quantiser.uniform(0)


def _true_errors(x: Tensor, ranges: Tensor, transfer: InputTransfer, bits: int, sign: Sign) -> Tensor:
    """Mean squared errors of the samples themselves, each sent to the chip at each range."""
    found = []
    for r in ranges:
        v = (x / r).clamp(-1, 1)
        sent = (
            _through_the_chip(v, transfer, bits, sign)
            if sign == "offset"
            else v.sign() * _through_the_chip(v.abs(), transfer, bits, sign)
        )
        found.append((sent * r - x).square().mean())
    return torch.stack(found)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(["mzm", "linear", "field"]),
    st.sampled_from(["plain", "offset"]),
    st.integers(3, 8),
    st.floats(1e-6, 1e6),
    st.integers(0, 99),
)
def test_the_best_range_is_as_good_as_any(
    shape: str, name: str, sign: Sign, bits: int, scale: float, seed: int
) -> None:
    """Its true error is within 5 % of the least true error that any range gives, found by brute force."""
    x = _draw(shape, seed) * scale
    transfer = TRANSFERS[name](2.0**bits - 1)
    sign = "plain" if name == "field" else sign  # fields are signed by themselves
    histogram = Histogram()
    histogram.update(x)
    chosen = histogram.best_range(Quantiser.of(transfer, bits, sign))
    ranges = float(x.abs().max()) * torch.logspace(-1.5, 0, 60, base=10, dtype=torch.float64)
    least = _true_errors(x, ranges, transfer, bits, sign).min()
    own = _true_errors(x, torch.tensor([chosen]), transfer, bits, sign)[0]
    assert float(own / least) < 1.05


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(3, 8), st.integers(0, 99))
def test_expected_errors_are_the_samples(shape: str, bits: int, seed: int) -> None:
    """Quantisation + clipping and the fraction beyond, at ranges from small to all, to 3 %."""
    x, transfer = _draw(shape, seed), TRANSFERS["mzm"](2.0**bits - 1)
    histogram = Histogram()
    histogram.update(x)
    ranges = float(x.abs().max()) * torch.tensor([0.1, 0.3, 0.6, 1.0], dtype=torch.float64)
    found = histogram.errors(ranges, Quantiser.of(transfer, bits))
    true = _true_errors(x, ranges, transfer, bits, "plain")
    torch.testing.assert_close(found.quantisation + found.clipping, true, rtol=0.03, atol=0)
    beyond = torch.stack([(x.abs() > r).double().mean() for r in ranges])
    torch.testing.assert_close(found.beyond, beyond, rtol=0, atol=2e-3)


def test_noise_speaks_for_a_smaller_range() -> None:
    """What follows the converter grows with the range; without a converter it alone decides."""
    histogram = Histogram()
    histogram.update(_draw("normal", 0))
    quantiser = Quantiser.uniform(8)
    ranges = [histogram.best_range(quantiser, lambda r, k=k: k * r**2) for k in (0.0, 1e-4, 1e-3, 1e-2)]
    assert ranges == sorted(ranges, reverse=True)
    assert ranges[0] > 1.5 * ranges[-1]
    assert histogram.best_range(None) == histogram.largest
    assert histogram.best_range(None, lambda r: 1e-3 * r**2) < histogram.largest
