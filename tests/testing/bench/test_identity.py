"""Behind ideal physics the counts are those of the chip opened directly, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import photonic
from photonic.backends.chip import Chip
from photonic.testing import VirtualBench

from .rawdriver import RawChip

CHIPS = (
    "sim:typical?n_inputs=8&n_outputs=6",
    "sim:typical?n_inputs=8&n_outputs=6&temperature_drift_k=0.05",
    "sim:ideal?n_inputs=5&n_outputs=7",
    "sim:crossbar-typical?n_inputs=6&n_outputs=4",
    "sim:mesh-typical?n_inputs=4&n_outputs=4",
)


def codes(chip: Chip, grid: tuple[int, int], shots: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random weights (R, C, P) and inputs (C, B, N) of a chip."""
    spec, generator = chip.spec, torch.Generator().manual_seed(seed)

    def draw(limits: tuple[float, float], bits: int | None, *shape: int) -> Tensor:
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64) * (limits[1] - limits[0]) + limits[0]
        return (uniform if bits is None else uniform.round()).to(spec.code_dtype)

    weights = draw(spec.weight_code_range, spec.weight_bits, *grid, spec.drives)
    return weights, draw(spec.input_code_range, spec.input_bits, grid[1], shots, spec.n_inputs)


@pytest.mark.parametrize("spec", CHIPS)
def test_counts_are_the_chip_s_for_any_grid_and_call(spec: str) -> None:
    """Single tiles, grids, one shot and many, several calls in a row: noise is keyed by call."""
    with VirtualBench(spec, seed=3, physics="ideal") as bench, RawChip(bench.file) as driver:
        direct = photonic.open_chip(spec, seed=3)
        for seed, (grid, shots) in enumerate([((1, 1), 5), ((2, 3), 7), ((1, 1), 1), ((3, 1), 64), ((1, 1), 300)]):
            weights, inputs = codes(direct, grid, shots, seed)
            expected = direct.measure(weights, inputs).counts
            found = driver.measure(weights, inputs).counts
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


def test_few_inputs_are_a_tile_whose_other_inputs_are_dark() -> None:
    spec = CHIPS[0]
    with VirtualBench(spec, seed=1, physics="ideal") as bench, RawChip(bench.file) as driver:
        direct = photonic.open_chip(spec, seed=1)
        weights, inputs = codes(direct, (2, 2), 9, 0)
        tile = weights.view(2, 2, 6, 8).clone()
        tile[..., 5:], tile[:, :, 4:] = 0, 0
        dark = inputs.clone()
        dark[..., 5:] = int(direct.spec.dark_code)
        few = tile[:, :, :4, :5].flatten(2).contiguous()
        expected = direct.measure(tile.flatten(2), dark).counts[..., :4]
        assert torch.equal(driver.measure(few, inputs[..., :5].contiguous()).counts, expected)


def test_conditions_reach_the_chip() -> None:
    """Laser power, dark, and gain."""
    spec = CHIPS[0]
    with VirtualBench(spec, seed=2, physics="ideal") as bench, RawChip(bench.file) as driver:
        direct = photonic.open_chip(spec, seed=2)
        weights, inputs = codes(direct, (1, 2), 20, 0)
        for given in ({"laser_power": 0.5}, {"laser_power": 0.0}, {"analog_gain": 4.0}, {}, {"laser_power": 0.25}):
            expected = direct.measure(weights, inputs, given).counts
            assert torch.equal(driver.measure(weights, inputs, given).counts, expected)


@pytest.mark.parametrize("boxes", [1, 3])
def test_weights_may_be_spread_over_boxes_and_programmed_tile_by_tile(boxes: int) -> None:
    spec = CHIPS[0]
    with (
        VirtualBench(spec, seed=4, physics="ideal", weight_boxes=boxes) as bench,
        RawChip(bench.file, by_list=False) as driver,
    ):
        direct = photonic.open_chip(spec, seed=4)
        weights, inputs = codes(direct, (2, 1), 6, 0)
        rows = [direct.measure(weights[r : r + 1], inputs).counts for r in range(2)]
        assert torch.equal(driver.measure(weights, inputs).counts, torch.cat(rows))
