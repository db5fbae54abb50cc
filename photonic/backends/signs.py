"""Numbers with a sign on chips whose light, or whose weights, have none."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

# plain: as it is; time: positive and negative parts one after the other; space: side by side on twice the inputs (or
# outputs, for weights); offset: shifted into [0, 1]
Sign = Literal["plain", "time", "space", "offset"]


def encode_input_signs(v: Tensor, sign: Sign) -> Tensor:
    """v (G, B, N) in [-1, 1] to what the inputs can carry; "time" doubles B, "space" doubles N."""
    if sign == "time":
        return torch.cat([v.clamp(min=0), v.neg().clamp_(min=0)], dim=1)
    if sign == "space":
        return torch.cat([v.clamp(min=0), v.neg().clamp_(min=0)], dim=2)
    return v.add(1).mul_(0.5) if sign == "offset" else v


def encode_weight_signs(weight: Tensor, inputs: Sign, weights: Sign) -> Tensor:
    """weight (G, M, N) to what the chip can hold, given how the inputs are encoded; "space" doubles N and M."""
    if inputs == "space":
        weight = torch.cat([weight, -weight], dim=2)
    if weights == "space":
        weight = torch.cat([weight.clamp(min=0), weight.neg().clamp_(min=0)], dim=1)
    return weight


def decode_signs(y: Tensor, weight_sums: Tensor, inputs: Sign, weights: Sign) -> Tensor:
    """Undoes both sign encodings.

    Args:
        y: (G, B', M') products of the encoded matrices.
        weight_sums: (G, 1, M') sums of the encoded weights over N, for the offset.
        inputs: how the inputs were encoded.
        weights: how the weights were encoded.

    Returns:
        (G, B, M).
    """
    if inputs == "time":
        positive, negative = y.chunk(2, dim=1)
        y = positive - negative
    elif inputs == "offset":
        y = 2 * y - weight_sums
    if weights == "space":
        positive, negative = y.chunk(2, dim=2)
        y = positive - negative
    return y
