"""The study's networks by name, plain and with the noise where the study has it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from photonic.errors import SpecError
from photonic.models.activations import GatedActivation, unknown
from photonic.models.networks.resnet18 import resnet18
from photonic.models.networks.shapes import DEFAULT_ACTIVATION, MakeActivation, Shape, factory_of
from photonic.models.networks.studyconvnet import linear_network, study_convnet
from photonic.models.networks.vgg import vgg_a
from photonic.models.networks.vit import vit
from photonic.models.studynoise import STUDY_POINTS, NoiseModel, StudyNoise

STUDY_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "convnet": study_convnet,
    "linear": linear_network,
    "vgg_a": vgg_a,
    "resnet18": resnet18,
    "vit": vit,
}


def build_study_network(
    name: str,
    input_shape: Shape,
    n_classes: int,
    activation: MakeActivation = DEFAULT_ACTIVATION,
    **options: Any,
) -> nn.Module:
    """A network of the study with fresh weights from torch's global generator (seed it around the call).

    Args:
        name: one of ``STUDY_NETWORKS``.
        input_shape: (C, H, W) of the images.
        n_classes: number of outputs.
        activation: a name, or what gives a new module at each call.
        options: depths: ``n_conv`` and ``n_linear`` of the convnet, ``n_linear`` of linear, ``depth`` of the vit. None
            is the study's own.

    Raises:
        SpecError: another name, an option that it does not have, images or an activation that do not fit.
    """
    if name not in STUDY_NETWORKS:
        raise SpecError(unknown("network of the study", name, STUDY_NETWORKS))
    build = STUDY_NETWORKS[name]
    given = {key: value for key, value in options.items() if value is not None}
    odd = sorted(set(given) - set(inspect.signature(build).parameters))
    if odd:
        raise SpecError(f"the study's {name} takes no {', '.join(odd)}")
    make = factory_of(activation)
    if name != "vit" and isinstance(make(), GatedActivation):
        raise SpecError(f"a gated activation halves what passes it, which only the MLPs of vit allow for, found {name}")
    return build(input_shape, n_classes, make, **given)


def add_study_noise(network: nn.Module, name: str, model: NoiseModel) -> StudyNoise:
    """Inserts noise where the study has it in its network of this name, in place.

    Raises:
        SpecError: another name.
        ConversionError: as ``StudyNoise``.
    """
    if name not in STUDY_POINTS:
        raise SpecError(unknown("network of the study", name, STUDY_POINTS))
    return StudyNoise(network, STUDY_POINTS[name], model)
