"""Counts of each tile: what another gain would have done, against the counts themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from photonic.backends.chip import Measurement
from photonic.backends.encoding import EncodedWeight, Geometry
from photonic.backends.observation import Observation
from photonic.models.tilecounts import TileCounts
from photonic.records import ChipSpec, Response

GAINS = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)


def _spec(bits: int, zero: float, low: float) -> ChipSpec:
    return ChipSpec(
        chip_id="counts",
        n_outputs=4,
        n_inputs=4,
        adc_bits=bits,
        count_range=(low, low + 2.0**bits - 1),
        response=Response(counts_per_d=(100.0,), zero_count=(zero,)),
    )


def _seen(counts: Tensor, cut: Geometry) -> Observation:
    nothing = torch.zeros(0)
    return Observation(Measurement(counts), EncodedWeight(cut, nothing, nothing, nothing, nothing), "plain", 1, {})


@pytest.mark.parametrize(("bits", "zero", "low"), [(8, 0.0, -128.0), (8, 120.0, 0.0), (12, 0.0, -2048.0)])
@pytest.mark.parametrize("shrink", [1.0, 0.6])
def test_clipping_is_that_of_the_signals(bits: int, zero: float, low: float, shrink: float) -> None:
    """Mean squared error in D^2 and the fraction at a rail, for each of 2 x 2 tiles, to a few per cent."""
    spec, cut = _spec(bits, zero, low), Geometry(1, 6, 8, 2, 2, 4, 4)
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.02, 0.05, 0.1, 0.2]).view(2, 2, 1, 1) * 2.0**bits
    signals = torch.randn(2, 2, 20_000, 4, generator=generator).double() * spread
    # as a converter without rails would read them: a tile that saturates is told nothing of its signals
    wide = spec.model_copy(update={"count_range": (low - 9e3, low + 9e3 + 2.0**bits)})
    tiles = TileCounts(wide, spec.response, cut, gain=1.0)
    tiles.update(_seen((signals + zero).round().to(torch.int16), cut))
    high = low + 2.0**bits - 1
    tiles._rail = min(zero - low, high - zero) + 0.5
    clipping, at_rail = tiles.clipping(GAINS, shrink)
    for k, gain in enumerate(GAINS):
        scaled = signals * gain * shrink
        # the last row of tiles has 2 outputs, the others only fill it up
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            mine = scaled[row, column, :, : 4 if row == 0 else 2].abs()
            error = ((mine - tiles._rail).clamp(min=0) / (100.0 * gain)).square().mean()
            rails = (mine > tiles._rail - 1).double().mean()
            tile = row * 2 + column
            assert float(clipping[tile, k]) == pytest.approx(float(error), rel=0.05, abs=1e-3 * float(error.sqrt()))
            assert float(at_rail[tile, k]) == pytest.approx(float(rails), abs=5e-3)


def test_all_calls_are_counted_and_fillers_are_not() -> None:
    """Two calls of 3 shots: 4 outputs in the first row of tiles, 2 in the last."""
    cut = Geometry(1, 6, 8, 2, 2, 4, 4)
    tiles = TileCounts(_spec(8, 0.0, -128.0), _spec(8, 0.0, -128.0).response, cut, gain=1.0)
    for _ in range(2):
        tiles.update(_seen(torch.full((2, 2, 3, 4), -5, dtype=torch.int16), cut))
    assert tiles.counts.sum(1).tolist() == [24, 24, 12, 12]
    assert tiles.counts[:, 5].tolist() == [24, 24, 12, 12]


def test_a_tile_without_counts_has_no_clipping() -> None:
    """And no NaN."""
    cut = Geometry(1, 4, 4, 1, 1, 4, 4)
    clipping, at_rail = TileCounts(_spec(8, 0.0, -128.0), _spec(8, 0.0, -128.0).response, cut, 1.0).clipping(GAINS)
    assert clipping.tolist() == at_rail.tolist() == [[0.0] * 4]
