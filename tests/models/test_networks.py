"""The networks of ``photonic train``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from photonic.errors import PhotonicWarning, SpecError
from photonic.models.activations import ACTIVATIONS
from photonic.models.networks import build_model, convnet, mlp


@pytest.mark.parametrize("name", ["mlp", "convnet"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (4, 5, 7), (1, 1, 1)])
def test_own_networks_take_any_image(name, shape):
    """mlp and convnet give logits for images of any channels and size."""
    model = build_model(name, shape, 7)
    assert model(torch.rand(3, *shape)).shape == (3, 7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("network", [mlp, convnet])
def test_activation_is_the_one_asked_for(network, activation):
    """Every hidden layer is followed by a module of the named activation."""
    kind = type(ACTIVATIONS[activation]())
    found = [module for module in network((1, 8, 8), 10, activation).modules() if isinstance(module, kind)]
    assert len(found) == (2 if network is mlp else 3)


def test_mlp_layer_is_one_tile():
    """On 8 x 8 images no layer of the default network is larger than a 64 x 64 chip."""
    layers = [module for module in mlp((1, 8, 8), 10).modules() if isinstance(module, nn.Linear)]
    assert all(max(layer.weight.shape) <= 64 for layer in layers)


def test_unknown_activation_is_refused():
    """A misspelt activation is refused with its near matches, for every kind of model."""
    for name in ("mlp", "convnet", "resnet18"):
        with pytest.raises(SpecError, match=r"unknown activation 'glu'; did you mean .*gelu"):
            build_model(name, (3, 32, 32), 10, "glu")


class TestTorchvision:
    """Models that are not ours."""

    @pytest.fixture(autouse=True)
    def _needs_torchvision(self):
        pytest.importorskip("torchvision")

    def test_unknown_model_lists_near_matches(self):
        """An unknown name is refused with names that are like it."""
        with pytest.raises(SpecError, match="unknown model 'resnet19'; did you mean resnet18"):
            build_model("resnet19", (3, 32, 32), 10)

    def test_native_size_where_the_model_takes_it(self):
        """resnet18 gets 32 x 32 images as they are: no hook, no warning, torchvision's own keys."""
        model = build_model("resnet18", (3, 32, 32), 10)
        assert not model._forward_pre_hooks
        assert "layer1.0.conv1.weight" in model.state_dict()
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)

    def test_gray_is_repeated(self):
        """One channel is repeated to three, so three equal channels give the same logits."""
        model = build_model("resnet18", (1, 32, 32), 10).eval()
        x = torch.rand(2, 1, 32, 32)
        y = model(x)
        model._forward_pre_hooks.clear()
        torch.testing.assert_close(y, model(x.expand(-1, 3, -1, -1)))

    def test_two_channels_are_refused(self):
        """Channels that have no meaning for the model are refused, not guessed."""
        with pytest.raises(SpecError, match=r"3 channels .* found 2"):
            build_model("resnet18", (2, 32, 32), 10)

    def test_too_small_images_are_resized_and_it_says_so(self):
        """A model that cannot take the images gets them resized to the smallest usual size that it takes."""
        with pytest.warns(PhotonicWarning, match="cannot take 8 x 8 images; they are resized to 32 x 32"):
            model = build_model("squeezenet1_1", (1, 8, 8), 10)
        assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)

    def test_activations_are_replaced_only_when_asked(self):
        """Without --activation resnet18 keeps its ReLUs; with it none is left."""
        assert any(isinstance(module, nn.ReLU) for module in build_model("resnet18", (3, 32, 32), 10).modules())
        replaced = list(build_model("resnet18", (3, 32, 32), 10, "silu").modules())
        assert not any(isinstance(module, nn.ReLU) for module in replaced)
        assert any(isinstance(module, nn.SiLU) for module in replaced)

    def test_activation_out_of_reach_is_refused(self):
        """A model that calls its activation as a function is refused: half of them replaced would be a wrong answer."""
        with pytest.raises(SpecError, match="calls relu_ as a function 1 times"):
            build_model("densenet121", (3, 32, 32), 10, "silu")
