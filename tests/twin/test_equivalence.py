"""The twin is the exact chip, as its outputs show it: mean, variance of each output, and what outputs share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from photonic.backends.base import ConvGeometry
from tests.twin.pairs import Comparison, compare, opened, rand, randn, repeats

COUNT = 600  # a variance to 6 %, its mean over a few hundred outputs to half a percent


def _assert_equal(found: Comparison, *, shared: float = 0.01, coarse: bool = False) -> None:
    """Bounds of five standard errors and more; a mean that is off by a tenth of the noise fails.

    Args:
        found: in units of what chance makes.
        shared: how well the mean covariance agrees.
        coarse: counts that seldom change have no normal distribution, and their variances spread by more.
    """
    assert found.common[1] == pytest.approx(found.common[0], abs=shared), found
    if found.common[0] > 0.1:
        # outputs rise and fall together: all of them say little more than one
        assert found.mean < 1.6, found
        assert found.variance == pytest.approx(1.0, abs=0.1), found
        return
    assert found.mean == pytest.approx(1.0, abs=0.15), found
    assert found.variance == pytest.approx(1.0, abs=0.03 if coarse else 0.02), found
    assert coarse or found.spread == pytest.approx(1.0, abs=0.2), found
    assert found.covariance == pytest.approx(1.0, abs=0.15), found


def _products(
    preset: str, x: Tensor, weight: Tensor, geometry: ConvGeometry | None = None, count: int = COUNT, **options: Any
) -> Comparison:
    exact = repeats(opened("sim", preset, 1, **options), x, weight, count, geometry)
    twin = repeats(opened("twin", preset, 2, **options), x, weight, count, geometry)
    return compare(exact, twin, min(weight.shape[1] if geometry is None else 64, 64))


@pytest.mark.parametrize("preset", ["typical", "pessimistic", "crossbar-typical", "crossbar-pessimistic"])
@pytest.mark.parametrize("signed", [False, True], ids=["one-sided", "signed"])
def test_products_over_presets(preset: str, signed: bool) -> None:
    """Two row tiles and four column tiles, the last ones not full."""
    x = randn(1, 4, 200) if signed else rand(1, 4, 200)
    _assert_equal(_products(preset, x, randn(1, 70, 200, seed=1)))


@pytest.mark.parametrize("preset", ["mesh-typical", "mesh-pessimistic"])
def test_products_of_meshes(preset: str) -> None:
    """Homodyne detection, read tile by tile; signed fields take one shot."""
    found = _products(preset, 0.5 * randn(1, 8, 40), 0.3 * randn(1, 20, 40, seed=1), count=400)
    _assert_equal(found, coarse=True)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 64), (3, 10, 65), (2, 130, 30)], ids=str)
def test_products_over_shapes(shape: tuple[int, int, int]) -> None:
    """Groups, single outputs, single tiles, and a column tile with one input in use."""
    g, m, n = shape
    x, weight = randn(g, 20, n), randn(g, m, n, seed=1)
    exact = repeats(opened("sim", "typical", 1), x, weight, COUNT)
    twin = repeats(opened("twin", "typical", 2), x, weight, COUNT)
    found = compare(exact, twin, min(m, 2))
    assert found.mean == pytest.approx(1.0, abs=0.45 if m == 1 else 0.15), found
    assert found.variance == pytest.approx(1.0, abs=0.06 if m == 1 else 0.02), found


@pytest.mark.slow
@pytest.mark.parametrize("signed", [False, True], ids=["one-sided", "signed"])
def test_products_of_many_tiles_with_strong_rin(signed: bool) -> None:
    """Twenty column tiles, and -130 dB/Hz: RIN is a factor of each tile's shot, not of their sum."""
    x = randn(1, 3, 1280) if signed else rand(1, 3, 1280)
    weight = randn(1, 70, 1280, seed=1).abs()  # one sign, where the two would differ most
    # weights of one sign on inputs of one sign fill the range of the ADC
    _assert_equal(_products("typical", x, weight, count=3000, rin_db_per_hz=-130, adc_full_scale=0.5), shared=0.03)


@pytest.mark.parametrize("sign", ["time", "space", "offset"])
def test_products_over_sign_encodings_with_strong_rin(sign: str) -> None:
    """Every way in which signed inputs reach the chip."""
    _assert_equal(_products("typical", randn(1, 4, 100), randn(1, 40, 100, seed=1), sign=sign, rin_db_per_hz=-128))


@pytest.mark.parametrize(
    "options",
    [
        {"shots": 4},
        {"weight_scale": "tile"},
        {"analog_gain": 2.0, "adc_full_scale": 1.0},
        {"rin_db_per_hz": -128, "rin_per_line": "true"},
        {"input_enob": 5},
        {"cmrr_db": 10, "rin_db_per_hz": -135},
        {"temperature_error_k": 0.2},
        {"arm_imbalance_spread": 0.05, "rin_db_per_hz": -135},
        {"stuck_fraction": 0.05, "dead_fraction": 0.05},
        {"adc_mismatch": 0.05},
        {"adc_enob": 5.5},
        {"adc_bits": 7},
        {"input_crosstalk": 0.05},
        {"input_mismatch": 0.02},
    ],
    ids=lambda options: ",".join(f"{key}={value}" for key, value in options.items()),
)
def test_products_over_effects_and_options(options: dict[str, Any]) -> None:
    """Each effect that a twin carries, at a size that would show."""
    _assert_equal(_products("typical", rand(1, 4, 150), randn(1, 70, 150, seed=1), **options), shared=0.06)


def test_a_crossbar_that_reads_another_value_each_time() -> None:
    """Cells are read once for all shots of a call, so that shots of one call share the error."""
    weight = randn(1, 30, 70, seed=1)
    found = _products("crossbar-typical", rand(1, 2, 70), weight, read_spread=0.02)
    assert found.mean == pytest.approx(1.0, abs=0.2), found
    assert found.variance == pytest.approx(1.0, abs=0.03), found


@pytest.mark.parametrize("preset", ["typical", "pessimistic", "crossbar-typical"])
@pytest.mark.parametrize("signed", [False, True], ids=["one-sided", "signed"])
def test_convolutions(preset: str, signed: bool) -> None:
    """Native convolutions on a device whose modulators all differ, with padding, in three column tiles."""
    x = randn(2, 16, 7, 7) if signed else rand(2, 16, 7, 7)
    geometry = ConvGeometry((1, 1), (1, 1), (1, 1), 1)
    _assert_equal(_products(preset, x, randn(12, 16, 3, 3, seed=1), geometry, count=400))


@pytest.mark.parametrize("signed", [False, True], ids=["one-sided", "signed"])
@pytest.mark.parametrize("preset", ["typical", "crossbar-typical"])
def test_convolutions_with_stride_dilation_and_groups(preset: str, signed: bool) -> None:
    """Four groups, other numbers in both dimensions."""
    x = randn(2, 16, 9, 9) if signed else rand(2, 16, 9, 9)
    geometry = ConvGeometry((2, 1), (1, 0), (1, 2), 4)
    _assert_equal(_products(preset, x, randn(8, 4, 3, 3, seed=1), geometry, count=400))


def test_convolutions_in_one_dimension() -> None:
    """A kernel of five over three channels, padded."""
    geometry = ConvGeometry((2,), (3,), (1,), 1)
    _assert_equal(_products("typical", rand(3, 3, 40), randn(6, 3, 5, seed=1), geometry, count=500))


@pytest.mark.parametrize("signed", [False, True], ids=["one-sided", "signed"])
def test_convolutions_with_strong_rin(signed: bool) -> None:
    """RIN beyond 5 % of the variance, which outputs of one patch share."""
    x = randn(2, 16, 5, 5) if signed else rand(2, 16, 5, 5)
    geometry = ConvGeometry((1, 1), (1, 1), (1, 1), 1)
    backend = opened("twin", "typical", 2, rin_db_per_hz=-125)
    weight = randn(12, 16, 3, 3, seed=1)
    ways: list[str] = []
    backend.site.judge = lambda said: ways.append(said.way)
    backend.convolve(x, weight, geometry)
    assert ways == ["row by row"]
    exact = repeats(opened("sim", "typical", 1, rin_db_per_hz=-125), x, weight, 1000, geometry)
    twin = repeats(backend, x, weight, 1000, geometry)
    # the twelve outputs of one place of the last image
    places = torch.arange(12) * 25 + 12 * 25 + 12
    found = compare(exact[:, places], twin[:, places], 12)
    assert found.mean < 2, found
    assert found.variance == pytest.approx(1.0, abs=0.07), found
    assert found.common[1] == pytest.approx(found.common[0], abs=0.02), found


def test_a_wrong_twin_is_told_apart() -> None:
    """The comparison fails for gains that spread by twice as much, and for 7 % more power in the thermal noise."""
    x, weight = rand(1, 4, 200), randn(1, 70, 200, seed=1)
    exact = repeats(opened("sim", "typical", 1), x, weight, COUNT)
    louder = repeats(opened("twin", "typical", 2, thermal_noise_a_per_rthz=15.5e-12), x, weight, COUNT)
    assert compare(exact, louder, 64).variance > 1.03
    shifted = repeats(opened("twin", "typical", 2, gain_spread=0.04), x, weight, COUNT)
    assert compare(exact, shifted, 64).mean > 1.15
