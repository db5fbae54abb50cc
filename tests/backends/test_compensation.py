"""Products through a measured calibration: what is left of a chip's spread is the rounding of codes."""

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

from photonic.backends.base import ConvGeometry
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Chip, Conditions
from photonic.backends.compensation import Compensation
from photonic.backends.encoding import EncodedWeight, Geometry, Nominal, encode
from photonic.backends.simulated import SimulatedChip, open_simulated
from photonic.calibration.model import NO_NEIGHBOURS, NO_OFFSETS, ChipModel, Inputs
from photonic.errors import ArraysError, CalibrationError
from photonic.physics.optics import Surroundings
from photonic.physics.ringbank import RingBank
from photonic.records import Calibration, ChipSpec, InputTransfer, Response

M, N = 7, 11
FINE: dict[str, Any] = {
    "weight_bits": None,
    "input_bits": None,
    "adc_bits": None,
    "count_range": (-1e30, 1e30),
}
MZM = InputTransfer(shape="mzm", code_one=255.0, extinction_ratio_db=20.0)


class ModelChip(Chip):
    """A chip that is a model, exactly: tile by tile, in float64, with no noise."""

    def __init__(self, model: ChipModel) -> None:
        super().__init__(model.spec)
        self.model = model

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
        spec, n = self.spec, inputs.shape[-1]
        m = weights.shape[-1] // n
        counts = np.empty((*weights.shape[:2], inputs.shape[1], m))
        for r, row in enumerate(weights.double().numpy()):
            for c, tile in enumerate(row):
                whole = np.full((spec.n_outputs, spec.n_inputs), max(0.0, spec.weight_code_range[0]))
                whole[:m, :n] = tile.reshape(m, n)
                lit = np.full((inputs.shape[1], spec.n_inputs), spec.dark_code)
                lit[:, :n] = inputs[c].double().numpy()
                volts = self.model.results(whole, lit) * self.model.gain * float(conditions.get("analog_gain", 1.0))
                counts[r, c] = self._converted(volts + self.model.zero)[:, :m]
        return torch.tensor(counts).to(spec.count_dtype)

    def _converted(self, volts: np.ndarray) -> np.ndarray:
        low, high = self.spec.count_range
        if self.spec.adc_bits is None:
            return volts
        if self.model.transitions is None:
            return np.clip(np.round(volts), low, high)
        tables = np.broadcast_to(self.model.transitions, (volts.shape[1], self.model.transitions.shape[1]))
        found = [np.searchsorted(table, volts[:, i], side="right") for i, table in enumerate(tables)]
        return np.asarray(np.stack(found, axis=1) + low)


def _spec(**fields: Any) -> ChipSpec:
    given: dict[str, Any] = {
        "chip_id": "lab:chip7",
        "n_outputs": M,
        "n_inputs": N,
        "conditions": {"analog_gain": (1.0, 4.0)},
        "response": Response(inputs=MZM, counts_per_d=(512.0,), zero_count=(0.0,)),
    }
    return ChipSpec(**{**given, **fields})


def _model(spec: ChipSpec, seed: int = 0, *, spread: float = 1.0, neighbours: bool = True) -> ChipModel:
    """Spreads of everything; curves that turn over before the highest and the lowest code, as rings may."""
    g, m, n = np.random.default_rng(seed), spec.n_outputs, spec.n_inputs
    nominal = ChipModel.nominal(spec)
    knots = 9
    line = np.linspace(*spec.weight_code_range, knots) / spec.response.weight_code_one
    curves = np.stack([np.ones(knots), line + 0.04 * np.sin(3 * line + 0.5), line**2 - 0.4])
    curves[1, -1], curves[1, 0] = curves[1, -2] - 0.1, curves[1, 1] + 0.1
    element = np.stack([a + b * g.normal(size=(m, n)) for a, b in ((0, 0.03), (1, 0.05), (0, 0.05))], axis=-1)
    element = nominal.element[..., [0, 1, 1]] * [1, 1, 0] * (1 - spread) + spread * element
    power = np.exp(0.1 * spread * g.normal(size=n))
    inputs = replace(nominal.inputs, transfer=spec.response.inputs)
    if inputs.curved:
        v_pi, bias = np.exp(0.02 * spread * g.normal(size=n)), 0.03 * spread * g.normal(size=n)
        inputs = Inputs(spec.response.inputs, v_pi, bias, 0.012)
    return ChipModel(
        spec=spec,
        inputs=inputs,
        gain=nominal.gain * np.exp(0.1 * spread * g.normal(size=m)),
        zero=nominal.zero + 2 * spread * g.normal(size=m),
        power=power / power.mean(),
        curves=curves,
        element=element,
        offsets=np.array([[0, -1], [0, 1], [1, 0], [-2, 0]], dtype=float) if neighbours else NO_OFFSETS,
        neighbour=np.array([[0.03, 0.01], [0.02, 0.0], [-0.02, 0.005], [0.01, 0.01]]) if neighbours else NO_NEIGHBOURS,
    )


def _record(model: ChipModel) -> Calibration:
    response = Response(
        inputs=model.spec.response.inputs,
        weight_code_one=model.spec.response.weight_code_one,
        counts_per_d=tuple(model.gain.tolist()),
        zero_count=tuple(model.zero.tolist()),
    )
    arrays = dict(model.arrays())
    return Calibration(chip_id=model.spec.chip_id, nominal=False, response=response, spec=model.spec, arrays=arrays)


def _backend(model: ChipModel, **options: Any) -> CalibratedBackend:
    return CalibratedBackend(ModelChip(model), _record(model), **options)


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _error(backend: CalibratedBackend, x: Tensor, weight: Tensor) -> float:
    exact = x.double() @ weight.double().mT
    return float((backend.matmul(x, weight).double() - exact).norm() / exact.norm())


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
    backend = _backend(_model(_spec(**FINE, partial_tiles=partial), seed), sign=sign, weight_scale=weight_scale)
    assert _error(backend, _randn(groups, b, n), _randn(groups, m, n, seed=1)) < 1e-8


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
    backend = _backend(_model(_spec(**FINE, **TRANSFERS[name])))
    for n in (4, 17):
        assert _error(backend, _randn(1, 5, n), _randn(1, 9, n, seed=1)) < 1e-8
        assert _error(backend, _randn(1, 5, n).abs(), _randn(1, 9, n, seed=1)) < 1e-8


def test_a_chip_without_signs() -> None:
    """Weights on two outputs each, though an element is not quite dark: to within what it cannot do."""
    spec = _spec(**FINE, weight_code_range=(0.0, 255.0), response=Response(inputs=MZM, counts_per_d=(512.0,)))
    model = _model(spec, neighbours=False)
    element = np.zeros((M, N, 2))
    element[..., 1] = 127 / 255 * (1 + 0.1 * np.random.default_rng(3).normal(size=(M, N)))
    element[..., 0] = 1e-4
    model = replace(model, element=element, curves=np.stack([np.ones(9), np.linspace(0, 255 / 127, 9)]))
    assert _error(_backend(model), _randn(1, 5, 17), _randn(1, 9, 17, seed=1)) < 1e-3
    bright = replace(model, element=element + np.array([0.02, 0.0]))
    with pytest.raises(CalibrationError, match=r"reach weights from 0\.020 to .*expected at most 0\.00"):
        _backend(bright).matmul(_randn(1, 5, 17), _randn(1, 9, 17, seed=1))


@pytest.mark.parametrize("groups", [1, 4])
def test_a_pixel_is_encoded_for_each_channel_that_it_meets(groups: int) -> None:
    """Convolutions, in one call of the chip."""
    backend = _backend(_model(_spec(**FINE)))
    x, weight = _randn(2, 4, 7, 6), _randn(8, 4 // groups, 3, 2, seed=1)
    geometry = ConvGeometry((2, 1), (1, 1), (1, 1), groups)
    y = backend.convolve(x, weight, geometry)
    exact = torch.nn.functional.conv2d(x, weight, None, (2, 1), (1, 1), (1, 1), groups)
    torch.testing.assert_close(y, exact, rtol=1e-8, atol=1e-8)
    assert backend.site.usage.calls == 1


def test_an_analog_gain_leaves_the_zeros_alone() -> None:
    """They are the ADCs', behind it; also where each tile has its own."""
    backend = _backend(_model(_spec(**FINE)), analog_gain=4.0)
    assert _error(backend, _randn(1, 5, 17), _randn(1, 9, 17, seed=1)) < 1e-8


def test_zeros_are_exact() -> None:
    """An input or a row of zeros takes no error of the chip."""
    backend = _backend(_model(_spec()))
    x, weight = _randn(1, 4, 17), _randn(1, 9, 17, seed=1)
    weight[:, 2] = 0
    assert float(backend.matmul(torch.zeros_like(x), weight).abs().max()) == 0
    y = backend.matmul(x, weight)
    assert float(y[..., 2].abs().max()) == 0
    assert float(y[..., 1].abs().min()) > 0


# ---------------------------------------------------------------- with converters: rounding


def _encoded(model: ChipModel, weight: Tensor, per_row: bool = True) -> EncodedWeight:
    return encode(weight, Compensation.of(_record(model), model.spec), per_row)


@pytest.mark.parametrize("neighbours", [False, True])
def test_codes_are_the_nearest_ones(neighbours: bool) -> None:
    """No weight is further from what it should be than half a step of its element; none was clipped."""
    model = _model(_spec(), neighbours=neighbours)
    weight = _randn(1, M, N)
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
    spec = _spec(
        **{**FINE, "weight_bits": 4, "weight_code_range": (-7.0, 7.0)},
        response=Response(weight_code_one=7.0, counts_per_d=(512.0,)),
        dark_code=60.0,
    )
    backend = _backend(_model(spec), sign="auto" if sign == "plain" else sign)
    one, other, weight = _randn(1, 5, 17), _randn(1, 5, 17, seed=2), _randn(1, 9, 17, seed=1)
    if sign == "plain":
        one, other = one.abs(), other.abs()
    # at once, so that all have one scale
    y = backend.matmul(torch.cat([one, other, one + other], dim=1), weight)
    torch.testing.assert_close(y[:, :5] + y[:, 5:10], y[:, 10:], rtol=0, atol=1e-9)
    error = float((y[:, 10:] - (one + other) @ weight.mT).norm() / y[:, 10:].norm())
    assert 0.01 < error < 0.2


def test_equal_elements_get_the_data_sheet_s_codes() -> None:
    """A record that has found nothing encodes as if nothing had been measured."""
    spec = _spec()
    model = ChipModel.nominal(spec)
    weight, values = _randn(2, 9, 17), _randn(2, 30, 17, seed=1).abs().clamp(max=1)
    encoders = Nominal(spec, spec.response), Compensation.of(_record(model), spec)
    one, other = (encode(weight, encoder, True) for encoder in encoders)
    assert torch.equal(one.codes, other.codes)
    for name in ("factor", "offset", "sums"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-9)
    cut = Geometry.of(spec, 2, 9, 17)
    assert torch.equal(*(encoder.inputs(values, cut) for encoder in encoders))


def test_one_bad_element_costs_its_row_alone() -> None:
    """Where its weight is large the row is scaled down; others, and rows where its weight is small, stay at full."""
    model = _model(_spec(**FINE), neighbours=False)
    model.element[2, 3] *= 0.3
    weight = torch.ones(1, M, N, dtype=torch.float64)
    factor = _encoded(model, weight).factor.view(M) * torch.tensor(model.gain)
    assert factor[2] > 2.5 * factor[[0, 1, 3, 4]].max()
    weight[0, 2, 3] = 0.2
    factor = _encoded(model, weight).factor.view(M) * torch.tensor(model.gain)
    assert factor[2] < 1.3 * factor[[0, 1, 3, 4]].max()
    assert _error(_backend(model), _randn(1, 5, N), weight) < 1e-8


# ---------------------------------------------------------------- a simulated chip that is strongly spread


STRONG: dict[str, Any] = {
    "n_outputs": 16, "n_inputs": 16, "channel_leakage": False,
    "shot_noise": False, "thermal_noise_a_per_rthz": 0.0, "rin_db_per_hz": None, "dark_current_a": 0.0,
    "gain_spread": 0.1, "channel_spread": 0.1, "resonance_spread_nm": 0.003,
    "v_pi_spread": 0.02, "bias_spread_rad": 0.02,
    # 2 of the 8-bit LSB of a chip with the ADC at 0.25
    "adc_bits": 16, "adc_full_scale": 1.0, "offset_spread_lsb": 2 * 64.0,
}  # fmt: skip


class Truth:
    """What a simulated chip hides: weights (M, N, 255) of all codes and levels (N, 256) of all codes."""

    def __init__(self, chip: SimulatedChip) -> None:
        device, spec = chip._evaluation.device, chip.spec
        optics, transmitter = device.optics, device.transmitter
        assert isinstance(optics, RingBank)
        m, n = spec.n_outputs, spec.n_inputs
        codes = torch.arange(-127.0, 128.0, dtype=torch.float64)
        tiles = codes.view(-1, 1, 1).expand(-1, m, n)
        generator = torch.Generator()
        self.weights = optics.matrices(tiles, Surroundings(generator))[0].permute(1, 2, 0) * n
        light = torch.arange(256, dtype=torch.float64).unsqueeze(1).expand(-1, n)
        self.levels = transmitter.light(light, None, generator).T
        self.per_d, self.device, self.spec = spec.response.counts_per_d[0], device, spec

    def record(self) -> Calibration:
        """The truth as arrays; curves are singular vectors of the elements' own, as many as there is anything in."""
        spec, device = self.spec, self.device
        values = self.weights.flatten(0, 1).numpy()
        mean = values.mean(0)
        vectors = np.linalg.svd(values - mean)[2][:24]
        curves = np.stack([np.ones_like(mean), mean, *vectors])
        element = np.linalg.lstsq(curves.T, values.T, rcond=None)[0].T.reshape(*self.weights.shape[:2], -1)
        transmitter, receiver = device.transmitter, device.receiver
        arrays = {
            "counts_per_d": receiver.gain.numpy() * self.per_d,
            "zero_count": receiver.offset_d.numpy() * self.per_d,
            "power": transmitter.power.numpy(),
            "inverse_v_pi": transmitter.inverse_v_pi.numpy(),
            "bias_rad": transmitter.bias_rad.numpy(),
            "level_min": np.array([transmitter.level_min]),
            "curves": curves,
            "element": element,
            "neighbour_offsets": NO_OFFSETS,
            "neighbour": NO_NEIGHBOURS,
            "neighbour_target": np.ones(1),
        }
        return Calibration(chip_id=spec.chip_id, nominal=False, response=spec.response, spec=spec, arrays=arrays)

    def floor(self, x: Tensor, weight: Tensor, offset: bool) -> Tensor:
        """The product (B, M) of the nearest weights and levels that the chip has, each found among all codes."""
        m, n = weight.shape
        w, levels = self.weights[:m, :n], self.levels[:n]
        scale = torch.maximum(weight / w.amax(-1), weight / w.amin(-1)).amax(1, keepdim=True)
        nearest = (w - (weight / scale).unsqueeze(-1)).abs().argmin(-1, keepdim=True)
        w = w.gather(-1, nearest).squeeze(-1) * scale
        low = levels.amin(1).amax()
        span = levels.amax(1).amin() - low

        def lit(v: Tensor) -> Tensor:
            rows = (levels - (low + span * v).unsqueeze(-1)).abs().argmin(-1, keepdim=True)
            found: Tensor = (levels.expand(len(v), -1, -1).gather(-1, rows).squeeze(-1) - low) / span
            return found

        top = x.abs().max()
        v = x / top
        if offset:
            return (2 * lit((v + 1) / 2) - 1) @ w.T * top
        return (lit(v.clamp(min=0)) - lit(v.neg().clamp(min=0))) @ w.T * top


@pytest.mark.parametrize(("sign", "n"), [("time", 16), ("offset", 16), ("time", 9)])
def test_a_strongly_spread_chip_is_as_good_as_its_codes(sign: str, n: int) -> None:
    """The error is that of the nearest weights and levels, found by search; a tenth of the uncalibrated one or less."""
    for device in range(3):
        chip = open_simulated("typical", device=device, **STRONG)
        truth = Truth(chip)
        x, weight = _randn(1, 300, n).float(), _randn(1, 16, n, seed=1).float()
        exact = x.double() @ weight.double().mT
        floor = float(
            (truth.floor(x[0].double(), weight[0].double(), sign == "offset") - exact[0]).norm() / exact.norm()
        )
        error = _error(CalibratedBackend(chip, truth.record(), sign=sign), x, weight)
        assert error == pytest.approx(floor, rel=0.02)
        assert _error(CalibratedBackend(chip, sign=sign), x, weight) > 10 * error


@pytest.mark.parametrize("sign", ["auto", "space"])
def test_all_shapes_of_a_strongly_spread_chip(sign: str) -> None:
    """3 x 2 tiles in 2 groups with parts of tiles, and convolutions, depthwise ones too."""
    chip = open_simulated("typical", device=3, **STRONG)
    record = Truth(chip).record()
    measured, nominal = CalibratedBackend(chip, record, sign=sign), CalibratedBackend(chip, sign=sign)
    x, weight = _randn(2, 60, 40).float(), _randn(2, 20, 40, seed=1).float()
    assert _error(nominal, x, weight) > 10 * _error(measured, x, weight)
    images = _randn(2, 8, 9, 9).float()
    for groups in (1, 8):
        kernel, geometry = _randn(8, 8 // groups, 3, 3, seed=2).float(), ConvGeometry((1, 1), (1, 1), (1, 1), groups)
        exact = torch.nn.functional.conv2d(images, kernel, None, 1, 1, 1, groups)
        errors = [float((b.convolve(images, kernel, geometry) - exact).norm()) for b in (nominal, measured)]
        assert errors[0] > 10 * errors[1]


# ---------------------------------------------------------------- ADCs


def test_counts_are_read_at_the_middle_of_their_width() -> None:
    """Each output by its own table; end codes as wide as any; a missing code where its transitions meet."""
    table = np.array([[-2.0, -0.5, 0.5, 0.5, 2.5, 3.0, 4.0], np.arange(-2.5, 4.0)])
    spec = _spec(n_outputs=2, adc_bits=3, count_range=(-4.0, 3.0))
    encoder = Compensation.of(_record(replace(_model(spec), transitions=table)), spec)
    counts = torch.arange(-4, 4, dtype=torch.int16).view(1, 1, 8, 1).expand(2, 1, 8, 2)
    volts = encoder.volts(counts, torch.float64)
    expected = [-2.5, -1.25, 0.0, 0.5, 1.5, 2.75, 3.5, 4.5]
    assert volts[1, 0, :, 0].tolist() == expected
    assert volts[0, 0, :, 1].tolist() == list(np.arange(-3.0, 5.0))
    assert encoder.volts(counts[..., :1], torch.float32)[0, 0, :, 0].tolist() == expected


@pytest.mark.parametrize("alike", [False, True])
def test_an_adc_s_nonlinearity_is_corrected(alike: bool) -> None:
    """4 counts of INL: what is left is a count's rounding, as with an ideal ADC, and not less than that."""
    spec = _spec(response=Response(inputs=MZM, counts_per_d=(300.0,)))
    ideal = np.arange(1, 256) - 128.5
    size = np.array([[4.0]]) if alike else np.linspace(2, 6, M)[:, None]
    bent = ideal + size * ((ideal / 128) ** 2 - 0.5) + 0.2 * np.sin(ideal / 3)
    model = _model(spec)
    # of one sign, so that counts reach as far as the INL bends
    x, weight = _randn(1, 300, 17).abs(), _randn(1, 9, 17, seed=1).abs()
    ideal_error = _error(_backend(model), x, weight)
    chip = ModelChip(replace(model, transitions=bent))
    error = _error(CalibratedBackend(chip, _record(chip.model)), x, weight)
    assert error == pytest.approx(ideal_error, rel=0.03)
    assert _error(CalibratedBackend(chip, _record(model)), x, weight) > 5 * error


# ---------------------------------------------------------------- what is refused


def _with(element: tuple[int, int], values: tuple[float, float, float]) -> ChipModel:
    model = _model(_spec())
    model.element[element] = values
    return model


@pytest.mark.parametrize("values", [(0.4, 0.0, 0.0), (0.0, 0.01, 0.0), (1.2, 0.5, 0.0), (0.0, -1.0, 0.0)], ids=str)
def test_a_stuck_element_is_refused_where_it_is_used(values: tuple[float, float, float]) -> None:
    """By its place; a tile that does not hold it works."""
    backend = _backend(_with((5, 8), values))
    with pytest.raises(CalibrationError, match=r"element \(5, 8\) was measured to reach"):
        backend.matmul(_randn(1, 3, N), _randn(1, M, N))
    assert _error(backend, _randn(1, 3, 6), _randn(1, M, 6, seed=1)) < 0.1
    assert _error(backend, _randn(1, 3, N), _randn(1, 5, N, seed=1)) < 0.1


@pytest.mark.parametrize("fault", ["dark", "bright"])
def test_a_channel_without_common_levels_is_refused_where_it_is_used(fault: str) -> None:
    """A tile that does not hold it is encoded as if it were sound."""
    sound, model = _model(_spec(), neighbours=False), _model(_spec(), neighbours=False)
    if fault == "dark":
        model.power[8] = 0.01
    else:
        model.inputs.bias_rad[8] = 1.4
    with pytest.raises(
        CalibrationError, match="Channel 8 gives at most 0.010" if fault == "dark" else "channel 8 at least 0.9"
    ):
        _backend(model).matmul(_randn(1, 3, N), _randn(1, M, N))
    one, other = (_encoded(m, _randn(1, M, 6)) for m in (sound, model))
    assert torch.equal(one.codes, other.codes)
    torch.testing.assert_close(one.factor, other.factor, rtol=1e-12, atol=0)


def test_neighbours_that_take_everything_are_refused() -> None:
    """Nothing is left to program."""
    model = _model(_spec())
    model.neighbour[:, 0] = 1.5
    with pytest.raises(CalibrationError, match="leaves nothing"):
        _backend(model).matmul(_randn(1, 3, N), _randn(1, M, N))


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
    model = _model(_spec())
    arrays: dict[str, Any] = {**model.arrays(), **change}
    record = _record(model).replaced(arrays={name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ArraysError, match=message):
        CalibratedBackend(ModelChip(model), record)


def test_fields_are_refused() -> None:
    """No measured record describes them."""
    model = _model(_spec())
    response = Response(inputs=InputTransfer(shape="field"), counts_per_d=(512.0,))
    with pytest.raises(CalibrationError, match="'field'"):
        CalibratedBackend(ModelChip(model), _record(model).replaced(response=response))
