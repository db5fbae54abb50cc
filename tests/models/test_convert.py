"""Conversion in place: globs, what stays digital and why, and the way back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from photonic.backends.calibrated import CalibratedBackend
from photonic.backends.digital import DigitalBackend
from photonic.errors import ConversionError, SpecError
from photonic.models.convert import attach, convert_, unconvert_
from photonic.models.layers import PhotonicLinear
from photonic.models.routes import routes


class Net(nn.Module):
    """A bit of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4))
        self.up = nn.ConvTranspose2d(4, 4, 2)
        self.rnn = nn.GRU(4, 4)
        self.head = nn.Linear(4 * 5 * 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.up(self.features(x)).flatten(1))


class OwnForward(nn.Linear):
    """A user's subclass that does more than a product."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def _backends(model: nn.Module) -> dict[str, str]:
    return {route.name: route.backend.split("?")[0] for route in routes(model)}


def test_one_backend_converts_every_layer_that_it_can(ideal: CalibratedBackend) -> None:
    """In place; state_dict is untouched, and what must stay digital is listed with its reason."""
    model = Net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weight = model.head.weight
    assert convert_(model, ideal) is model
    assert model.head.weight is weight
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert list(model.state_dict()) == list(before)
    assert _backends(model) == {
        "features.0": "sim:ideal",
        "features.2": "sim:ideal",
        "up": "digital",
        "rnn": "digital",
        "head": "sim:ideal",
    }
    reasons = {route.name: route.reason for route in routes(model)}
    assert "transposed" in reasons["up"]
    assert "recurrent" in reasons["rnn"]
    assert reasons["head"] == ""


def test_globs_route_layers_and_the_last_match_wins(ideal: CalibratedBackend, typical: CalibratedBackend) -> None:
    """What nothing matches stays digital; "digital" keeps a layer out."""
    model = convert_(Net(), {"features.*": ideal, "features.2": typical})
    assert _backends(model) | {"up": "", "rnn": ""} == {
        "features.0": "sim:ideal",
        "features.2": "sim:typical",
        "head": "digital",
        "up": "",
        "rnn": "",
    }
    model = convert_(Net(), {"*": ideal, "head": "digital"})
    assert type(model.head) is nn.Linear


@pytest.mark.parametrize(
    ("globs", "message"),
    [
        (["nothing.*"], r"'nothing\.\*' matches no layer; the layers are: features\.0, features\.2, head"),
        (["up"], "'up' names 'up', which must stay digital: transposed"),
        (["r*"], "'rnn', which must stay digital: recurrent"),
        (["head", "*"], "'head' decides nothing: later globs match all"),
        (["*", "features.1"], "matches no layer"),
    ],
)
def test_a_glob_that_decides_nothing_is_an_error(globs: list[str], message: str, ideal: CalibratedBackend) -> None:
    """And the model stays as it was."""
    model = Net()
    with pytest.raises(ConversionError, match=message):
        convert_(model, dict.fromkeys(globs, ideal))
    assert set(_backends(model).values()) == {"digital"}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv3d(1, 1, 2), "three spatial dimensions"),
        (nn.ConvTranspose1d(1, 1, 2), "transposed"),
        (nn.LSTM(2, 2), "recurrent"),
        (nn.GRUCell(2, 2), "recurrent"),
        (nn.Bilinear(2, 2, 2), "bilinear"),
        (nn.LazyLinear(2), "lazy"),
        (OwnForward(2, 2), "would be lost"),
    ],
)
def test_what_cannot_be_converted_is_named_with_its_reason(
    layer: nn.Module, reason: str, ideal: CalibratedBackend
) -> None:
    """Naming one raises; a wider glob passes it by and lists it."""
    model = nn.ModuleDict({"odd": layer, "fc": nn.Linear(2, 2)})
    with pytest.raises(ConversionError, match=reason):
        convert_(model, {"odd": ideal})
    convert_(model, ideal)
    (route,) = [route for route in routes(model) if route.name == "odd"]
    assert route.backend == "digital"
    assert reason in route.reason


def test_a_model_without_layers_is_an_error(ideal: CalibratedBackend) -> None:
    """Converting nothing is not what anybody wanted."""
    with pytest.raises(ConversionError, match="matches no layer; the layers are: none"):
        convert_(nn.ReLU(), ideal)


def test_the_root_may_be_a_layer(ideal: CalibratedBackend) -> None:
    """Its name is empty, and messages say so."""
    layer = convert_(nn.Linear(4, 3), ideal)
    assert isinstance(layer, PhotonicLinear)
    assert "(model)" in str(routes(layer))


def test_unconvert_gives_torch_s_classes_back(ideal: CalibratedBackend) -> None:
    """With the weights as they are."""
    model, x = Net(), torch.rand(2, 1, 8, 8)
    expected = model(x)
    unconvert_(convert_(model, ideal))
    assert type(model.head) is nn.Linear
    assert type(model.features[0]) is nn.Conv2d
    assert "backend" not in vars(model.head)
    torch.testing.assert_close(model(x), expected)


def test_converting_again_moves_a_layer(ideal: CalibratedBackend, typical: CalibratedBackend) -> None:
    """To another backend, and back to digital."""
    model = convert_(Net(), ideal)
    convert_(model, {"head": typical})
    assert _backends(model)["head"] == "sim:typical"
    assert _backends(model)["features.0"] == "sim:ideal"
    convert_(model, {"head": "digital"})
    assert type(model.head) is nn.Linear


def test_spec_strings_open_one_chip_for_equal_specs() -> None:
    """Bad ones raise before anything is converted."""
    model = Net()
    with pytest.warns(UserWarning, match="nominal"):
        convert_(model, {"features.0": "sim:ideal", "head": "sim:ideal"})
    assert model.head.backend.chip is model.features[0].backend.chip
    model = Net()
    with pytest.raises(SpecError):
        convert_(model, {"features.0": DigitalBackend(), "head": "nope"})
    assert type(model.features[0]) is nn.Conv2d


def test_shared_modules_are_one_route_under_any_of_their_names(ideal: CalibratedBackend) -> None:
    """And answer to each name."""
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": shared, "b": shared})
    convert_(model, {"b": ideal})
    assert model["a"] is model["b"]
    assert isinstance(model["a"], PhotonicLinear)
    assert len(routes(model)) == 1


def test_tied_weights_stay_tied(ideal: CalibratedBackend) -> None:
    """Two layers, one parameter, one gradient of both."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    convert_(model, ideal)
    model(torch.rand(2, 4)).sum().backward()
    assert model[0].weight is model[1].weight
    assert len(list(model.parameters())) == 3


def test_hooks_requires_grad_and_training_flags_survive(ideal: CalibratedBackend) -> None:
    """The user's references, too."""
    layer = nn.Linear(4, 3).eval()
    layer.bias.requires_grad_(False)
    seen: list[str] = []
    layer.register_forward_hook(lambda *_: seen.append("forward"))
    layer.register_full_backward_hook(lambda *_: seen.append("backward"))
    convert_(nn.Sequential(layer), ideal)
    assert not layer.training
    assert not layer.bias.requires_grad
    layer(torch.rand(2, 4, requires_grad=True)).sum().backward()
    assert seen == ["forward", "backward"]


@pytest.mark.parametrize("make", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrizations_survive_conversion_and_removal(make: object, ideal: CalibratedBackend) -> None:
    """Converted, removed, unconverted: the same layer all along."""
    layer = make(nn.Linear(6, 4)).eval()  # type: ignore[operator]
    x = torch.rand(3, 6)
    expected = layer(x)
    keys = list(layer.state_dict())
    convert_(layer, ideal)
    assert isinstance(layer, PhotonicLinear)
    assert list(layer.state_dict()) == keys
    torch.testing.assert_close(layer(x), expected)
    parametrize.remove_parametrizations(layer, "weight")
    torch.testing.assert_close(layer(x), expected)
    assert ideal.chip.usage.calls == 2
    unconvert_(layer)
    assert type(layer) is nn.Linear


def test_unconverting_under_a_parametrization(ideal: CalibratedBackend) -> None:
    """The dynamic class goes back, too."""
    layer = parametrizations.weight_norm(nn.Linear(6, 4))
    unconvert_(convert_(layer, ideal))
    assert not isinstance(layer, PhotonicLinear)
    assert parametrize.is_parametrized(layer)
    layer(torch.rand(2, 6))


def test_attach_moves_converted_layers_only(ideal: CalibratedBackend, typical: CalibratedBackend) -> None:
    """By glob or all; a model without any is an error."""
    model = convert_(Net(), {"features.*": ideal})
    attach(model, typical)
    assert _backends(model)["features.0"] == "sim:typical"
    assert _backends(model)["head"] == "digital"
    with pytest.raises(ConversionError, match="matches no layer"):
        attach(model, {"head": ideal})
    with pytest.raises(ConversionError, match="no converted layer"):
        attach(Net(), ideal)


def test_routes_list_tiles_and_programming_cost(typical: CalibratedBackend) -> None:
    """Row tiles x column tiles of all groups, drive codes, settling time; and print as a table."""
    model = nn.Sequential(nn.Linear(130, 70), nn.Conv2d(6, 12, 3, groups=3))
    convert_(model, typical)
    linear, conv = routes(model)
    assert linear.tiles == (2, 3)
    assert linear.programming.tiles == 6
    assert linear.programming.drives == 6 * 4096
    assert linear.programming.seconds == pytest.approx(60e-6)
    assert conv.tiles == (1, 3)
    table = str(routes(model))
    assert "2 x 3" in table
    assert "sim:typical?device=0" in table
    assert repr(routes(model)) == "Routes(2 layers, 2 on a chip)"
