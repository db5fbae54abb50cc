"""A WDM microring weight bank: drive codes to the signed and the total-power matrices.

Every architecture is one such function, ``drive codes -> (W_D, W_S)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.physics.parameters import ChipParameters


@dataclass(frozen=True)
class RingBank:
    """The hidden truth of one device's rings, (M, N) each; relative to half the nominal linewidth.

    Attributes:
        offset: resonance offset, in nominal half linewidths.
        inverse_width: nominal over actual linewidth.
        line_power: (N,) relative power of each comb line; mean as drawn, not normalised.
    """

    offset: Tensor
    inverse_width: Tensor
    line_power: Tensor

    @classmethod
    def draw(cls, parameters: ChipParameters, generator: torch.Generator) -> RingBank:
        """Draws a device; normal spreads with the standard deviations of ``parameters``."""
        m, n = parameters.n_outputs, parameters.n_inputs

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        half_width_nm = parameters.ring_fwhm_nm / 2
        return cls(
            offset=normal(m, n) * (parameters.resonance_spread_nm / half_width_nm),
            # log-normal: widths and powers are positive
            inverse_width=torch.exp(-parameters.fwhm_spread * normal(m, n)),
            line_power=torch.exp(parameters.channel_spread * normal(n)),
        )

    def matrices(self, parameters: ChipParameters, weights: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What each tile does to the levels: D = W_D T and S = W_S T.

        Args:
            parameters: of the chip.
            weights: (..., m, n) nominal weights in [-1, 1], what the drive codes mean on the data sheet.
            dtype: of the arithmetic.

        Returns:
            W_D (..., m, n) and W_S (1, n): a lossless add-drop ring moves power between the two arms of its balanced
            pair, so the sum does not depend on the weights. Both are divided by N (D = 1 for all inputs at +1).
        """
        m, n = weights.shape[-2:]
        detuning = _detuning(weights.to(dtype), parameters)
        offset, inverse_width = self.offset[:m, :n].to(dtype), self.inverse_width[:m, :n].to(dtype)
        power = (self.line_power[:n] / parameters.n_inputs).to(dtype)
        # Lorentzian drop port; weight = drop - through = 2 L - 1
        lorentzian = detuning.add_(offset).mul_(inverse_width).square_().add_(1.0).reciprocal_()
        return lorentzian.mul_(2.0).sub_(1.0).mul_(power), power.unsqueeze(0)


def _detuning(weights: Tensor, parameters: ChipParameters) -> Tensor:
    """Detuning in half linewidths at which a nominal ring gives the weight: the driver's linearising table.

    L = (1 + w) / 2 = 1 / (1 + d^2), so d = sqrt((1 - w) / (1 + w)), up to the reach of the heater.
    """
    reach = float("inf")
    if parameters.max_detuning_nm is not None:
        reach = 2 * parameters.max_detuning_nm / parameters.ring_fwhm_nm
    return weights.neg().add_(1.0).div_(weights + 1.0).sqrt_().clamp_(max=reach)
