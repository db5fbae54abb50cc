"""The study's ConvNet, 6 convolutions and 3 linear layers, and its linear networks: any depth of both."""

from __future__ import annotations

from torch import nn

from photonic.errors import SpecError
from photonic.models.networks.shapes import DEFAULT_ACTIVATION, MakeActivation, Shape, factory_of

# channels and padding of the 3 x 3 convolutions; a MaxPool halves the image after every second
CONVOLUTIONS = ((48, 1), (48, 0), (96, 1), (96, 0), (192, 1), (192, 0))
LINEAR = (512, 256)


def study_convnet(
    input_shape: Shape,
    n_classes: int,
    activation: MakeActivation = DEFAULT_ACTIVATION,
    n_conv: int = 6,
    n_linear: int = 3,
) -> nn.Sequential:
    """No normalisation; dropout 0.25 before convolutions 3 and 5, 0.5 after the hidden linear layers.

    Args:
        input_shape: (C, H, W) of the images.
        n_classes: number of outputs.
        activation: after each layer but the last.
        n_conv: the first so many convolutions, 0 to 6.
        n_linear: the last so many linear layers, 1 to 3.

    Raises:
        SpecError: another depth, or images that are too small for it.
    """
    if not (0 <= n_conv <= len(CONVOLUTIONS) and 1 <= n_linear <= len(LINEAR) + 1):
        raise SpecError(
            f"the study's network has 0 to {len(CONVOLUTIONS)} convolutions and 1 to {len(LINEAR) + 1} linear layers, "
            f"found {n_conv} and {n_linear}"
        )
    act = factory_of(activation)
    layers: list[nn.Module] = []
    channels, height, width = input_shape
    for index, (out, padding) in enumerate(CONVOLUTIONS[:n_conv]):
        if index in (2, 4):
            layers.append(nn.Dropout(0.25))
        layers += [nn.Conv2d(channels, out, 3, padding=padding), act()]
        height, width, channels = height - 2 + 2 * padding, width - 2 + 2 * padding, out
        if index % 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        if min(height, width) < 1:
            raise SpecError(f"images of {input_shape[1]} x {input_shape[2]} end before convolution {index + 1}")
    features = channels * height * width
    layers.append(nn.Flatten())
    for out in LINEAR[len(LINEAR) + 1 - n_linear :]:
        layers += [_linear(features, out), act(), nn.Dropout(0.5)]
        features = out
    return nn.Sequential(*layers, _linear(features, n_classes))


def linear_network(
    input_shape: Shape, n_classes: int, activation: MakeActivation = DEFAULT_ACTIVATION, n_linear: int = 3
) -> nn.Sequential:
    """The study's network without convolutions; as ``study_convnet``."""
    return study_convnet(input_shape, n_classes, activation, 0, n_linear)


def _linear(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    nn.init.kaiming_uniform_(layer.weight)
    return layer
