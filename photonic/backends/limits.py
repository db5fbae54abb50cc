"""A layer's input range at work: checked, shown to the backend, and counted."""

from __future__ import annotations

import torch
from torch import Tensor

from photonic.backends.base import Site
from photonic.backends.encoding import check_finite
from photonic.errors import RangeError


def clamped(site: Site, x: Tensor, limit: Tensor) -> Tensor:
    """x clamped to [-limit, limit], differentiable in both; the site gets the range, and counts what was clamped.

    Raises:
        RangeError: the range is not finite and above 0, as a learned one may become, or x is not finite.
    """
    # in x's own precision: clamped to a limit that the backend then sees rounded, x would lie beyond it
    limit = limit.to(x.dtype)
    if not bool(torch.isfinite(limit.detach()) & (limit.detach() > 0)):
        raise RangeError(
            f"the input range of layer {site.name or '(unnamed)'} must be finite and above 0 in {x.dtype}, found "
            f"{limit.item():g}; set it again with photonic.set_input_range"
        )
    if x.numel():
        # clamping would turn infinity into a number before the backend sees it
        check_finite(f"the input of layer {site.name or '(unnamed)'}", *torch.aminmax(x.detach()))
    site.input_range = limit.detach()
    site.inputs += x.numel()
    site.clipped += int((x.detach().abs() > site.input_range).sum())
    return torch.minimum(torch.maximum(x, -limit), limit)
