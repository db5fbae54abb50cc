"""The light that inputs become, for whole products and for convolutions that are never unfolded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.backends.encoding import Geometry
from photonic.physics.transmitter import Transmitter

# of a level, between the channels' own curves and their expansion: in D, of which a level is 1 / N, far below a count
TOLERANCE = {torch.float32: 3e-4, torch.float64: 1e-10}


@dataclass(frozen=True)
class Light:
    """Light of a product's shots, by column tile.

    Attributes:
        plus: (G, B, C, K) of the shot with the positive parts, or of the only one.
        minus: the same of the shot with the negative parts, or None.
    """

    plus: Tensor
    minus: Tensor | None = None

    @property
    def difference(self) -> Tensor:
        """What the mean follows."""
        return self.plus if self.minus is None else self.plus - self.minus

    @property
    def total(self) -> Tensor:
        """What the shot noise follows."""
        return self.plus if self.minus is None else self.plus + self.minus

    def sample(self, count: int) -> Light:
        """About ``count`` of the B shots, evenly from all."""
        step = -(-self.plus.shape[1] // max(1, count))
        return Light(self.plus[:, ::step], None if self.minus is None else self.minus[:, ::step])

    @property
    def shots(self) -> tuple[Tensor, ...]:
        """Of each shot for one result, 1 or 2."""
        return (self.plus,) if self.minus is None else (self.plus, self.minus)

    @property
    def readings(self) -> int:
        """Shots for one result, 1 or 2."""
        return len(self.shots)


def lit(codes: Tensor, cut: Geometry, transmitter: Transmitter, constant: bool, generator: torch.Generator) -> Tensor:
    """Light (..., C, K) of codes (..., N), floating point; what a tile has beyond N gets the dark code 0."""
    unused = cut.columns * cut.n - codes.shape[-1]
    codes = F.pad(codes, (0, unused)) if unused else codes
    light = transmitter.light(codes.unflatten(-1, (cut.columns, cut.n)), None, generator)
    return F.pad(light, (0, 1), value=1.0) if constant else light


@dataclass(frozen=True)
class LevelBasis:
    """Each channel's level for a code as a sum of few functions: T_j(code) = sum_q weights[j, q] f_q(code).

    So an image needs q channels in place of each of its own, wherever its pixels meet which modulator.

    Attributes:
        weights: (n, q).
        functions: (q, codes), from the lowest code.
        lowest: code.
    """

    weights: Tensor
    functions: Tensor
    lowest: int

    @classmethod
    def of(cls, transmitter: Transmitter, n: int, limits: tuple[float, float], dtype: torch.dtype) -> LevelBasis:
        """The shortest expansion within tolerance (a singular value decomposition)."""
        low, high = int(limits[0]), int(limits[1])
        codes = torch.arange(low, high + 1, dtype=torch.float64)
        # levels draw nothing: a transmitter whose shots differ has no such basis
        table = transmitter.light(codes.unsqueeze(-1).expand(-1, n), None, torch.Generator()).T
        u, s, vh = torch.linalg.svd(table, full_matrices=False)
        scaled = u * s
        count = 1
        while count < len(s) and (scaled[:, count:] @ vh[count:]).abs().max() > TOLERANCE[dtype]:
            count += 1
        return cls(scaled[:, :count].to(dtype), vh[:count].to(dtype), low)

    @property
    def common(self) -> LevelBasis:
        """The first function alone: what all channels have in common, to within the spread of the modulators."""
        return LevelBasis(self.weights[:, :1], self.functions[:1], self.lowest)

    def to(self, device: torch.device) -> LevelBasis:
        """The same on a device."""
        return LevelBasis(self.weights.to(device), self.functions.to(device), self.lowest)
