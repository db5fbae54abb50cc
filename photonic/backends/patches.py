"""Images cut into the patches of a convolution, as a chip takes them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.backends.base import ConvGeometry
from photonic.backends.encoding import Geometry


def tile_patches(images: Tensor, kernel: tuple[int, ...], geometry: ConvGeometry, cut: Geometry, fill: float) -> Tensor:
    """Codes of images (B, G x C_in, *size) to the inputs (G x C, B x L, n) of tiles: each patch is one shot.

    A number of the kernel is a shifted image, and they are laid out like that, one after the other: rows of pixels are
    copied, and what is returned is a transposed view. (In the order of the result, pixels would be copied one by one.)

    Args:
        images: the code 0 stands for an input of 0.
        kernel: its size.
        geometry: stride, padding, dilation, groups.
        cut: the tiling of the weight as a matrix.
        fill: code of an unused input.
    """
    if any(geometry.padding):
        images = F.pad(images, [side for size in reversed(geometry.padding) for side in (size, size)])
    b, channels = images.shape[:2]
    size = ConvGeometry(geometry.stride, (0,) * len(kernel), geometry.dilation, 1).output_size(
        tuple(images.shape[2:]), kernel
    )
    per_image, per_channel, *steps = images.contiguous().stride()
    shifted = images.contiguous().as_strided(
        (cut.groups, channels // cut.groups, *kernel, b, *size),
        (
            per_channel * (channels // cut.groups),
            per_channel,
            *(step * dilation for step, dilation in zip(steps, geometry.dilation, strict=True)),
            per_image,
            *(step * stride for step, stride in zip(steps, geometry.stride, strict=True)),
        ),
    )
    patches = images.new_empty(cut.groups, cut.columns * cut.n, b, *size)
    used = patches[:, : cut.inputs]
    used.view(shifted.shape).copy_(shifted)
    patches[:, cut.inputs :] = fill
    tiles: Tensor = patches.view(cut.groups * cut.columns, cut.n, b * torch.Size(size).numel()).mT
    return tiles
