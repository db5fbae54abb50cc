"""The seam of the architectures: from the weights' drive codes to what a tile does to the light."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Surroundings:
    """What T tiles meet while they are read, besides their codes.

    Attributes:
        generator: for what is drawn anew at every reading.
        kelvin: (T,) deviation of the temperature; None: none.
        phase_rad: (M,) of the local oscillators; None: none.
    """

    generator: torch.Generator
    kelvin: Tensor | None = None
    phase_rad: Tensor | None = None


class Optics(ABC):
    """The hidden truth of one device's optics.

    D = W_D T and S = S_0 + W_S T + k D^2, with T the levels (direct detection) or fields (homodyne) of the inputs.

    Attributes:
        s_offset: S_0, the local oscillator; 0 with direct detection.
        s_per_d2: k, the signal's own power beside a local oscillator; 0 with direct detection.
    """

    s_offset: float = 0.0
    s_per_d2: float = 0.0

    @property
    def repeatable(self) -> bool:
        """Whether the same codes in the same surroundings always give the same matrices."""
        return True

    @abstractmethod
    def matrices(self, codes: Tensor, around: Surroundings) -> tuple[Tensor, Tensor]:
        """W_D and W_S of T tiles.

        Args:
            codes: drive codes in the floating dtype of the arithmetic: (T, m, N) where each weight has one, unused
                inputs filled in, the first m <= M outputs; (T, P) for a mesh. Not changed.
            around: what else the tiles meet.

        Returns:
            W_D (T, m, K) and W_S, of the same shape, or (1, 1, K) where all outputs of all tiles see the same power.
            K is N, or 2 N where fields have a quadrature.
        """
