"""Balanced detection and conversion: the signed result and the power become noisy counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.physics import converters
from photonic.records import NoiseModel


@dataclass(frozen=True)
class Gain:
    """From D to counts, for a column of R tiles.

    Attributes:
        counts_per_d: (R or 1, 1, m).
        offset: (m,) counts.
    """

    counts_per_d: Tensor
    offset: Tensor


def add_noise_(
    d: Tensor,
    s: Tensor,
    gain: Gain,
    noise: NoiseModel,
    adc_noise_lsb: float,
    generator: torch.Generator,
    scratch: Tensor | None = None,
) -> Tensor:
    """Adds the receivers' noise and the outputs' offset to the signal, in place.

    RIN is one factor per shot, (1 + rho), common to all outputs of the shot (one comb source), with variance
    ``noise.rin``; what an imperfect common-mode rejection lets through follows S and is common too. Thermal and shot
    noise are independent in each output, with variance thermal + shot S, and so is the ADC's own.

    Args:
        d: (R, B, m) signed results of R tiles in B shots each, in counts: D times the gain.
        s: total detected power, broadcastable to ``d``, in D.
        gain: of this column of tiles.
        noise: variances in D^2; ``rin`` is 0 where the light carries it already.
        adc_noise_lsb: standard deviation of the ADC's own noise, in counts.
        generator: owned by the caller; draws R B factors for each common noise, then R B m samples, none where the
            variance is zero.
        scratch: overwritten; like ``d``, to spare an allocation.
    """
    shots = (*d.shape[:-1], 1)
    if noise.rin > 0:
        rho = torch.empty(shots, dtype=d.dtype).normal_(1.0, noise.rin**0.5, generator=generator)
        torch.addcmul(gain.offset, d, rho, out=d)
    else:
        d.add_(gain.offset)
    if noise.common_mode > 0:
        rho = torch.empty(shots, dtype=d.dtype).normal_(0.0, noise.common_mode**0.5, generator=generator)
        d.addcmul_(rho * s, gain.counts_per_d)
    if noise.thermal > 0 or noise.shot > 0 or adc_noise_lsb > 0:
        sigma = _sigma(s, gain, noise, adc_noise_lsb)
        draws = torch.empty_like(d) if scratch is None else scratch
        d.addcmul_(draws.normal_(generator=generator), sigma)
    return d


def _sigma(s: Tensor, gain: Gain, noise: NoiseModel, adc_noise_lsb: float) -> Tensor:
    """Standard deviation of the independent part, in counts; broadcasts to the counts."""
    variance = s * noise.shot + noise.thermal
    if adc_noise_lsb == 0:
        return variance.sqrt_() * gain.counts_per_d
    return (variance * gain.counts_per_d.square()).add_(adc_noise_lsb**2).sqrt_()


def convert_(volts: Tensor, count_range: tuple[float, float], transitions: Tensor | None = None) -> Tensor:
    """The ADC, in place: rounds to the nearest count (half to even) or by its own transitions, clips at the rails."""
    if transitions is not None:
        return converters.quantise_(volts, transitions.to(volts.dtype))
    return volts.round_().clamp_(*count_range)
