"""Stuck elements hold a code of their own, dead ones no drive, whatever they are told."""

from __future__ import annotations

import math

import pytest
import torch
from measuring import measure, quiet, random, weight_codes
from torch import Tensor

from photonic.backends.simulated import SimulatedChip
from photonic.errors import RecordError

SIZE = {"n_outputs": 200, "n_inputs": 200}  # 40000 elements


def _programmed(chip: SimulatedChip, weights: Tensor) -> Tensor:
    """Weights (M, N) that a chip really holds, channel by channel."""
    n = chip.spec.n_inputs
    return measure(chip, weights, torch.eye(n, dtype=torch.float64)).T * n


def _told(weight: float) -> Tensor:
    return torch.full((SIZE["n_outputs"], SIZE["n_inputs"]), weight, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["ring", "crossbar"])
@pytest.mark.parametrize("fraction", [0.01, 0.2])
def test_stuck_elements_hold_codes_drawn_evenly(kind: str, fraction: float) -> None:
    """The stated share of them, each its own weight between -1 and 1, always the same."""
    chip = quiet(kind, stuck_fraction=fraction, **SIZE)
    first, second = _programmed(chip, _told(0.5)), _programmed(chip, _told(-0.25))
    stuck = (first - 0.5).abs() > 1e-9
    assert torch.equal(stuck, (second + 0.25).abs() > 1e-9)
    assert (first - second)[stuck].abs().max().item() < 1e-12
    count = stuck.sum().item()
    assert count == pytest.approx(40_000 * fraction, abs=5 * math.sqrt(40_000 * fraction * (1 - fraction)))
    values = first[stuck]
    assert values.var().item() == pytest.approx(1 / 3, abs=5 * math.sqrt(4 / 45 / count))
    even = torch.arange(1, count + 1, dtype=torch.float64) / count
    assert ((values.sort().values + 1) / 2 - even).abs().max().item() < 1.95 / math.sqrt(count)
    # rows and columns fail no more often than others
    rows = stuck.double().sum(1)
    assert rows.var().item() == pytest.approx(200 * fraction * (1 - fraction), rel=0.5)


def test_stuck_codes_are_codes() -> None:
    """Where the weights' DAC has bits an element hangs at one of its steps."""
    chip = quiet(stuck_fraction=0.5, weight_bits=4, **SIZE)
    codes = _programmed(chip, _told(0.0)) * 7
    assert (codes - codes.round()).abs().max().item() < 1e-9
    assert codes.round().unique().tolist() == list(range(-7, 8))


@pytest.mark.parametrize(("kind", "weight"), [("ring", 1.0), ("crossbar", 0.0)])
@pytest.mark.parametrize("fraction", [0.02, 0.3])
def test_dead_elements_have_the_weight_of_no_drive(kind: str, weight: float, fraction: float) -> None:
    """A ring without heat is on resonance, +1; a pair of dark cells weighs nothing."""
    held = _programmed(quiet(kind, dead_fraction=fraction, **SIZE), _told(0.5))
    dead = (held - 0.5).abs() > 1e-9
    assert held[dead].numpy() == pytest.approx(weight, abs=1e-9)
    assert dead.sum().item() == pytest.approx(40_000 * fraction, abs=5 * math.sqrt(40_000 * fraction * (1 - fraction)))


def test_an_element_that_is_dead_is_not_stuck_as_well() -> None:
    """Dead wins; the two are independent."""
    both = _programmed(quiet(stuck_fraction=0.4, dead_fraction=0.3, **SIZE), _told(0.5))
    dead = (both - 1).abs() < 1e-9
    healthy = (both - 0.5).abs() < 1e-9
    assert dead.double().mean().item() == pytest.approx(0.3, abs=0.015)
    assert healthy.double().mean().item() == pytest.approx(0.7 * 0.6, abs=0.015)
    alone = _programmed(quiet(dead_fraction=0.3, **SIZE), _told(0.5))
    assert torch.equal((alone - 1).abs() < 1e-9, dead)


def test_a_part_of_a_tile_meets_the_elements_of_its_place() -> None:
    """Rows and columns of a smaller tile are the chip's first; another device has others."""
    chip = quiet(stuck_fraction=0.3, dead_fraction=0.1)
    light = random(30, 5)
    whole = torch.nn.functional.pad(light, (0, 3))
    all_of_it = measure(chip, torch.zeros(4, 8), whole)
    assert (measure(chip, torch.zeros(2, 5), light) - all_of_it[:, :2]).abs().max().item() < 1e-15
    other = measure(quiet(stuck_fraction=0.3, dead_fraction=0.1, device=4), torch.zeros(4, 8), whole)
    assert (other - all_of_it).abs().max().item() > 1e-3


# ---------------------------------------------------------------- a mesh


def test_a_mesh_without_drives_is_dark() -> None:
    """An attenuator at a phase of 0 is closed."""
    chip = quiet("mesh", dead_fraction=0.999999)
    d = measure(chip, random(4, 8, low=-1.0), random(5, 8, low=-1.0))
    assert not d.any()


def test_stuck_heaters_of_a_mesh_hold_phases_drawn_evenly() -> None:
    """Between 0 and 2 pi; what a stuck heater is told changes nothing."""
    chip = quiet("mesh", n_outputs=60, n_inputs=60, stuck_fraction=0.3)
    defects = chip._evaluation.device.defects
    phases = defects.codes[defects.held]
    count, total = len(phases), 60 * 60 * 2 + 60
    assert count == pytest.approx(0.3 * total, abs=5 * math.sqrt(total * 0.21))
    even = torch.arange(1, count + 1, dtype=torch.float64) / count
    assert (phases.sort().values / (2 * math.pi) - even).abs().max().item() < 1.95 / math.sqrt(count)
    small = quiet("mesh", stuck_fraction=0.5)
    held = small._evaluation.device.defects.held
    codes = weight_codes(small, random(1, 1, 4, 8, low=-1.0))
    light = random(1, 9, 8, low=-1.0)
    told = small.measure(codes, light).counts
    assert torch.equal(small.measure(torch.where(held, 1.0, codes), light).counts, told)
    assert not torch.equal(small.measure(torch.where(held, codes, 1.0), light).counts, told)


@pytest.mark.parametrize("name", ["stuck_fraction", "dead_fraction"])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_share_is_between_none_and_all(name: str, value: float) -> None:
    with pytest.raises(RecordError, match=name):
        quiet(**{name: value})
