"""Activations of other people's models, swapped by name; what cannot be swapped is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from photonic.errors import SpecError
from photonic.models import replace_activations
from photonic.models.activations import CurveActivation, study_activation


def _kinds(model) -> set[type]:
    return {type(module) for module in model.modules()}


@pytest.fixture
def models():
    return pytest.importorskip("torchvision").models


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "vgg11_bn", "mobilenet_v3_small", "squeezenet1_1", "alexnet"])
def test_torchvision_s_models_lose_every_relu(models, name):
    """Modules that are shared by a block's calls included; keys of the state stay."""
    with torch.device("meta"):
        model = models.get_model(name, weights=None)
    keys = list(model.state_dict())
    assert replace_activations(model, {"relu": "gelu"}) is model
    assert nn.ReLU not in _kinds(model)
    assert nn.GELU in _kinds(model)
    assert list(model.state_dict()) == keys


def test_the_new_activation_is_what_is_computed(models):
    """resnet18 with GELU is resnet18 whose relus are GELU, to the bit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.resnet18(weights=None, num_classes=10).eval()
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = model(x)
    replace_activations(model, {"relu": "gelu"})
    assert not torch.allclose(model(x), before)
    replace_activations(model, {"gelu": "relu"})
    assert torch.equal(model(x), before)


def test_activations_of_the_study_fit_by_factory(models):
    """Each place gets a module of its own."""
    with torch.device("meta"):
        model = models.resnet18(weights=None)
    replace_activations(model, {"relu": lambda: study_activation("silu", interpolation=0.5)})
    new = [module for module in model.modules() if isinstance(module, CurveActivation)]
    assert len(new) == 9  # the stem's, and one in each of eight blocks


def test_only_the_named_ones_are_replaced(models):
    """Several at once, each to its own; the others stay."""
    with torch.device("meta"):
        model = models.mobilenet_v3_small(weights=None)
    replace_activations(model, {"hardswish": "silu"})
    assert {nn.SiLU, nn.ReLU} <= _kinds(model)
    assert nn.Hardswish not in _kinds(model)
    replace_activations(model, {"silu": "tanh", "relu": "silu"})
    assert {nn.Tanh, nn.SiLU} <= _kinds(model)
    assert nn.ReLU not in _kinds(model)


@pytest.mark.parametrize("name", ["densenet121"])
def test_calls_as_a_function_are_refused_and_nothing_is_changed(models, name):
    """Half of them swapped would be a wrong answer."""
    with torch.device("meta"):
        model = models.get_model(name, weights=None)
    with pytest.raises(SpecError, match=r"calls relu_ as a function.*nothing was changed"):
        replace_activations(model, {"relu": "gelu"})
    assert nn.GELU not in _kinds(model)


class Partly(nn.Module):
    """Calls relu as a function in training mode only."""

    def __init__(self):
        super().__init__()
        self.layer, self.act = nn.Linear(6, 6), nn.ReLU()

    def forward(self, x):
        y = self.act(self.layer(x))
        return F.relu(y) if self.training else y


def test_both_modes_are_searched():
    """Auxiliary heads run in training alone."""
    with pytest.raises(SpecError, match="calls relu as a function"):
        replace_activations(Partly(), {"relu": "gelu"})


def test_functions_that_torch_s_layers_hold_are_refused():
    """Their fused operation would show nothing."""
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16), nn.ReLU())
    with pytest.raises(SpecError, match="0 is torch's TransformerEncoderLayer, which calls relu"):
        replace_activations(model, {"relu": "gelu"})


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(5, 4), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 30 * 30, 2)),
    ],
    ids=["vectors", "flattened", "convolution"],
)
def test_small_models_of_one_s_own_are_searched_too(model):
    """Their input is tried out."""
    assert nn.ReLU not in _kinds(replace_activations(model, {"relu": "silu"}))


def test_an_input_that_cannot_be_guessed_is_asked_for():
    """Or given."""

    def build():
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 81, 2))

    with pytest.raises(SpecError, match="pass input_shape"):
        replace_activations(build(), {"relu": "silu"})
    with pytest.raises(SpecError, match=r"takes no images of \(1, 12, 12\)"):
        replace_activations(build(), {"relu": "silu"}, input_shape=(1, 12, 12))
    assert nn.SiLU in _kinds(replace_activations(build(), {"relu": "silu"}, input_shape=(1, 11, 11)))


@pytest.mark.parametrize(
    ("replacements", "message"),
    [
        ({"rellu": "gelu"}, "unknown activation to replace 'rellu'; did you mean .*relu"),
        ({"relu": "glu"}, "unknown activation 'glu'"),
        ({"gelu": "relu"}, "no GELU module"),
    ],
)
def test_names_that_mean_nothing_are_refused(replacements, message):
    """A typo must not leave a model as it was."""
    with pytest.raises(SpecError, match=message):
        replace_activations(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), replacements)
