"""VGG "A" as in the study: 8 convolutions without normalisation, 3 linear layers."""

from __future__ import annotations

from torch import nn

from photonic.errors import SpecError
from photonic.models.networks.shapes import DEFAULT_ACTIVATION, MakeActivation, Shape, factory_of

POOL = 0
LAYOUT = (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL)
HIDDEN = 4096


def vgg_a(input_shape: Shape, n_classes: int, activation: MakeActivation = DEFAULT_ACTIVATION) -> nn.Sequential:
    """129 million parameters, nearly all of them in the linear layers.

    Args:
        input_shape: (C, H, W) of the images, at least 32 x 32.
        n_classes: number of outputs.
        activation: after each layer but the last.

    Raises:
        SpecError: smaller images.
    """
    channels, height, width = input_shape
    halvings = LAYOUT.count(POOL)
    if min(height, width) < 2**halvings:
        raise SpecError(f"VGG A halves images {halvings} times: at least 32 x 32, found {height} x {width}")
    act = factory_of(activation)
    layers: list[nn.Module] = []
    for out in LAYOUT:
        if out == POOL:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, out, 3, padding=1), act()]
        channels = out
    layers += [nn.AdaptiveAvgPool2d(7), nn.Flatten()]
    for n_in in (channels * 7 * 7, HIDDEN):
        layers += [nn.Linear(n_in, HIDDEN), act(), nn.Dropout(0.5)]
    network = nn.Sequential(*layers, nn.Linear(HIDDEN, n_classes))
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network
