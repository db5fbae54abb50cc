"""Patches for a chip, against unfolding and cutting into tiles."""

from __future__ import annotations

import pytest
import torch

from photonic.backends import encoding
from photonic.backends.base import ConvGeometry, unfold
from photonic.backends.encoding import Geometry
from photonic.backends.patches import tile_patches

FILL = 9


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "geometry"),
    [
        (3, (7, 9), (3, 3), ConvGeometry((1, 1), (1, 1), (1, 1), 1)),
        (4, (8, 5), (3, 2), ConvGeometry((2, 3), (2, 1), (2, 1), 2)),
        (6, (6, 6), (1, 1), ConvGeometry((1, 1), (0, 0), (1, 1), 3)),
        (4, (11,), (4,), ConvGeometry((2,), (3,), (2,), 1)),
        (5, (1, 1), (5, 5), ConvGeometry((1, 1), (2, 2), (1, 1), 5)),
    ],
)
@pytest.mark.parametrize("n", [4, 7, 64])
def test_patches_are_those_of_unfolding(
    channels: int, size: tuple[int, ...], kernel: tuple[int, ...], geometry: ConvGeometry, n: int
) -> None:
    """Stride, padding, dilation, groups, one and two dimensions; codes beyond the weight get the dark code."""
    images = torch.randint(0, 256, (2, channels, *size), dtype=torch.int16)
    inputs = channels // geometry.groups * torch.Size(kernel).numel()
    width = min(n, inputs)
    cut = Geometry(geometry.groups, 8, inputs, 1, -(-inputs // width), 8, width)
    expected = encoding.tile_inputs(unfold(images.double(), kernel, geometry).to(torch.int16), cut, FILL)
    found = tile_patches(images, kernel, geometry, cut, FILL)
    assert found.dtype == torch.int16
    assert torch.equal(found, expected)


def test_images_in_another_layout_give_the_same_patches() -> None:
    """Channels last, as torch's own convolutions take them."""
    images = torch.randint(0, 256, (2, 8, 6, 6), dtype=torch.int16)
    geometry, cut = ConvGeometry((1, 1), (0, 0), (1, 1), 1), Geometry(1, 8, 72, 1, 2, 8, 64)
    last = images.to(memory_format=torch.channels_last)
    assert torch.equal(tile_patches(last, (3, 3), geometry, cut, 0), tile_patches(images, (3, 3), geometry, cut, 0))
