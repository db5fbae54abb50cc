"""Convolutions as torch's own: no patch is ever written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.backends.base import ConvGeometry
from photonic.backends.plans import Plan
from photonic.backends.twin.images import Images, Lookup, blocks
from photonic.backends.twin.light import LevelBasis
from photonic.backends.twin.prepared import Prepared
from photonic.physics.draws import NormalDraws
from photonic.physics.many import many
from photonic.physics.transmitter import Transmitter
from photonic.records import ChipSpec


@lru_cache(maxsize=1)
def _half_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 numbers, and adds the products in float32."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.9 has none
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@dataclass(frozen=True)
class Convolved:
    """A convolution, of which the noise is not drawn yet.

    Attributes:
        y: (B, G x M, *output_size) the mean, by the first of the levels' functions.
        others: the same by the other functions; None: there are none.
        power: (B, G x C, *output_size) S of column tiles above the dark, or (B, G x M, *output_size) its variance of
            outputs; None: no shot noise.
        shot: (G, M, C) variance for S; None: ``power`` has it already.
        fixed: (1, G x M, 1, ...) variance of what no input changes; None: there is no noise.
    """

    y: Tensor
    others: Tensor | None
    power: Tensor | None
    shot: Tensor | None
    fixed: Tensor | None

    def finish_(self, draws: NormalDraws) -> Tensor:
        """Adds up, with one independent sample for each output; some images at a time, which stay in cache."""
        y = self.y
        if self.fixed is None and self.others is None:
            return y
        if self.fixed is not None and many(y):
            return self._finish_at_once_(self.fixed, draws)
        for some in blocks(len(y), y[0].numel() // 2):
            part = y[some]
            if self.others is not None:
                part.add_(self.others[some])
            if self.fixed is not None:
                sigma = self._variance(some, self.fixed).sqrt_()
                part.addcmul_(draws.fill_(torch.empty(part.shape, dtype=y.dtype, device=y.device)), sigma)
        return y

    def _finish_at_once_(self, fixed: Tensor, draws: NormalDraws) -> Tensor:
        """The same in one compiled loop."""
        from photonic.physics.compiled import outputs  # numba takes a while to import

        flat = (None if each is None else each.flatten(2).contiguous() for each in (self.y, self.others, self.power))
        y, others, power = flat
        assert y is not None  # noqa: S101 - there is a mean
        shot = None if self.shot is None else self.shot.flatten(0, 1).contiguous()
        variance = fixed.flatten().contiguous()
        draws.stretch(y.numel(), lambda first, key: outputs.add_noise_(y, others, power, shot, variance, first, key))
        return self.y

    def _variance(self, some: slice, fixed: Tensor) -> Tensor:
        """Of some images, a new tensor; rounding takes no variance below 0."""
        if self.power is None:
            return fixed.clone()
        power = self.power[some].to(fixed.dtype)
        if self.shot is not None:
            g, _, columns = self.shot.shape
            s = power.flatten(2).unflatten(1, (g, columns))
            power = (self.shot @ s).flatten(1, 2).view(len(power), -1, *power.shape[2:])
        return power.add_(fixed).clamp_(min=0.0)


class NativeConvolution:
    """Means and variances of a convolution, for direct detection.

    A pixel meets another modulator at each place in the kernel. Its level there is a sum of few functions of its code
    (``LevelBasis``), each of them an image of its own, and the modulators' weights join the kernel.

    The first function is what modulators have in common, and the others are what little they differ by. Where the CPU
    multiplies bfloat16 numbers faster, these are such, unless they are so large that rounding them (2^-9) takes more
    than the tolerance of a level; and so is the power, of which the noise is the root.

    Args:
        transmitter: the modulators.
        spec: of the chip.
    """

    def __init__(self, transmitter: Transmitter, spec: ChipSpec) -> None:
        self._spec, self._transmitter = spec, transmitter
        self._lookup = lru_cache(maxsize=8)(self._make_lookup)

    @property
    def possible(self) -> bool:
        """Whether a pixel's light depends on its code alone."""
        t = self._transmitter
        return not t.shots_differ and t.parameters.input_crosstalk == 0 and self._spec.input_bits is not None

    def _make_lookup(self, n: int, two: bool, dtype: torch.dtype, device: torch.device) -> Lookup:
        basis = LevelBasis.of(self._transmitter, n, self._spec.input_code_range, dtype).to(device)
        half = dtype == torch.float32 and device.type == "cpu" and _half_is_fast()
        return Lookup.of(basis, two, half)

    def convolve(
        self,
        x: Tensor,
        code: Callable[[Tensor], Tensor],
        prepared: Prepared,
        plan: Plan,
        kernel: tuple[int, ...],
        geometry: ConvGeometry,
        common: Tensor,
    ) -> Convolved:
        """In the layer's units.

        Args:
            x: (B, C_in, *size).
            code: gives some images' codes, with the sign of the input.
            prepared: the weight.
            plan: of the product.
            kernel: its size.
            geometry: stride, padding, dilation, groups.
            common: (G, 1, M) variance that is added as if it were not shared: RIN, where it is small.
        """
        two, scale = plan.inputs == "time", plan.scale
        lookup = self._lookup(prepared.cut.n, two, x.dtype, x.device)
        asked = not prepared.silent and prepared.shot is not None
        images = Images.of(x, geometry.groups, code, lookup, asked)
        matrix = prepared.matrix * (scale.unsqueeze(-1) if isinstance(scale, Tensor) else scale)
        base = torch.zeros_like(prepared.base)
        if not two:
            base = prepared.base * scale + _dark(matrix, prepared, lookup.level)
        y = _convolution(images.first, _kernels(matrix, prepared, lookup.weights[:, :1], kernel), base, geometry)
        others = None
        if images.others is not None:
            others = _kernels(matrix, prepared, lookup.weights[:, 1:], kernel).to(lookup.small)
            others = _convolution(images.others, others, None, geometry)
        if prepared.silent:
            return Convolved(y, others, None, None, None)
        readings, square = 2 if two else 1, scale * scale
        fixed = prepared.fixed * readings + common
        power, shot = None, None
        if images.power is not None:
            power, shot, dark = _power(images.power, prepared, lookup, kernel, geometry, square)
            fixed = fixed + dark * readings
        return Convolved(y, others, power, shot, (fixed * square).reshape(1, -1, *[1] * len(kernel)))


def _power(
    images: Tensor,
    prepared: Prepared,
    lookup: Lookup,
    kernel: tuple[int, ...],
    geometry: ConvGeometry,
    square: Tensor | float,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """``power`` and ``shot`` of ``Convolved``, and the variance (G, 1, M) at the code 0, not yet times ``square``."""
    cut, shot = prepared.cut, prepared.shot
    assert shot is not None  # noqa: S101 - asked before
    if not prepared.uniform or cut.columns >= shot.shape[-1]:
        matrix = prepared.shot_matrix()
        dark = _dark(matrix, prepared, lookup.power_level)
        matrix = matrix * (square.unsqueeze(-1) if isinstance(square, Tensor) else square)
        kernels = _kernels(matrix, prepared, lookup.weights[:, :1], kernel).to(lookup.noise)
        return _convolution(images, kernels, None, geometry), None, dark
    # S is the same at all outputs of a column tile, and there are fewer of these
    each = prepared.power[: cut.n]
    s = each @ lookup.power_level + (prepared.power[cut.n] if prepared.constant else 0.0)
    tiles = torch.eye(cut.columns, dtype=each.dtype, device=each.device).unsqueeze(-1) * (each * lookup.weights[:, 0])
    kernels = tiles.flatten(1)[:, : cut.inputs].repeat(cut.groups, 1).unflatten(1, (-1, *kernel))
    power = _convolution(images, kernels.to(lookup.noise), None, geometry)
    return power, (shot * square).mT, (shot * s).sum(1, keepdim=True)


def _dark(matrix: Tensor, prepared: Prepared, level: Tensor) -> Tensor:
    """What (G, M, C, K) make of all channels at the code 0, whose levels are (n,), and of the constant: (G, 1, M)."""
    n = prepared.cut.n
    found = (matrix[..., :n] * level).sum((-2, -1))
    if prepared.constant:
        found = found + matrix[..., n].sum(-1)
    return found.unsqueeze(1)


def _kernels(matrix: Tensor, prepared: Prepared, weights: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """(G, M, C, K), and the modulators' (n, q), to (G M, q x C_in / G, *kernel)."""
    n, inputs = prepared.cut.n, prepared.cut.inputs
    weighted = matrix[..., :n].unsqueeze(2) * weights.T.unsqueeze(1)  # (G, M, q, C, n)
    flat = weighted.flatten(3)[..., :inputs]
    return flat.reshape(flat.shape[0] * flat.shape[1], -1, *kernel)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    convolve = F.conv1d if x.ndim == 3 else F.conv2d
    bias = None if bias is None else bias.flatten()
    return convolve(x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)


def sample(x: Tensor, kernel: tuple[int, ...], geometry: ConvGeometry, count: int) -> Tensor:
    """Patches (G, P, N) of images (B, C_in, *size), about ``count`` of them, evenly from all; zeros around."""
    x = x.contiguous()
    size = geometry.output_size(tuple(x.shape[2:]), kernel)
    total = x.shape[0] * torch.Size(size).numel()
    chosen = torch.arange(0, total, max(1, -(-total // max(1, count))), device=x.device)
    place = torch.zeros(1, 1, *kernel, dtype=torch.int64, device=x.device)
    inside: Tensor | None = None
    for axis in reversed(range(len(size))):
        start = (chosen % size[axis]) * geometry.stride[axis] - geometry.padding[axis]
        chosen = chosen // size[axis]
        reach = torch.arange(kernel[axis], device=x.device) * geometry.dilation[axis]
        here = start.view(-1, 1, *[1] * len(size)) + reach.view(-1, *[1] * (len(size) - 1 - axis))
        if geometry.padding[axis]:
            last = x.shape[2 + axis] - 1
            within = (here >= 0) & (here <= last)
            inside = within if inside is None else inside & within
            here = here.clamp_(0, last)
        place = place + here * x.stride(2 + axis)
    place = place + chosen.view(-1, 1, *[1] * len(size)) * x.stride(0)
    channel = torch.arange(x.shape[1], device=x.device).view(1, -1, *[1] * len(size)) * x.stride(1)
    patches = x.take(place + channel)  # (P, C_in, *kernel)
    if inside is not None:
        patches *= inside
    return patches.reshape(len(patches), geometry.groups, -1).transpose(0, 1)
