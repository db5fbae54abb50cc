"""The detectors and converters of one device at work: from D, S and the receivers' own noise to counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.physics import detection
from photonic.physics.detection import Gain
from photonic.physics.draws import NormalDraws
from photonic.physics.many import many
from photonic.physics.shotnoise import ShotNoise
from photonic.records import NoiseModel


@dataclass(frozen=True)
class Detector:
    """What turns light into counts.

    Attributes:
        noise: variances in D^2.
        adc_noise_lsb: standard deviation of the ADC's own noise, in counts.
        rails: of the ADC; None: no converter.
        transitions: (M, K), or (K,) of all alike, where an ADC does not just round; None: it does.
        draws: of noise; seeded by their owner.
    """

    noise: NoiseModel
    adc_noise_lsb: float
    rails: tuple[float, float] | None
    transitions: Tensor | None
    draws: NormalDraws

    def read(self, d: Tensor, s: Tensor | tuple[Tensor, ShotNoise], gain: Gain, scratch: Tensor, out: Tensor) -> None:
        """Detects and converts (C, B, R, m).

        Args:
            d: in counts; may be overwritten.
            s: total power, or light (C, B, K) and the noise that follows it.
            gain: of these.
            scratch: (1, elements of a part), overwritten; (2, ...) for light.
            out: counts.
        """
        at_once = self._rounds(d, gain, out)
        if at_once and not isinstance(s, tuple) and s.ndim == 4 and s.shape[-1] == 1:
            self._round_even(d, s, gain, out)
            return
        # parts of the block that fit the cores' own caches: many small steps follow
        shots = max(1, scratch.shape[1] // d[0, 0].numel())
        columns = max(1, shots // d.shape[1])
        for first in range(0, len(d), columns):
            here = slice(first, first + columns)
            each = gain.columns(here)
            for start in range(0, d.shape[1], shots):
                some = slice(start, start + shots)
                part, now, to = d[here, some], each.shots(some), out[here, some]
                if isinstance(s, tuple):
                    self._read_light(part, (s[0][here, some], s[1].columns(here)), now, scratch, to, at_once=at_once)
                else:
                    self._read_power(part, s[here, some] if s.ndim > 1 else s, now, scratch[0], to)

    def _rounds(self, d: Tensor, gain: Gain, out: Tensor) -> bool:
        """Whether the compiled loop does it: an ADC that rounds many noisy float32 numbers to 16 bits, at one gain."""
        noisy = self.noise.thermal > 0 or self.noise.shot > 0 or self.adc_noise_lsb > 0
        ideal = self.rails is not None and self.transitions is None
        return noisy and ideal and many(d) and out.dtype == torch.int16 and gain.counts_per_d.shape[1] == 1

    def _round_even(self, d: Tensor, s: Tensor, gain: Gain, out: Tensor) -> None:
        """S is the same at all outputs of a tile: (C, B, R or 1, 1)."""
        shape, noise, per_d = d.shape[:3], self.noise, gain.counts_per_d
        common = d.new_zeros(shape)
        factor = self._factor(d)
        if noise.common_mode > 0:
            common = self.draws.fill_(common).mul_(noise.common_mode**0.5).mul_(s.squeeze(-1))
        fixed = torch.full_like(per_d, self.adc_noise_lsb**2)
        if gain.own_noise is None:
            variance = (s * noise.shot).add_(noise.thermal).squeeze(-1).expand(shape)
        else:
            thermal, shot = (each * per_d.square() for each in gain.receivers(noise))
            variance, fixed = (s * shot).expand(d.shape), fixed.add_(thermal)
        self._round(d, factor, common, variance, gain, fixed, out)

    def _read_light(
        self, d: Tensor, light: tuple[Tensor, ShotNoise], gain: Gain, scratch: Tensor, out: Tensor, *, at_once: bool
    ) -> None:
        """A part of which S has a product of its own."""
        draws, second = (_beginning(each, tuple(d.shape)) for each in scratch)
        variance = light[1].variance(light[0], second)
        if at_once and d.is_contiguous():
            self._round(d, self._factor(d), d.new_zeros(d.shape[:3]), variance, gain, light[1].fixed, out)
            return
        detection.shake_(d, gain, self.noise, self.draws)
        sigma = variance.add_(light[1].fixed).sqrt_()
        out.copy_(self._converted(d.addcmul_(self.draws.fill_(draws), sigma)))

    def _read_power(self, d: Tensor, s: Tensor, gain: Gain, scratch: Tensor, out: Tensor) -> None:
        """A part with its S."""
        draws = _beginning(scratch, tuple(d.shape))
        out.copy_(self._converted(detection.add_noise_(d, s, gain, self.noise, self.adc_noise_lsb, self.draws, draws)))

    def _factor(self, d: Tensor) -> Tensor:
        """RIN's factor on each tile's shot, (C, B, R)."""
        if self.noise.rin == 0:
            return d.new_ones(d.shape[:3])
        return self.draws.fill_(d.new_empty(d.shape[:3])).mul_(self.noise.rin**0.5).add_(1.0)

    def _round(
        self, d: Tensor, factor: Tensor, common: Tensor, variance: Tensor, gain: Gain, fixed: Tensor, out: Tensor
    ) -> None:
        from photonic.physics.compiled import readout  # numba takes a while to import

        rails = self.rails
        assert rails is not None  # noqa: S101 - asked before
        per_d, fixed = gain.counts_per_d.squeeze(1), fixed.squeeze(1).expand(gain.counts_per_d.squeeze(1).shape)
        shots = readout.Shots(*(each.contiguous() for each in (d, factor, common, variance, per_d, fixed, gain.offset)))
        self.draws.stretch(out.numel(), lambda first, key: readout.read(shots, rails, out, first, key))

    def _converted(self, counts: Tensor) -> Tensor:
        """The ADC, in place."""
        if self.rails is None:
            return counts
        transitions = self.transitions
        if transitions is not None and transitions.ndim > 1:
            transitions = transitions[: counts.shape[-1]]
        return detection.convert_(counts, self.rails, transitions)


def _beginning(buffer: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The beginning of a buffer, in this shape."""
    return buffer[: math.prod(shape)].view(shape)
