"""Rows from all shots, and the steps of what elements share: both against hidden numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import photonic
from photonic.calibration.effective import Effective, Setting, effective_matrices
from photonic.calibration.model import Array, ChipModel
from photonic.calibration.programming import (
    NO_CROSSTALK,
    Programming,
    beside,
    fit_elements,
    fit_programming,
    gauged,
    misfit,
    rank_one,
)
from photonic.calibration.rows import fit_rows
from photonic.records import ChipSpec

M, N, SIGMA = 4, 8, 0.7


def _spec() -> ChipSpec:
    with photonic.open_chip(f"sim:typical?n_inputs={N}&n_outputs={M}") as chip:
        return chip.spec


def _model(spec: ChipSpec, rng: np.random.Generator, leak: float) -> ChipModel:
    """Bent curves, elements that differ by one of them, and neighbours where ``leak`` is not 0."""
    line = np.linspace(*spec.weight_code_range, 255) / spec.response.weight_code_one
    bent = line + 0.05 * line**2 - 0.03 * np.exp(8 * (line - 1))
    element = np.stack(
        [0.02 * rng.standard_normal((M, N)), np.ones((M, N)), 0.03 * rng.standard_normal((M, N))], axis=-1
    )
    element[..., 1] += 0.05 * rng.standard_normal((M, N))
    for axis in (0, 1) * 20:  # what all elements of a channel have in common is its power
        element[..., 1] /= element[..., 1].mean(axis, keepdims=True)
    power = 1 + 0.05 * rng.standard_normal(N)
    found = replace(
        ChipModel.nominal(spec),
        gain=500 * (1 + 0.05 * rng.standard_normal(M)),
        zero=2 * rng.standard_normal(M),
        power=power / power.mean(),
        curves=gauged(np.stack([np.ones(255), bent, np.exp(5 * (line - 1))]), line),
        element=element,
    )
    neighbours = np.zeros((2, 3))
    neighbours[:, :2] = leak * np.array([[0.03, 0.02], [0.02, 0.03]])
    return replace(found, offsets=np.array([[0.0, -1.0], [0.0, 1.0]]), neighbour=neighbours)


def _measured(spec: ChipSpec, model: ChipModel, rng: np.random.Generator, settings: int, sigma: float) -> Effective:
    found, light = [], []
    for _ in range(settings):
        codes = np.rint(rng.uniform(*spec.weight_code_range, (M, N)))
        levels = np.where(rng.random((60, N)) < 0.5, rng.random((60, N)), 0.0)
        volts = levels * model.power @ model.weights(codes).T / N * model.gain + model.zero
        volts = volts + sigma * rng.standard_normal(volts.shape)
        found.append(Setting(codes, np.zeros_like(levels), volts, np.ones(M, dtype=bool), np.ones(60)))
        light.append(levels)
    return effective_matrices(found, light, model.zero)


@pytest.mark.parametrize("leak", [0.0, 1.0])
def test_few_steps_reach_the_noise(leak: float) -> None:
    """Held-out settings are missed by no more than noise, though the curves bend steeply at one end.

    With neighbours at the noise of a typical chip: at a third of it 0.04 % of a weight shows, which the steps leave.
    """
    spec, rng = _spec(), np.random.default_rng(3)
    model = _model(spec, rng, leak)
    seen, held = (_measured(spec, model, rng, k, SIGMA if leak else 0.2) for k in (700, 200))
    found = fit_programming(spec, seen, beside(1, 1.0) if leak else NO_CROSSTALK)
    assert misfit(spec, held, found).mean() < 1.15
    assert (
        misfit(spec, held, replace(found, curves=np.stack([*found.curves[:2], *(0 * found.curves[2:])]))).mean() > 1.5
    )


def _solved(spec: ChipSpec, model: ChipModel, seen: Effective, dark: tuple[Array, Array] | None) -> tuple[Array, ...]:
    """Deviations of zeros and rows' gains over their errors, curves known."""
    true = model.element * (model.gain[:, None] * model.power / N)[..., None]
    true_gain, true_power = rank_one(true[..., 1])
    scale = true_gain[:, None] * true_power
    known = Programming(
        scale=scale,
        raw=true,
        raw_se=np.ones_like(true),
        curves=model.curves,
        crosstalk=beside(1, 1.0),
        neighbour=model.neighbour,
        neighbour_pulls=model.neighbour[None],
        residual=np.ones((M, N)),
    )
    rows = fit_rows(spec, seen, known, dark)
    gain, power = rank_one(rows.raw[..., 1])
    errors = rows.errors(gain, power)
    element = rows.raw / (gain[:, None] * power)[..., None]
    return (
        (rows.zero - model.zero) / rows.zero_se,
        (gain - true_gain) / errors.gain,
        ((element - true / scale[..., None]) / errors.element).ravel(),
        (power - true_power) / errors.power,
        rows.zero_se,
    )


def test_intervals_of_rows_hold_the_truth() -> None:
    """Mean square of (found - true) / error is 1 for zeros, gains, elements and powers."""
    spec = _spec()
    parts: list[list[Array]] = [[], [], [], []]
    for seed in range(30):
        rng = np.random.default_rng(seed)
        model = _model(spec, rng, 0.0)
        found = _solved(spec, model, _measured(spec, model, rng, 60, SIGMA), None)
        for part, values in zip(parts, found[:4], strict=True):
            part.append(values)
    squares = [float((np.concatenate(part) ** 2).mean()) for part in parts]
    assert squares[0] == pytest.approx(1, abs=0.4)
    assert squares[1] == pytest.approx(1, abs=0.4)
    assert squares[2] == pytest.approx(1, abs=0.12)
    assert squares[3] == pytest.approx(1, abs=0.45)  # powers have one more freedom than their errors count


def test_dark_readings_help_the_zeros_by_what_they_say() -> None:
    spec, rng = _spec(), np.random.default_rng(1)
    model = _model(spec, rng, 0.0)
    seen = _measured(spec, model, rng, 60, SIGMA)
    alone = _solved(spec, model, seen, None)[4]
    same = _solved(spec, model, seen, (model.zero, alone))[4]
    np.testing.assert_allclose(same, alone / np.sqrt(2), rtol=1e-3)


def test_a_start_saves_steps_and_changes_nothing() -> None:
    spec, rng = _spec(), np.random.default_rng(4)
    model = _model(spec, rng, 1.0)
    seen = _measured(spec, model, rng, 300, SIGMA)
    first = fit_programming(spec, seen, beside(1, 1.0))
    again = fit_programming(spec, seen, beside(1, 1.0), first)
    assert misfit(spec, seen, again).mean() == pytest.approx(misfit(spec, seen, first).mean(), rel=2e-3)
    assert misfit(spec, seen, again).mean() <= misfit(spec, seen, first).mean() * (1 + 1e-6)
    assert fit_elements(spec, seen, first).raw == pytest.approx(first.raw, abs=1e-3)
