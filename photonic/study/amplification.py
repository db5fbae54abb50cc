"""What quantised noise on a pre-activation does to the derivative, in closed form, and a bound for every activation.

The pre-activation z is read as z~ = RP(clamp(z + n)): z~ is k / p with probability

    P_k(z) = F((k + 1/2) / p - z) - F((k - 1/2) / p - z),   F the distribution of n, the two end cells open,

so that the error of the derivative has the mean sum_k P_k |A'(k/p) - A'(z)| and the mean square with the square. An
activation with a step d of its derivative at zero and the steepness L elsewhere has, at any two u and v,

    |A'(u) - A'(v)| <= d [u and v on different sides of zero] + L |u - v|,
    rms error <= d sqrt(P(z~ on the other side)) + L rms(z~ - z).

At z = 0 with ReLU'(0) = 0 the rms error of ReLU is sqrt(EP / 2) whatever p is, and rms(z~) = c / p with a c that EP
alone decides (the clamp apart). So the errors of ReLU and of a smooth activation are in the ratio of at least

    p sqrt(EP / 2) / (L c),   and at a distance of one step 1 / p:  p / L,  which is p / 0.8 for GELU.

Both grow with p: there is no bound on the ratio that does not depend on p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.errors import SpecError
from photonic.models.activations import Curve
from photonic.physics import seeds
from photonic.physics.codenoise import CodeNoise
from photonic.physics.codes import CLAMPED, LIMIT, MidTread
from photonic.physics.draws import NormalDraws
from photonic.physics.errorprobability import noise_of_error_probability
from photonic.study.gradienterror import Measured


@dataclass(frozen=True)
class Reading:
    """What pre-activations are read as.

    Attributes:
        codes: digital values.
        noise: before the quantiser.
    """

    codes: MidTread
    noise: CodeNoise

    @classmethod
    def of(cls, precision: int, ep: float) -> Reading:
        """Gaussian noise of this error probability on a mid-tread quantiser."""
        codes = MidTread(precision)
        return cls(codes, noise_of_error_probability("gaussian", ep, codes))

    def probabilities(self, z: Tensor) -> Tensor:
        """(P,) pre-activations in [-1, 1], float64, to (P, K): how probable each digital value is."""
        low, high = self.codes.cells(CLAMPED)
        return self.noise.mass(z[:, None], low, high)

    def mean_error(self, curve: Curve, z: Tensor) -> Tensor:
        """(P,) mean |A'(z~) - A'(z)|."""
        return (self.probabilities(z) * self._errors(curve, z)).sum(1)

    def rms_error(self, curve: Curve, z: Tensor) -> Tensor:
        """(P,) root mean square of A'(z~) - A'(z)."""
        return (self.probabilities(z) * self._errors(curve, z).square()).sum(1).sqrt()

    def rms_shift(self, z: Tensor) -> Tensor:
        """(P,) root mean square of z~ - z."""
        return (self.probabilities(z) * (self.codes.values - z[:, None]).square()).sum(1).sqrt()

    def crossing(self, z: Tensor) -> Tensor:
        """(P,) probability that z~ is on the other side of zero; zero itself is on the left, where ReLU' is 0."""
        return (self.probabilities(z) * ((self.codes.values > 0) != (z[:, None] > 0))).sum(1)

    def bound(self, curve: Curve, z: Tensor) -> Tensor:
        """(P,) what the rms error cannot exceed.

        Raises:
            SpecError: a derivative at zero of its own, which is on neither side.
        """
        if not curve.native:
            raise SpecError(
                f"the bound takes zero for a part of the left side; {curve} has a derivative of its own there"
            )
        return curve.step * self.crossing(z).sqrt() + curve.steepness * self.rms_shift(z)

    def drawn_error(self, curve: Curve, z: Tensor, samples: int, seed: int) -> list[Measured]:
        """(P,) rms error by Monte-Carlo."""
        stream = NormalDraws()
        stream.seed(seeds.derive("amplification", self.codes.precision, seed))
        operands = z.float().repeat(samples, 1)
        seen = self.codes.quantise(self.noise.noisy(operands, stream).clamp_(-LIMIT, LIMIT))
        squares = (curve.derivative(seen.double()) - curve.derivative(z)).square()
        means, spreads = squares.mean(0), squares.std(0) / math.sqrt(samples)
        # the standard error of a root; where nothing was ever wrong there is none
        roots = means.sqrt()
        errors = torch.where(roots > 0, spreads / (2 * roots.clamp(min=1e-300)), 0.0)
        return [Measured(root, error) for root, error in zip(roots.tolist(), errors.tolist(), strict=True)]

    def _errors(self, curve: Curve, z: Tensor) -> Tensor:
        return (curve.derivative(self.codes.values) - curve.derivative(z)[:, None]).abs()


@dataclass(frozen=True)
class Amplification:
    """At z = 0: derivative errors of ReLU and of a smooth activation, and their ratio.

    Attributes:
        precision: p.
        rectified: rms error of ReLU.
        smooth: rms error of the smooth activation.
        bound: what ``smooth`` cannot exceed.
        least_ratio: what the ratio is at least.
        one_step: p / L, the ratio when z~ is one step off.
    """

    precision: int
    rectified: float
    smooth: float
    bound: float
    least_ratio: float
    one_step: float

    @property
    def ratio(self) -> float:
        """Of the rms errors."""
        return self.rectified / self.smooth


def amplification(rectifier: Curve, smooth: Curve, precision: int, ep: float) -> Amplification:
    """The closed forms at zero."""
    reading, zero = Reading.of(precision, ep), torch.zeros(1, dtype=torch.float64)
    rectified = float(reading.rms_error(rectifier, zero))
    bound = float(reading.bound(smooth, zero))
    return Amplification(
        precision,
        rectified,
        float(reading.rms_error(smooth, zero)),
        bound,
        rectified / bound,
        precision / smooth.steepness,
    )


def mean_near_zero(curve: Curve, precision: int, ep: float, points: int = 2001) -> float:
    """Mean derivative error over pre-activations within one step of zero, evenly spread, in closed form."""
    z = torch.linspace(-1, 1, points, dtype=torch.float64) / precision
    errors = Reading.of(precision, ep).mean_error(curve, z)
    return float(torch.trapezoid(errors) / (points - 1))
