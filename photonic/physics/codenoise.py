"""Noise on digital values, stated by the probability that a value is read as another one (arXiv 2402.02593).

The error probability EP of noise on codes is 1 minus the mean, over the codes, of the noise mass inside the own
cell. For noise that is the same at all codes, in full cells of half-width 1 / (2 p):

    gaussian    EP = 1 - erf(1 / (2 sqrt(2) sigma p)),  sigma = 1 / (2 sqrt(2) p erfinv(1 - EP))
    laplacian   EP = exp(-1 / (2 p b)),                 b = -1 / (2 p ln EP)
    uniform     EP = 1 - 1 / (p w),                     w = 1 / (p (1 - EP)), at least 1 / p
    impulse     EP = q 2 p / (2 p + 1),                 q of the values go to -1 or 1, half each

A Clamp before the quantiser opens the two outermost cells, so that of noise without a direction 2 p / (2 p + 1) of the
EP is measured. Poisson and shot noise depend on the value; their EP is the sum over all codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from photonic.physics.draws import NormalDraws


class CodeNoise(Protocol):
    """What is added to values in [-1, 1]."""

    def noisy(self, x: Tensor, draws: NormalDraws) -> Tensor:
        """A new tensor: every value with noise of its own; x has no gradient."""
        ...

    def mass(self, code: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """How probable it is that a code ends up between two edges, float64."""
        ...

    def variance(self, x: Tensor) -> Tensor:
        """Mean square of what is added to each value."""
        ...


@dataclass(frozen=True)
class NoNoise:
    """Quantisation alone."""

    def noisy(self, x: Tensor, draws: NormalDraws) -> Tensor:
        """The same numbers."""
        return x.clone()

    def mass(self, code: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """1 in its own cell."""
        return _within(code, low, high)

    def variance(self, x: Tensor) -> Tensor:
        """None."""
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Gaussian:
    """Normal, the same at every value; thermal noise is of this kind.

    Attributes:
        sigma: standard deviation.
    """

    sigma: float

    def noisy(self, x: Tensor, draws: NormalDraws) -> Tensor:
        """x + sigma n."""
        return _normal(x, draws).mul_(self.sigma).add_(x)

    def mass(self, code: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """By the normal distribution function."""
        return _normal_mass((low - code) / self.sigma, (high - code) / self.sigma)

    def variance(self, x: Tensor) -> Tensor:
        """sigma^2."""
        return torch.full_like(x, self.sigma**2)


@dataclass(frozen=True)
class Laplacian:
    """Two-sided exponential: heavier tails than Gaussian.

    Attributes:
        scale: b; the standard deviation is sqrt(2) b.
    """

    scale: float

    def noisy(self, x: Tensor, draws: NormalDraws) -> Tensor:
        """Inverse transform of a uniform sample, in float32 or wider: -b sgn(u) ln(1 - |u|)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        end = 1 - torch.finfo(wide.dtype).eps / 2  # at 1 the logarithm is infinite
        u = _empty(wide).uniform_(-end, end, generator=draws.on(x.device))
        size = u.abs().neg_().log1p_().mul_(-self.scale)
        return size.copysign_(u).add_(wide).to(x.dtype)

    def mass(self, code: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """By its distribution function."""
        return self._cumulated(high - code) - self._cumulated(low - code)

    def variance(self, x: Tensor) -> Tensor:
        """2 b^2."""
        return torch.full_like(x, 2 * self.scale**2)

    def _cumulated(self, d: Tensor) -> Tensor:
        return 0.5 - 0.5 * torch.sign(d) * torch.expm1(-d.abs() / self.scale)


@dataclass(frozen=True)
class Uniform:
    """The same density between two ends.

    Attributes:
        width: w, from end to end.
    """

    width: float

    def noisy(self, x: Tensor, draws: NormalDraws) -> Tensor:
        """x + w (u - 1/2)."""
        half = self.width / 2
        return _empty(x).uniform_(-half, half, generator=draws.on(x.device)).add_(x)

    def mass(self, code: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """What the two intervals share."""
        half = self.width / 2
        return ((high - code).clamp(-half, half) - (low - code).clamp(-half, half)) / self.width

    def variance(self, x: Tensor) -> Tensor:
        """w^2 / 12."""
        return torch.full_like(x, self.width**2 / 12)


@dataclass(frozen=True)
class Poisson:
    """sign(x) Pois(|x| r) / r: counted photons, none at 0.

    Attributes:
        rate: r, photons at 1; at least 1.
    """

    rate: float

    def noisy(self, x: Tensor, draws: NormalDraws) -> Tensor:
        """Counted in float32 or wider."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        counted = torch.poisson(wide.abs() * self.rate, generator=draws.on(x.device))
        return counted.div_(self.rate).mul_(torch.sign(wide)).to(x.dtype)

    def mass(self, code: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Sums of the Poisson distribution over the counts that are read as the code; ties go toward zero."""
        positive, size = code > 0, code.abs()
        below, above = torch.where(positive, low, -high), torch.where(positive, high, -low)
        first = torch.floor(below * self.rate + 1e-9)
        # a cell from zero on has the count 0 only where zero is read as positive
        first = torch.where((below < 0) | ((below == 0) & positive), -1.0, first)
        found = self._cumulated(torch.floor(above * self.rate + 1e-9), size) - self._cumulated(first, size)
        return torch.where(size == 0, _within(code, low, high), found)

    def variance(self, x: Tensor) -> Tensor:
        """|x| / r."""
        return x.abs() / self.rate

    def _cumulated(self, count: Tensor, size: Tensor) -> Tensor:
        """P(n <= count) with mean |x| r: the regularised incomplete gamma function."""
        finite = count.clamp(min=0, max=1e15)
        found = torch.special.gammaincc(finite + 1, size * self.rate)
        return torch.where(count < 0, 0.0, torch.where(torch.isinf(count), 1.0, found))


@dataclass(frozen=True)
class Shot:
    """Normal with a variance that follows the value: Poisson of many photons, on one detector.

    With balanced detection the shot noise of a chip follows the total power and not the value (docs/physics.md); there
    it looks like ``Gaussian``.

    Attributes:
        per_unit: variance at 1.
    """

    per_unit: float

    def noisy(self, x: Tensor, draws: NormalDraws) -> Tensor:
        """x + sqrt(v |x|) n."""
        return _normal(x, draws).mul_(self.variance(x).sqrt_()).add_(x)

    def mass(self, code: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """By the normal distribution function of each code."""
        sigma = self.variance(code).sqrt()
        quiet = sigma == 0
        wide = sigma.masked_fill(quiet, 1.0)
        found = _normal_mass((low - code) / wide, (high - code) / wide)
        return torch.where(quiet, _within(code, low, high), found)

    def variance(self, x: Tensor) -> Tensor:
        """v |x|."""
        return x.abs() * self.per_unit


@dataclass(frozen=True)
class Impulse:
    """Some values are lost: they become -1 or 1.

    Attributes:
        probability: q, of a value to be lost.
    """

    probability: float

    def noisy(self, x: Tensor, draws: NormalDraws) -> Tensor:
        """Half of the lost values go to each end."""
        u = _empty(x).uniform_(generator=draws.on(x.device))
        lost = torch.where(u < self.probability / 2, -1.0, 1.0).to(x.dtype)
        return torch.where(u < self.probability, lost, x)

    def mass(self, code: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """What is kept, and what comes to the ends."""
        one = torch.ones_like(code)
        ends = _within(one, low, high) + _within(-one, low, high)
        return (1 - self.probability) * _within(code, low, high) + self.probability / 2 * ends

    def variance(self, x: Tensor) -> Tensor:
        """q ((1 - x)^2 + (1 + x)^2) / 2 = q (1 + x^2)."""
        return self.probability * (1 + x.square())


def _empty(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _normal(x: Tensor, draws: NormalDraws) -> Tensor:
    return draws.fill_(_empty(x))


def _normal_mass(low: Tensor, high: Tensor) -> Tensor:
    """Between two numbers of standard deviations; in the tail by the tail, where the digits are."""
    flipped = low > 0
    low, high = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    found: Tensor = torch.special.ndtr(high) - torch.special.ndtr(low)
    return found


def _within(code: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return ((low <= code) & (code <= high)).to(code.dtype)
