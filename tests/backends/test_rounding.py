"""Codes whose errors cancel in a row."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from photonic.backends.rounding import MEAN_TO_VARIANCE, balanced


def _row_costs(off: Tensor) -> Tensor:
    """The module's formula, in units of sigma^2."""
    return off.square().sum(-1) + MEAN_TO_VARIANCE * off.sum(-1).square()


def _case(rows: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Wanted codes and steps; some wanted ones are whole, some elements have a tenth of the others' step."""
    generator = torch.Generator().manual_seed(seed)
    fine = 20 * torch.rand(rows, n, generator=generator, dtype=torch.float64) - 10
    fine = torch.where(torch.rand(rows, n, generator=generator) < 0.1, fine.round(), fine)
    steps = 0.5 + torch.rand(rows, n, generator=generator, dtype=torch.float64)
    return fine, torch.where(torch.rand(rows, n, generator=generator) < 0.2, steps / 10, steps)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 999))
def test_no_single_move_would_be_better(rows: int, n: int, seed: int) -> None:
    """Each code is one of the two beside what is wanted, and taking the other one lowers no row's error."""
    fine, steps = _case(rows, n, seed)
    nearest = fine.round()
    codes = balanced(fine, nearest, (nearest - fine) * steps, steps)
    assert bool(((codes == fine.floor()) | (codes == fine.ceil())).all())
    off = (codes - fine) * steps
    best = _row_costs(off)
    assert bool((best <= _row_costs((nearest - fine) * steps) + 1e-12).all())
    for j in range(n):
        other = off.clone()
        flip = torch.where(codes[:, j] == fine[:, j], fine[:, j], fine[:, j].floor() + fine[:, j].ceil() - codes[:, j])
        other[:, j] = (flip - fine[:, j]) * steps[:, j]
        stays = codes[:, j] != nearest[:, j]  # what was moved once is not moved back
        assert bool((stays | (_row_costs(other) >= best - 1e-12)).all())


def test_it_is_near_the_best_of_all_roundings() -> None:
    """Of 2^8 of a row, on average over rows: within a third of the best one's error, and half the nearest one's."""
    fine, steps = _case(200, 8, 3)
    choices = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8)), dtype=torch.float64)
    every = torch.where(choices.bool().unsqueeze(1), fine.ceil(), fine.floor())
    best = _row_costs((every - fine) * steps).amin(0).mean()
    nearest = fine.round()
    found = _row_costs((balanced(fine, nearest, (nearest - fine) * steps, steps) - fine) * steps).mean()
    assert float(found) < 1.34 * float(best)
    assert float(found) < 0.5 * float(_row_costs((nearest - fine) * steps).mean())


@pytest.mark.parametrize("n", [16, 64])
def test_the_error_of_light_is_halved(n: int) -> None:
    """Mean square of sum_j e_j v_j for v evenly spread over [0, 1], by simulation; of signed inputs it hardly grows."""
    fine, _ = _case(400, n, 5)
    steps = torch.ones_like(fine)
    nearest = fine.round()
    light = torch.rand(n, 2000, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    before, after = (codes - fine for codes in (nearest, balanced(fine, nearest, nearest - fine, steps)))
    assert float((after @ light).square().mean()) < 0.36 * float((before @ light).square().mean())
    signed = 2 * light - 1
    assert float((after @ signed).square().mean()) < 1.15 * float((before @ signed).square().mean())


def test_inputs_that_are_not_there_are_not_moved() -> None:
    """Their error is 0, and so is their step."""
    fine, steps = _case(50, 12, 8)
    nearest, off = fine.round(), (fine.round() - fine) * steps
    off[:, 7:], steps[:, 7:] = 0.0, 0.0
    codes = balanced(fine, nearest, off, steps)
    assert torch.equal(codes[:, 7:], nearest[:, 7:])
    assert torch.equal(codes[:, :7], balanced(fine[:, :7], nearest[:, :7], off[:, :7], steps[:, :7]))
