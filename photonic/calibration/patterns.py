"""Weight settings and input vectors that a calibration measures, as codes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.physics import modulator
from photonic.records import ChipSpec

# of the ADC's range: what a pattern aims at; the rest is for gains and offsets that are not nominal yet
_USED_RANGE = 0.9
# of random results, between zero and the rails
_DEVIATIONS = 4.1
_NEVER_DARK = 0.75
# of the random codes, that stand at an end of their range
_ENDS = 0.2


@dataclass(frozen=True)
class Patterns:
    """Draws codes for a chip with one code per weight.

    Attributes:
        spec: of the chip.
        generator: owned by the caller.
    """

    spec: ChipSpec
    generator: torch.Generator

    def weights_uniform(self) -> Tensor:
        """Codes (M, N) drawn evenly over the whole range: every element meets every code; a fifth stands at an end.

        The ends are where the largest weights of every row stand later, all at once: an error there adds up.
        """
        low, high = self.spec.weight_code_range
        drawn = torch.rand(self._shape, generator=self.generator, dtype=torch.float64)
        drawn = ((drawn - _ENDS / 2) / (1 - _ENDS)).clamp_(0.0, 1.0)
        return self._codes(drawn * (high - low) + low, self.spec.weight_bits)

    def weights_balanced(self) -> Tensor:
        """Codes (M, N) as ``weights_uniform``; every element has a random partner in its row, with the opposite code.

        A row then sums up to nothing, and results stay small with any light: settings can be measured with little light
        and with nearly all of it, so that nothing has to be extrapolated from one to the other.
        """
        m, n = self._shape
        low, high = self.spec.weight_code_range
        drawn = self.weights_uniform()
        order = torch.rand(m, n, generator=self.generator, dtype=torch.float64).argsort(dim=1)
        first, second = order[:, : n // 2], order[:, n // 2 : 2 * (n // 2)]
        mirrored = low + high - drawn.gather(1, first).to(torch.float64)
        return drawn.scatter(1, second, self._codes(mirrored, self.spec.weight_bits))

    def weights_one_sided(self, signs: Tensor) -> Tensor:
        """Codes (M, N) whose rows have the sign of ``signs`` (M,) and any size, so that no code decides a result."""
        low, high = self.spec.weight_code_range
        size = torch.rand(self._shape, generator=self.generator, dtype=torch.float64)
        start = min(max(0.0, low), high)  # the smallest weight that there is
        edge = torch.where(signs < 0, low, high).unsqueeze(1)
        return self._codes(start + size * (edge - start), self.spec.weight_bits)

    def weights_with_sum(self, results: Tensor, inputs: Tensor | None = None, size: Tensor | float = 1.0) -> Tensor:
        """Codes (M, N) whose rows nominally give D = ``results`` (M,) with these inputs.

        A random part of the lit channels stands at +r, the rest at -r, the last one in between: the same D is made by
        other elements every time. Dark channels get any code.

        Args:
            results: within what the light can give; beyond, as much as it can.
            inputs: (N,) codes, dark or full; None: all full.
            size: r over what the code range allows, a number or (M,); more where the results need it.
        """
        m, n = self._shape
        low, high = self.spec.weight_code_range
        lit = torch.ones(n, dtype=torch.bool) if inputs is None else inputs != self.spec.dark_code
        each = results * n / max(1, int(lit.sum())) * self._one  # mean code of the lit channels
        needed = torch.maximum(each / high, each / min(low, -1e-9) if low < 0 else each.new_zeros(m))
        r = torch.maximum(torch.as_tensor(size, dtype=torch.float64).expand(m), needed).clamp(max=1.0)
        start = min(max(0.0, low), high)  # the smallest weight that there is
        least, most = start + (low - start) * r, start + (high - start) * r
        share = ((each - least) / (most - least).clamp_min(1e-9)).clamp(0.0, 1.0) * lit.sum()
        order = torch.rand(m, n, generator=self.generator, dtype=torch.float64).masked_fill(~lit, 2.0)
        rank = order.argsort(dim=1).argsort(dim=1)
        filled = (share.unsqueeze(1) - rank).clamp(0.0, 1.0)
        wanted = self._codes(least.unsqueeze(1) + (most - least).unsqueeze(1) * filled, self.spec.weight_bits)
        return torch.where(lit, wanted, self.weights_uniform())

    def inputs_binary(self, shots: int, share: Tensor | float = 0.5) -> Tensor:
        """Codes (B, N): channels dark or full, full with probability ``share`` (a number, or (B, 1)); at least one is.

        Full is less than 1 where a single channel with the largest weight would reach the ADC's rails.
        """
        chosen = self._lit(shots, share)
        low, high = self.spec.weight_code_range
        most = max(abs(low), abs(high)) / self._one
        full = min(1.0, _USED_RANGE * self.spec.adc_full_scale * self.spec.n_inputs / most)
        return self._levels(chosen.to(torch.float64) * full)

    def inputs_uniform(self, shots: int, share: float = 1.0) -> Tensor:
        """Codes (B, N) drawn evenly over the range of the converters, in a random ``share`` of the channels."""
        low, high = self.spec.input_code_range
        shape = shots, self.spec.n_inputs
        drawn = torch.rand(shape, generator=self.generator, dtype=torch.float64) * (high - low) + low
        return self._codes(torch.where(self._lit(shots, share), drawn, self.spec.dark_code), self.spec.input_bits)

    def share_in_range(self, balanced: bool) -> float:
        """How many of the channels may be full, at most half, so that random weights hardly ever reach the ADC's rails.

        With mean m and mean square q of the weights, D has the mean m p and the variance q p / N at a share p; where
        rows are balanced, 0 and q p (1 - p) / N: there 1 - p is as good as p.
        """
        low, high = (code / self._one for code in self.spec.weight_code_range)
        mean = (low + high) / 2
        square = _ENDS * (low**2 + high**2) / 2 + (1 - _ENDS) * (low**2 + low * high + high**2) / 3
        range_, spread = self.spec.adc_full_scale, _DEVIATIONS * math.sqrt(square / self.spec.n_inputs)
        if balanced:
            return 0.5 - math.sqrt(max(0.0, 0.25 - (range_ / spread) ** 2))
        # of |m| p + spread sqrt(p) = range, without cancellation where m is 0
        root = 2 * range_ / (spread + math.sqrt(spread**2 + 4 * abs(mean) * range_))
        return min(0.5, root**2)

    def inputs_subsets(self, shots: int, share: Tensor) -> Tensor:
        """Codes (B, N): ``share`` (B,) of the channels full, a random subset, the last of them in between."""
        n = self.spec.n_inputs
        rank = torch.rand(shots, n, generator=self.generator, dtype=torch.float64).argsort(dim=1)
        return self._levels((share.unsqueeze(1) * n - rank).clamp(0.0, 1.0))

    def results(self, count: int, reach: float = 1.0) -> Tensor:
        """(count,) values of D spread evenly over the ADC's range, in random order."""
        edge = self.spec.adc_full_scale * _USED_RANGE * reach
        spread = torch.linspace(-edge, edge, max(count, 2), dtype=torch.float64)[:count]
        return spread[torch.randperm(count, generator=self.generator)]

    def uniform(self, count: int, low: float, high: float) -> Tensor:
        """(count,) numbers drawn evenly."""
        return torch.rand(count, generator=self.generator, dtype=torch.float64) * (high - low) + low

    @property
    def _shape(self) -> tuple[int, int]:
        return self.spec.n_outputs, self.spec.n_inputs

    @property
    def _one(self) -> float:
        return self.spec.response.weight_code_one

    def _lit(self, shots: int, share: Tensor | float) -> Tensor:
        """(B, N) channels, each with probability ``share``; of shots that would have none, 3 of 4 get a random one."""
        shape = shots, self.spec.n_inputs
        lit = torch.rand(shape, generator=self.generator, dtype=torch.float64) < share
        one = torch.randint(self.spec.n_inputs, (shots, 1), generator=self.generator)
        # without any, a zero could not be told from a constant part of the light
        given = torch.rand(shots, 1, generator=self.generator) < _NEVER_DARK
        return lit.scatter(1, one, lit.gather(1, one) | (given & ~lit.any(1, keepdim=True)))

    def _levels(self, levels: Tensor) -> Tensor:
        """Codes that nominally send these levels, from the darkest (0) to the fullest (1)."""
        transfer = self.spec.response.inputs
        low, high = self.spec.input_code_range
        return self._codes(modulator.codes(transfer, levels).clamp(low, high), self.spec.input_bits)

    def _codes(self, values: Tensor, bits: int | None) -> Tensor:
        return values.to(self.spec.code_dtype) if bits is None else values.round().to(self.spec.code_dtype)
