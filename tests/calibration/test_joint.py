"""Joint steps: what parameters do to counts, and whether intervals of what is made of them hold the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

import photonic
from photonic.calibration.adc import Inl
from photonic.calibration.adccolumns import AdcColumns
from photonic.calibration.jointfit import Looked, joint_step
from photonic.calibration.model import Array, ChipModel
from photonic.calibration.programming import Crosstalk, Programming, around, beside, gauged, rank_one
from photonic.calibration.response import ResponseFit
from photonic.calibration.rowdesign import Settings, Shared
from photonic.calibration.rows import RowErrors
from photonic.calibration.shots import Shots, followed
from photonic.calibration.transfer import TransferStep
from photonic.calibration.working import working_values
from photonic.records import ChipSpec

M, N, SIGMA = 3, 6, 0.7


def _spec() -> ChipSpec:
    with photonic.open_chip(f"sim:typical?n_inputs={N}&n_outputs={M}&weight_bits=5") as chip:
        return chip.spec


def _model(spec: ChipSpec, rng: np.random.Generator, crosstalk: Crosstalk) -> ChipModel:
    """Bent curves, elements that differ by one of them, neighbours, and modulators that are not nominal."""
    low, high = spec.weight_code_range
    line = np.linspace(low, high, round(high - low) + 1) / spec.response.weight_code_one
    element = 0.02 * rng.standard_normal((M, N, 3)) + np.array([0.0, 1.0, 0.0])
    for axis in (0, 1) * 20:  # what all elements of a channel have in common is its power
        element[..., 1] /= element[..., 1].mean(axis, keepdims=True)
    power = 1 + 0.05 * rng.standard_normal(N)
    nominal = ChipModel.nominal(spec)
    neighbour = np.where(crosstalk.free, 0.02 * rng.standard_normal(crosstalk.free.shape), 0.0)
    return replace(
        nominal,
        inputs=replace(
            nominal.inputs,
            inverse_v_pi=1 + 0.01 * rng.standard_normal(N),
            bias_rad=0.02 * rng.standard_normal(N),
            level_min=0.01,
        ),
        gain=500 * (1 + 0.05 * rng.standard_normal(M)),
        zero=2 * rng.standard_normal(M),
        power=power / power.mean(),
        curves=gauged(np.stack([np.ones_like(line), line + 0.1 * line**2, np.exp(2 * line)]), line),
        element=element,
        offsets=np.array(crosstalk.offsets, dtype=float).reshape(-1, 2),
        neighbour=neighbour if neighbour.size else nominal.neighbour,
        target=crosstalk.target,
    )


def _scale(model: ChipModel) -> Array:
    return np.asarray(model.gain[:, None] * model.power / N)


def _shared(model: ChipModel, crosstalk: Crosstalk) -> Shared:
    raw = model.element * _scale(model)[..., None]
    found = Programming(
        scale=_scale(model), raw=raw, raw_se=raw, curves=model.curves, crosstalk=crosstalk,
        neighbour=model.neighbour, neighbour_pulls=model.neighbour[None], residual=np.ones((M, N)),
    )  # fmt: skip
    return Shared(model.spec, found, model.inputs, dark=True)


def _moved(model: ChipModel, shared: Shared, own: Array, together: Array) -> ChipModel:
    """The model with a row's own numbers (P,), the same for all rows, and shared ones (S,) added."""
    raw = shared.found.raw + own[:-1].reshape(N, -1)
    curves, neighbour = model.curves.copy(), model.neighbour.copy()
    for q, (hat, place) in enumerate(zip(shared.hats, shared.curves, strict=True), 1):
        curves[q] += hat @ together[place]
    neighbour[shared.found.crosstalk.free] += together[shared.neighbours]
    # neighbours are told by the curve as it was: that it bends what they take is of second order in what they take
    slope = (raw[..., 1] / shared.power).mean(1)
    v_pi, bias = np.split(together[shared.transfer], 2)
    assert shared.level_min is not None
    inputs = replace(
        model.inputs, inverse_v_pi=model.inputs.inverse_v_pi + v_pi, bias_rad=model.inputs.bias_rad + bias,
        level_min=model.inputs.level_min + float(together[shared.level_min]),
    )  # fmt: skip
    gain = slope * N
    element = raw / (gain[:, None] * model.power / N)[..., None]
    zero = model.zero + own[-1]
    return replace(model, inputs=inputs, gain=gain, curves=curves, neighbour=neighbour, element=element, zero=zero)


@pytest.mark.parametrize("crosstalk", [beside(2, 1.0), around(1.0)])
def test_columns_are_derivatives_of_counts(crosstalk: Crosstalk) -> None:
    spec, rng = _spec(), np.random.default_rng(0)
    model = _model(spec, rng, crosstalk)
    shared = _shared(model, crosstalk)
    codes = np.rint(rng.uniform(*spec.weight_code_range, (M, N)))
    inputs = np.rint(rng.uniform(*spec.input_code_range, (20, N)))
    columns, row = shared.columns(inputs), Settings(shared, codes[None]).row(1)
    np.testing.assert_allclose(columns[:, :N] @ row.weights[0] + model.zero[1], model.volts(codes, inputs)[:, 1])
    own, size = row.dense.shape[2] - shared.plain, int(shared.transfer.stop)
    some = rng.standard_normal((1, N + 1))
    sums = np.concatenate(row.gathered(some), axis=1)
    np.testing.assert_allclose(sums, np.einsum("kap,ka->kp", row.dense, some), atol=1e-12 * np.abs(sums).max())
    curves = shared.curves[0].stop
    for index in (*range(0, own, 5), own - 1, *range(own + curves, own + size, 3), own + shared.plain - 1):
        step = np.zeros(own + size)
        step[index] = 1e-5
        ends = [_moved(model, shared, s * step[:own], s * step[own:]).volts(codes, inputs)[:, 1] for s in (1, -1)]
        weights = np.concatenate(
            [row.dense[0] @ np.concatenate([step[:own], step[own:][: shared.plain]]), np.zeros(2 * N)]
        )
        weights[N + 1 :] = np.tile(row.weights[0], 2) * step[own:][shared.transfer]
        np.testing.assert_allclose(columns @ weights, (ends[0] - ends[1]) / 2, rtol=1e-5, atol=1e-9)


def _response(model: ChipModel, shared: Shared) -> ResponseFit:
    none = np.zeros((M, N, 3))
    transfer = TransferStep(model.inputs, model.zero, model.power, model.power, 0.0, np.zeros((N, N)), 0.0)
    errors = RowErrors(model.gain, none, model.power)
    return ResponseFit(
        model=model, programming=shared.found, transfer=transfer, zero_se=model.zero, errors=errors, extinction=True,
        misfits={}, noise=np.full(M, SIGMA**2),
    )  # fmt: skip


def _deviations(spec: ChipSpec, seed: int, shared_noise: float) -> dict[str, Array]:
    """Of a step from the truth, over the errors that it states."""
    rng, crosstalk = np.random.default_rng(seed), beside(1, 1.0)
    model = _model(spec, rng, crosstalk)
    shots = []
    for _ in range(300):
        codes = np.rint(rng.uniform(*spec.weight_code_range, (M, N)))
        inputs = np.rint(rng.uniform(*spec.input_code_range, (30, N)) * (rng.random((30, N)) < 0.7))
        volts = model.volts(codes, inputs)
        common = shared_noise * rng.standard_normal((30, 1)) * (volts - model.zero)
        rest = SIGMA * rng.standard_normal(volts.shape) + common
        shots.append(Shots(codes, inputs, volts, rest, None, np.ones(30)))
    dark_se = np.full(M, 0.02)
    dark = model.zero + dark_se * rng.standard_normal(M), dark_se
    shared = _shared(model, crosstalk)
    found = joint_step(_response(model, shared), Looked(shots, dark, None)).fit
    true = (model.element * _scale(model)[..., None]) @ model.curves
    along = np.linalg.solve(found.model.curves @ found.model.curves.T, found.model.curves)
    raw = true @ along.T
    gain, power = rank_one(raw[..., 1])
    element = raw / (gain[:, None] * power)[..., None]
    assert found.transfer is not None
    inputs_se = found.transfer.inverse_v_pi_se, found.transfer.bias_se
    return {
        "gain": (found.model.gain - gain * N) / found.errors.gain,
        "power": (found.model.power - power) / found.errors.power,
        "element": (found.model.element - element).ravel() / found.errors.element.ravel(),
        "zero": (found.model.zero - model.zero) / found.zero_se,
        "V_pi": (found.model.inputs.inverse_v_pi - model.inputs.inverse_v_pi) / inputs_se[0],
        "bias": (found.model.inputs.bias_rad - model.inputs.bias_rad) / inputs_se[1],
    }


@pytest.mark.parametrize("shared_noise", [0.0, 0.02])
def test_intervals_hold_the_truth_with_everything_free(shared_noise: float) -> None:
    """Mean square of (found - true) / error is 1, whether outputs share noise or not."""
    spec = _spec()
    found = [_deviations(spec, seed, shared_noise) for seed in range(25)]
    for name in found[0]:
        z = np.concatenate([each[name] for each in found])
        by_device = np.array([(each[name] ** 2).mean() for each in found])
        allowed = 4 * by_device.std(ddof=1) / len(found) ** 0.5
        assert (z**2).mean() == pytest.approx(1.05, abs=allowed + 0.05), name


@pytest.mark.parametrize("volts", [0.2, 125.5, 126.5, 127.4, 129.0])
def test_working_values_follow_as_much_as_is_said(volts: float) -> None:
    sigma, step = 0.8, 0.05
    codes, edges = np.arange(-128.0, 128), np.arange(-127.5, 127)
    one = np.ones((len(codes), 1))
    seen = working_values(codes[:, None], volts * one, sigma * one, None, (-128, 127))[:, 0] - volts
    means = []
    for true in (volts - step, volts + step):
        reached = np.concatenate([[1.0], ndtr((true - edges) / sigma), [0.0]])
        means.append(float(-np.diff(reached) @ seen))
    rails = np.array([edges[0]]), np.array([edges[-1]])
    said = followed(np.array([[volts]]), np.array([[sigma]]), rails)
    assert (1.0 if said is None else said[0, 0]) == pytest.approx((means[1] - means[0]) / (2 * step), abs=0.05)


@pytest.mark.parametrize("kind", ["binary", "pooled", "per output", "binary about pooled"])
def test_columns_of_transitions_are_derivatives_of_the_mean_count(kind: str) -> None:
    ideal, sigma = np.arange(-127.5, 127), 0.8
    inl = Inl(
        kind, ideal[None] + np.zeros((2, 1)), np.ones((2, 255)), np.ones((2, 255), bool), np.zeros((2, 2)), {}, {}
    )  # type: ignore[arg-type]
    columns = AdcColumns.of(inl, np.full(2, sigma), (-128, 127))
    volts = np.arange(-120.0, 120, 7.25)
    for found, changes in zip(columns.at(volts, 1), (columns.own_changes, columns.shared_changes), strict=True):
        ends = [ndtr((volts[:, None, None] - (ideal + s * 1e-3 * changes.T)) / sigma).sum(2) for s in (1, -1)]
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-3, atol=1e-3)
        straight = np.polyfit(ideal, changes, 1) if changes.size else np.zeros(2)
        assert np.abs(straight).max() < 1e-9
