"""Products through a measured calibration: what is left of a chip's spread is the rounding of codes; and refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import photonic
from photonic.backends.base import ConvGeometry
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.compensation import Compensation
from photonic.backends.elements import Elements
from photonic.backends.encoding import EncodedWeight, Geometry, Nominal, encode
from photonic.backends.signs import encode_weight_signs
from photonic.calibration.model import NO_NEIGHBOURS, NO_OFFSETS, ChipModel
from photonic.errors import ArraysError, CalibrationError
from photonic.physics.optics import Surroundings
from photonic.records import InputTransfer, Response
from tests.backends.modelchip import (
    FINE,
    MZM,
    M,
    ModelChip,
    N,
    backend_of,
    error_of,
    model_of,
    randn,
    record_of,
    spec_of,
)

# ---------------------------------------------------------------- without converters nothing is left


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 30), st.integers(1, 20))


@settings(max_examples=25, deadline=None)
@given(
    SHAPES,
    st.sampled_from(["auto", "time", "space", "offset"]),
    st.sampled_from(["row", "tile"]),
    st.booleans(),
    st.integers(0, 9),
)
def test_without_converters_products_are_exact(
    shape: tuple[int, int, int, int], sign: str, weight_scale: str, partial: bool, seed: int
) -> None:
    """Every spread at once, neighbours too, for all signs, parts of tiles, several tiles, groups and batches."""
    groups, b, n, m = shape
    backend = backend_of(model_of(spec_of(**FINE, partial_tiles=partial), seed), sign=sign, weight_scale=weight_scale)
    assert error_of(backend, randn(groups, b, n), randn(groups, m, n, seed=1)) < 1e-8


TRANSFERS: dict[str, dict[str, Any]] = {
    "from code 40": {"response": Response(inputs=MZM.model_copy(update={"code_zero": 40.0}), counts_per_d=(512.0,))},
    "falling": {
        "response": Response(
            inputs=MZM.model_copy(update={"code_zero": 255.0, "code_one": 0.0}), counts_per_d=(512.0,)
        ),
        "dark_code": 255.0,
    },
    "linear": {"response": Response(counts_per_d=(512.0,)), "dark_code": 30.0},
    "signed": {
        "response": Response(inputs=InputTransfer(code_one=127.0), counts_per_d=(512.0,)),
        "input_code_range": (-127.0, 127.0),
    },
}


@pytest.mark.parametrize("name", TRANSFERS)
def test_any_transfer_is_inverted(name: str) -> None:
    """And light of channels that are not in use, which are not dark, is taken off: 4 of 11, and 5 of 22."""
    backend = backend_of(model_of(spec_of(**FINE, **TRANSFERS[name])))
    for n in (4, 17):
        assert error_of(backend, randn(1, 5, n), randn(1, 9, n, seed=1)) < 1e-8
        assert error_of(backend, randn(1, 5, n).abs(), randn(1, 9, n, seed=1)) < 1e-8


def test_a_chip_without_signs() -> None:
    """Weights on two outputs each, exactly, though no element is dark: what both have too much cancels."""
    spec = spec_of(**FINE, weight_code_range=(0.0, 255.0), response=Response(inputs=MZM, counts_per_d=(512.0,)))
    model = model_of(spec, neighbours=False)
    element = np.zeros((M, N, 2))
    element[..., 1] = 127 / 255 * (1 + 0.1 * np.random.default_rng(3).normal(size=(M, N)))
    element[..., 0] = 1e-4
    model = replace(model, element=element, curves=np.stack([np.ones(9), np.linspace(0, 255 / 127, 9)]))
    for lift in (0.0, 0.03, 0.3):
        bright = replace(model, element=element + np.array([lift, 0.0]))
        for sign, size in (("auto", 17), ("offset", 17), ("space", 9)):
            most = 1e-8 if lift else 1e-3  # the last: what rows that are free in their scale leave of 1e-4
            assert error_of(backend_of(bright, sign=sign), randn(1, 5, size), randn(1, 9, size, seed=1)) < most
    weight = randn(1, 9, 17, seed=1)
    weight[0, 4] = 0.0
    assert float(backend_of(bright).matmul(randn(1, 5, 17), weight)[0, :, 4].abs().max()) == 0.0
    for values, said in (((0.45, 0.02), r"0\.450 to 0\.49"), ((0.0, 0.01), r"0\.000 to 0\.02")):
        held = element.copy()
        held[2, 3] = values
        with pytest.raises(CalibrationError, match=rf"element \(2, 3\) was measured to reach weights from {said}"):
            backend_of(replace(model, element=held)).matmul(randn(1, 5, 17), randn(1, 9, 17, seed=1))


@pytest.mark.parametrize("lift", [0.0, 0.03])
def test_chips_without_signs_keep_the_range_of_each_tile_and_element(lift: float) -> None:
    """What one count is worth: column tiles have scales of their own, and a weak element costs its own row alone."""
    spec = spec_of(**FINE, weight_code_range=(0.0, 255.0), response=Response(inputs=MZM, counts_per_d=(512.0,)))
    line, element = np.stack([np.ones(9), np.linspace(0, 255 / 127, 9)]), np.zeros((M, N, 2))
    element[..., 0], element[..., 1] = lift, 127 / 255
    model = replace(model_of(spec, neighbours=False), gain=np.full(M, 512.0), curves=line, element=element)
    weak = element.copy()
    weak[2, 3, 1] *= 0.1
    weight = randn(1, 9, 4 * N, seed=1)
    weight[..., N:] /= 100  # three of four column tiles
    signed = encode_weight_signs(weight, "plain", "space")

    def worth(change: np.ndarray) -> Tensor:
        encoder = Compensation.of(record_of(replace(model, element=change)), spec)
        factor = encode(signed, encoder, True).factor.squeeze(-2)  # (R, C, m)
        return factor.transpose(0, 1).flatten(1)[:, :18].abs()  # (C, 2 x 9)

    sound, held = worth(element), worth(weak)
    assert bool((sound[1:] < 0.05 * sound[0].max()).all())
    if lift:
        torch.testing.assert_close(sound[:, :9], sound[:, 9:])  # the two rows of an output
    # rows at the chip's row 2, and their partners where there is a lift
    theirs = {2, 9, 16} | ({11, 0, 7} if lift else set())
    others = [row for row in range(18) if row not in theirs]
    torch.testing.assert_close(sound[:, others], held[:, others])
    assert float((held[:, 2] / sound[:, 2]).max()) > 3


def test_continuous_codes_end_in_their_range() -> None:
    """The highest weight has the highest code, and no rounding error beyond it."""
    for dtype in (torch.float32, torch.float64):
        spec = spec_of(**FINE, weight_code_range=(-1.1, 1.3), response=Response(inputs=MZM, weight_code_one=1.2,
                       counts_per_d=(512.0,)))  # fmt: skip
        model = replace(ChipModel.nominal(spec), curves=np.stack([np.ones(257), np.linspace(-1.1, 1.3, 257) / 1.2]))
        elements = Elements.of(dict(model.arrays()), spec, M, N, torch.zeros(1, dtype=dtype))
        for value in np.linspace(0.9, 1.0, 50) * 1.3 / 1.2:
            codes, _ = elements.codes(torch.full((1, M, N), value, dtype=dtype))
            assert float(codes.double().max()) <= 1.3 * (1 + 1e-7 * (dtype == torch.float32))


@pytest.mark.parametrize("groups", [1, 4])
def test_a_pixel_is_encoded_for_each_channel_that_it_meets(groups: int) -> None:
    """Convolutions, in one call of the chip."""
    backend = backend_of(model_of(spec_of(**FINE)))
    x, weight = randn(2, 4, 7, 6), randn(8, 4 // groups, 3, 2, seed=1)
    geometry = ConvGeometry((2, 1), (1, 1), (1, 1), groups)
    y = backend.convolve(x, weight, geometry)
    exact = torch.nn.functional.conv2d(x, weight, None, (2, 1), (1, 1), (1, 1), groups)
    torch.testing.assert_close(y, exact, rtol=1e-8, atol=1e-8)
    assert backend.site.usage.calls == 1


def test_an_analog_gain_leaves_the_zeros_alone() -> None:
    """They are the ADCs', behind it; also where each tile has its own."""
    backend = backend_of(model_of(spec_of(**FINE)), analog_gain=4.0)
    assert error_of(backend, randn(1, 5, 17), randn(1, 9, 17, seed=1)) < 1e-8


def test_zeros_are_exact() -> None:
    """An input or a row of zeros takes no error of the chip."""
    backend = backend_of(model_of(spec_of()))
    x, weight = randn(1, 4, 17), randn(1, 9, 17, seed=1)
    weight[:, 2] = 0
    assert float(backend.matmul(torch.zeros_like(x), weight).abs().max()) == 0
    y = backend.matmul(x, weight)
    assert float(y[..., 2].abs().max()) == 0
    assert float(y[..., 1].abs().min()) > 0


@pytest.mark.parametrize("target", [1e3, 1e6])
def test_neighbours_that_add_a_sum_keep_their_digits(target: float) -> None:
    """Far away the target makes tiny terms: in float32 too, encoder, twin and model have the same weights."""
    model = model_of(spec_of())
    model = replace(model, target=target, neighbour=model.neighbour / target)
    backend = backend_of(model)
    x, weight = randn(1, 40, N).abs().float(), randn(1, M, N, seed=1).float()
    apart = error_of(backend_of(replace(model, offsets=NO_OFFSETS, neighbour=NO_NEIGHBOURS)), x, weight)
    assert error_of(backend, x, weight) == pytest.approx(apart, rel=0.3)
    codes = np.random.default_rng(0).integers(-127, 128, (6, M, N)).astype(np.float64)
    wanted, alone = model.weights(codes), model.own(codes)
    assert np.abs(wanted - alone).max() > 0.02
    elements = Elements.of(dict(model.arrays()), model.spec, M, N, torch.zeros(1))
    found = elements.weights(torch.from_numpy(codes).float())
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - wanted).max() < 1e-5
    twin = photonic.twin(record_of(model))._evaluation.device.optics
    signed = twin.matrices(torch.from_numpy(codes).float(), Surroundings(torch.Generator()))[0] * N
    assert np.abs(signed.numpy() - wanted).max() < 1e-5


# ---------------------------------------------------------------- with converters: rounding


def _encoded(model: ChipModel, weight: Tensor, per_row: bool = True) -> EncodedWeight:
    return encode(weight, Compensation.of(record_of(model), model.spec), per_row)


@pytest.mark.parametrize("neighbours", [False, True])
def test_codes_are_the_nearest_ones(neighbours: bool) -> None:
    """Nearly no weight is further from what it should be than half a step of its element; none was clipped."""
    model = model_of(spec_of(), neighbours=neighbours)
    weight = randn(1, M, N)
    weight[0, :, ::3] = weight[0, :, ::3].sign() * 2.0  # the largest of their rows, both signs, beside each other
    encoded = _encoded(model, weight)
    codes = encoded.codes.view(M, N).double().numpy()
    scale = encoded.factor.view(M) * torch.tensor(model.gain) / N  # times span, which no weight knows
    realised = model.weights(codes)
    ratio = (weight[0].numpy() * realised).sum(1) / (realised**2).sum(1)
    step = np.abs(model.weights(np.minimum(codes + 1, 127)) - model.weights(np.maximum(codes - 1, -127))) / 2
    off = np.abs(weight[0].numpy() / ratio[:, None] - realised) / np.maximum(step, 1 / 127)
    assert off.max() < 0.65
    assert np.sqrt((off**2).mean()) == pytest.approx(1 / math.sqrt(12), abs=0.06)
    spans = scale.numpy() / ratio
    assert spans == pytest.approx(spans[0], rel=0.01)
    # in each row an element is at its end, or as near to it as neighbours at their worst allow
    alone = model.own(np.arange(-127.0, 128.0)[:, None, None])
    used = np.maximum(realised / alone.max(0), realised / alone.min(0)).max(1)
    assert used == pytest.approx(1.0, abs=0.2 if neighbours else 0.01)


@pytest.mark.parametrize("sign", ["plain", "time", "offset"])
def test_rounded_weights_make_a_linear_product(sign: str) -> None:
    """With 15 codes, and light on channels that are not in use: nothing of it is in the sums, the zeros or the dark."""
    spec = spec_of(
        **{**FINE, "weight_bits": 4, "weight_code_range": (-7.0, 7.0)},
        response=Response(weight_code_one=7.0, counts_per_d=(512.0,)),
        dark_code=60.0,
    )
    backend = backend_of(model_of(spec), sign="auto" if sign == "plain" else sign)
    one, other, weight = randn(1, 5, 17), randn(1, 5, 17, seed=2), randn(1, 9, 17, seed=1)
    if sign == "plain":
        one, other = one.abs(), other.abs()
    # at once, so that all have one scale
    y = backend.matmul(torch.cat([one, other, one + other], dim=1), weight)
    torch.testing.assert_close(y[:, :5] + y[:, 5:10], y[:, 10:], rtol=0, atol=1e-9)
    error = float((y[:, 10:] - (one + other) @ weight.mT).norm() / y[:, 10:].norm())
    assert 0.01 < error < 0.2


def test_equal_elements_get_the_data_sheet_s_codes() -> None:
    """A record that has found nothing encodes as if nothing had been measured, but for codes that balance a row."""
    spec = spec_of()
    model = ChipModel.nominal(spec)
    weight, values = randn(2, 9, 17), randn(2, 30, 17, seed=1).abs().clamp(max=1)
    encoders = Nominal(spec, spec.response), Compensation.of(record_of(model), spec)
    one, other = (encode(weight, encoder, True) for encoder in encoders)
    moved = (one.codes - other.codes).abs()
    assert int(moved.max()) == 1
    assert float(moved.double().mean()) < 0.1
    torch.testing.assert_close(one.factor, other.factor, rtol=1e-9, atol=1e-9)
    exact = weight.double().sum(-1)
    nearest, balanced = ((encoded.sums[:, 0, :9] - exact).norm() for encoded in (one, other))
    assert balanced < 0.4 * nearest
    cut = Geometry.of(spec, 2, 9, 17)
    assert torch.equal(*(encoder.inputs(values, cut) for encoder in encoders))


def test_one_bad_element_costs_its_row_alone() -> None:
    """Where its weight is large the row is scaled down; others, and rows where its weight is small, stay at full."""
    model = model_of(spec_of(**FINE), neighbours=False)
    model.element[2, 3] *= 0.3
    weight = torch.ones(1, M, N, dtype=torch.float64)
    factor = _encoded(model, weight).factor.view(M) * torch.tensor(model.gain)
    assert factor[2] > 2.5 * factor[[0, 1, 3, 4]].max()
    weight[0, 2, 3] = 0.2
    factor = _encoded(model, weight).factor.view(M) * torch.tensor(model.gain)
    assert factor[2] < 1.3 * factor[[0, 1, 3, 4]].max()
    assert error_of(backend_of(model), randn(1, 5, N), weight) < 1e-8


# ---------------------------------------------------------------- what is refused


def _with(element: tuple[int, int], values: tuple[float, float, float]) -> ChipModel:
    model = model_of(spec_of())
    model.element[element] = values
    return model


@pytest.mark.parametrize("values", [(0.4, 0.0, 0.0), (0.0, 0.01, 0.0), (1.2, 0.5, 0.0), (0.0, -1.0, 0.0)], ids=str)
def test_a_stuck_element_is_refused_where_it_is_used(values: tuple[float, float, float]) -> None:
    """By its place; a tile that does not hold it works."""
    backend = backend_of(_with((5, 8), values))
    with pytest.raises(CalibrationError, match=r"element \(5, 8\) was measured to reach"):
        backend.matmul(randn(1, 3, N), randn(1, M, N))
    assert error_of(backend, randn(1, 3, 6), randn(1, M, 6, seed=1)) < 0.1
    assert error_of(backend, randn(1, 3, N), randn(1, 5, N, seed=1)) < 0.1


@pytest.mark.parametrize("fault", ["dark", "bright"])
def test_a_channel_without_common_levels_is_refused_where_it_is_used(fault: str) -> None:
    """A tile that does not hold it is encoded as if it were sound."""
    sound, model = model_of(spec_of(), neighbours=False), model_of(spec_of(), neighbours=False)
    if fault == "dark":
        model.power[8] = 0.01
    else:
        model.inputs.bias_rad[8] = 1.4
    with pytest.raises(
        CalibrationError, match="Channel 8 gives at most 0.010" if fault == "dark" else "channel 8 at least 0.9"
    ):
        backend_of(model).matmul(randn(1, 3, N), randn(1, M, N))
    one, other = (_encoded(m, randn(1, M, 6)) for m in (sound, model))
    assert torch.equal(one.codes, other.codes)
    torch.testing.assert_close(one.factor, other.factor, rtol=1e-12, atol=0)


def test_neighbours_that_take_everything_are_refused() -> None:
    """Nothing is left to program."""
    model = model_of(spec_of())
    model.neighbour[:, 0] = 1.5
    with pytest.raises(CalibrationError, match="leaves nothing"):
        backend_of(model).matmul(randn(1, 3, N), randn(1, M, N))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"element": None}, r"element \(7, 11, 3\), found none"),
        ({"power": np.ones(N + 1)}, r"power \(11,\), found \(12,\)"),
        ({"zero_count": np.full(M, np.nan)}, "zero_count .*not finite"),
        ({"element": np.ones((M, N, 2))}, r"element \(7, 11, 3\), found \(7, 11, 2\)"),
        ({"neighbour": np.ones((3, 2))}, r"neighbour \(4, nan\)"),
        ({"curves": np.ones((3, 1))}, "at least 2 codes"),
        ({"transitions": np.zeros((2, 255))}, r"transitions \(7, 255.0\), found \(2, 255\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, np.ndarray | None], message: str) -> None:
    """At opening, by name."""
    model = model_of(spec_of())
    arrays: dict[str, Any] = {**model.arrays(), **change}
    record = record_of(model).replaced(arrays={name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ArraysError, match=message):
        CalibratedBackend(ModelChip(model), record)


def test_fields_are_refused() -> None:
    """No measured record describes them."""
    model = model_of(spec_of())
    response = Response(inputs=InputTransfer(shape="field"), counts_per_d=(512.0,))
    with pytest.raises(CalibrationError, match="'field'"):
        CalibratedBackend(ModelChip(model), record_of(model).replaced(response=response))
