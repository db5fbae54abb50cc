"""What an input converter makes of the numbers between zero and the end of the input range.

Codes are evenly spaced in *drive*. Behind a Mach-Zehnder modulator they are not evenly spaced in level: steps are fine
at both ends and pi / 2 times the average in the middle, so r^2 / 12 per squared step is not the error of any input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from photonic.backends.signs import Sign
from photonic.errors import SpecError
from photonic.physics import modulator
from photonic.records import InputTransfer


@dataclass(frozen=True)
class Quantiser:
    """A converter's cells on [0, 1], in units of the input range: numbers between two edges become one level.

    Attributes:
        edges: (K + 1,) float64, from 0 to 1.
        levels: (K,) what each cell becomes.
        integral: (K + 1,) of the squared error, from 0 to each edge.
    """

    edges: Tensor
    levels: Tensor
    integral: Tensor

    @classmethod
    def of(cls, transfer: InputTransfer, bits: int | None, sign: Sign = "plain") -> Self | None:
        """The converter of a chip; None where it has no bits, and so no error.

        Args:
            transfer: from code to level, nominal or calibrated.
            bits: of the input converter.
            sign: how numbers are encoded. "offset" sends (v + 1) / 2: half of the codes, and none for zero.
        """
        if bits is None:
            return None
        low, high = sorted((transfer.code_zero, transfer.code_one))
        codes = torch.arange(round(low), round(high) + 1, dtype=torch.float64)
        if transfer.code_one < transfer.code_zero:
            codes = codes.flip(0)
        dark = transfer.level_min
        levels = (modulator.levels(transfer, codes) - dark) / (1 - dark)
        edges = (modulator.levels(transfer, (codes[1:] + codes[:-1]) / 2) - dark) / (1 - dark)
        if sign == "offset":
            levels, edges = 2 * levels - 1, 2 * edges - 1
            # symmetric about zero: the upper half tells both
            kept = edges > 0
            levels, edges = levels[-int(kept.sum()) - 1 :], edges[kept]
        return cls._from(edges, levels)

    @classmethod
    def uniform(cls, bits: int) -> Self:
        """2^bits evenly spaced levels from 0 to 1, as a linear modulator has them.

        Raises:
            SpecError: fewer than 1 bit.
        """
        if bits < 1:
            raise SpecError(f"a converter has at least 1 bit, found {bits}")
        levels = torch.arange(2**bits, dtype=torch.float64) / (2**bits - 1)
        return cls._from((levels[1:] + levels[:-1]) / 2, levels)

    @classmethod
    def _from(cls, inner: Tensor, levels: Tensor) -> Self:
        edges = torch.cat([inner.new_zeros(1), inner, inner.new_ones(1)])
        cells = ((edges[1:] - levels) ** 3 - (edges[:-1] - levels) ** 3) / 3
        return cls(edges, levels, torch.cat([inner.new_zeros(1), cells.cumsum(0)]))

    def squared_error(self, v: Tensor) -> Tensor:
        """Integral of the squared error from 0 to each v (any shape, in [0, 1], float64); exact."""
        cell = torch.searchsorted(self.edges[1:-1], v, out_int32=True)
        # what a cell adds up to before its level: the rest is the cube from there on
        before = self.integral[:-1] - (self.edges[:-1] - self.levels) ** 3 / 3
        off = v - self.levels[cell]
        return before[cell].addcmul_(off * off, off, value=1 / 3)

    @property
    def at_zero(self) -> float:
        """What an exact zero becomes, in units of the range: 0 but for an offset encoding."""
        return float(self.levels[0])
