"""Values with the gradient of what they were made from."""

from __future__ import annotations

from torch import Tensor

from photonic.physics.codes import LIMIT


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """The value, bit by bit, with the gradient of x."""
    # x - x.detach() is exactly 0 and has the derivative 1; what is not finite becomes NaN
    return value + (x - x.detach()) if x.requires_grad else value


def within_limits(x: Tensor, clamped: Tensor, value: Tensor) -> Tensor:
    """The value, bit by bit, with the gradient of x where what was clamped lay within [-1, 1], ends included.

    ``torch.clamp`` stops it at the ends, where quantised values often are.
    """
    if not x.requires_grad:
        return value
    return value + (x - x.detach()) * (clamped.abs() <= LIMIT)
