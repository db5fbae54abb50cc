"""A streaming histogram of |x|, and the range that it finds.

One pass, fixed memory, no range known before. Quantiles are not taken: they need all numbers at once, and say nothing
of the error that a range makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.errors import RangeError, SpecError
from photonic.models.quantiser import Quantiser

BINS = 4096
CANDIDATES = 192
CHUNK = 2**22  # numbers at once: their bin indices take 8 bytes each
# a smaller top would overflow float32 in 1 / width
_LEAST_EXPONENT = -100


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of x at K ranges, and the fraction of x beyond each; (K,) float64 each."""

    quantisation: Tensor
    clipping: Tensor
    beyond: Tensor


class Histogram:
    """Counts |x| in even bins from 0; when a larger value comes, bins double their width and pairs are merged.

    The width is a power of two, so binning rounds nothing and the histogram does not depend on the order of the
    numbers nor on how they were batched. Exact zeros are counted apart: a converter has a code for them.

    Between half and all of the bins lie below the largest value, so one outlier of a million times the rest leaves the
    rest in the first bin: the resolution is ``largest / bins``.

    Args:
        bins: a power of two.

    Attributes:
        counts: (bins,) float64, on the CPU.
        zeros: how many numbers were exactly zero.
        width: of a bin.
        largest: |x|.
        signed: whether a number below zero came.
    """

    def __init__(self, bins: int = BINS) -> None:
        if bins < 2 or bins & (bins - 1):
            raise SpecError(f"a histogram needs a power of two of bins, so that pairs can be merged; found {bins}")
        self.counts = torch.zeros(bins, dtype=torch.float64)
        self.zeros, self.largest, self.signed = 0, 0.0, False
        self._exponent = _LEAST_EXPONENT  # all numbers lie below 2^exponent

    @property
    def width(self) -> float:
        """Of a bin; a power of two."""
        return math.ldexp(1.0, self._exponent - len(self.counts).bit_length() + 1)

    @property
    def total(self) -> float:
        """How many numbers were counted."""
        return float(self.counts.sum()) + self.zeros

    @property
    def mean_square(self) -> float:
        """Of x, with numbers spread evenly in each bin."""
        i = torch.arange(len(self.counts), dtype=torch.float64)
        return float(self.counts @ (i * i + i + 1 / 3)) / max(self.total, 1.0) * self.width**2

    @torch.no_grad()
    def update(self, x: Tensor) -> float:
        """Counts the numbers of a tensor of any shape, floating dtype and device.

        Returns:
            Its largest |x|.

        Raises:
            RangeError: x holds NaN or infinite values; nothing was counted.
        """
        if x.numel() == 0:
            return 0.0
        low, high = (float(v) for v in torch.aminmax(x))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise RangeError("the input holds NaN or infinite values; no range can be fitted to them")
        largest = max(-low, high)
        self.signed |= low < 0
        self.largest = max(self.largest, largest)
        if largest > 0:
            self._widen(math.frexp(largest)[1])
        for part in x.flatten().split(CHUNK):
            self._count(part)
        return largest

    def _widen(self, exponent: int) -> None:
        """Merges pairs of bins until 2^exponent is the end of the last one."""
        bins = len(self.counts)
        for _ in range(min(exponent - self._exponent, bins.bit_length())):
            pairs = self.counts.view(-1, 2).sum(1)
            self.counts = torch.cat([pairs, pairs.new_zeros(bins // 2)])
        self._exponent = max(self._exponent, exponent)

    def _count(self, x: Tensor) -> None:
        # half precisions are too short for the index; a power of two is exact in all others
        size = x.float().abs_() if x.dtype in (torch.float16, torch.bfloat16) else x.abs()
        nonzero = size[size > 0]
        self.zeros += size.numel() - nonzero.numel()
        index = nonzero.mul_(1 / self.width).to(torch.int64)
        self.counts += torch.bincount(index, minlength=len(self.counts)).to("cpu", torch.float64)

    def errors(self, ranges: Tensor, quantiser: Quantiser | None) -> Errors:
        """What each range does to the numbers seen: quantised inside [-r, r], clamped to it beyond.

        Args:
            ranges: (K,) float64, above 0, in units of x.
            quantiser: the converter's, on [0, 1]; None: exact.

        Returns:
            Mean squares over all numbers, zeros among them; numbers are spread evenly in each bin.
        """
        # in units of the width, so that no square overflows
        r, used = (ranges / self.width).unsqueeze(1), int(self.largest / self.width) + 1
        edges = torch.arange(used + 1, dtype=torch.float64)
        share = self.counts[:used] / max(self.total, 1.0)
        inside = torch.minimum(edges, r)
        over = edges - inside
        beyond = over * over * over / 3
        quantisation = torch.zeros_like(ranges)
        if quantiser is not None:
            error = quantiser.squared_error(inside / r).diff(dim=1) @ share
            at_zero = quantiser.at_zero**2 * (self.zeros / max(self.total, 1.0))
            quantisation = error * r.squeeze(1) ** 3 + at_zero * r.squeeze(1) ** 2
        outside = ranges >= self.largest
        return Errors(
            quantisation=quantisation * self.width**2,
            clipping=(beyond.diff(dim=1) @ share).masked_fill_(outside, 0.0) * self.width**2,
            beyond=((edges.diff() - inside.diff(dim=1)) @ share).masked_fill_(outside, 0.0),
        )

    def clamped_mean(self, ranges: Tensor) -> Tensor:
        """Mean of min(|x|, r) over r, for ranges (K,): the average level that a range sends."""
        middle = (torch.arange(len(self.counts), dtype=torch.float64) + 0.5) * self.width
        kept = torch.minimum(middle, ranges.unsqueeze(1)) @ self.counts
        return kept / max(self.total, 1.0) / ranges

    def candidates(self) -> Tensor:
        """Ranges (K,) from one bin to the largest value, geometrically, the latter exactly.

        Raises:
            RangeError: nothing but zeros was counted.
        """
        if self.largest == 0:
            raise RangeError("no range fits: nothing but zeros was counted; give the histogram numbers first")
        steps = torch.linspace(0, 1, CANDIDATES, dtype=torch.float64)
        ranges = self.largest * torch.pow(self.width / self.largest, 1 - steps)
        ranges[-1] = self.largest
        return ranges

    def best_range(self, quantiser: Quantiser | None, noise: Callable[[Tensor], Tensor] | None = None) -> float:
        """The range of the least expected squared error: quantisation + clipping (+ noise).

        Args:
            quantiser: of the input converter; None: exact, and only noise speaks for a smaller range.
            noise: variance that ranges (K,) cost besides, referred to one input: what follows the converter is
                proportional to the range too.

        Raises:
            RangeError: nothing but zeros was counted.
        """
        ranges = self.candidates()
        found = self.errors(ranges, quantiser)
        error = found.quantisation + found.clipping
        return float(ranges[int((error if noise is None else error + noise(ranges)).argmin())])
