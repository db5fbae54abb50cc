"""The twin's native convolution against light that is computed channel by channel, on unfolded patches."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

import photonic
from photonic.backends.base import ConvGeometry, unfold
from photonic.backends.plans import Plan, plain, plan_product
from photonic.backends.twin import TwinBackend, convolution, prepared
from photonic.backends.twin.convolution import sample
from photonic.backends.twin.inputs import InputCodes
from photonic.backends.twin.light import Light
from photonic.backends.twin.prepared import Prepared

TOLERANCE = 3e-4  # of a level
GEOMETRIES = [
    ((3, 9), (3, 3), ConvGeometry((1, 1), (1, 1), (1, 1), 1)),
    ((12, 8), (3, 2), ConvGeometry((2, 3), (2, 1), (2, 1), 2)),
    ((80,), (2,), ConvGeometry((1,), (1,), (1,), 1)),
]


def images_of(two: bool, channels: int, size: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(3, channels, *size, generator=generator)
    return x - 0.5 if two else x


class Case:
    """One convolution, both ways, without its noise."""

    def __init__(self, spec: str, two: bool, shape: tuple[tuple[int, ...], tuple[int, ...], ConvGeometry]) -> None:
        (channels, *size), self.kernel, self.geometry = shape
        size = size or [11]
        if len(self.kernel) == 2 and len(size) == 1:
            size = [size[0], 10]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", photonic.NominalCalibrationWarning)
            backend = photonic.open_backend(spec, seed=0)
        assert isinstance(backend, TwinBackend)
        self.backend, g = backend, self.geometry.groups
        self.x = images_of(two, channels, tuple(size))
        weight = torch.randn(24, channels // g, *self.kernel, generator=torch.Generator().manual_seed(2))
        self.patches = unfold(self.x, self.kernel, self.geometry)
        self.plan: Plan = plan_product(self.patches, backend.site, backend.chip_spec, backend.options, torch.float32)
        matrix = plain(weight.reshape(g, 24 // g, -1), torch.float32)
        self.prepared: Prepared = backend._prepare(matrix, self.plan, torch.float32).prepared
        self.two = two

    def native(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (G, B L, M)."""
        inputs, plan, groups = self.backend._inputs, self.plan, self.geometry.groups

        def code(x: Tensor) -> Tensor:
            return inputs.by_value(plan.scaled_images(x, groups), two_sided=self.two)

        common = torch.zeros_like(self.prepared.fixed)
        found = self.backend._native.convolve(self.x, code, self.prepared, plan, self.kernel, self.geometry, common)
        assert found.fixed is not None
        variance = found._variance(slice(None), found.fixed).expand(found.y.shape)
        y = found.y if found.others is None else found.y + found.others
        return self.by_product(y), self.by_product(variance)

    def by_product(self, y: Tensor) -> Tensor:
        flat = y.reshape(len(y), self.geometry.groups, -1, y.shape[2:].numel())
        return flat.permute(1, 0, 3, 2).flatten(1, 2)

    def channel_by_channel(self) -> tuple[Tensor, Tensor]:
        codes = self.backend._inputs.by_value(self.plan.scaled(self.patches), two_sided=self.two)
        light: Light = self.backend._light(InputCodes((codes,), self.two), self.prepared)
        y = light.difference.double().flatten(2) @ self.prepared.matrix.double().flatten(2).mT
        base = 0.0 if self.two else self.prepared.base.double()
        variance = self.prepared.variance(light.total, light.readings).expand(y.shape)
        return (y + base) * self.plan.scale, variance * self.plan.scale**2


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("shape", GEOMETRIES, ids=str)
@pytest.mark.parametrize("spec", ["twin:typical", "twin:crossbar-typical"])
def test_the_mean_is_that_of_every_channel_s_own_curve(
    spec: str,
    shape: tuple[tuple[int, ...], tuple[int, ...], ConvGeometry],
    two: bool,
    half: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with small functions as bfloat16 numbers: an output is off by less than the levels' tolerance allows."""
    monkeypatch.setattr(convolution, "_half_is_fast", lambda: half)
    case = Case(spec, two, shape)
    (y, variance), (expected, other) = case.native(), case.channel_by_channel()
    shots = 2 if two else 1
    reach = case.prepared.matrix.abs().sum((-2, -1)).unsqueeze(1) * (TOLERANCE * shots * case.plan.scale)
    assert bool(((y - expected).abs() <= reach).all())
    # of what the inputs move: rounding of bfloat16 numbers does not add up
    assert float((y - expected).std() / expected.std()) < 1e-3
    # the variance takes what all modulators have in common
    assert float((variance / other - 1).abs().max()) < 0.05
    assert float((variance / other).mean()) == pytest.approx(1.0, abs=0.01)


def test_half_precision_would_be_too_coarse_for_the_first_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tolerance above finds: all functions as bfloat16 numbers miss it."""
    monkeypatch.setattr(convolution, "_half_is_fast", lambda: True)
    case = Case("twin:typical", False, GEOMETRIES[0])
    first = convolution._convolution

    def coarse(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
        return first(x.bfloat16().to(x.dtype), weight.bfloat16().to(x.dtype), bias, geometry)

    monkeypatch.setattr(convolution, "_convolution", coarse)
    (y, _), (expected, _) = case.native(), case.channel_by_channel()
    assert float((y - expected).std() / expected.std()) > 2e-3


@pytest.mark.parametrize(("spread", "half"), [("0.005", True), ("0.08", False)])
def test_modulators_that_differ_much_are_not_rounded(spread: str, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other functions of a chip with a large spread are so large that their rounding would show."""
    monkeypatch.setattr(convolution, "_half_is_fast", lambda: True)
    case = Case(f"twin:typical?v_pi_spread={spread}", False, GEOMETRIES[0])
    lookup = case.backend._native._lookup(case.prepared.cut.n, False, torch.float32, torch.device("cpu"))
    assert (lookup.small == torch.bfloat16) == half
    (y, _), (expected, _) = case.native(), case.channel_by_channel()
    assert float((y - expected).std() / expected.std()) < 1e-3


@pytest.mark.parametrize("two", [False, True])
def test_half_precision_leaves_the_variance(two: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 2^-8, which is a fifth of a per cent of the noise."""
    case = Case("twin:crossbar-typical", two, GEOMETRIES[0])
    found = []
    for half in (True, False):
        monkeypatch.setattr(convolution, "_half_is_fast", lambda half=half: half)
        case.backend._native._lookup.cache_clear()
        found.append(case.native()[1])
    assert not torch.equal(*found)
    assert float((found[0] / found[1] - 1).abs().max()) < 2**-8


@pytest.mark.parametrize(
    ("size", "kernel", "geometry"),
    [
        ((4, 8, 9), (3, 2), ConvGeometry((1, 2), (2, 1), (1, 2), 2)),
        ((3, 6, 6), (3, 3), ConvGeometry((2, 2), (0, 0), (1, 1), 1)),
        ((5, 12), (4,), ConvGeometry((2,), (3,), (2,), 5)),
    ],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_sample_of_patches_is_that_of_unfolding(
    size: tuple[int, ...], kernel: tuple[int, ...], geometry: ConvGeometry, channels_last: bool
) -> None:
    x = torch.rand(3, *size)
    if channels_last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    patches = unfold(x, kernel, geometry)
    assert torch.equal(sample(x, kernel, geometry, patches.shape[1]), patches)
    step = -(-patches.shape[1] // 7)
    assert torch.equal(sample(x, kernel, geometry, 7), patches[:, ::step])


def test_the_variance_of_some_outputs_at_a_time_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("twin:crossbar-typical", False, GEOMETRIES[1])
    light = case.backend._light(
        InputCodes((case.backend._inputs.by_value(case.plan.scaled(case.patches), two_sided=False),)), case.prepared
    )
    whole = case.prepared.variance(light.total, 1)
    monkeypatch.setattr(prepared, "SHOT_ELEMENTS", case.prepared.matrix[:, 0].numel() * 5)
    torch.testing.assert_close(case.prepared.variance(light.total, 1), whole)
    by_hand = (light.total.flatten(2) @ case.prepared.shot_matrix().flatten(2).mT) + case.prepared.fixed
    torch.testing.assert_close(whole, by_hand)
