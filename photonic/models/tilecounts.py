"""What each tile's ADC saw, and which analog gain would have served it best."""

from __future__ import annotations

import torch
from torch import Tensor

from photonic.backends.encoding import Geometry
from photonic.backends.observation import Observation
from photonic.records import ChipSpec, Response

FINE_BITS = 8  # counts of finer ADCs share bins
CHUNK = 2**22


class TileCounts:
    """Counts |count - zero| for each tile, as measured at one analog gain.

    Args:
        spec: of the chip; it has an ADC.
        response: of its calibration.
        cut: the tiling.
        gain: at which the counts are measured; the lowest, so that no count is lost that another gain could hold.

    Attributes:
        counts: (R x G x C, K) float64.
        gain: as given.
    """

    def __init__(self, spec: ChipSpec, response: Response, cut: Geometry, gain: float) -> None:
        low, high = spec.count_range
        zeros = torch.tensor(response.zero_count, dtype=torch.float64)
        below, above = zeros - low, high - zeros
        self._zero = zeros.round().to(torch.int32)[: cut.m]
        self._cut, self.gain = cut, gain
        self._bin = 2 ** max(0, (spec.adc_bits or FINE_BITS) - 1 - FINE_BITS)
        # beyond it a number is clipped; from 1 below it on its count stands at the rail
        self._rail = float(torch.minimum(below, above).min()) + 0.5
        bins = int(torch.maximum(below, above).max().ceil()) // self._bin + 1
        self.counts = torch.zeros(cut.rows * cut.groups * cut.columns, bins, dtype=torch.float64)
        self._per_d = float(torch.tensor(response.counts_per_d, dtype=torch.float64).abs().mean())

    def update(self, seen: Observation) -> None:
        """Adds the counts of one call; outputs that only fill a tile up are left out."""
        counts, width = seen.measured.counts, self.counts.shape[1]
        bins = self.counts.view(self._cut.rows, -1, width)
        for row, of_row in enumerate(counts):
            m = min(self._cut.m, self._cut.outputs - row * self._cut.m)
            for column, of_tile in enumerate(of_row):
                zero = self._zero[:m]
                for part in of_tile[:, :m].split(max(1, CHUNK // m)):
                    index = (part.to(torch.int32) - zero).abs_().flatten() // self._bin
                    bins[row, column] += torch.bincount(index, minlength=width)

    def clipping(self, gains: Tensor, shrink: float = 1.0) -> tuple[Tensor, Tensor]:
        """What each gain would do to the same signals.

        Args:
            gains: (K,) float64.
            shrink: all signals times this, as by an input range that is 1 / shrink times as wide.

        Returns:
            Mean squared clipping error (T, K) of one count of each tile, in D^2, and the fraction (T, K) of its counts
            that would stand at a rail; 0 for a tile that was not measured.
        """
        steps = gains * (shrink / self.gain)  # counts would be this many times larger
        edges = ((torch.arange(self.counts.shape[1] + 1, dtype=torch.float64) * self._bin) - 0.5).clamp_(min=0)
        width = edges.diff().unsqueeze(1)
        clipped = (edges.unsqueeze(1) - self._rail / steps).clamp_(min=0)
        at_rail = (edges.unsqueeze(1) - (self._rail - 1) / steps).clamp_(min=0)
        share = self.counts / self.counts.sum(1, keepdim=True).clamp_(min=1)
        mean_square = share @ ((clipped**3 / 3).diff(dim=0) / width)
        return mean_square * (shrink / (self._per_d * self.gain)) ** 2, share @ (at_rail.diff(dim=0) / width)
