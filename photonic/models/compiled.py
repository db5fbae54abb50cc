"""Products as single operations of a compiled graph.

A backend draws from its own generators, looks at the numbers, and may raise: none of that can be traced. So a product
is one operation that compiled code does not look into, with the backend's number in place of the backend. It is
marked as random: two equal calls are two measurements. Nothing is fused into it, and nothing breaks the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from photonic.backends.base import ConvGeometry, ideal_pullback
from photonic.backends.handles import live
from photonic.backends.limits import clamped

_RANDOM = (torch.Tag.nondeterministic_seeded,)


@torch.library.custom_op("photonic::matmul", mutates_args=(), tags=_RANDOM)
def matmul(x: Tensor, weight: Tensor, handle: int) -> Tensor:
    """``Backend.matmul`` of the backend with that handle."""
    return live(handle).matmul(x, weight).contiguous()


@matmul.register_fake
def _(x: Tensor, weight: Tensor, handle: int) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], weight.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.geometry = inputs[3:]


def _matmul_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight = ctx.saved_tensors
    return *ideal_pullback(grad, x, weight, ctx.needs_input_grad[:2]), None


matmul.register_autograd(_matmul_backward, setup_context=_keep)


@torch.library.custom_op("photonic::convolve", mutates_args=(), tags=_RANDOM)
def convolve(
    x: Tensor,
    weight: Tensor,
    handle: int,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """``Backend.convolve`` of the backend with that handle."""
    geometry = ConvGeometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    return live(handle).convolve(x, weight, geometry).contiguous()


@convolve.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    handle: int,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    geometry = ConvGeometry(tuple(stride), tuple(padding), tuple(dilation), groups)
    size = geometry.output_size(tuple(x.shape[2:]), tuple(weight.shape[2:]))
    return x.new_empty(x.shape[0], weight.shape[0], *size)


def _convolve_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    stride, padding, dilation, groups = ctx.geometry
    mask = [*ctx.needs_input_grad[:2], False]
    zeros = [0] * len(stride)
    grads = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, dilation, False, zeros, groups, mask
    )
    return grads[0], grads[1], None, None, None, None, None


convolve.register_autograd(_convolve_backward, setup_context=_keep)


@torch.library.custom_op("photonic::within_range", mutates_args=(), tags=_RANDOM)
def within_range(x: Tensor, limit: Tensor, handle: int) -> Tensor:
    """``clamped`` at the site of the backend with that handle; the products that follow need its result."""
    return clamped(live(handle).site, x.detach(), limit.detach()).clone()


@within_range.register_fake
def _(x: Tensor, limit: Tensor, handle: int) -> Tensor:
    return torch.empty_like(x)


def _within_range_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, limit = ctx.saved_tensors
    inside = x.abs() <= limit
    to_limit = (grad * x.sign()).masked_fill(inside, 0.0).sum().to(limit.dtype) if ctx.needs_input_grad[1] else None
    return grad * inside if ctx.needs_input_grad[0] else None, to_limit, None


within_range.register_autograd(_within_range_backward, setup_context=_keep)
