"""Networks by name: the project's own, the study's, and torchvision's.

All of them take images (B, C, H, W) in [0, 1]: light is non-negative, so pixels cost one shot and not two.
"""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from photonic.errors import MissingExtraError, SpecError
from photonic.models.activations import activation_factory, unknown
from photonic.models.fitting import fit_input_, replace_activations_
from photonic.models.networks.convnet import convnet
from photonic.models.networks.mlp import mlp
from photonic.models.networks.shapes import DEFAULT_ACTIVATION, Shape
from photonic.models.networks.study import STUDY_NETWORKS, build_study_network

# the study's by this prefix: its convnet and resnet18 are others than the ones of the same names
STUDY_PREFIX = "study_"
OWN = ("mlp", "convnet", *(STUDY_PREFIX + name for name in STUDY_NETWORKS))
# auxiliary heads make a model return a tuple in training; without `init_weights` torchvision warns of a new default
_WITHOUT_HEADS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def build_model(name: str, input_shape: Shape, n_classes: int, activation: str | None = None) -> nn.Module:
    """Builds a model by name, with fresh weights drawn from torch's global generator (seed it around the call).

    Args:
        name: ``mlp``, ``convnet``, ``study_`` and a network of the study, or a torchvision classification model.
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
    if name in OWN:
        return build_study_network(
            name.removeprefix(STUDY_PREFIX), input_shape, n_classes, activation or DEFAULT_ACTIVATION
        )
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
