"""What ``photonic explain`` finds: frozen records, printed by ``--json``, and the statistics behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from photonic.physics import seeds
from photonic.records import Record


class Estimate(Record):
    """A mean-square error relative to the mean square of the exact output; a difference of two may be negative."""

    value: float
    standard_error: float = Field(ge=0, description="over independent blocks")

    @property
    def rms(self) -> float:
        """Its square root, with the sign of the value."""
        return math.copysign(math.sqrt(abs(self.value)), self.value)


class Error(Record):
    """An error in its two parts, which add up: E[(y - exact)^2] = systematic + random."""

    systematic: Estimate = Field(description="of the mean over repeats; the variance of that mean is taken off")
    random: Estimate = Field(description="variance over repeats")
    total: Estimate


class Share(Record):
    """What one effect does."""

    effect: str
    alone: Error = Field(description="of the chip with all others off; what it adds to alone_beside")
    off: Error = Field(description="of the chip without it, and without off_beside")
    change: Estimate = Field(description="mean-square error of the whole chip, less that of the chip without it")
    alone_beside: tuple[str, ...] = Field(default=(), description="effects that it cannot be on without")
    off_beside: tuple[str, ...] = Field(default=(), description="effects that cannot be on without it")

    @property
    def label(self) -> str:
        """Its name, with an asterisk where a note belongs to it."""
        return self.effect + ("*" if self.alone_beside or self.off_beside else "")


class Product(Record):
    """The test product: normal weights; inputs normal, negative ones set to zero unless ``signed``."""

    outputs: int = Field(ge=1)
    inputs: int = Field(ge=1)
    batch: int = Field(ge=1, description="input vectors of a block")
    blocks: int = Field(default=16, ge=2, description="each with weights and inputs of its own")
    repeats: int = Field(default=8, ge=2, description="of the same product")
    signed: bool = False
    seed: int = Field(default=0, ge=0)

    def draw(self, block: int) -> tuple[Tensor, Tensor]:
        """Inputs (1, B, N) and weights (1, M, N) of a block, float64."""
        generator = seeds.generator("explain", self.seed, block)
        weight = torch.randn(1, self.outputs, self.inputs, generator=generator, dtype=torch.float64)
        x = torch.randn(1, self.batch, self.inputs, generator=generator, dtype=torch.float64)
        return x if self.signed else x.clamp(min=0), weight


class Budget(Record):
    """The error budget at the output of a matmul. The parts are not forced to add up: ``interaction`` is the rest."""

    chip: str
    product: Product
    dominant: str | None = Field(description="largest mean-square error alone; None: no effect makes any")
    margin: Estimate | None = Field(description="its mean square alone, less that of the next effect")
    total: Error = Field(description="all effects on")
    ideal: Error = Field(description="all effects off: rounding")
    effects: tuple[Share, ...] = Field(description="largest first")
    interaction: Estimate = Field(description="total less the sum over effects alone, mean squares")

    @property
    def sentence(self) -> str:
        """The answer in words."""
        if self.dominant is None:
            return "No effect of this chip makes an error: it is ideal."
        first, whole = self.effects[0].alone.total.rms, self.total.total.rms
        text = f"alone it makes {100 * first:.3g} % of the output's rms, all effects together {100 * whole:.3g} %"
        if self.margin is not None and self.margin.value < 2 * self.margin.standard_error:
            return f"The largest errors are {self.dominant} and {self.effects[1].effect}, too close to tell; {text}."
        return f"The dominant effect is {self.dominant}: {text}."


class Interval(Record):
    """A mean over passes with half its 95 % interval (Student's t): of the noise, on this device and these images."""

    mean: float
    ci95: float = Field(ge=0)


class AccuracyShare(Record):
    """What one effect does to the accuracy of a model."""

    effect: str
    alone: Interval = Field(description="with all others off, but for those that it cannot be on without")
    off: Interval
    loss: Interval = Field(description="of accuracy, alone: digital less alone, or what it adds to those others")
    change: Interval = Field(description="accuracy without it, less accuracy with all effects, pass by pass")


class LayerBudget(Record):
    """The error of one layer's product on exact inputs, relative to the mean square of the exact product."""

    layer: str
    total: Error
    ideal: Error
    alone: dict[str, Error] = Field(description="by effect, largest first")
    interaction: Estimate


class ModelBudget(Record):
    """The budget of a trained model: layer by layer, and in accuracy."""

    images: int
    passes: int
    layer_images: int
    layer_repeats: int
    layers: tuple[LayerBudget, ...]
    digital: float = Field(description="accuracy of the same weights in exact arithmetic")
    total: Interval = Field(description="all effects on")
    ideal: Interval = Field(description="all effects off")
    effects: tuple[AccuracyShare, ...] = Field(description="largest loss alone first")
    interaction: Interval = Field(description="loss of accuracy, less the sum of the losses alone")


@dataclass(frozen=True)
class Samples:
    """Mean squares of K independent blocks, (K,) each: the parts of the error, and the exact output."""

    systematic: Tensor
    random: Tensor
    power: Tensor

    @classmethod
    def of_blocks(cls, blocks: Sequence[Tensor]) -> Samples:
        """From what ``compare`` gave for each block."""
        return cls(*torch.stack(list(blocks), dim=1))

    @property
    def total(self) -> Tensor:
        """Mean-square error (K,)."""
        return self.systematic + self.random

    def __sub__(self, other: Samples) -> Samples:
        return Samples(self.systematic - other.systematic, self.random - other.random, self.power)

    def error(self) -> Error:
        """The estimates over all blocks."""
        parts = {"systematic": self.systematic, "random": self.random, "total": self.total}
        return Error(**{name: estimate(values, self.power) for name, values in parts.items()})


def compare(exact: Tensor, measured: Tensor) -> Tensor:
    """Mean squares (3,) of one block: systematic error, random error, exact output; both errors without bias.

    Args:
        exact: any shape.
        measured: (R, ...) the same product R times.
    """
    exact, measured = exact.to(torch.float64), measured.to(torch.float64)
    random = measured.var(dim=0).mean()
    # the mean over R repeats still carries 1 / R of the noise
    systematic = (measured.mean(dim=0) - exact).square().mean() - random / len(measured)
    return torch.stack([systematic, random, exact.square().mean()])


def estimate(values: Tensor, power: Tensor) -> Estimate:
    """The ratio of two means over K blocks, with its standard error to first order (ratio estimator)."""
    scale = power.mean().clamp(min=torch.finfo(power.dtype).tiny)
    ratio = values.mean() / scale
    spread = ((values - ratio * power) / scale).std() / math.sqrt(len(values))
    return Estimate(value=float(ratio), standard_error=float(spread))


def interaction(whole: Samples, parts: Iterable[Samples]) -> Estimate:
    """Mean-square error of the whole, less the sum of the parts'."""
    return estimate(whole.total - sum((part.total for part in parts), torch.zeros(())), whole.power)


def interval(passes: Tensor) -> Interval:
    """Mean of (n,) independent passes, n at least 2, with half its 95 % interval."""
    n = len(passes)
    return Interval(mean=float(passes.mean()), ci95=student_95(n - 1) * float(passes.std()) / math.sqrt(n))


def student_95(freedom: int) -> float:
    """Student's t for a two-sided 95 % interval, by bisection."""
    low, high = 1.0, 13.0  # 12.71 for one degree of freedom, 1.96 for many
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_inside(middle, freedom) < 0.95 else (low, middle)
    return high


def _student_inside(t: float, freedom: int) -> float:
    """Probability of [-t, t] (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine, odd = math.sin(angle), math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (k - 1) / k
    return (angle + sine * total) * 2 / math.pi if odd else sine * total
