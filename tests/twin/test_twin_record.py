"""The fast twin of a measured record encodes as the exact one does: through what was measured of each part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import photonic
from photonic.backends.base import Backend, ConvGeometry
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.encoding import Nominal
from photonic.backends.twin import TwinBackend
from photonic.backends.twin.inputs import Inputs
from photonic.records import Calibration, InputTransfer, NoiseModel, Response
from tests.calibration.synthetic import NOISE, QUIET, M, arrays_of, calibration_of, spec_of
from tests.twin.pairs import Comparison, compare, rand, randn, repeats

COUNT = 1500
FLOATING: dict[str, Any] = {"weight_bits": None, "input_bits": None, "adc_bits": None, "count_range": (-1e30, 1e30)}
ALONE = NOISE.model_copy(update={"rin": 0.0, "common_mode": 0.0})


def _record(noise: NoiseModel = NOISE, *, inl: bool = False, **fields: Any) -> Calibration:
    """Parts that differ by several times as much as those of ``synthetic``, levels in the dark included."""
    spec = spec_of(**fields)
    arrays, g = arrays_of(spec, inl=inl), np.random.default_rng(7)
    arrays["element"][..., 0] *= 2
    arrays["element"][..., 1] += 0.1 * g.normal(size=arrays["element"].shape[:2])
    arrays["power"] = arrays["power"] ** 2 / np.mean(arrays["power"] ** 2)
    arrays["bias_rad"] = arrays["bias_rad"] * 3 + 0.05
    arrays["inverse_v_pi"] = arrays["inverse_v_pi"] ** 3
    return calibration_of(spec, arrays, noise=noise)


def _pair(record: Calibration, folder: Path, **options: Any) -> tuple[Backend, TwinBackend]:
    """Both backends of a record's file."""
    record.save(folder / "chip7.json")
    query = "&".join(f"{key}={value}" for key, value in options.items())
    exact, fast = (
        photonic.open_backend(f"{scheme}:{folder}/chip7.json" + (f"?{query}" if query else ""), seed=seed)
        for seed, scheme in enumerate(("sim", "twin"), start=1)
    )
    assert isinstance(exact, CalibratedBackend)
    assert isinstance(fast, TwinBackend)
    assert not exact.spec.nominal
    return exact, fast


def _many(backend: Backend, x: Tensor, weight: Tensor, count: int = COUNT) -> Tensor:
    """The same product ``count`` times in one call, (count, results) with the last group's last."""
    y = backend.matmul(x.repeat(1, count, 1), weight).double()
    many: Tensor = y.unflatten(1, (count, -1))
    return many.transpose(0, 1).flatten(1)


def _compared(pair: tuple[Backend, Backend], x: Tensor, weight: Tensor) -> Comparison:
    return compare(_many(pair[0], x, weight), _many(pair[1], x, weight), weight.shape[1])


def _assert_equal(found: Comparison) -> None:
    """Bounds of about five standard errors; where outputs share noise all of them say little more than one."""
    assert found.common[1] == pytest.approx(found.common[0], abs=0.03), found
    alone = abs(found.common[0]) < 0.05
    assert found.mean == pytest.approx(1.0, abs=0.3) if alone else found.mean < 1.7, found
    assert found.variance == pytest.approx(1.0, abs=0.03 if alone else 0.06), found
    assert not alone or found.covariance == pytest.approx(1.0, abs=0.2), found


@pytest.mark.parametrize("noise", [NOISE, ALONE], ids=["shared", "alone"])
@pytest.mark.parametrize("sign", ["auto", "time", "space", "offset"])
def test_products_over_sign_encodings(sign: str, noise: NoiseModel, tmp_path: Path) -> None:
    """2 x 3 tiles, the last ones not full; one-sided inputs in one shot, whatever the sign."""
    weight = randn(1, 20, 40, seed=1)
    x = rand(1, 5, 40) if sign == "auto" else randn(1, 5, 40)
    x[:, :, ::3] = 0.0  # which every channel has its own code for
    _assert_equal(_compared(_pair(_record(noise), tmp_path, sign=sign), x, weight))


@pytest.mark.parametrize(
    "options", [{"shots": 4}, {"weight_scale": "tile"}, {"analog_gain": 4.0}], ids=lambda options: next(iter(options))
)
def test_products_over_options(options: dict[str, Any], tmp_path: Path) -> None:
    """What else a user may choose; one input sets the scale, so that the others fit the gain."""
    x = 0.1 * randn(1, 5, 40)
    x[0, 0, 0] = 1.0
    _assert_equal(_compared(_pair(_record(ALONE), tmp_path, **options), x, randn(1, 20, 40, seed=1)))


@pytest.mark.parametrize("shape", [(3, 10, 17), (2, 33, 5), (1, 1, 1)], ids=str)
def test_products_over_shapes(shape: tuple[int, int, int], tmp_path: Path) -> None:
    """Groups; a column tile with one input in use; parts of the chip."""
    g, m, n = shape
    pair = _pair(_record(ALONE), tmp_path)
    found = _compared(pair, randn(g, 20, n), randn(g, m, n, seed=1))
    assert found.mean == pytest.approx(1.0, abs=0.55 if m == 1 else 0.2), found
    assert found.variance == pytest.approx(1.0, abs=0.06 if m == 1 else 0.03), found


@pytest.mark.parametrize("signed", [False, True])
def test_products_with_linear_inputs(signed: bool, tmp_path: Path) -> None:
    """Inputs that carry their sign, or do not."""
    transfer = InputTransfer(shape="linear", code_one=127.0 if signed else 255.0)
    fields: dict[str, Any] = {"response": Response(inputs=transfer, counts_per_d=(512.0,))}
    if signed:
        fields["input_code_range"] = (-127.0, 127.0)
    noise = NoiseModel(thermal=3e-6, converter=2e-6) if signed else ALONE
    _assert_equal(_compared(_pair(_record(noise, **fields), tmp_path), randn(1, 5, 40), randn(1, 20, 40, seed=1)))


@pytest.mark.parametrize("sign", ["time", "space", "offset"])
def test_products_with_measured_adcs(sign: str, tmp_path: Path) -> None:
    """Tile by tile: counts are decoded by each ADC's table, with which results come closer to the product."""
    exact, fast = _pair(_record(ALONE, inl=True), tmp_path, sign=sign)
    x, weight = randn(1, 5, 40), randn(1, 20, 40, seed=1)
    ways: list[str] = []
    fast.site.judge = lambda said: ways.append(said.way)
    _assert_equal(_compared((exact, fast), x, weight))
    assert set(ways) == {"tile by tile"}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(groups: int, signed: bool, tmp_path: Path) -> None:
    """Padding is 0, for which each channel has its own code; so pixels are encoded in their patches."""
    exact, fast = _pair(_record(ALONE), tmp_path)
    x = randn(2, 4, 5, 5) if signed else rand(2, 4, 5, 5)
    weight, geometry = randn(8, 4 // groups, 3, 3, seed=1), ConvGeometry((1, 1), (1, 1), (1, 1), groups)
    ways: list[str] = []
    fast.site.judge = lambda said: ways.append(said.way)
    found = compare(repeats(exact, x, weight, 400, geometry), repeats(fast, x, weight, 400, geometry), 8)
    assert set(ways) == {"all at once"}
    assert found.mean == pytest.approx(1.0, abs=0.15), found
    assert found.variance == pytest.approx(1.0, abs=0.02), found


@pytest.mark.parametrize("sign", ["auto", "time", "space", "offset"])
def test_the_product_is_the_one_that_is_wanted(sign: str, tmp_path: Path) -> None:
    """To the rounding of codes, where the same chip with the nominal encoding is many times further off."""
    record = _record(QUIET.model_copy(update={"thermal": 2e-6}))
    _, fast = _pair(record, tmp_path, sign=sign)
    chip = photonic.twin(record, seed=1)
    nominal = CalibratedBackend(chip, Calibration.from_spec(chip.spec), sign=sign)
    x, weight = (rand(1, 20, 40) if sign == "auto" else randn(1, 20, 40)), randn(1, 20, 40, seed=1)
    truth = (x @ weight.mT).double()
    errors = [
        float((_many(backend, x, weight, 400).mean(0).view(truth.shape) - truth).std()) for backend in (fast, nominal)
    ]
    assert errors[0] < 0.03 * float(truth.std())
    assert errors[1] > 5 * errors[0]


@pytest.mark.parametrize("sign", ["auto", "time", "space", "offset"])
def test_gradients_are_those_of_the_mean_response(sign: str, tmp_path: Path) -> None:
    """Inputs: against finite differences, in a chip without noise and converters. Weights: the inputs, made up for."""
    _, fast = _pair(_record(QUIET, **FLOATING), tmp_path, sign=sign)
    x, weight = randn(1, 3, 20, seed=4).double(), randn(1, 18, 20, seed=1).double()
    x = x.abs() + 0.1 if sign == "auto" else x
    x[0, 0, 0] = 5.0  # sets the scale, and is not moved
    x.requires_grad_()
    weight.requires_grad_()
    photonic.matmul(x, weight, fast, gradient="twin").sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    step, plain = 1e-4, x.detach()
    with torch.no_grad():
        for at in ((0, 1, 2), (0, 2, 19), (0, 1, 17)):
            moved = [plain.clone(), plain.clone()]
            moved[0][at] += step
            moved[1][at] -= step
            found = (fast.matmul(moved[0], weight).sum() - fast.matmul(moved[1], weight).sum()) / (2 * step)
            assert float(x.grad[at]) == pytest.approx(float(found), rel=1e-5)
    torch.testing.assert_close(weight.grad, plain.sum(1, keepdim=True).expand_as(weight), rtol=0, atol=1e-6)


def test_a_twin_that_encodes_nominally_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs or weights by the data sheet."""
    exact, fast = _pair(_record(ALONE), tmp_path)
    x, weight = randn(1, 5, 40), randn(1, 20, 40, seed=1)
    truth = _many(exact, x, weight)
    nominal = Nominal(fast.chip_spec, fast.chip_spec.response)
    monkeypatch.setattr(fast, "_inputs", Inputs(nominal))
    assert compare(truth, _many(fast, x, weight), M).mean > 3


def test_presets_keep_the_nominal_encoding() -> None:
    """One response for all, which their calibration is."""
    fast = photonic.open_backend("twin:typical")
    assert isinstance(fast, TwinBackend)
    assert isinstance(fast._inputs.encoder, Nominal)
