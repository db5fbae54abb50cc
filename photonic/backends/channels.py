"""The input channels of a measured chip, and the codes that give wanted levels: their transfer, inverted.

T_j(u) = T_min + (1 - T_min) sin^2(pi/2 v_j (u - u_0) / (u_1 - u_0) + b_j)      or (u - u_0) / (u_1 - u_0)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photonic.errors import CalibrationError
from photonic.physics.many import many
from photonic.records import ChipSpec, InputTransfer

# of the levels that channels have in common, relative to nominal ones: below it noise would be 20 times as large
LEAST_SPAN = 0.05


@dataclass(frozen=True)
class Channels:
    """The first n channels: v to code_j = offset_j + slope_j f(floor_j + rise_j v), f(x) = asin(sqrt x) or x.

    Attributes:
        spec: of the chip.
        base: t, the level p_j T_j that stands for 0 in all of them.
        span: d, what it rises by until it stands for 1.
        curved: whether f is asin(sqrt x).
        line: (4, n) floor, rise, slope and offset.
        dark: (N,) p_j T_j of the code of an unused channel, of all channels.
    """

    spec: ChipSpec
    base: float
    span: float
    curved: bool
    line: Tensor
    dark: Tensor

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float64]], spec: ChipSpec, transfer: InputTransfer, n: int) -> Channels:
        """The levels that n channels have in common, as large as possible.

        Args:
            arrays: of a measured record, of shapes that fit.
            spec: of the chip.
            transfer: of shape "mzm" or "linear"; its codes.
            n: inputs in use.

        Raises:
            CalibrationError: they have hardly any in common.
        """
        power, least = torch.tensor(arrays["power"]), float(arrays["level_min"][0])
        curved, codes = transfer.shape == "mzm", transfer.code_one - transfer.code_zero
        # x, of which f(x) is linear in the code, is (T - shift) / stretch
        slope, start = torch.full_like(power, 1.0 / codes), torch.zeros_like(power)
        shift, stretch = 0.0, 1.0
        if curved:
            slope, start = (
                torch.tensor(arrays["inverse_v_pi"]) * (math.pi / 2 / codes),
                torch.tensor(arrays["bias_rad"]),
            )
            shift, stretch = least, 1.0 - least

        def level(code: float) -> Tensor:
            """T of all channels, of the branch that f inverts."""
            x = start + slope * (code - transfer.code_zero)
            return shift + stretch * (x.clamp(0, math.pi / 2).sin() ** 2 if curved else x.clamp(-1, 1))

        ends = torch.stack([level(code) for code in spec.input_code_range])
        lowest, highest = power * ends.amin(0), power * ends.amax(0)
        base = 0.0 if spec.signed_inputs else float(lowest[:n].max())
        top = float(torch.minimum(highest, -lowest)[:n].min() if spec.signed_inputs else highest[:n].min())
        _check_span(spec, base, top, lowest[:n], highest[:n])
        floor, rise = (base / power - shift) / stretch, (top - base) / (power * stretch)
        line = torch.stack([floor, rise, 1.0 / slope, transfer.code_zero - start / slope])[:, :n]
        x = start + slope * (spec.dark_code - transfer.code_zero)
        dark = power * (shift + stretch * (x.sin() ** 2 if curved else x))
        return cls(spec, base, top - base, curved, line, dark)

    def codes(self, values: Tensor) -> Tensor:
        """Codes (..., N) of values (..., N) in [0, 1], or [-1, 1]; channel j mod n carries value j."""
        n = self.line.shape[1]
        repeats = -(-values.shape[-1] // n)
        line = self.line.to(values).repeat(1, repeats)[:, : values.shape[-1]]
        if self.spec.input_bits is not None and self.spec.code_dtype == torch.int16 and many(values):
            from photonic.physics.compiled import pixels  # numba takes a while to import

            return pixels.channel_codes(values, line.contiguous(), self.spec.input_code_range, curved=self.curved)
        floor, rise, slope, offset = line
        found = torch.addcmul(floor, values, rise)
        if self.curved:
            found = found.clamp_(0, 1).sqrt_().asin_()
        found = found.mul_(slope).add_(offset)
        if self.spec.input_bits is not None:
            found = found.round_()
        # a rounding error, at the ends of the range
        return found.clamp_(*self.spec.input_code_range).to(self.spec.code_dtype)


def _check_span(spec: ChipSpec, base: float, top: float, lowest: Tensor, highest: Tensor) -> None:
    if top - base >= LEAST_SPAN:
        return
    raise CalibrationError(
        f"chip {spec.chip_id}: its channels have the levels from {base:.3f} to {top:.3f} in common, expected at least "
        f"{LEAST_SPAN:g}. Channel {int(highest.argmin())} gives at most {float(highest.min()):.3f} and channel "
        f"{int(lowest.argmax())} at least {float(lowest.max()):.3f}: repair the source or the modulator's bias and "
        "calibrate again"
    )
