"""How far the derivative of an activation is off when its pre-activation is quantised and noisy (arXiv 2402.02593).

As the study's figure has it: inputs a and weights w run over the digital values, z = a w is the exact pre-activation,

    a~ = RP(clamp(a + n)),  w~ = RP(clamp(w + n)),  z~ = RP(clamp(a~ w~ + n)),  error = |A'(z~) - A'(z)|.

A draw has one noisy value for each input and each weight, and noise of its own at each product. What is reported of a
region of (a, w) is averaged over draws: the largest error in the region *of each draw*, the mean, and the root of the
mean square. (The largest error of the averaged map is another, smaller number.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.errors import SpecError
from photonic.models.activations import Curve
from photonic.physics import seeds
from photonic.physics.codenoise import CodeNoise
from photonic.physics.codes import LIMIT, MidTread
from photonic.physics.draws import NormalDraws
from photonic.physics.errorprobability import noise_of_error_probability

STATISTICS = ("max", "mean", "rms")
# what the study's figures zoom into
ZOOM = 0.25
# numbers that are worked on at once: they stay in cache, and torch takes one core for them, which is faster where other
# processes want the second
_BLOCK = 2**15


@dataclass(frozen=True)
class Measured:
    """A Monte-Carlo result.

    Attributes:
        value: the estimate.
        error: its standard error.
    """

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {self.error:.1g}"


@dataclass(frozen=True)
class Region:
    """Pairs of digital values (a, w).

    Attributes:
        name: ``zoom`` (|a|, |w| <= 0.25), ``near`` (|a w| <= 1 / p) or ``square`` (all).
        a: (P,) indices of the inputs among the values.
        w: (P,) indices of the weights.
    """

    name: str
    a: Tensor
    w: Tensor


def region(name: str, codes: MidTread) -> Region:
    """The region of that name.

    Raises:
        SpecError: there is none.
    """
    values = codes.values
    within = values.abs() <= ZOOM
    masks = {
        "zoom": within[:, None] & within,
        # 1 / p itself is inside, however it is rounded
        "near": (values[:, None] * values).abs() <= (1 + 1e-9) / codes.precision,
        "square": torch.ones(len(values), len(values), dtype=torch.bool),
    }
    if name not in masks:
        raise SpecError(f"a region is one of {', '.join(masks)}, found {name!r}")
    a, w = masks[name].nonzero(as_tuple=True)
    return Region(name, a, w)


@dataclass(frozen=True)
class DerivativeErrors:
    """Of some curves, from the same draws.

    Attributes:
        precision: p.
        ep: error probability.
        where: the region.
        per_draw: by curve, (draws, 3): largest, mean and mean square error in the region.
        means: by curve, (P,) the error averaged over draws at each point.
        single: by curve, (P,) the error in the first draw.
    """

    precision: int
    ep: float
    where: Region
    per_draw: Mapping[str, Tensor]
    means: Mapping[str, Tensor]
    single: Mapping[str, Tensor]

    def error(self, curve: str) -> dict[str, Measured]:
        """Largest, mean and rms error of a curve."""
        found = _averaged(self.per_draw[curve])
        square = found["rms"]
        root = math.sqrt(square.value)
        return {**found, "rms": Measured(root, square.error / (2 * root) if root else 0.0)}

    def ratio(self, curve: str, other: str) -> dict[str, Measured]:
        """How much larger the errors of one curve are than those of another, with the draws' covariance.

        Ratios of averages: an average of ratios has no end, for a draw may leave the other without any error.

        Raises:
            SpecError: no draw had an error of the other.
        """
        top, bottom = self.per_draw[curve], self.per_draw[other]
        if not bool(bottom.any()):
            raise SpecError(
                f"no draw of {len(bottom)} had an error of {other} at p = {self.precision} and EP {self.ep:g} "
                f"({self.where.name}); take more draws"
            )
        ratio = top.mean(0) / bottom.mean(0)
        spread = (top - ratio * bottom).std(0) / bottom.mean(0) / math.sqrt(len(top))
        found = {name: Measured(*each) for name, *each in zip(STATISTICS, ratio.tolist(), spread.tolist(), strict=True)}
        root = math.sqrt(found["rms"].value)
        return {**found, "rms": Measured(root, found["rms"].error / (2 * root) if root else 0.0)}

    def single_draw_spread(self, curve: str, other: str) -> float:
        """Relative standard deviation, over single draws, of the ratio of mean errors; of draws that have it."""
        top, bottom = self.per_draw[curve][:, 1], self.per_draw[other][:, 1]
        ratios = (top / bottom)[bottom > 0]
        return float(ratios.std() / ratios.mean())


def derivative_errors(
    curves: Mapping[str, Curve], precision: int, ep: float, *, where: str = "zoom", draws: int = 1000, seed: int = 0
) -> DerivativeErrors:
    """Draws the noise and compares derivatives.

    Args:
        curves: by name; all see the same draws.
        precision: p.
        ep: error probability of the Gaussian noise.
        where: region.
        draws: at least 2, for the errors of the results.
        seed: of the noise.

    Raises:
        SpecError: a value out of bounds.
    """
    if draws < 2:
        raise SpecError(f"at least 2 draws are needed for an error of the result, found {draws}")
    codes = MidTread(precision)
    noise, points = noise_of_error_probability("gaussian", ep, codes), region(where, codes)
    z = codes.values[points.a] * codes.values[points.w]
    exact = {name: curve.derivative(z).float() for name, curve in curves.items()}
    tables = {name: curve.derivative(codes.values).float() for name, curve in curves.items()}
    per_draw = {name: torch.zeros(draws, 3, dtype=torch.float64) for name in curves}
    means = {name: torch.zeros(len(z), dtype=torch.float64) for name in curves}
    single = {name: torch.zeros(len(z)) for name in curves}
    for drawn, some, index in _drawn(codes, noise, points, draws, seed):
        for name in curves:
            error = tables[name].index_select(0, index.view(-1)).view(index.shape)
            error.sub_(exact[name][some]).abs_()
            if drawn.start == 0:
                single[name][some] = error[0]
            means[name][some] += error.sum(0, dtype=torch.float64) / draws
            row = per_draw[name][drawn]
            torch.maximum(row[:, 0], error.amax(1), out=row[:, 0])
            row[:, 1] += error.sum(1, dtype=torch.float64) / len(z)
            row[:, 2] += error.square_().sum(1, dtype=torch.float64) / len(z)
    return DerivativeErrors(precision, ep, points, per_draw, means, single)


def _drawn(
    codes: MidTread, noise: CodeNoise, points: Region, draws: int, seed: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Some draws, some points, and (draws, points) indices of z~ among the digital values, block by block."""
    stream = NormalDraws()
    stream.seed(seeds.derive("gradient error", codes.precision, points.name, seed))
    values, p, count = codes.values.float(), codes.precision, len(points.a)
    step = max(_BLOCK // count, 1)
    for start in range(0, draws, step):
        drawn = slice(start, min(start + step, draws))
        operands = values.repeat(2 * (drawn.stop - start), 1)
        a, w = codes.quantise(noise.noisy(operands, stream).clamp_(-LIMIT, LIMIT)).chunk(2)
        for first in range(0, count, _BLOCK):
            some = slice(first, first + _BLOCK)
            product = a.index_select(1, points.a[some]) * w.index_select(1, points.w[some])
            z = noise.noisy(product, stream).clamp_(-LIMIT, LIMIT)
            yield drawn, some, codes.quantise(z).mul_(p).round_().int().add_(p)


def _averaged(per_draw: Tensor) -> dict[str, Measured]:
    error = per_draw.std(0) / math.sqrt(len(per_draw))
    values = zip(STATISTICS, per_draw.mean(0).tolist(), error.tolist(), strict=True)
    return {name: Measured(value, spread) for name, value, spread in values}
