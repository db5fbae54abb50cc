"""Balanced detection and conversion: the signed result and the power become noisy counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from photonic.physics import converters
from photonic.physics.draws import NormalDraws
from photonic.records import NoiseModel


@dataclass(frozen=True)
class Gain:
    """From D to counts, for C columns of R tiles.

    Attributes:
        counts_per_d: (C or 1, 1, R or 1, m), or (C, B, R, m) where the gain of B shots drifts.
        offset: (m,) counts.
        own_noise: (2, m) thermal and shot noise of each output, relative to the chip's; None: all alike.
    """

    counts_per_d: Tensor
    offset: Tensor
    own_noise: Tensor | None = None

    def columns(self, which: slice) -> Gain:
        """Of some of the columns."""
        return self if len(self.counts_per_d) == 1 else replace(self, counts_per_d=self.counts_per_d[which])

    def shots(self, which: slice) -> Gain:
        """Of some of the shots."""
        return self if self.counts_per_d.shape[1] == 1 else replace(self, counts_per_d=self.counts_per_d[:, which])

    def receivers(self, noise: NoiseModel) -> tuple[Tensor | float, Tensor | float]:
        """Thermal noise, and shot noise per S, in D^2: one number for all outputs, or (m,)."""
        if self.own_noise is None:
            return noise.thermal, noise.shot
        return self.own_noise[0] * noise.thermal, self.own_noise[1] * noise.shot


def add_noise_(
    d: Tensor, s: Tensor, gain: Gain, noise: NoiseModel, adc_noise_lsb: float, draws: NormalDraws, scratch: Tensor
) -> Tensor:
    """Adds the receivers' noise and the outputs' offset to the signal, in place.

    RIN is one factor per shot, (1 + rho), common to all outputs of the shot (one comb source), with variance
    ``noise.rin``; what an imperfect common-mode rejection lets through follows S and is common too. Thermal and shot
    noise are independent in each output, with variance thermal + shot S, and so is the ADC's own.

    Args:
        d: (C, B, R, m) signed results of B shots of C x R tiles, in counts: D times the gain.
        s: total detected power, broadcastable to ``d``, in D.
        gain: of these tiles.
        noise: variances in D^2; ``rin`` is 0 where the light carries it already.
        adc_noise_lsb: standard deviation of the ADC's own noise, in counts.
        draws: owned by the caller; gives C B R factors for each common noise, then C B R m samples, none where the
            variance is zero.
        scratch: contiguous, overwritten; like ``d``.
    """
    shake_(d, gain, noise, draws)
    if noise.common_mode > 0:
        rho = d.new_empty(*d.shape[:-1], 1).normal_(0.0, noise.common_mode**0.5, generator=draws.first)
        d.addcmul_(rho * s, gain.counts_per_d)
    if noise.thermal > 0 or noise.shot > 0 or adc_noise_lsb > 0:
        d.addcmul_(draws.fill_(scratch), _sigma(s, gain, noise, adc_noise_lsb))
    return d


def shake_(d: Tensor, gain: Gain, noise: NoiseModel, draws: NormalDraws) -> Tensor:
    """RIN and the offset of ``add_noise_``."""
    if noise.rin == 0:
        return d.add_(gain.offset)
    rho = d.new_empty(*d.shape[:-1], 1).normal_(1.0, noise.rin**0.5, generator=draws.first)
    return torch.addcmul(gain.offset, d, rho, out=d)


def _sigma(s: Tensor, gain: Gain, noise: NoiseModel, adc_noise_lsb: float) -> Tensor:
    """Standard deviation of the independent part, in counts; broadcasts to the counts."""
    thermal, shot = gain.receivers(noise)
    variance = (s * shot).add_(thermal) if noise.shot > 0 else s.new_ones(1) * thermal
    if adc_noise_lsb == 0:
        return variance.sqrt_() * gain.counts_per_d
    return (variance * gain.counts_per_d.square()).add_(adc_noise_lsb**2).sqrt_()


def convert_(volts: Tensor, count_range: tuple[float, float], transitions: Tensor | None = None) -> Tensor:
    """The ADC, in place: rounds to the nearest count (half to even) or by its own transitions, clips at the rails."""
    if transitions is not None:
        return converters.quantise_(volts, transitions.to(volts.dtype))
    return volts.round_().clamp_(*count_range)
