"""Shot noise where S has a product of its own: its variance in counts, as the light's product with one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from photonic.physics.detection import Gain
from photonic.records import NoiseModel

# W_S beside float32, half the memory: of each element 2^-11 is rounded away at most, and of the variance of a sum less
COMPACT = {torch.float32: torch.float16}


@dataclass(frozen=True)
class ShotNoise:
    """What outputs of C columns of tiles do not share: thermal and shot noise and the ADC's own.

    Attributes:
        matrix: (C, R m, K) from light to variance in counts^2.
        fixed: (C or 1, 1, R or 1, m) variance without light.
    """

    matrix: Tensor
    fixed: Tensor

    @classmethod
    def of(cls, power: Tensor, gain: Gain, noise: NoiseModel, adc_noise_lsb: float) -> Self:
        """Of W_S (C, R, m, K), perhaps compact, at the gain of these columns."""
        squared, (thermal, shot) = gain.counts_per_d.square(), gain.receivers(noise)
        scale = (squared * shot).squeeze(1).unsqueeze(-1)  # (C or 1, R or 1, m, 1)
        matrix = power.to(squared.dtype, copy=True).mul_(scale)
        return cls(matrix.flatten(1, 2), (squared * thermal).add_(adc_noise_lsb**2))

    def columns(self, which: slice) -> ShotNoise:
        """Of some of the columns."""
        fixed = self.fixed if len(self.fixed) == 1 else self.fixed[which]
        return ShotNoise(self.matrix[which], fixed)

    def variance(self, light: Tensor, out: Tensor) -> Tensor:
        """In counts^2, for light (C, b, K), above what is fixed; overwrites ``out`` (C, b, R, m)."""
        torch.bmm(light, self.matrix.mT, out=out.flatten(2))
        return out
