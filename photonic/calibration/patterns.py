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
        edge = torch.where(signs < 0, low, high).unsqueeze(1)
        return self._codes(size * edge, self.spec.weight_bits)

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
        least, most = low * r, high * r
        share = ((each - least) / (most - least)).clamp(0.0, 1.0) * lit.sum()
        order = torch.rand(m, n, generator=self.generator, dtype=torch.float64).masked_fill(~lit, 2.0)
        rank = order.argsort(dim=1).argsort(dim=1)
        filled = (share.unsqueeze(1) - rank).clamp(0.0, 1.0)
        wanted = self._codes(least.unsqueeze(1) + (most - least).unsqueeze(1) * filled, self.spec.weight_bits)
        return torch.where(lit, wanted, self.weights_uniform())

    def inputs_binary(self, shots: int, share: Tensor | float = 0.5) -> Tensor:
        """Codes (B, N): every channel dark or full, full with probability ``share`` (a number, or (B, 1))."""
        chosen = torch.rand(shots, self.spec.n_inputs, generator=self.generator, dtype=torch.float64) < share
        return self._levels(chosen.to(torch.float64))

    def inputs_uniform(self, shots: int, share: float = 1.0) -> Tensor:
        """Codes (B, N) drawn evenly over the range of the converters, in a random ``share`` of the channels."""
        low, high = self.spec.input_code_range
        shape = shots, self.spec.n_inputs
        drawn = torch.rand(shape, generator=self.generator, dtype=torch.float64) * (high - low) + low
        lit = torch.rand(shape, generator=self.generator, dtype=torch.float64) < share
        return self._codes(torch.where(lit, drawn, self.spec.dark_code), self.spec.input_bits)

    def share_in_range(self, balanced: bool) -> float:
        """How many of the channels may be full, at most half, so that random weights hardly ever reach the ADC's rails.

        With mean square q of the weights, D has the variance q p / N at a share p, and q p (1 - p) / N where rows are
        balanced: there 1 - p is as good as p.
        """
        low, high = self.spec.weight_code_range
        ends = (low**2 + high**2) / 2
        middle = (low**2 + low * high + high**2) / 3
        square = (_ENDS * ends + (1 - _ENDS) * middle) / self._one**2
        most = self.spec.n_inputs * (self.spec.adc_full_scale / _DEVIATIONS) ** 2 / square
        if not balanced:
            return min(0.5, most)
        return 0.5 - math.sqrt(max(0.0, 0.25 - most))

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

    def _levels(self, levels: Tensor) -> Tensor:
        """Codes that nominally send these levels, from the darkest (0) to the fullest (1)."""
        transfer = self.spec.response.inputs
        low, high = self.spec.input_code_range
        return self._codes(modulator.codes(transfer, levels).clamp(low, high), self.spec.input_bits)

    def _codes(self, values: Tensor, bits: int | None) -> Tensor:
        return values.to(self.spec.code_dtype) if bits is None else values.round().to(self.spec.code_dtype)
