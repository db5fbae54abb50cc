"""ResNet-18 as in the study: the stem for ImageNet, batch normalisation, shortcuts that noise can be put before."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from photonic.models.networks.shapes import DEFAULT_ACTIVATION, MakeActivation, Shape, factory_of

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
BLOCKS = 2


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, which is a 1 x 1 convolution where shapes change.

    Args:
        n_in: channels.
        n_out: channels.
        stride: of the first convolution.
        act: makes activations.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out)
        self.conv2, self.norm2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)
        self.act1, self.act2 = act(), act()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) to (B, n_out, H / stride, W / stride)."""
        y = self.act1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: Tensor = self.act2(y + self.shortcut(x))
        return out


def resnet18(input_shape: Shape, n_classes: int, activation: MakeActivation = DEFAULT_ACTIVATION) -> nn.Sequential:
    """Of BasicBlocks [2, 2, 2, 2].

    Args:
        input_shape: (C, H, W) of the images; any size.
        n_classes: number of outputs.
        activation: in place of every ReLU.
    """
    act = factory_of(activation)
    channels = STAGES[0][0]
    layers: list[nn.Module] = [
        nn.Conv2d(input_shape[0], channels, 7, 2, 3, bias=False),
        nn.BatchNorm2d(channels),
        act(),
        nn.MaxPool2d(3, 2, 1),
    ]
    for width, stride in STAGES:
        for block in range(BLOCKS):
            layers.append(BasicBlock(channels, width, stride if block == 0 else 1, act))
            channels = width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
