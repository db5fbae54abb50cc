"""The networks of ``photonic train``: a multilayer perceptron, a small convolutional net, and torchvision's models.

All of them take images (B, C, H, W) in [0, 1]: light is non-negative, so pixels cost one shot and not two.
"""

from __future__ import annotations

import importlib
import itertools
import math
from typing import Any

from torch import nn

from photonic.errors import MissingExtraError, SpecError
from photonic.models.activations import activation_factory, unknown
from photonic.models.fitting import fit_input_, replace_activations_

Shape = tuple[int, int, int]  # C, H, W

# what the project's own networks use unless told otherwise: smooth activations survive analog noise better
# (arXiv 2402.02593)
DEFAULT_ACTIVATION = "gelu"
OWN = ("mlp", "convnet")
# auxiliary heads make a model return a tuple in training; without `init_weights` torchvision warns of a new default
_WITHOUT_HEADS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def mlp(
    input_shape: Shape, n_classes: int, activation: str = DEFAULT_ACTIVATION, hidden: tuple[int, ...] = (64, 64)
) -> nn.Sequential:
    """Fully connected layers; with the default sizes a layer on 8 x 8 images is one tile of a 64 x 64 chip.

    Args:
        input_shape: (C, H, W) of the images.
        n_classes: number of outputs.
        activation: name of the activation between layers.
        hidden: width of each hidden layer.
    """
    act = activation_factory(activation)
    sizes = (math.prod(input_shape), *hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), act()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_classes))


def convnet(
    input_shape: Shape, n_classes: int, activation: str = DEFAULT_ACTIVATION, widths: tuple[int, ...] = (32, 64, 64)
) -> nn.Sequential:
    """3 x 3 convolutions, all but the first halving the image, then the mean over it: any image size will do.

    Args:
        input_shape: (C, H, W) of the images.
        n_classes: number of outputs.
        activation: name of the activation after each convolution.
        widths: channels of each convolution.
    """
    act = activation_factory(activation)
    layers: list[nn.Module] = []
    channels = input_shape[0]
    for index, width in enumerate(widths):
        stride = 1 if index == 0 else 2
        # no bias: the normalisation subtracts it
        layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), act()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))


def build_model(name: str, input_shape: Shape, n_classes: int, activation: str | None = None) -> nn.Module:
    """Builds a model by name, with fresh weights drawn from torch's global generator (seed it around the call).

    Args:
        name: ``mlp``, ``convnet``, or the name of a torchvision classification model.
        input_shape: (C, H, W) of the images that it will be fed.
        n_classes: number of outputs.
        activation: name of an activation. None: the default of the project's own networks, and for a torchvision
            model the activations that it comes with.

    Returns:
        A module that takes images of ``input_shape`` and gives logits (B, n_classes). Images that a torchvision model
        cannot take as they are pass a forward pre-hook first, so layer names and state_dict keys stay torchvision's.

    Raises:
        SpecError: unknown name or activation, or a model that cannot take such images.
        MissingExtraError: a torchvision model without torchvision.
    """
    if name == "mlp":
        return mlp(input_shape, n_classes, activation or DEFAULT_ACTIVATION)
    if name == "convnet":
        return convnet(input_shape, n_classes, activation or DEFAULT_ACTIVATION)
    if activation is not None:
        activation_factory(activation)  # a misspelt name is refused before a large model is built
    model = _torchvision_model(name, n_classes)
    fit_input_(model, name, input_shape)
    if activation is not None:
        replace_activations_(model, name, activation, input_shape)
    return model


def _torchvision_model(name: str, n_classes: int) -> nn.Module:
    # torchvision is an extra, slow to import, and only these models need it
    try:
        models = importlib.import_module("torchvision.models")
    except ImportError as error:
        raise MissingExtraError("torchvision", "data") from error
    known = models.list_models(module=models)
    if name not in known:
        raise SpecError(unknown("model", name, [*OWN, *known]))
    model: nn.Module = models.get_model(name, weights=None, num_classes=n_classes, **_WITHOUT_HEADS.get(name, {}))
    return model
