"""The study's networks: sizes as published, any depth, plain on any backend, noise where the study has it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import photonic
from photonic.errors import SpecError
from photonic.models.activations import study_activation
from photonic.models.networks import STUDY_NETWORKS, add_study_noise, build_model, build_study_network
from photonic.models.studynoise import NoiseModel
from photonic.physics.codes import MidTread

CIFAR = (3, 32, 32)
# images that the smallest variant of each network takes, and its depths
SMALL = {
    "convnet": ((1, 12, 12), {"n_conv": 2, "n_linear": 2}),
    "linear": ((1, 8, 8), {"n_linear": 2}),
    "resnet18": ((3, 32, 32), {}),
    "vit": ((3, 8, 8), {"depth": 1}),
}


def _count(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _small(name, activation="gelu"):
    shape, depths = SMALL[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_study_network(name, shape, 4, activation, **depths)
    return network.eval(), torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "n_classes", "options", "expected"),
    [
        ("convnet", 10, {}, 1_172_410),
        ("convnet", 100, {}, 1_195_540),
        ("convnet", 10, {"n_conv": 0, "n_linear": 3}, 1_707_274),
        ("linear", 10, {}, 1_707_274),
        ("vgg_a", 100, {}, 129_176_036),
        ("vit", 10, {}, 6_370_826),
    ],
)
def test_parameter_counts_are_the_study_s(name, n_classes, options, expected):
    """Exactly, on the meta device: nothing is allocated."""
    with torch.device("meta"):
        assert _count(build_study_network(name, CIFAR, n_classes, **options)) == expected


def test_resnet18_has_the_size_of_torchvision_s():
    """The study gives no figure; it is the usual network."""
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        theirs = torchvision.models.resnet18(num_classes=100)
        ours = build_study_network("resnet18", (3, 224, 224), 100)
    assert _count(ours) == _count(theirs)
    assert [tuple(p.shape) for p in ours.parameters()] == [tuple(p.shape) for p in theirs.parameters()]


@pytest.mark.parametrize("n_conv", range(7))
@pytest.mark.parametrize("n_linear", [1, 2, 3])
def test_any_depth_is_built_and_is_what_was_asked_for(n_conv, n_linear):
    """The first convolutions and the last linear layers."""
    with torch.device("meta"):
        network = build_study_network("convnet", CIFAR, 10, n_conv=n_conv, n_linear=n_linear)
        assert network(torch.empty(2, *CIFAR)).shape == (2, 10)
    kinds = [type(module) for module in network]
    assert kinds.count(nn.Conv2d) == n_conv
    assert kinds.count(nn.Linear) == n_linear
    assert kinds.count(nn.GELU) == n_conv + n_linear - 1
    assert kinds.count(nn.MaxPool2d) == n_conv // 2
    assert [layer.out_features for layer in network if isinstance(layer, nn.Linear)] == [512, 256, 10][3 - n_linear :]


def test_dropout_is_where_the_study_has_it():
    """0.25 before convolutions 3 and 5, 0.5 after the hidden linear layers."""
    with torch.device("meta"):
        network = build_study_network("convnet", CIFAR, 10)
    kinds = [
        f"{type(m).__name__}{getattr(m, 'p', '')}" for m in network if isinstance(m, nn.Conv2d | nn.Dropout | nn.Linear)
    ]
    conv, drop, linear = ["Conv2d"] * 2, ["Dropout0.25"], ["Linear", "Dropout0.5"]
    assert kinds == conv + drop + conv + drop + conv + linear + linear + ["Linear"]


@pytest.mark.parametrize("name", SMALL)
def test_activations_are_the_ones_asked_for(name):
    """By name or by factory; no other is left."""
    network, x = _small(name, lambda: study_activation("silu", interpolation=0.5))
    assert network(x).shape == (2, 4)
    assert not any(isinstance(module, nn.ReLU | nn.GELU | nn.SiLU) for module in network.modules())


def test_a_gated_activation_halves_the_mlp_of_the_vit_and_fits_nowhere_else():
    """GeGLU."""
    network, x = _small("vit", lambda: study_activation("gelu", gated=True))
    assert network(x).shape == (2, 4)
    assert _count(_small("vit")[0]) - _count(network) == 256 * 512
    with pytest.raises(SpecError, match="only the MLPs of vit"):
        build_study_network("convnet", CIFAR, 10, lambda: study_activation("gelu", gated=True))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("backend", ["sim", "twin", "sim:ideal"])
def test_networks_run_unchanged_on_chips_and_twins(name, backend):
    """One line; on an ideal chip with the same result; every layer is called."""
    network, x = _small(name)
    exact = network(x).detach()
    photonic.convert_(network, photonic.open_backend(backend, seed=0))
    # a small image leaves some layers almost no light, which a twin would refuse to average
    y = network(x)
    assert y.shape == exact.shape
    assert bool(y.isfinite().all())
    assert all(route.usage.calls >= 1 for route in photonic.routes(network))
    if backend == "sim:ideal":
        torch.testing.assert_close(y, exact, rtol=1e-3, atol=1e-4)
    else:
        assert not torch.equal(y, exact)
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def _noisy(name):
    network, x = _small(name)
    add_study_noise(network, name, NoiseModel.of(MidTread(64), ep=0.5))
    return network, x


@pytest.mark.parametrize("name", SMALL)
def test_networks_run_with_the_study_s_noise(name):
    """Forward and backward; no two passes are equal."""
    network, x = _noisy(name)
    y = network(x)
    assert not torch.equal(y, network(x))
    y.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


def test_each_network_has_the_noise_where_the_study_has_it():
    """doa before, aod after, weights; shortcuts of the residual network; the input of the transformer alone."""
    places = {}
    for name in SMALL:
        network, _ = _noisy(name)
        layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        before = {len(m._forward_pre_hooks) for m in layers}
        after = {len(m._forward_hooks) for m in layers}
        weights = {parametrize.is_parametrized(m, "weight") for m in layers}
        biases = {parametrize.is_parametrized(m, "bias") for m in layers if m.bias is not None}
        shortcuts = sum(len(m._forward_pre_hooks) for m in network.modules() if isinstance(m, nn.Identity))
        assert not any(parametrize.is_parametrized(m) for m in norms)
        places[name] = before, after, weights, biases, shortcuts, len(network._forward_pre_hooks)
    everywhere = {1}, {1}, {True}, {True}, 0, 0
    assert places["convnet"] == places["linear"] == everywhere
    assert places["resnet18"] == ({1}, {0}, {True}, {True}, 5, 0)
    assert places["vit"] == ({0}, {0}, {False}, {False}, 0, 1)


def test_the_study_s_networks_have_names_for_photonic_train():
    """With a prefix: torchvision's resnet18 and our convnet are others."""
    for name in STUDY_NETWORKS:
        with torch.device("meta"):
            model = build_model(f"study_{name}", CIFAR, 10, "silu")
        assert any(isinstance(module, nn.SiLU) for module in model.modules())


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("convnets", CIFAR, {}, "did you mean convnet"),
        ("convnet", CIFAR, {"n_conv": 7}, "0 to 6 convolutions"),
        ("convnet", (1, 8, 8), {}, "end before convolution 4"),
        ("linear", CIFAR, {"n_conv": 2}, "takes no n_conv"),
        ("vgg_a", (1, 28, 28), {}, "at least 32 x 32"),
        ("vit", (1, 30, 32), {}, "multiples of 4"),
        ("vit", CIFAR, {"depth": 0}, "at least one block"),
    ],
)
def test_networks_that_cannot_be_are_refused(name, shape, options, message):
    """Before anything is trained."""
    with pytest.raises(SpecError, match=message), torch.device("meta"):
        build_study_network(name, shape, 10, **options)


def test_networks_can_be_copied_before_and_after_conversion():
    """A control beside the photonic model."""
    network, x = _small("vit")
    assert torch.equal(copy.deepcopy(network)(x), network(x))
