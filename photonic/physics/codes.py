"""The study's digital values: the mid-tread quantiser of precision p, the sign quantiser, and what bits mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from photonic.errors import SpecError
from photonic.physics.many import many

# two digital values apart: [-1, 1]
LIMIT = 1.0
FULL, CLIPPED, CLAMPED = ENDS = ("full", "clipped", "clamped")

# what b bits are, and back. The study's experiments and plots take p = 2^b, its library's documents p = 2^b - 1; a
# signed code of b bits without its most negative value has p = 2^(b - 1) - 1
CONVENTIONS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "study": (lambda b: 2.0**b, math.log2),
    "library": (lambda b: 2.0**b - 1, lambda p: math.log2(p + 1)),
    "signed": (lambda b: 2.0 ** (b - 1) - 1, lambda p: math.log2(p + 1) + 1),
}


def precision_of(bits: float, convention: str = "study") -> int:
    """Steps per unit of so many bits: p.

    Args:
        bits: b.
        convention: ``study`` (p = 2^b), ``library`` (p = 2^b - 1) or ``signed`` (p = 2^(b - 1) - 1).

    Raises:
        SpecError: another convention, or bits that give no whole precision of at least 1.
    """
    precision = _convention(convention)[0](bits)
    if precision < 1 or precision != round(precision):
        raise SpecError(f"{bits} bits by the convention {convention} are a precision of {precision:g}; whole, from 1")
    return round(precision)


def bits_of(precision: int, convention: str = "study") -> float:
    """Bits of a precision p; see ``precision_of``. Sign and all, there are log2(2 p + 1) bits of levels.

    Raises:
        SpecError: another convention.
    """
    return _convention(convention)[1](precision)


def _convention(name: str) -> tuple[Callable[[float], float], Callable[[float], float]]:
    if name not in CONVENTIONS:
        raise SpecError(f"a convention of bits is one of {', '.join(CONVENTIONS)}, found {name!r}")
    return CONVENTIONS[name]


class Codes(Protocol):
    """A set of digital values in [-1, 1].

    Attributes:
        ends: how the outermost cells end for the error probability that noise is stated by.
    """

    @property
    def ends(self) -> str: ...  # noqa: D102 - described above

    @property
    def values(self) -> Tensor:
        """(K,) all of them in [-1, 1], ascending, float64."""
        ...

    def quantise(self, x: Tensor) -> Tensor:
        """The digital value of every number, without a gradient of its own."""
        ...

    def cells(self, ends: str) -> tuple[Tensor, Tensor]:
        """(K,) the lower and upper edge of what is read as each value.

        Args:
            ends: of the outermost cells: ``full`` (as wide as the others), ``clipped`` (cut off at -1 and 1, the
                study's general definition) or ``clamped`` (open: what lies beyond is clamped first).
        """
        ...


@dataclass(frozen=True)
class MidTread:
    """sign(x) ceil(|x p| - 1/2) / p: mid-tread, ties toward zero, no saturation.

    Clamped first, there are 2 p + 1 values: at p = 1 it is ternary, at p = 2 it has five.

    Attributes:
        precision: p, steps per unit.
    """

    precision: int
    ends: str = field(default=FULL, init=False)

    def __post_init__(self) -> None:
        if type(self.precision) is not int or self.precision < 1:
            raise SpecError(f"a precision is a whole number from 1, found {self.precision!r}")

    @property
    def values(self) -> Tensor:
        """k / p for k from -p to p."""
        return torch.arange(-self.precision, self.precision + 1, dtype=torch.float64) / self.precision

    def quantise(self, x: Tensor) -> Tensor:
        """To the nearest k / p; beyond [-1, 1] as well."""
        if many(x) and not x.requires_grad:
            from photonic.physics.compiled import digital  # numba takes a while to import

            return digital.mid_tread(x, self.precision)
        steps = (x * self.precision).abs_().sub_(0.5).ceil_()
        # |x p| below one half gives 0, and -0 where x is negative: the same number
        return steps.copysign_(x).div_(self.precision)

    def cells(self, ends: str) -> tuple[Tensor, Tensor]:
        """Half a step on each side."""
        half = 0.5 / self.precision
        return _ended(self.values - half, self.values + half, ends)


@dataclass(frozen=True)
class SignCodes:
    """One bit: -1 below zero, 1 from zero on. Its error is a flip, so its cells are open."""

    ends: str = field(default=CLAMPED, init=False)

    @property
    def values(self) -> Tensor:
        """-1 and 1."""
        return torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def quantise(self, x: Tensor) -> Tensor:
        """NaN stays NaN."""
        return torch.where(x < 0, -1.0, 1.0).to(x.dtype) + (x - x)

    def cells(self, ends: str) -> tuple[Tensor, Tensor]:
        """Either side of zero."""
        edges = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)
        return _ended(edges[:2], edges[1:], ends)


def _ended(low: Tensor, high: Tensor, ends: str) -> tuple[Tensor, Tensor]:
    if ends not in ENDS:
        raise SpecError(f"the ends of the cells are one of {', '.join(ENDS)}, found {ends!r}")
    if ends == CLIPPED:
        return low.clamp(min=-LIMIT), high.clamp(max=LIMIT)
    if ends == CLAMPED:
        low, high = low.clone(), high.clone()
        low[0], high[-1] = -math.inf, math.inf
    return low, high
