"""Numbers to codes to counts to numbers: every encoding, shape and dtype equals the plain product on an ideal chip."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from photonic.backends.base import Backend, ConvGeometry, Site
from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.chip import Chip, Conditions
from photonic.backends.encoding import Nominal, encode
from photonic.backends.simulated import open_simulated
from photonic.errors import CalibrationError, RangeError, RecordError, SaturationError, ShapeError, SpecError
from photonic.physics.ringbank import RingBankParameters
from photonic.records import BackendSpec, Calibration, ChipSpec, InputTransfer, Response


class UnsignedChip(Chip):
    """An exact chip without signs: weights and light in [0, 1], no converters, whole tiles only."""

    def __init__(self, outputs: int = 6, inputs: int = 5) -> None:
        super().__init__(
            ChipSpec(
                chip_id="unsigned",
                n_outputs=outputs,
                n_inputs=inputs,
                weight_bits=None,
                weight_code_range=(0.0, 1.0),
                input_bits=None,
                input_code_range=(0.0, 1.0),
                adc_bits=None,
                count_range=(-10.0, 10.0),
                response=Response(
                    inputs=InputTransfer(code_one=1.0), weight_code_one=1.0, counts_per_d=(2.0,), zero_count=(0.25,)
                ),
            )
        )

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
        rows, columns, _ = weights.shape
        tiles = weights.reshape(rows, columns, self.spec.n_outputs, self.spec.n_inputs)
        return 0.25 + 2.0 * torch.einsum("rcmn,cbn->rcbm", tiles, inputs) / self.spec.n_inputs


def _operands(shape: tuple[int, int, int, int], seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    groups, b, n, m = shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(groups, b, n, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randn(groups, m, n, generator=generator, dtype=torch.float64).to(dtype)


def _assert_product(backend: Backend, x: Tensor, weight: Tensor, relative: float) -> None:
    exact = x.double() @ weight.double().mT
    error = (backend.matmul(x, weight).double() - exact).norm() / exact.norm()
    assert error.item() <= relative


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=30, deadline=None)
@given(
    SHAPES, st.sampled_from(["auto", "time", "space", "offset"]), st.sampled_from(["row", "tile"]), st.integers(0, 9)
)
def test_ideal_equals_matmul_for_every_shape_and_encoding(
    shape: tuple[int, int, int, int], sign: str, weight_scale: str, seed: int
) -> None:
    """float64 to 1e-12, converters off, whatever the signs, the tiles and the groups are."""
    chip = open_simulated("ideal", n_outputs=7, n_inputs=11)
    _assert_product(CalibratedBackend(chip, sign=sign, weight_scale=weight_scale), *_operands(shape, seed), 1e-12)


@settings(max_examples=20, deadline=None)
@given(SHAPES, st.sampled_from(["auto", "space", "offset"]), st.integers(0, 9))
def test_a_chip_without_signs_multiplies_signed_matrices(
    shape: tuple[int, int, int, int], sign: str, seed: int
) -> None:
    """Weights differential in space, inputs by any encoding, with a zero count to take off."""
    _assert_product(CalibratedBackend(UnsignedChip(), sign=sign), *_operands(shape, seed), 1e-12)


@pytest.mark.parametrize(
    ("dtype", "relative"),
    [(torch.float16, 1e-3), (torch.bfloat16, 8e-3), (torch.float32, 1e-5), (torch.float64, 1e-12)],
)
def test_every_float_dtype_comes_back_as_it_went_in(dtype: torch.dtype, relative: float) -> None:
    """Half precisions cost their own rounding of the result, nothing more."""
    backend = CalibratedBackend(open_simulated("ideal"))
    x, weight = _operands((2, 9, 100, 70), 3, dtype)
    assert backend.matmul(x, weight).dtype == dtype
    _assert_product(backend, x, weight, relative)


def test_expanded_and_strided_operands_are_read_as_they_are() -> None:
    """Neither broadcasting nor transposing the operands changes the product."""
    backend = CalibratedBackend(open_simulated("ideal"))
    x, weight = _operands((1, 6, 20, 30), 1)
    _assert_product(backend, x.expand(4, -1, -1), weight.expand(4, -1, -1), 1e-12)
    _assert_product(backend, x.mT.contiguous().mT, weight[:, ::2], 1e-12)


@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (2, 4, 0, 3), (2, 4, 5, 0), (0, 4, 5, 3)])
def test_empty_products_need_no_chip(shape: tuple[int, int, int, int]) -> None:
    """Shapes and zeros as torch gives them, and not one call."""
    backend = CalibratedBackend(open_simulated("typical"))
    x, weight = _operands(shape, 0)
    torch.testing.assert_close(backend.matmul(x, weight), x @ weight.mT)
    assert backend.chip.usage.calls == 0


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [((1, 1), (0, 0), (1, 1)), ((2, 1), (1, 2), (1, 2))])
def test_convolution_equals_torch_s(
    groups: int, stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    """Grouped and depthwise ones in one call of the chip."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 10, 9, generator=generator, dtype=torch.float64)
    weight = torch.randn(12, 6 // groups, 3, 2, generator=generator, dtype=torch.float64)
    backend = CalibratedBackend(open_simulated("ideal", n_outputs=8, n_inputs=8))
    y = backend.convolve(x, weight, ConvGeometry(stride, padding, dilation, groups))
    exact = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    torch.testing.assert_close(y, exact, rtol=1e-12, atol=1e-12)
    assert backend.site.usage.calls == 1


def test_one_sided_inputs_cost_one_shot_and_signed_ones_two() -> None:
    """shots = row tiles x column tiles x inputs x signs, one call, every tile programmed once."""
    backend = CalibratedBackend(open_simulated("typical"))
    x, weight = _operands((1, 10, 130, 70), 0, torch.float32)
    backend.matmul(x.abs(), weight)
    assert backend.site.usage.shots == 2 * 3 * 10
    assert backend.site.usage.tiles_programmed == 6
    backend.matmul(x, weight)
    assert backend.site.usage.shots == 2 * 3 * 10 * 3
    assert backend.site.usage.calls == 2


def test_a_long_batch_is_split_and_its_range_is_not() -> None:
    """Counts of a call stay under the chip's limit; the result is that of one call."""
    quiet = {"shot_noise": False, "thermal_noise_a_per_rthz": 0.0, "rin_db_per_hz": None}
    x, weight = _operands((2, 37, 100, 70), 0, torch.float32)
    x[:, -1] *= 5  # the largest value is in the last block
    whole = CalibratedBackend(open_simulated("typical", **quiet))
    split = CalibratedBackend(open_simulated("typical", max_counts_bytes=20_000, **quiet))
    torch.testing.assert_close(split.matmul(x, weight), whole.matmul(x, weight))
    assert split.site.usage.calls == 5
    images = torch.rand(7, 4, 12, 12)
    kernel, geometry = torch.randn(8, 4, 3, 3), ConvGeometry((1, 1), (1, 1), (1, 1), 1)
    torch.testing.assert_close(split.convolve(images, kernel, geometry), whole.convolve(images, kernel, geometry))


def test_averaging_shots_lowers_the_noise_as_one_over_root_n() -> None:
    """16 shots: a quarter of the standard deviation, to 5 standard errors of the ratio."""
    x, weight = torch.full((1, 2000, 64), 0.5), torch.randn(1, 8, 64, generator=torch.Generator().manual_seed(1))

    def deviation(shots: int) -> float:
        # fine codes and a fine ADC: only the noise is left
        chip = open_simulated("typical", seed=3, adc_bits=14, adc_full_scale=2.0)
        return CalibratedBackend(chip, shots=shots).matmul(x, weight).std(dim=1).mean().item()

    ratio = deviation(1) / deviation(16)
    assert ratio == pytest.approx(4.0, rel=5 / math.sqrt(2 * 2000))


def test_offset_encoding_doubles_the_noise_of_one_shot() -> None:
    """DESIGN 5: one shot instead of two, twice the standard deviation of a one-sided shot."""
    weight = torch.randn(1, 8, 64, generator=torch.Generator().manual_seed(1))
    fields = {"seed": 3, "adc_bits": 14, "adc_full_scale": 2.0, "shot_noise": False, "rin_db_per_hz": None}

    def deviation(x: Tensor) -> float:
        backend = CalibratedBackend(open_simulated("typical", **fields), sign="offset")
        return backend.matmul(x, weight).std(dim=1).mean().item()

    one_sided = torch.full((1, 4000, 64), 0.5)
    one_sided[:, :, 0] = 1.0
    signed = one_sided.clone()
    signed[:, :, 0] = -1.0
    assert deviation(signed) / deviation(one_sided) == pytest.approx(2.0, rel=5 / math.sqrt(4000))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["x", "weight"])
def test_what_is_not_finite_is_refused_and_nothing_is_measured(bad: float, where: str) -> None:
    """The message names the layer and which operand it was."""
    backend = CalibratedBackend(open_simulated("typical")).bind(Site("features.3"))
    x, weight = _operands((1, 4, 5, 6), 0, torch.float32)
    (x if where == "x" else weight)[0, 1, 2] = bad
    with pytest.raises(RangeError, match=f"{'input' if where == 'x' else 'weight'} of layer features.3"):
        backend.matmul(x, weight)
    assert backend.chip.usage.calls == 0


def test_zeros_are_exact_and_take_no_noise() -> None:
    """An input of zeros, a weight of zeros, and a row of zeros in one tile among others."""
    backend = CalibratedBackend(open_simulated("typical"))
    x, weight = _operands((1, 4, 70, 6), 0)
    assert backend.matmul(torch.zeros_like(x), weight).abs().max().item() == 0.0
    assert backend.matmul(x, torch.zeros_like(weight)).abs().max().item() == 0.0
    weight[:, 2] = 0
    y = backend.matmul(x, weight)
    assert y[..., 2].abs().max().item() == 0.0
    assert y[..., 1].abs().min().item() > 0.0


def test_noise_shrinks_with_the_weights_also_beside_rows_of_zeros() -> None:
    """Small weights of one sign leave the other half of a differential pair empty: it must not be read at scale 1."""
    x, weight = _operands((1, 50, 20, 6), 0)
    small = weight.abs() * 1e-6
    _assert_product(CalibratedBackend(UnsignedChip()), x, small, 1e-12)
    noisy = CalibratedBackend(open_simulated("typical"))
    exact = x @ small.mT
    assert ((noisy.matmul(x, small) - exact).norm() / exact.norm()).item() < 0.3


def test_a_static_range_scales_and_refuses_what_exceeds_it() -> None:
    """The site's range is used instead of the batch's maximum; what is beyond must have been clamped."""
    backend = CalibratedBackend(open_simulated("ideal")).bind(Site("fc", torch.tensor(4.0)))
    x, weight = _operands((1, 4, 20, 6), 0)
    _assert_product(backend, x.clamp(-4, 4), weight, 1e-12)
    with pytest.raises(RangeError, match="layer fc: inputs reach 5"):
        backend.matmul(torch.full_like(x, 5.0), weight)


def test_the_nominal_calibration_misses_the_hidden_spread_only() -> None:
    """A typical device with nominal calibration errs by a few percent; without its spread by the converters only.

    Leakage between channels, which the nominal response does not know either, is off.
    """
    x = torch.rand(1, 500, 64, generator=torch.Generator().manual_seed(2))
    weight = _operands((1, 1, 64, 32), 5)[1].float()
    exact = x @ weight.mT

    def error(**fields: float) -> float:
        chip = open_simulated("typical", channel_leakage=False, **fields)
        y = CalibratedBackend(chip, shots=64).matmul(x, weight)
        return ((y - exact).norm() / exact.norm()).item()

    spread = [name for name in RingBankParameters.model_fields if "spread" in name]
    assert error() > 3 * error(**dict.fromkeys(spread, 0.0))


def test_another_chip_s_calibration_is_refused() -> None:
    """Records belong to one chip."""
    other = Calibration.from_spec(open_simulated("typical", device=1).spec)
    with pytest.raises(CalibrationError, match=r"belongs to sim:typical\?device=1, the chip is sim:typical\?device=2"):
        CalibratedBackend(open_simulated("typical", device=2), other)


@pytest.mark.parametrize(
    "options", [{"sign": "both"}, {"shots": 0}, {"shots": 1.5}, {"weight_scale": "column"}, {"analog_gain": 3.0}]
)
def test_options_that_do_not_exist_are_refused(options: dict[str, object]) -> None:
    """A setting that cannot be honoured raises at opening."""
    with pytest.raises(SpecError):
        CalibratedBackend(open_simulated("typical"), **options)  # type: ignore[arg-type]


def test_analog_gain_is_undone_after_the_adc() -> None:
    """With a gain of 4 and room in the ADC, the product is the same, with finer quantisation."""
    quiet = {"shot_noise": False, "thermal_noise_a_per_rthz": 0.0, "rin_db_per_hz": None, "adc_full_scale": 2.0}
    spread = {"gain_spread": 0.0, "offset_spread_lsb": 0.0, "channel_spread": 0.0, "resonance_spread_nm": 0.0}
    x, weight = torch.rand(1, 200, 64), torch.randn(1, 16, 64)
    exact = x @ weight.mT

    def error(gain: float | None) -> float:
        chip = open_simulated("typical", channel_leakage=False, **quiet, **spread)
        y = CalibratedBackend(chip, analog_gain=gain).matmul(x, weight)
        return (y - exact).norm().item()

    assert error(4.0) < 0.6 * error(None)


def test_counts_that_the_chip_keeps_are_not_written_to() -> None:
    """A replayed chip gives its stored counts again and again."""

    class Replayed(UnsignedChip):
        stored: Tensor | None = None

        def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
            if self.stored is None:
                self.stored = super()._measure(weights, inputs, conditions)
            return self.stored

    backend = CalibratedBackend(Replayed())
    x, weight = _operands((2, 4, 12, 9), 0)
    first = backend.matmul(x, weight)
    assert torch.equal(backend.matmul(x, weight), first)


def test_no_call_of_a_convolution_exceeds_the_chip_s_limit() -> None:
    """One large image is cut into rows as well."""
    limit = 40_000
    sizes = []

    class Watched(UnsignedChip):
        def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
            counts = super()._measure(weights, inputs, conditions)
            sizes.append(counts.numel() * counts.element_size())
            return counts

    chip = Watched()
    chip.spec = chip.spec.model_copy(update={"max_counts_bytes": limit})
    images, kernel = torch.rand(2, 3, 20, 20), torch.randn(4, 3, 3, 3)
    y = CalibratedBackend(chip).convolve(images, kernel, ConvGeometry((1, 1), (1, 1), (1, 1), 1))
    torch.testing.assert_close(y, torch.nn.functional.conv2d(images, kernel, padding=1), rtol=1e-5, atol=1e-5)
    assert len(sizes) > 2
    assert max(sizes) <= limit


@pytest.mark.parametrize("wrong", ["shape", "dtype"])
def test_a_backend_s_result_is_checked(wrong: str) -> None:
    """A third party's transposed or widened result is refused, not reshaped."""

    class Wrong(Backend):
        def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
            y = x @ weight.mT
            return y.mT.contiguous() if wrong == "shape" else y.double()

    with pytest.raises(ShapeError, match=r"backend wrong must give \(1, 2, 4\) of torch\.float32"):
        Wrong(BackendSpec(name="wrong")).matmul(torch.ones(1, 2, 3), torch.ones(1, 4, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Response(counts_per_d=(0.0,)), "counts_per_d must not be 0"),
        (lambda: InputTransfer(code_zero=1.0, code_one=1.0), "code_one must differ"),
        (lambda: InputTransfer(shape="linear", extinction_ratio_db=10.0), "belongs to shape 'mzm'"),
    ],
)
def test_responses_that_cannot_be_decoded_are_refused(make: Callable[[], object], message: str) -> None:
    """At construction, by field."""
    with pytest.raises(RecordError, match=message):
        make()


def test_a_call_that_ends_at_the_rails_is_counted_for_its_layer() -> None:
    """The chip spent it, so the layer did; the error says which layer."""
    backend = CalibratedBackend(open_simulated("typical", max_saturated_fraction=0.1)).bind(Site("fc"))
    with pytest.raises(SaturationError) as caught:
        backend.matmul(torch.ones(1, 4, 64), torch.ones(1, 64, 64))
    assert caught.value.__notes__ == ["in layer fc"]
    assert backend.site.usage.calls == 1
    assert backend.site.usage.saturated_fraction == 1.0


@pytest.mark.parametrize("size", [16, 128])
def test_codes_without_converters_stay_in_their_range(size: int) -> None:
    """The largest weight of a row has the last code, to the last digit; in float32 it may round beyond."""
    spec = ChipSpec(
        chip_id="continuous", n_outputs=16, n_inputs=16, weight_bits=None, input_bits=None, adc_bits=None,
        count_range=(-1e30, 1e30), response=Response(counts_per_d=(512.0,)),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        weight = torch.randn(1, size, size, generator=generator)
        codes = encode(weight, Nominal(spec, spec.response), True).codes
        assert codes.dtype == torch.float64
        assert float(codes.abs().max()) == 127.0
