"""Input codes to light and back: a Mach-Zehnder modulator as an intensity or a field source, or a linear one."""

from __future__ import annotations

import math

from torch import Tensor

from photonic.physics.many import many
from photonic.records import InputTransfer


def levels(transfer: InputTransfer, codes: Tensor) -> Tensor:
    """What each code (any shape, floating point) nominally sends: a level T, or a field E for shape "field".

    With u = (code - code_zero) / (code_one - code_zero): T = T_min + (1 - T_min) sin^2(pi/2 u), E = sin(pi/2 u), or u.
    """
    u = (codes - transfer.code_zero) / (transfer.code_one - transfer.code_zero)
    if transfer.shape == "linear":
        return u
    half_phase = u * (math.pi / 2)
    return half_phase.sin_() if transfer.shape == "field" else mzm(half_phase, transfer.level_min)


def mzm(half_phase: Tensor, level_min: float) -> Tensor:
    """T_min + (1 - T_min) sin^2(half_phase); overwrites its argument, which is large in a simulation."""
    half_phase.sin_().square_()
    return half_phase.mul_(1.0 - level_min).add_(level_min) if level_min else half_phase


def codes(transfer: InputTransfer, values: Tensor) -> Tensor:
    """Codes, not yet rounded, of values: T = T_min + (1 - T_min) v for v in [0, 1]; E = v or T = v, which may be < 0.

    Values a rounding error outside are the caller's; arcsine needs them inside.
    """
    span = transfer.code_one - transfer.code_zero
    if transfer.shape == "mzm":
        found = values.clamp(0.0, 1.0).sqrt_().asin_().mul_(span * (2 / math.pi))
    elif transfer.shape == "field":
        found = values.clamp(-1.0, 1.0).asin_().mul_(span * (2 / math.pi))
    else:
        found = values * span
    return found.add_(transfer.code_zero) if transfer.code_zero else found


def nearest_codes(transfer: InputTransfer, values: Tensor, *, signed: bool = False) -> Tensor:
    """Codes rounded to the nearest, half to even; ``signed``: of the magnitude, with the value's sign.

    Of many values a compiled loop makes them. Both ways are within the rounding of float32, which moves a code where
    two are equally near, at 12 bits one in some thousand by one, and at 15 bits codes near the end by several.
    """
    span = transfer.code_one - transfer.code_zero
    if transfer.shape == "mzm" and many(values):
        from photonic.physics.compiled import pixels  # numba takes a while to import

        return pixels.codes(values, span, transfer.code_zero, signed=signed)
    found = codes(transfer, values.abs() if signed else values).round_()
    return found.copysign_(values) if signed else found
