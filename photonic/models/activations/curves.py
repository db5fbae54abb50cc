"""The study's activations as curves: value, exact derivative, and how steep the derivative gets (arXiv 2402.02593)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.errors import SpecError


class Curve(Protocol):
    """An activation of one number, as a pure function.

    Attributes:
        native: whether autograd of ``value`` gives ``derivative`` everywhere, also at zero.
        step: how far the derivative jumps at zero (the study's gradient step discontinuity).
        steepness: largest |second derivative| away from the jump, per unit; where ``step`` is 0, |A'(u) - A'(v)| is at
            most this times |u - v|.
    """

    @property
    def native(self) -> bool: ...  # noqa: D102 - described above

    @property
    def step(self) -> float: ...  # noqa: D102 - described above

    @property
    def steepness(self) -> float: ...  # noqa: D102 - described above

    def value(self, x: Tensor) -> Tensor:
        """The activation of every number, in x's dtype."""
        ...

    def derivative(self, x: Tensor) -> Tensor:
        """Its derivative, in x's dtype; finite for every finite x."""
        ...


@dataclass(frozen=True)
class Rectifier:
    """ReLU, or max(leak x, x) with a leak.

    Attributes:
        leak: slope of the negative side, in [0, 1]. A leak of i has the step of ``Interpolated`` by i: 1 - i.
        derivative_at_zero: what the derivative is taken for at exactly 0; quantised pre-activations often are. The
            study's gradient figures need 0; None is the slope of the negative side, as in PyTorch.
    """

    leak: float = 0.0
    derivative_at_zero: float | None = None

    def __post_init__(self) -> None:
        _check_fraction("leak", self.leak)
        if self.derivative_at_zero is not None:
            _check_fraction("derivative_at_zero", self.derivative_at_zero)

    @property
    def at_zero(self) -> float:
        """The derivative at zero."""
        return self.leak if self.derivative_at_zero is None else self.derivative_at_zero

    @property
    def native(self) -> bool:
        """PyTorch takes the slope of the negative side at zero."""
        return self.at_zero == self.leak

    @property
    def step(self) -> float:
        """1 - leak."""
        return 1.0 - self.leak

    @property
    def steepness(self) -> float:
        """Both sides are straight."""
        return 0.0

    def value(self, x: Tensor) -> Tensor:
        """max(leak x, x)."""
        return F.relu(x) if self.leak == 0 else F.leaky_relu(x, self.leak)

    def derivative(self, x: Tensor) -> Tensor:
        """The leak below zero, 1 above."""
        side = torch.full_like(x, self.leak).masked_fill_(x > 0, 1.0)
        return side if self.native else side.masked_fill(x == 0, self.at_zero)


@dataclass(frozen=True)
class Gelu:
    """x Phi(s x), Phi the normal distribution function (by erf, not by tanh).

    Attributes:
        scale: s, above 0; GELU at 1, nearer to ReLU above.
    """

    scale: float = 1.0
    native: bool = field(default=True, init=False)
    step: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    @property
    def steepness(self) -> float:
        """The second derivative is largest at zero: 2 s phi(0) = 0.798 s."""
        return 2 * self.scale / math.sqrt(2 * math.pi)

    def value(self, x: Tensor) -> Tensor:
        """x Phi(s x)."""
        return F.gelu(x) if self.scale == 1 else x * torch.special.ndtr(self.scale * x)

    def derivative(self, x: Tensor) -> Tensor:
        """Phi(s x) + s x phi(s x)."""
        u = self.scale * x
        # the square may be infinite: its density is 0 then, and so is the product
        density = torch.exp(-0.5 * u.square()) / math.sqrt(2 * math.pi)
        slope: Tensor = torch.special.ndtr(u) + u * density
        return slope


@dataclass(frozen=True)
class Silu:
    """x sigmoid(s x).

    Attributes:
        scale: s, above 0; SiLU at 1.
    """

    scale: float = 1.0
    native: bool = field(default=True, init=False)
    step: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    @property
    def steepness(self) -> float:
        """The second derivative is largest at zero: s / 2."""
        return self.scale / 2

    def value(self, x: Tensor) -> Tensor:
        """x sigmoid(s x)."""
        return F.silu(x) if self.scale == 1 else x * torch.sigmoid(self.scale * x)

    def derivative(self, x: Tensor) -> Tensor:
        """sigmoid(u) (1 + u sigmoid(-u)), u = s x: no exponential that overflows."""
        u = self.scale * x
        # with 1 - sigmoid(u) in place of sigmoid(-u), all digits would be lost at large u
        return torch.sigmoid(u) * (1 + u * torch.sigmoid(-u))


@dataclass(frozen=True)
class Interpolated:
    """R(x) + i (A(x) - R(x)), from a rectifier R to a smooth curve A.

    Attributes:
        smooth: A.
        interpolation: i in [0, 1].
        rectifier: R.
    """

    smooth: Gelu | Silu
    interpolation: float
    rectifier: Rectifier = field(default_factory=Rectifier)

    def __post_init__(self) -> None:
        _check_fraction("interpolation", self.interpolation)

    @property
    def native(self) -> bool:
        """Where the rectifier is, or has no part."""
        return self.interpolation == 1 or self.rectifier.native

    @property
    def step(self) -> float:
        """(1 - i) (1 - leak)."""
        return (1 - self.interpolation) * self.rectifier.step

    @property
    def steepness(self) -> float:
        """The smooth part's."""
        return self.interpolation * self.smooth.steepness

    def value(self, x: Tensor) -> Tensor:
        """At either end the one curve alone."""
        if self.interpolation in (0, 1):
            return (self.smooth if self.interpolation else self.rectifier).value(x)
        return torch.lerp(self.rectifier.value(x), self.smooth.value(x), self.interpolation)

    def derivative(self, x: Tensor) -> Tensor:
        """The derivatives, interpolated."""
        if self.interpolation in (0, 1):
            return (self.smooth if self.interpolation else self.rectifier).derivative(x)
        return torch.lerp(self.rectifier.derivative(x), self.smooth.derivative(x), self.interpolation)


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise SpecError(f"{name} must lie in [0, 1], found {value}")


def _check_scale(scale: float) -> None:
    if not (math.isfinite(scale) and scale > 0):
        raise SpecError(f"the scale of an activation must be finite and above 0, found {scale}")
