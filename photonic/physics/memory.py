"""First-order memory: what a modulator or a heater keeps of the symbols before (reference/sim.md e.8)."""

from __future__ import annotations

import math

from torch import Tensor

from photonic.errors import RangeError

_FORGOTTEN = 1e-17  # below the rounding of float64


def memory_coefficient(bandwidth_hz: float, symbol_rate_hz: float) -> float:
    """a = exp(-2 pi f_3dB T): what is left of a value after one symbol.

    Raises:
        RangeError: a frequency is not positive.
    """
    if not (bandwidth_hz > 0 and symbol_rate_hz > 0):
        raise RangeError(f"bandwidth and symbol rate must be positive, found {bandwidth_hz} Hz and {symbol_rate_hz} Hz")
    return math.exp(-2 * math.pi * bandwidth_hz / symbol_rate_hz)


def low_pass(u: Tensor, coefficient: float, initial: float | Tensor) -> Tensor:
    """y_t = a y_(t-1) + (1 - a) u_t along the dimension before the last.

    Sums over windows that double, each from two halves: log2(B) passes instead of B steps, or fewer where a is small,
    because what is further back is below rounding (a < 0.08: 16 symbols).

    Args:
        u: (..., B, n), floating point; not changed.
        coefficient: a, from 0 (no memory) to 1 (nothing passes).
        initial: y before the first symbol; a tensor broadcasts to (..., n).

    Returns:
        y, of the shape and dtype of ``u``.

    Raises:
        RangeError: the coefficient is outside.
    """
    if not 0 <= coefficient <= 1:
        raise RangeError(f"the coefficient of a memory must lie in [0, 1], found {coefficient}")
    y = u * (1 - coefficient)
    symbols = y.shape[-2]
    if symbols:
        y[..., 0, :] += coefficient * initial
    window, left = 1, coefficient
    while window < symbols and left > _FORGOTTEN:
        # the product is complete before the sum writes where it was read
        y[..., window:, :] += y[..., :-window, :] * left
        window, left = 2 * window, left * left
    return y
