"""torchvision's models convert, run and train, and equal their unconverted selves on an ideal chip."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import pytest
import torch
from exact_backend import ExactBackend
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import photonic
from photonic.errors import ConversionError

torchvision = pytest.importorskip("torchvision")

# image size and batch, as small as the network takes
SIZES = {"resnet18": (64, 2), "mobilenet_v3_small": (64, 2), "swin_t": (64, 2), "swin_v2_t": (64, 1)}
SIZES |= {"vgg11": (32, 2), "vit_b_16": (224, 1)}
SLOW = "vgg11", "vit_b_16", "swin_t", "swin_v2_t"
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SIZES]
# no draws in training: the two models are compared
STILL = {"vgg11": {"dropout": 0.0}, "mobilenet_v3_small": {"dropout": 0.0}}


def _model(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None, num_classes=10, **STILL.get(name, {}))
    for module in model.modules():
        if isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.0
    return model


def _images(name: str) -> Tensor:
    size, batch = SIZES[name]
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def _gradients(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    y = model(x)
    y.square().sum().backward()
    return y.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NAMES)
def test_models_equal_their_unconverted_selves_on_an_ideal_chip(name: str) -> None:
    """Eval and train, forward and backward; no product of a converted layer goes past the chip."""
    theirs = _model(name)
    ours = photonic.convert_(copy.deepcopy(theirs), photonic.open_backend("sim:ideal"))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x = _images(name)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-3, atol=1e-4)
    once = {row.name: row.usage.calls for row in photonic.routes(ours) if row.tiles is not None}
    assert len(once) == sum(row.reason == "" for row in photonic.routes(ours))
    assert min(once.values()) >= 1
    (y, mine), (expected, grads) = _gradients(ours.train(), x), _gradients(theirs.train(), x)
    torch.testing.assert_close(y, expected, rtol=1e-2, atol=1e-3)
    assert mine.keys() == grads.keys()
    for key, grad in grads.items():
        assert float((mine[key] - grad).norm()) <= 2e-2 * float(grad.norm()) + 1e-4, key


@pytest.mark.parametrize("name", ["resnet18", pytest.param("swin_t", marks=pytest.mark.slow)])
def test_models_train_on_the_typical_chip(name: str) -> None:
    """Outputs and gradients are finite, noisy, and not the exact ones."""
    theirs = _model(name)
    ours = photonic.convert_(copy.deepcopy(theirs), photonic.open_backend("sim"))
    x = _images(name)
    y, grads = _gradients(ours.train(), x)
    assert not torch.allclose(y, theirs.train()(x), rtol=1e-3)
    assert all(bool(grad.isfinite().all()) for grad in grads.values())
    assert all(row.usage.calls >= 1 for row in photonic.routes(ours) if row.tiles is not None)


def test_grouped_convolutions_are_one_call() -> None:
    """A depthwise convolution of mobilenet is one call of the backend, not one for each group."""
    model = photonic.convert_(_model("mobilenet_v3_small").eval(), ExactBackend())
    with torch.no_grad():
        model(_images("mobilenet_v3_small"))
    assert Counter(row.usage.calls for row in photonic.routes(model)).keys() == {1}


@pytest.mark.parametrize("name", ["swin_t", pytest.param("swin_v2_t", marks=pytest.mark.slow)])
@pytest.mark.parametrize("globs", ["*.qkv", "*.proj", "features.1.0.attn.*"])
def test_window_attention_calls_its_children(name: str, globs: str) -> None:
    """torchvision multiplies with their weights; converted, one or both, they are called, once each."""
    theirs = _model(name).eval()
    ours = photonic.convert_(copy.deepcopy(theirs), {globs: ExactBackend()})
    x = _images(name)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-3, atol=1e-5)
    assert {row.usage.calls for row in photonic.routes(ours) if row.backend == "exact"} == {1}


def test_window_attention_survives_copy_pickle_and_unconvert() -> None:
    """Its class is made at run time: pickle makes it again, unconvert_ gives torchvision's back."""
    kind = torchvision.models.swin_transformer.ShiftedWindowAttention
    theirs = kind(8, [2, 2], [1, 1], 2)
    ours = photonic.convert_(copy.deepcopy(theirs), ExactBackend())
    x = torch.randn(1, 4, 4, 8, generator=torch.Generator().manual_seed(1))
    expected = theirs(x)
    loaded = photonic.attach(pickle.loads(pickle.dumps(ours)), ExactBackend())
    for module in (ours, copy.deepcopy(ours), loaded):
        torch.testing.assert_close(module(x), expected)
        assert {row.usage.calls for row in photonic.routes(module)} == {1}
        assert isinstance(module, kind)
        assert type(photonic.unconvert_(module)) is kind
        torch.testing.assert_close(module(x), expected)


def test_window_attention_with_a_parametrized_projection() -> None:
    """The weight is made anew at each reading; the layer is recognised all the same."""
    theirs = torchvision.models.swin_transformer.ShiftedWindowAttention(8, [2, 2], [0, 0], 2).eval()
    parametrizations.weight_norm(theirs.qkv)
    ours = photonic.convert_(copy.deepcopy(theirs), ExactBackend())
    x = torch.randn(1, 4, 4, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x))
    assert {row.usage.calls for row in photonic.routes(ours)} == {1}


def test_a_model_with_three_dimensional_convolutions_says_so() -> None:
    """Conv3d is listed as digital with its reason; a glob that names one raises."""
    model = torchvision.models.video.r3d_18(weights=None)
    photonic.convert_(model, ExactBackend())
    rows = {row.name: row for row in photonic.routes(model)}
    assert rows["fc"].backend == "exact"
    assert "three spatial dimensions" in rows["stem.0"].reason
    with pytest.raises(ConversionError, match=r"names 'stem.0', which must stay digital"):
        photonic.convert_(model, {"stem.*": ExactBackend()})


# after a graph break dynamo asks every tensor for its .grad; it hides that warning, but not from "error"
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_converted_swin_compiles() -> None:
    """With graph breaks, and the same result; window attention holds a context that no graph may break."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.SwinTransformer([2, 2], 8, [2], [2], [2, 2], num_classes=3).eval()
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = model(x)
    photonic.convert_(model, ExactBackend())
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), expected)
    assert min(row.usage.calls for row in photonic.routes(model)) >= 1
