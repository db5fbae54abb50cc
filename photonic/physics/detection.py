"""Balanced detection and conversion: the signed result and the power become noisy counts."""

from __future__ import annotations

import torch
from torch import Tensor

from photonic.records import NoiseModel


def add_noise_(
    d: Tensor, s: Tensor, gain: Tensor, offset: Tensor, noise: NoiseModel, generator: torch.Generator
) -> Tensor:
    """Adds the receiver's noise and the outputs' offset to the signal, in place.

    RIN is one factor per shot, (1 + rho), common to all outputs of the shot (one comb source), with variance
    ``noise.rin``; thermal and shot noise are independent in each output, with variance thermal + shot S.

    Args:
        d: (B, T, m) signed results of T tiles in B shots each, times the gain of their output.
        s: total detected power, broadcastable to ``d``, without gain.
        gain: (m,) counts per D.
        offset: (m,) counts.
        noise: variances in D^2.
        generator: owned by the caller; draws B T factors, then B T m samples, none where the variance is zero.
    """
    if noise.rin > 0:
        rho = torch.empty(*d.shape[:-1], 1, dtype=d.dtype).normal_(1.0, noise.rin**0.5, generator=generator)
        torch.addcmul(offset, d, rho, out=d)
    else:
        d.add_(offset)
    if noise.thermal > 0 or noise.shot > 0:
        sigma = (noise.shot * s + noise.thermal).sqrt_() * gain
        d.addcmul_(torch.empty_like(d).normal_(generator=generator), sigma)
    return d


def convert_(volts: Tensor, count_range: tuple[float, float]) -> Tensor:
    """An ideal ADC, in place: rounds to the nearest count (half to even), clips at the rails."""
    return volts.round_().clamp_(*count_range)
