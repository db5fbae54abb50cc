"""A small convolutional network for images of any size."""

from __future__ import annotations

from torch import nn

from photonic.models.networks.shapes import DEFAULT_ACTIVATION, MakeActivation, Shape, factory_of


def convnet(
    input_shape: Shape,
    n_classes: int,
    activation: MakeActivation = DEFAULT_ACTIVATION,
    widths: tuple[int, ...] = (32, 64, 64),
) -> nn.Sequential:
    """3 x 3 convolutions, all but the first halving the image, then the mean over it: any image size will do.

    Args:
        input_shape: (C, H, W) of the images.
        n_classes: number of outputs.
        activation: the activation after each convolution.
        widths: channels of each convolution.
    """
    act = factory_of(activation)
    layers: list[nn.Module] = []
    channels = input_shape[0]
    for index, width in enumerate(widths):
        stride = 1 if index == 0 else 2
        # no bias: the normalisation subtracts it
        layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), act()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))
