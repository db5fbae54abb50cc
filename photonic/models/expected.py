"""The error that a layer must expect of its input range and its tiles' gains, and the choice of the least.

All errors are referred to one input: for a layer y = W x, squared errors of y summed over outputs, over the sum of all
w^2. That is the mean squared error of x itself where only x errs, so that one number holds both sides of the chip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.models.quantiser import Quantiser
from photonic.models.recorder import LayerRecord
from photonic.models.tilecounts import TileCounts

_STEP = 2**0.25  # between ranges that are tried with all gains


@dataclass(frozen=True)
class Choice:
    """A range for a layer and gains for its tiles.

    Attributes:
        range: of the inputs.
        gains: (R, G x C), or None.
        clipped: fraction of the inputs beyond the range.
        error: expected rms error, relative to the rms of the inputs.
        saturated: fraction of counts at a rail, or None where they were not seen at a known range.
    """

    range: float
    gains: Tensor | None
    clipped: float
    error: float
    saturated: float | None


class Expected:
    """Expected errors of one recorded layer.

    Args:
        record: of a layer that saw numbers other than zero.
    """

    def __init__(self, record: LayerRecord) -> None:
        self._record, response = record, record.response
        self._quantiser = Quantiser.of(response.inputs, record.spec.input_bits, record.sign)
        scale = sum(float(weight.square().sum()) for weight in record.weights()) * record.forwards * record.shots
        self._scale = 1 / scale if scale > 0 else 0.0
        per_d = sum(abs(value) for value in response.counts_per_d) / len(response.counts_per_d)
        rounding = 0.0 if record.spec.adc_bits is None else 1 / (12 * per_d**2)
        self._adc = rounding + response.noise.converter

    def input_noise(self, ranges: Tensor) -> Tensor:
        """Variance (K,) of the chip's noise and of its ADC's rounding, at the gains that it was recorded with."""
        behind = self._adc * self._record.adc_worth * self._scale
        return self._analog(ranges) + ranges**2 * behind

    def _analog(self, ranges: Tensor) -> Tensor:
        """Variance (K,) of thermal and shot noise; RIN follows the signal and does not depend on the range."""
        noise, levels = self._record.response.noise, self._levels(ranges)
        variance = noise.thermal + noise.shot * levels + noise.common_mode * levels**2
        return ranges**2 * variance * (self._record.total_worth * self._scale)

    def _levels(self, ranges: Tensor) -> Tensor:
        """S (K,) of an average shot: nominal, half of the light where signs are sent one after the other."""
        transfer, sign = self._record.response.inputs, self._record.sign
        if transfer.shape == "field":
            return torch.ones_like(ranges)
        if sign == "offset":
            return torch.full_like(ranges, 0.5)
        mean = self._record.histogram.clamped_mean(ranges) / (2 if sign in ("time", "space") else 1)
        return transfer.level_min + (1 - transfer.level_min) * mean

    def now(self) -> float:
        """Expected relative error of the range that the layer has, its own for each batch if it has none."""
        static = self._record.module.input_range
        limit = self._record.span if static is None else float(static.detach())
        ranges = torch.tensor([limit], dtype=torch.float64)
        found = self._record.histogram.errors(ranges, self._quantiser)
        clipping = 0 * found.clipping if static is None else found.clipping
        return self._relative(found.quantisation + clipping + self.input_noise(ranges))

    def best(self) -> Choice:
        """The best range for the gains that the layer was recorded with."""
        limit = self._record.histogram.best_range(self._quantiser, self.input_noise)
        ranges = torch.tensor([limit], dtype=torch.float64)
        found = self._record.histogram.errors(ranges, self._quantiser)
        error = self._relative(found.quantisation + found.clipping + self.input_noise(ranges))
        return Choice(limit, None, float(found.beyond), error, None)

    def best_with(self, gains: tuple[float, ...], measured: float) -> Choice:
        """The best range together with the best of the gains for each tile.

        Args:
            gains: that each tile can have; none: all keep the one that they were recorded with.
            measured: the range at which the counts were recorded.
        """
        best, tiles = self.best(), self._record.tiles
        if tiles is None:
            return best
        offered = torch.tensor(gains or (tiles.gain,), dtype=torch.float64)
        # a gain lets a wider range pay: from a little narrower to twice as wide, or to where it was measured
        steps = max(4, math.ceil(math.log(measured / best.range, _STEP) - 1e-9))
        choices = [self._with(best.range * _STEP**i, offered, measured, tiles) for i in range(-1, steps + 1)]
        return min(choices, key=lambda choice: choice.error)

    def _with(self, limit: float, offered: Tensor, measured: float, tiles: TileCounts) -> Choice:
        record = self._record
        clipping, at_rail = tiles.clipping(offered, measured / limit)
        # averaging shots averages noise, not clipping
        errors = clipping * record.shots + self._adc / offered**2
        best = errors.argmin(dim=1, keepdim=True)
        behind = float((record.worth.view(-1, 1) * errors.gather(1, best)).sum()) * self._scale
        ranges = torch.tensor([limit], dtype=torch.float64)
        found = record.histogram.errors(ranges, self._quantiser)
        error = found.quantisation + found.clipping + self._analog(ranges) + ranges**2 * behind
        counts = tiles.counts.sum(1)
        saturated = float(counts @ at_rail.gather(1, best).squeeze(1) / counts.sum())
        chosen = offered[best].view(record.worth.shape).float()
        return Choice(limit, chosen, float(found.beyond), self._relative(error), saturated)

    def _relative(self, mean_square: Tensor) -> float:
        return math.sqrt(max(0.0, float(mean_square)) / self._record.histogram.mean_square)
