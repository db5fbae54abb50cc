"""A call that comes in parts is one call: the same results, and the same cost."""

from __future__ import annotations

import pytest
import torch

from photonic.backends import calibrated
from photonic.backends.base import ConvGeometry
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Usage
from photonic.backends.simulated import open_simulated
from photonic.errors import ChipError

GEOMETRY = ConvGeometry((1, 1), (1, 1), (1, 1), 1)


def _convolved(preset: str, *, signed: bool = False, **fields: float) -> tuple[torch.Tensor, Usage, int]:
    """A convolution of five images over 3 column tiles; what it cost, and how often the chip was asked."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(5, 16, 8, 8, generator=generator) - (0.5 if signed else 0.0)
    weight = torch.randn(8, 16, 3, 3, generator=generator)
    chip = open_simulated(preset, seed=1, **fields)
    y = CalibratedBackend(chip).convolve(x, weight, GEOMETRY)
    return y, chip.usage, chip.state()["calls"]


@pytest.mark.parametrize("signed", [False, True])
def test_parts_of_a_call_give_what_it_gives_at_once(signed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise they are equal to rounding, and calls, shots, counts and programmed tiles are the same."""
    whole, cost, asked = _convolved("ideal", signed=signed)
    monkeypatch.setattr(calibrated, "CACHED_COUNTS_BYTES", 1)
    parts, cost_of_parts, asked_for_parts = _convolved("ideal", signed=signed)
    assert (asked, asked_for_parts) == (1, 5)
    assert torch.allclose(parts, whole, rtol=0, atol=1e-5)
    for name in ("calls", "shots", "counts", "tiles_programmed"):
        assert getattr(cost, name) == getattr(cost_of_parts, name)


def test_parts_draw_noise_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal images in different parts do not get equal results."""
    monkeypatch.setattr(calibrated, "CACHED_COUNTS_BYTES", 1)
    chip = open_simulated("typical", seed=1)
    x = torch.rand(1, 16, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1, 1)
    weight = torch.randn(8, 16, 3, 3, generator=torch.Generator().manual_seed(1))
    y = CalibratedBackend(chip).convolve(x, weight, GEOMETRY)
    assert chip.state()["calls"] == 3
    assert not torch.equal(y[0], y[1])
    assert not torch.equal(y[1], y[2])


def test_a_chip_that_drifts_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the order of shots matters: all of a tile come one after the other."""
    monkeypatch.setattr(calibrated, "CACHED_COUNTS_BYTES", 1)
    assert _convolved("typical", gain_drift=0.01)[2] == 1
    assert _convolved("typical", modulator_bandwidth_hz=5e9)[2] == 1
    assert _convolved("typical")[2] == 5


def test_a_call_is_not_continued_where_order_matters() -> None:
    """Its shots would be counted as if nothing had been programmed for them."""
    chip = open_simulated("typical", gain_drift=0.01)
    weights = torch.zeros(1, 1, chip.spec.drives, dtype=torch.int16)
    inputs = torch.zeros(1, 3, chip.spec.n_inputs, dtype=torch.int16)
    with pytest.raises(ChipError, match="measure in one call"):
        chip.measure(weights, inputs, continued=True)
    assert chip.usage.shots == 0
