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
