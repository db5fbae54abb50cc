"""Input codes to optical levels and back: a Mach-Zehnder modulator, or a linear one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from photonic.records import InputTransfer


def levels(transfer: InputTransfer, codes: Tensor) -> Tensor:
    """Optical level T of each code (any shape, floating point).

    Intensity transfer of a Mach-Zehnder modulator with finite extinction,
    T = T_min + (1 - T_min) sin^2(pi/2 u), u = (code - code_zero) / (code_one - code_zero).
    """
    u = (codes - transfer.code_zero) / (transfer.code_one - transfer.code_zero)
    return u if transfer.shape == "linear" else mzm(u * (math.pi / 2), transfer.level_min)


def mzm(half_phase: Tensor, level_min: float) -> Tensor:
    """T_min + (1 - T_min) sin^2(half_phase); overwrites its argument, which is large in a simulation."""
    return half_phase.sin_().square_().mul_(1.0 - level_min).add_(level_min)


def codes(transfer: InputTransfer, values: Tensor) -> Tensor:
    """Codes, not yet rounded, whose level is T_min + (1 - T_min) v for v in [0, 1] (linear: v, which may be < 0).

    Values a rounding error outside [0, 1] are the caller's; arcsine needs them inside.
    """
    if transfer.shape == "mzm":
        values = torch.asin(values.clamp(0.0, 1.0).sqrt()) * (2 / math.pi)
    return values * (transfer.code_one - transfer.code_zero) + transfer.code_zero
