"""The output side of one device: detector pairs, amplifiers and ADCs, with what is hidden in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.physics import converters
from photonic.physics.parameters import ChipParameters


@dataclass(frozen=True)
class Receiver:
    """The hidden truth of the M outputs.

    Attributes:
        gain: (M,) of each amplifier, relative.
        offset_d: (M,) of each ADC, in D.
        imbalance: (M,) difference of the pair's responsivities, relative to their mean.
        transitions: (M, K), or (K,) of all alike: levels, in LSB, at which the ADC's count rises; None: ideal ADCs.
        own_noise: (2, M) thermal and shot noise of each output, relative to the chip's; None: all alike.
    """

    gain: Tensor
    offset_d: Tensor
    imbalance: Tensor
    transitions: Tensor | None
    own_noise: Tensor | None = None

    @classmethod
    def draw(cls, parameters: ChipParameters, generator: torch.Generator) -> Receiver:
        """Draws a device; the number of draws does not depend on the spreads."""
        m, p = parameters.n_outputs, parameters

        def normal() -> Tensor:
            return torch.randn(m, generator=generator, dtype=torch.float64)

        return cls(
            gain=torch.exp(p.gain_spread * normal()),
            offset_d=p.offset_spread_lsb * p.lsb * normal(),
            imbalance=p.arm_imbalance_spread * normal(),
            transitions=_transitions(p, generator),
        )


def _transitions(p: ChipParameters, generator: torch.Generator) -> Tensor | None:
    """The table of the data sheet and each converter's own mismatch add up, as INL does."""
    if p.adc_bits is None or (p.adc_inl is None and p.adc_mismatch == 0):
        return None
    inl = (0.0, 0.0) if p.adc_inl is None else p.adc_inl
    alike = converters.transitions_from_inl(inl, p.adc_bits)
    if p.adc_mismatch == 0:
        return alike
    own = converters.sar_transitions(p.adc_bits, p.adc_mismatch, p.n_outputs, generator)
    # where both miss codes the sum may run backwards, which no ADC does
    return (own + (alike - converters.transitions_from_inl((0.0, 0.0), p.adc_bits))).cummax(-1).values
