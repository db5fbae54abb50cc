"""Values with the gradient of what they were made from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from photonic.physics.codes import LIMIT


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """The value with the gradient of x; both have the same shape."""
    if not x.requires_grad:
        return value
    given: Tensor = _Masked.apply(x, None, value)
    return given


def within_limits(x: Tensor, clamped: Tensor, value: Tensor) -> Tensor:
    """The value with the gradient of x where what was clamped lay within [-1, 1], ends included.

    ``torch.clamp`` stops it at the ends, where quantised values often are.
    """
    if not x.requires_grad:
        return value
    given: Tensor = _Masked.apply(x, clamped.abs() <= LIMIT, value)
    return given


class _Masked(torch.autograd.Function):
    """One pass backward and none forward, where ``value + (x - x.detach()) * mask`` makes six."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor | None, value: Tensor) -> Tensor:
        ctx.save_for_backward(*([] if mask is None else [mask]))
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        return (grad * ctx.saved_tensors[0] if ctx.saved_tensors else grad), None, None
