"""A multilayer perceptron; images in [0, 1] cost one shot and not two, for light is non-negative."""

from __future__ import annotations

import itertools
import math

from torch import nn

from photonic.models.networks.shapes import DEFAULT_ACTIVATION, MakeActivation, Shape, factory_of


def mlp(
    input_shape: Shape,
    n_classes: int,
    activation: MakeActivation = DEFAULT_ACTIVATION,
    hidden: tuple[int, ...] = (64, 64),
) -> nn.Sequential:
    """Fully connected layers; with the default sizes a layer on 8 x 8 images is one tile of a 64 x 64 chip.

    Args:
        input_shape: (C, H, W) of the images.
        n_classes: number of outputs.
        activation: the activation between layers.
        hidden: width of each hidden layer.
    """
    act = factory_of(activation)
    sizes = (math.prod(input_shape), *hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), act()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_classes))
