"""A layer's weight as a twin uses it: what the light of each channel is worth in the layer's own outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from photonic.backends.encoding import EncodedWeight, Geometry
from photonic.physics.detection import Gain
from photonic.physics.evaluation import Tiles
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
    encoded: EncodedWeight, tiles: Tiles, gain: Gain, noise: Noise, outputs: int, matrix: Tensor | None = None
) -> Prepared:
    """Joins what the chip makes of codes with what decoding makes of counts.

    Args:
        encoded: R x G C tiles.
        tiles: the same, as programmed: (G C, R, m, K).
        gain: of these.
        noise: of a reading.
        outputs: how many of the R m are in use.
        matrix: (G, outputs, C, K), overwritten with the result's; None: a new one.
    """
    cut = encoded.cut
    g, c = cut.groups, cut.columns
    count = _outputs(encoded.factor.squeeze(-2).transpose(0, 1), g, c, outputs)  # (R, G C, 1, m)
    per_d = gain.counts_per_d.squeeze(1).expand(g * c, cut.rows, cut.m)
    worth = count * _outputs(per_d, g, c, outputs)
    signed = _by_output(tiles.signed, g, c, outputs)  # in counts
    if matrix is None:
        matrix = torch.empty(signed.shape, dtype=signed.dtype, device=signed.device)
    torch.mul(signed, count.transpose(1, 2).unsqueeze(-1), out=matrix)
    offset = gain.offset.repeat(cut.rows)[:outputs]
    fixed = worth.square().mul_(noise.detector.thermal / noise.shots)
    fixed = fixed.add_(count.square().mul_(noise.counts / noise.shots)).sum(1, keepdim=True)
    uniform = tiles.power.shape[:3] == (1, 1, 1)
    return Prepared(
        cut=cut,
        matrix=matrix,
        base=(count * offset).sum(1, keepdim=True) - encoded.offset[..., :outputs],
        sums=encoded.sums[..., :outputs],
        worth=worth,
        count=count,
        power=tiles.power[0, 0, 0] if uniform else _by_output(tiles.power, g, c, outputs).contiguous(),
        constant=tiles.constant,
        fixed=fixed,
        shot=worth.square().mul_(noise.detector.shot / noise.shots) if noise.detector.shot > 0 else None,
        silent=noise.silent,
    )


def join(parts: Sequence[Prepared], cut: Geometry, matrix: Tensor) -> Prepared:
    """Parts of a weight's outputs, one after the other, that already share their matrix."""
    if len(parts) == 1:
        return replace(parts[0], cut=cut)
    last = ("base", "sums", "worth", "count", "fixed")
    joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts], dim=-1) for name in last}
    shots = [part.shot for part in parts if part.shot is not None]
    power = parts[0].power if parts[0].uniform else torch.cat([part.power for part in parts], dim=1)
    shot = torch.cat(shots, dim=-1) if shots else None
    return replace(parts[0], cut=cut, matrix=matrix, power=power, shot=shot, **joined)


def _by_output(tiles: Tensor, groups: int, columns: int, outputs: int) -> Tensor:
    """(G C, R, m, K) to (G, M, C, K)."""
    grid: Tensor = tiles.unflatten(0, (groups, columns))
    return grid.flatten(2, 3)[:, :, :outputs].transpose(1, 2)


def _outputs(values: Tensor, groups: int, columns: int, outputs: int) -> Tensor:
    """(G C, R, m) to (G, C, M)."""
    grid: Tensor = values.unflatten(0, (groups, columns))
    return grid.flatten(2)[..., :outputs]
