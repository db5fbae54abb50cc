"""Weights rounded to the codes that elements have, so that the errors of a row cancel.

Errors e_j of the weights of a row add sum_j e_j v_j to its result. For independent inputs of mean mu and variance
sigma^2 its mean square is

    sigma^2 sum_j e_j^2 + mu^2 (sum_j e_j)^2.

The nearest codes make the first part smallest, and leave the second at its most likely size, N times mu^2 of one
error, though light is never negative and mu never 0. A few weights, those nearest to half a step, take the other of
their two codes until nearly nothing is left of the sum. Rounding by the error of the result instead of that of a weight
is known from networks that are quantised after training (Nagel et al., ICML 2020, arXiv 2004.10568).
"""

from __future__ import annotations

import torch
from torch import Tensor

# mu^2 / sigma^2 of inputs evenly spread from 0 to 1
MEAN_TO_VARIANCE = 3.0


def balanced(fine: Tensor, codes: Tensor, off: Tensor, steps: Tensor) -> Tensor:
    """Moves some codes to the other side of what is wanted, while that lowers the formula of the module.

    Args:
        fine: (..., n) codes that would give the wanted weights.
        codes: the same, rounded.
        off: (..., n) how far the weights of the rounded codes are from the wanted ones; 0 where no input is.
        steps: (..., n) what one code further adds to a weight.

    Returns:
        Codes (..., n), some of them moved by one.
    """
    n = codes.shape[-1]
    moves = (fine - codes).sign_().reshape(-1, n)
    found, off, change = codes.clone().reshape(-1, n), off.reshape(-1, n), steps.reshape(-1, n) * moves
    rows = torch.arange(len(found), device=codes.device)
    while len(rows):
        total = off.sum(-1, keepdim=True)
        worse = change * (2 * (off + MEAN_TO_VARIANCE * total) + (1 + MEAN_TO_VARIANCE) * change)
        best, at = worse.min(-1, keepdim=True)
        better = best.squeeze(-1) < 0
        rows, at, off, change, moves = (each[better] for each in (rows, at, off, change, moves))
        found[rows.unsqueeze(-1), at] += moves.gather(-1, at)
        off = off.scatter_add(-1, at, change.gather(-1, at))
        change, moves = change.scatter(-1, at, 0.0), moves.scatter(-1, at, 0.0)
    return found.view(codes.shape)
