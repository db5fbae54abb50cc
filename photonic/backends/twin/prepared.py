"""A layer's weight as a twin uses it: what the light of each channel is worth in the layer's own outputs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from photonic.backends.encoding import Geometry
from photonic.physics.detection import Gain
from photonic.records import NoiseModel

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# of a weight whose shot noise is computed at once
SHOT_ELEMENTS = 2**18

R = TypeVar("R", bound="DataclassInstance")


@dataclass(frozen=True)
class Noise:
    """Variances of one reading.

    Attributes:
        detector: in D^2, as the chip's parameters give them.
        counts: of the converter, in counts^2: its own noise and its quantisation, exact for a signal that moves over
            at least half a count of noise (Widrow and Kollar, Quantization Noise, ch. 4).
        shots: how many readings are averaged.
    """

    detector: NoiseModel
    counts: float
    shots: int

    @property
    def silent(self) -> bool:
        """Whether outputs have no noise of their own."""
        return self.detector.thermal == self.detector.shot == self.counts == 0


@dataclass(frozen=True)
class Prepared:
    """G groups of M outputs, each the sum of C column tiles; K channels of a tile, one of them perhaps constant light.

    Attributes:
        cut: the tiling.
        matrix: (G, M, C, K) the mean: y = sum over C and K of matrix x light, plus ``base``.
        base: (G, 1, M) what is there without light, of one shot.
        sums: (G, 1, M) of the weights, for inputs that are encoded with an offset.
        worth: (G, C, M) one D of a tile, in the output.
        count: (G, C, M) one count of a tile.
        power: (K,) light to S where all outputs see the same, or (G, M, C, K).
        constant: whether the last channel is constant light.
        fixed: (G, 1, M) variance without light.
        shot: (G, C, M) variance for S of each column; None: no shot noise.
        silent: whether the variance is nothing.
        receivers: (2, M) thermal noise, and shot noise per S, of each output in D^2; None: all alike.
    """

    cut: Geometry
    matrix: Tensor
    base: Tensor
    sums: Tensor
    worth: Tensor
    count: Tensor
    power: Tensor
    constant: bool
    fixed: Tensor
    shot: Tensor | None
    silent: bool
    receivers: Tensor | None = None

    @property
    def uniform(self) -> bool:
        """Whether S is the same at all outputs."""
        return self.power.ndim == 1

    def to(self, device: torch.device) -> Prepared:
        """The same on a device."""
        if self.matrix.device == device:
            return self
        return moved(self, device)

    def shot_matrix(self, outputs: slice = slice(None)) -> Tensor:
        """Variance of some outputs for each channel's light, (G, m, C, K)."""
        assert self.shot is not None  # noqa: S101 - asked before
        power = self.power if self.uniform else self.power[:, outputs]
        return power * self.shot[..., outputs].transpose(1, 2).unsqueeze(-1)

    def column_power(self, light: Tensor) -> Tensor:
        """S of each tile, (G, C, B, 1 or M), from light (G, B, C, K)."""
        if self.uniform:
            return (light @ self.power).transpose(1, 2).unsqueeze(-1)
        each: Tensor = light.transpose(1, 2) @ self.power.permute(0, 2, 3, 1)
        return each

    def variance(self, light: Tensor, readings: int) -> Tensor:
        """What outputs do not share, (G, B or 1, M), for all the light (G, B, C, K) of their ``readings`` shots."""
        fixed = self.fixed * readings
        if self.shot is None:
            return fixed
        if self.uniform:
            return torch.baddbmm(fixed, light @ self.power, self.shot)
        # some outputs at a time: a third matrix of the weight's size would not stay in cache
        found = light.new_empty(len(light), light.shape[1], self.cut.outputs)
        step = max(1, SHOT_ELEMENTS // self.matrix[:, 0].numel())
        for start in range(0, self.cut.outputs, step):
            some = slice(start, start + step)
            part = torch.bmm(light.flatten(2), self.shot_matrix(some).flatten(2).mT)
            torch.add(part, fixed[..., some], out=found[..., some])
        return found


def moved(record: R, device: torch.device) -> R:
    """A dataclass with its tensors on a device."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    tensors: dict[str, Any] = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
    return replace(record, **tensors)


def prepare(
    decoding: tuple[Tensor, Tensor, Tensor],
    cut: Geometry,
    gain: Gain,
    noise: Noise,
    matrix: Tensor,
    power: Tensor,
    constant: bool,
) -> Prepared:
    """Joins what the chip makes of codes with what decoding makes of counts.

    Args:
        decoding: factor, offset and sums, as of an ``EncodedWeight``.
        cut: R x G C tiles.
        gain: of these.
        noise: of a reading.
        matrix: (G, M, C, K) of the result.
        power: the same.
        constant: the same.
    """
    factor, dark, sums = decoding
    outputs = cut.outputs
    count = by_output(factor.squeeze(-2), cut)
    worth = count * by_output(_each_tile(gain, cut), cut)
    offset = gain.offset.repeat(cut.rows)[:outputs]
    receivers = _receivers(gain, noise.detector, cut)
    thermal, shot = (noise.detector.thermal, noise.detector.shot) if receivers is None else receivers
    fixed = worth.square().mul_(thermal / noise.shots)
    fixed = fixed.add_(count.square().mul_(noise.counts / noise.shots)).sum(1, keepdim=True)
    return Prepared(
        cut=cut,
        matrix=matrix,
        base=(count * offset).sum(1, keepdim=True) - dark[..., :outputs],
        sums=sums[..., :outputs],
        worth=worth,
        count=count,
        power=power,
        constant=constant,
        fixed=fixed,
        shot=worth.square().mul_(shot / noise.shots) if noise.detector.shot > 0 else None,
        silent=noise.silent,
        receivers=receivers,
    )


def _receivers(gain: Gain, noise: NoiseModel, cut: Geometry) -> Tensor | None:
    """(2, M) thermal and shot noise of each output, in D^2; None: all alike."""
    own = gain.own_noise
    if own is None:
        return None
    return own.repeat(1, cut.rows)[:, : cut.outputs] * own.new_tensor([[noise.thermal], [noise.shot]])


def _each_tile(gain: Gain, cut: Geometry) -> Tensor:
    """Counts for D, (R, G C, m)."""
    return gain.counts_per_d.squeeze(1).transpose(0, 1).expand(cut.rows, cut.groups * cut.columns, cut.m)


def by_output(values: Tensor, cut: Geometry) -> Tensor:
    """(R, G C, m) to (G, C, M)."""
    grid: Tensor = values.transpose(0, 1).unflatten(0, (cut.groups, cut.columns))
    return grid.flatten(2)[..., : cut.outputs]
