"""Convolutions as torch's own: no patch is ever written out."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.backends.base import ConvGeometry
from photonic.backends.plans import Plan
from photonic.backends.twin.light import LevelBasis
from photonic.backends.twin.prepared import Prepared
from photonic.physics.transmitter import Transmitter
from photonic.records import ChipSpec


class NativeConvolution:
    """Means and variances of a convolution, for direct detection.

    A pixel meets another modulator at each place in the kernel. Its level there is a sum of few functions of its code
    (``LevelBasis``), each of them an image of its own, and the modulators' weights join the kernel.

    Args:
        transmitter: the modulators.
        spec: of the chip.
    """

    def __init__(self, transmitter: Transmitter, spec: ChipSpec) -> None:
        self._spec, self._transmitter = spec, transmitter
        self._basis = lru_cache(maxsize=8)(self._make_basis)

    @property
    def possible(self) -> bool:
        """Whether a pixel's light depends on its code alone."""
        t = self._transmitter
        return not t.shots_differ and t.parameters.input_crosstalk == 0 and self._spec.input_bits is not None

    def _make_basis(self, n: int, dtype: torch.dtype, device: torch.device) -> LevelBasis:
        return LevelBasis.of(self._transmitter, n, self._spec.input_code_range, dtype).to(device)

    def sample(self, codes: Tensor, kernel: tuple[int, ...], geometry: ConvGeometry, count: int) -> Tensor:
        """Patches (G, P, N) of codes (B, C_in, *size), about ``count`` of them, evenly from all."""
        size = geometry.output_size(tuple(codes.shape[2:]), kernel)
        total = codes.shape[0] * torch.Size(size).numel()
        chosen = torch.arange(0, total, max(1, -(-total // max(1, count))), device=codes.device)
        padded = _padded(codes, geometry.padding)
        index: list[Tensor] = []
        for axis in reversed(range(len(size))):
            place = (chosen % size[axis]) * geometry.stride[axis]
            chosen = chosen // size[axis]
            inside = torch.arange(kernel[axis], device=codes.device) * geometry.dilation[axis]
            shape = [1] * len(size)
            shape[axis] = -1
            index.insert(0, place.view(-1, 1, *[1] * len(size)) + inside.view(1, 1, *shape))
        image = chosen.view(-1, 1, *[1] * len(size))
        channel = torch.arange(codes.shape[1], device=codes.device).view(1, -1, *[1] * len(size))
        patches = padded[(image, channel, *index)]  # (P, C_in, *kernel)
        return patches.reshape(len(patches), geometry.groups, -1).transpose(0, 1)

    def convolve(
        self,
        codes: Tensor,
        prepared: Prepared,
        plan: Plan,
        kernel: tuple[int, ...],
        geometry: ConvGeometry,
        common: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance, (B, C_out, *output_size) each; the variance may broadcast.

        Args:
            codes: (B, C_in, *size), with the sign of the input.
            prepared: the weight.
            plan: of the product.
            kernel: its size.
            geometry: stride, padding, dilation, groups.
            common: (G, 1, M) variance that is added as if it were not shared: RIN, where it is small.
        """
        two, basis = plan.inputs == "time", self._basis(prepared.cut.n, codes.dtype, codes.device)
        difference, total = _images(codes, basis, geometry, two)
        mean = _kernels(prepared.matrix, prepared, basis, kernel)
        base = torch.zeros_like(prepared.base) if two else prepared.base + _dark(prepared.matrix, prepared, basis)
        y = _convolution(difference, mean, base.flatten(), geometry)
        readings = 2 if two else 1
        fixed = prepared.fixed * readings + common
        if prepared.shot is None:
            return y, fixed.reshape(1, -1, *[1] * len(kernel))
        matrix, basis = prepared.shot_matrix, basis.common
        fixed = fixed + _dark(matrix, prepared, basis) * readings
        return y, _convolution(total, _kernels(matrix, prepared, basis, kernel), fixed.flatten(), geometry)


def _dark(matrix: Tensor, prepared: Prepared, basis: LevelBasis) -> Tensor:
    """What (G, M, C, K) make of the light that no input changes, (G, 1, M): unused channels, at the dark code."""
    n, inputs = prepared.cut.n, prepared.cut.inputs
    level = basis.weights @ basis.functions[:, -basis.lowest]
    unused = (matrix[..., :n] * level).flatten(2)[..., inputs:].sum(-1)
    if prepared.constant:
        unused = unused + matrix[..., n].sum(-1)
    return unused.unsqueeze(1)


def _images(codes: Tensor, basis: LevelBasis, geometry: ConvGeometry, two: bool) -> tuple[Tensor, Tensor]:
    """What the mean follows, (B, G x q x C_in / G, *size), and what the power follows, with q = 1.

    The same tensor where one shot of one function is both.
    """
    padded, g = _padded(codes, geometry.padding), geometry.groups
    index = padded.abs().to(torch.int32) if two else padded.to(torch.int32)
    if basis.lowest:
        index.sub_(basis.lowest)

    def looked_up(functions: Tensor) -> Tensor:
        flat = index.flatten()
        images = [row.index_select(0, flat).view(index.shape).unflatten(1, (g, -1)) for row in functions]
        return images[0].flatten(1, 2) if len(images) == 1 else torch.stack(images, dim=2).flatten(1, 3)

    if not two:
        image = looked_up(basis.functions)
        return image, image if len(basis.functions) == 1 else looked_up(basis.functions[:1])
    dark = basis.functions[:, -basis.lowest].unsqueeze(1)
    sign = padded.sign().unflatten(1, (g, -1))
    sign = sign.unsqueeze(2).expand(-1, -1, len(basis.functions), *[-1] * (sign.ndim - 2)).flatten(1, 3)
    return looked_up(basis.functions - dark).mul_(sign), looked_up((basis.functions + dark)[:1])


def _kernels(matrix: Tensor, prepared: Prepared, basis: LevelBasis, kernel: tuple[int, ...]) -> Tensor:
    """(G, M, C, K) to (G M, q x C_in / G, *kernel)."""
    n, inputs = prepared.cut.n, prepared.cut.inputs
    weighted = matrix[..., :n].unsqueeze(2) * basis.weights.T.unsqueeze(1)  # (G, M, q, C, n)
    flat = weighted.flatten(3)[..., :inputs]
    return flat.reshape(flat.shape[0] * flat.shape[1], -1, *kernel)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    convolve = F.conv1d if x.ndim == 3 else F.conv2d
    return convolve(x, weight, bias, geometry.stride, 0, geometry.dilation, geometry.groups)


def _padded(codes: Tensor, padding: tuple[int, ...]) -> Tensor:
    """Zeros around: the code of an input of 0."""
    if not any(padding):
        return codes
    return F.pad(codes, [side for size in reversed(padding) for side in (size, size)])
