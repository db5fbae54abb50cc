"""The output side of one device: detector pairs, amplifiers and ADCs, with what is hidden in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photonic.errors import ArraysError
from photonic.physics import converters
from photonic.physics.parameters import ChipParameters
from photonic.records import ChipSpec


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


def own_noise_of(spec: ChipSpec, arrays: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """(2, M) thermal and shot noise of each output that a record holds; None: all alike.

    Raises:
        ArraysError: of another shape, or not numbers of at least 0.
    """
    found = arrays.get("own_noise")
    if found is None:
        return None
    if found.shape != (2, spec.n_outputs) or not (np.isfinite(found) & (found >= 0)).all():
        raise ArraysError(
            f"the record of {spec.chip_id}: own_noise must be {(2, spec.n_outputs)} factors of at least 0, found "
            f"{found.shape}; calibrate again"
        )
    return found


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
