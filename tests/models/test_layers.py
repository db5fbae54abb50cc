"""Layers: torch's own, with another product."""

from __future__ import annotations

import copy

import pytest
import torch
from exact_backend import ExactBackend
from torch import Tensor, nn

import photonic
from photonic.backends.digital import DigitalBackend
from photonic.errors import ConversionError, RangeError, ShapeError
from photonic.models.layers import PhotonicConv1d, PhotonicConv2d, PhotonicLinear
from photonic.models.ranges import set_input_range

BACKENDS = {"exact": ExactBackend, "digital": DigitalBackend}


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _agrees_with_torch(layer: nn.Module, x: Tensor, backend: photonic.Backend) -> nn.Module:
    """Output and all gradients of a converted copy equal those of the layer; returns the copy."""
    ours = photonic.convert_(copy.deepcopy(layer), backend)
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    outputs = layer(inputs[0]), ours(inputs[1])
    torch.testing.assert_close(outputs[1], outputs[0])
    for y in outputs:
        y.square().sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(ours.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    return ours


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7), (0, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_torch_s(name: str, shape: tuple[int, ...], bias: bool) -> None:
    """Vectors, batches and empty batches, with and without bias."""
    _agrees_with_torch(nn.Linear(7, 5, bias), _random(*shape), BACKENDS[name]())


# of torch's own layer, which the tests compare with
@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [0, 2, "same", "valid"])
@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_conv1d_padding_is_torch_s(name: str, mode: str, padding: int | str, kernel: int, dilation: int) -> None:
    """Every padding mode; "same" with an even reach is one-sided."""
    layer = nn.Conv1d(4, 6, kernel, padding=padding, padding_mode=mode, dilation=dilation)
    _agrees_with_torch(layer, _random(2, 4, 11), BACKENDS[name]())


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [(2, 1), "same", "valid"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv2d_is_torch_s(name: str, mode: str, padding: tuple[int, int] | str, groups: int) -> None:
    """Padding modes, strides, dilations and groups of two unequal dimensions; all groups in one call."""
    stride = 1 if padding == "same" else (2, 1)
    layer = nn.Conv2d(4, 8, (3, 2), stride, padding, (1, 2), groups, padding_mode=mode)
    if padding == "same":
        layer = nn.Conv2d(4, 8, (3, 5), padding="same", dilation=(1, 1), groups=groups, padding_mode=mode)
    ours = _agrees_with_torch(layer, _random(2, 4, 7, 9), BACKENDS[name]())
    assert photonic.routes(ours)[0].usage.calls == 1


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_convolutions_take_unbatched_input(mode: str) -> None:
    """(C, L) and (C, H, W), as in torch."""
    _agrees_with_torch(nn.Conv1d(3, 4, 3, padding=1, padding_mode=mode), _random(3, 8), ExactBackend())
    _agrees_with_torch(nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode), _random(3, 6, 8), ExactBackend())


@pytest.mark.parametrize("shape", [(6, 8), (2, 1, 3, 6, 8), (2, 2, 6, 8)])
def test_convolution_refuses_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    """Wrong dimensions or channels are a ShapeError that names both shapes."""
    with pytest.raises(ShapeError, match=r"expected x \(B, C_in, \*size\)"):
        PhotonicConv2d(3, 4, 3, backend=ExactBackend())(_random(*shape))


def test_layers_are_made_directly() -> None:
    """A layer takes torch's arguments and a backend, initialises as torch does, and names its backend."""
    for ours, torchs, args, x in (
        (PhotonicLinear, nn.Linear, (4, 3, False), _random(2, 4)),
        (PhotonicConv1d, nn.Conv1d, (4, 3, 2), _random(2, 4, 5)),
        (PhotonicConv2d, nn.Conv2d, (4, 3, 2), _random(2, 4, 5, 5)),
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            mine = ours(*args, backend=ExactBackend(), dtype=torch.float64)
            torch.manual_seed(3)
            theirs = torchs(*args, dtype=torch.float64)
        torch.testing.assert_close(mine(x.double()), theirs(x.double()))
        assert "backend=exact" in repr(mine)
        assert type(photonic.unconvert_(mine)) is torchs


def test_layers_share_a_backend_and_count_apart() -> None:
    """Each layer has its own view: its own counters, the same chip."""
    backend = photonic.open_backend("sim:ideal")
    model = nn.Sequential(PhotonicLinear(4, 3, backend=backend), PhotonicLinear(3, 2, backend=backend))
    model(_random(2, 4))
    model[0](_random(2, 4))
    assert [row.usage.calls for row in photonic.routes(model)] == [2, 1]
    assert backend.chip.usage.calls == 3


@pytest.mark.parametrize("learned", [False, True])
def test_input_range_clamps_and_counts(learned: bool) -> None:
    """Inputs are taken in [-r, r], both ends included; the route says how many were beyond."""
    layer = PhotonicLinear(4, 2, backend=photonic.open_backend("sim:ideal"))
    set_input_range(layer, 1.0, learned=learned)
    x = torch.tensor([[-3.0, -1.0, 0.5, 2.0]])
    torch.testing.assert_close(layer(x), nn.functional.linear(x.clamp(-1, 1), layer.weight, layer.bias))
    assert photonic.routes(layer)[0].clipped_fraction == 0.5


def test_input_range_is_the_scale_of_the_chip() -> None:
    """With a static range the codes of a row do not depend on the other rows of the batch."""
    backend = photonic.open_backend("sim:ideal?input_bits=4")
    layer = PhotonicLinear(4, 2, backend=backend)
    one, two = _random(1, 4).clamp(-1, 1), 3 * _random(1, 4, seed=1)
    assert not torch.equal(layer(torch.cat([one, two]))[0], layer(one)[0])
    set_input_range(layer, 4.0)
    torch.testing.assert_close(layer(torch.cat([one, two]))[0], layer(one)[0])
    set_input_range(layer, None)
    assert not torch.equal(layer(torch.cat([one, two]))[0], layer(one)[0])


def test_clamped_inputs_pass_their_gradient_to_a_learned_range() -> None:
    """d clamp(x, -r, r) / dr is the sign of x where it is clamped, and 0 inside; x gets the rest."""
    layer = PhotonicLinear(3, 1, bias=False, backend=ExactBackend())
    set_input_range(layer, 1.0, learned=True)
    x = torch.tensor([[-3.0, 0.5, 2.0]], requires_grad=True)
    layer(x).sum().backward()
    w = layer.weight[0].detach()
    torch.testing.assert_close(layer.input_range.grad, w[2] - w[0])
    torch.testing.assert_close(x.grad, torch.stack([0 * w[0], w[1], 0 * w[2]]).unsqueeze(0))


def test_only_a_learned_range_is_in_the_state_dict() -> None:
    """A static range leaves ``state_dict`` alone; a learned one adds exactly ``<layer>.input_range``."""
    model = photonic.convert_(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), ExactBackend())
    keys = set(model.state_dict())
    set_input_range(model, 2.0)
    assert set(model.state_dict()) == keys
    set_input_range(model, {"2": 2.0}, learned=True)
    assert set(model.state_dict()) == keys | {"2.input_range"}
    photonic.unconvert_(model)
    assert set(model.state_dict()) == keys


def test_ranges_go_by_glob_and_the_last_match_wins() -> None:
    """A glob that matches no converted layer is refused, and then nothing was set."""
    model = photonic.convert_(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), ExactBackend())
    set_input_range(model, {"*": 2.0, "1": None})
    assert model[0].input_range == 2.0
    assert model[1].input_range is None
    with pytest.raises(ConversionError, match=r"'fc' matches no converted layer; the converted layers are: 0, 1"):
        set_input_range(model, {"*": 5.0, "fc": 1.0})
    assert model[0].input_range == 2.0


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_range_must_be_finite_and_positive(value: float) -> None:
    """Refused when it is set, and nothing is changed."""
    layer = PhotonicLinear(4, 2, backend=ExactBackend())
    with pytest.raises(RangeError, match="finite and above 0"):
        set_input_range(layer, value)
    assert layer.input_range is None


def test_a_range_must_be_finite_in_the_layer_s_dtype() -> None:
    """1e6 is infinite in float16."""
    layer = PhotonicLinear(4, 2, backend=ExactBackend(), dtype=torch.float16)
    with pytest.raises(RangeError, match=r"is inf in the layer's torch.float16"):
        set_input_range(layer, 1e6)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_learned_range_that_strays_is_refused(value: float) -> None:
    """An optimiser can push a range to 0 or below: the forward raises instead of answering a constant."""
    layer = PhotonicLinear(4, 2, backend=ExactBackend())
    set_input_range(layer, 1.0, learned=True)
    with torch.no_grad():
        layer.input_range.fill_(value)
    with pytest.raises(RangeError, match="must be finite and above 0"):
        layer(_random(2, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_range_is_rounded_with_its_input(dtype: torch.dtype) -> None:
    """1.0051 is more in bfloat16: half-precision activations of a float32 layer stay inside what the chip is told."""
    layer = PhotonicLinear(4, 2, backend=photonic.open_backend("sim:ideal"))
    set_input_range(layer, 1.0051)
    with torch.autocast("cpu", dtype=dtype):
        assert layer(torch.full((1, 4), 3.0, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
def test_a_range_does_not_hide_what_is_not_finite(bad: float) -> None:
    """Clamping would turn infinity into a number; it is refused before."""
    layer = PhotonicLinear(4, 2, backend=ExactBackend())
    set_input_range(layer, 1.0)
    with pytest.raises(RangeError, match="NaN or infinite"):
        layer(torch.tensor([[bad, 0.0, 0.0, 0.0]]))


def test_a_gradient_that_is_not_offered_is_refused_at_construction() -> None:
    """Not at the first forward."""
    with pytest.raises(photonic.PhotonicError, match="offers the gradients ideal"):
        PhotonicLinear(4, 2, backend=ExactBackend(), gradient="zzz")
