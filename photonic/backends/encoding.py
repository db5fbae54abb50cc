"""Between numbers and codes: pure functions for signs, scaling, tiling, encoding and decoding.

Light is non-negative and a chip is small. A product of real matrices therefore becomes a product of non-negative (or
signed, where the chip can) matrices with entries of at most 1, cut into tiles. Every sign encoding here is a linear
map of whole matrices before and after the product, so that tiling and converters know nothing of signs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.errors import RangeError, ShapeError
from photonic.physics import modulator, svdmesh
from photonic.physics.many import many
from photonic.records import ChipSpec, Response


@dataclass(frozen=True)
class Geometry:
    """How a weight (G, M, N) is cut into row tiles x (groups x column tiles), each m x n."""

    groups: int
    outputs: int
    inputs: int
    rows: int
    columns: int
    m: int
    n: int

    @classmethod
    def of(cls, spec: ChipSpec, groups: int, outputs: int, inputs: int) -> Geometry:
        """The fewest tiles; a weight smaller than the chip uses a part of it, if the chip can be used in part."""
        m, n = min(outputs, spec.n_outputs), min(inputs, spec.n_inputs)
        if spec.layout == "program":
            m, n = spec.n_outputs, spec.n_inputs
        return cls(groups, outputs, inputs, -(-outputs // m), -(-inputs // n), m, n)

    @cached_property
    def tiles(self) -> int:
        """How many there are."""
        return self.rows * self.groups * self.columns


_CACHED_ELEMENTS = 2**18  # of a weight, at once
NOT_FINITE = "holds NaN or infinite values; a chip can only take finite numbers"


def check_finite(name: str, low: Tensor, high: Tensor) -> None:
    """Refuses NaN and infinity, found in the minimum and maximum that scaling needs anyway."""
    if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise RangeError(f"{name} {NOT_FINITE}")


def nonzero(scale: Tensor) -> Tensor:
    """What to divide by: a scale of zero belongs to zeros only, and any divisor keeps them.

    Results are multiplied by the scale itself: what is zero digitally takes no noise from a chip.
    """
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def tile_inputs(v: Tensor, cut: Geometry, fill: float) -> Tensor:
    """(G, B, N) to (G x C, B, n), never copied per row tile; ``fill`` is what an unused input gets."""
    g, b, n_all = v.shape
    if cut.columns * cut.n > n_all:  # torch copies for nothing, too
        v = F.pad(v, (0, cut.columns * cut.n - n_all), value=fill)
    return v.reshape(g, b, cut.columns, cut.n).transpose(1, 2).reshape(g * cut.columns, b, cut.n)


def tile_weight(weight: Tensor, cut: Geometry) -> Tensor:
    """(G, M, N) to (R, G x C, m, n), padded with zeros."""
    g, m_all, n_all = weight.shape
    unused = 0, cut.columns * cut.n - n_all, 0, cut.rows * cut.m - m_all
    if any(unused):
        weight = F.pad(weight, unused)
    tiles = weight.reshape(g, cut.rows, cut.m, cut.columns, cut.n).permute(1, 0, 3, 2, 4)
    return tiles.reshape(cut.rows, g * cut.columns, cut.m, cut.n)


def input_codes(values: Tensor, spec: ChipSpec, response: Response) -> Tensor:
    """Codes of values in [0, 1] (or [-1, 1] where the inputs are signed), rounded to the nearest, half to even."""
    encode = modulator.codes if spec.input_bits is None else modulator.nearest_codes
    return encode(response.inputs, values).to(spec.code_dtype)


@dataclass(frozen=True)
class Programmed:
    """Tiles as drive codes, and what decoding needs of them; (R, G x C, m) each but for the codes.

    Attributes:
        codes: (R, G x C, P), or in the shape of the tiles.
        worth: what D = 1 is worth in the result.
        sums: sums of the programmed weights over the inputs in use.
        dark: what D is worth when all inputs are 0, which need not be dark.
    """

    codes: Tensor
    worth: Tensor
    sums: Tensor
    dark: Tensor


class Encoder(Protocol):
    """From numbers to the codes of one chip, and from its counts to what its ADCs saw."""

    @property
    def spec(self) -> ChipSpec:
        """Of the chip."""

    @property
    def by_image(self) -> bool:
        """Whether pixels can be encoded before they are cut into patches.

        Then all channels take the same codes, the code 0 stands for 0, and ``inputs`` takes values of any shape.
        """

    @property
    def counts_per_d(self) -> tuple[float, ...]:
        """One value, or one for each output."""

    @property
    def zero_count(self) -> tuple[float, ...]:
        """One value, or one for each output."""

    def row_scale(self, weight: Tensor, cut: Geometry) -> Tensor | None:
        """(R, G x C, m) by which rows of a weight's (G, M, N) tiles must be divided; None: they are free in it."""

    def weights(self, tiles: Tensor, cut: Geometry, per_row: bool, scale: Tensor | None = None) -> Programmed:
        """Programs tiles (R, G x C, m, n), each scaled to full scale or, with ``per_row``, each of its rows.

        Args:
            tiles: of a weight.
            cut: its tiling.
            per_row: whether each row has a scale of its own.
            scale: (R, G x C, m) of each row, as ``row_scale`` has it; None: chosen by ``per_row``.
        """

    def inputs(self, values: Tensor, cut: Geometry) -> Tensor:
        """Codes of values (G, B, N) in [0, 1], or in [-1, 1] where the inputs are signed."""

    def volts(self, counts: Tensor, dtype: torch.dtype) -> Tensor:
        """What the ADCs saw, in counts (R, G x C, B, m): the same tensor where a count says it."""


@dataclass(frozen=True)
class Nominal:
    """One response for all elements and channels: a weight is code / code_one.

    Attributes:
        spec: of the chip.
        response: of its data sheet, or with a gain and a zero for each output.
    """

    spec: ChipSpec
    response: Response

    @property
    def by_image(self) -> bool:
        """Where the code 0 stands for 0."""
        return self.response.inputs.code_zero == 0

    @property
    def counts_per_d(self) -> tuple[float, ...]:
        """As the response has them."""
        return self.response.counts_per_d

    @property
    def zero_count(self) -> tuple[float, ...]:
        """As the response has them."""
        return self.response.zero_count

    def row_scale(self, weight: Tensor, cut: Geometry) -> None:
        """Rows are free: an element's weight may be 0."""
        return

    def weights(self, tiles: Tensor, cut: Geometry, per_row: bool, scale: Tensor | None = None) -> Programmed:
        """Counts are c = zero + k D with D = 1/N sum_j w_j T_j and T_j = T_min + (1 - T_min) v_j.

        Hence sum_j w_j v_j = (N (c - zero) / k - T_min sum_j w_j) / (1 - T_min), all times the tile's scale.
        """
        if self.spec.layout == "program":
            codes, worth, sums = _program(tiles, self.spec)
        else:
            codes, worth, sums = _scale(tiles, self.spec, self.response, per_row)
        level_min = self.response.inputs.level_min
        return Programmed(codes, worth / (1 - level_min), sums, sums * (level_min / (1 - level_min)))

    def inputs(self, values: Tensor, cut: Geometry) -> Tensor:
        """The same for all channels."""
        return input_codes(values, self.spec, self.response)

    def volts(self, counts: Tensor, dtype: torch.dtype) -> Tensor:
        """The counts: an ideal ADC's error averages out."""
        return counts


@dataclass(frozen=True)
class EncodedWeight:
    """A weight as the chip holds it, and what decoding needs of it.

    Attributes:
        cut: the tiling.
        codes: (R, G x C, P) drive codes.
        factor: (R, G x C, 1, m) what one count of each tile output is worth in the result.
        offset: (G, 1, R m) what all tiles together add to the result when nothing shines in: dark level and zero count.
        sums: (G, 1, R m) sums of the programmed weights over N.
    """

    cut: Geometry
    codes: Tensor
    factor: Tensor
    offset: Tensor
    sums: Tensor


def encode_weight(
    weight: Tensor, spec: ChipSpec, response: Response, per_row: bool, gain: Tensor | float = 1.0
) -> EncodedWeight:
    """``encode`` by one response for all elements."""
    return encode(weight, Nominal(spec, response), per_row, gain)


def encode(
    weight: Tensor, encoder: Encoder, per_row: bool, gain: Tensor | float = 1.0, codes: torch.dtype | None = None
) -> EncodedWeight:
    """Turns a weight into drive codes, and prepares the decoding of the counts.

    Args:
        weight: (G, M, N) after the sign encoding.
        encoder: of the chip.
        per_row: a scale for each output of each tile instead of one for the tile (where each weight has a code).
        gain: the analog gain before the ADC, of all tiles or of each (R, G x C).
        codes: dtype of the drive codes; None: the chip's.

    Raises:
        ShapeError: gains of another number of tiles.
    """
    cut = Geometry.of(encoder.spec, *weight.shape)
    found = _programmed(weight, cut, encoder, per_row, codes or encoder.spec.code_dtype)
    return EncodedWeight(cut, found.codes, *decoding(found, cut, encoder, gain, weight))


def decoding(
    found: Programmed, cut: Geometry, encoder: Encoder, gain: Tensor | float, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``factor``, ``offset`` and ``sums`` of an ``EncodedWeight``.

    Args:
        found: all tiles; of their codes nothing is asked.
        cut: the tiling.
        encoder: of the chip.
        gain: the analog gain before the ADC, of all tiles or of each (R, G x C).
        like: gives dtype and device.

    Raises:
        ShapeError: gains of another number of tiles.
    """
    factor = found.worth / nominal_gain(cut, encoder, gain, like)
    offset = per_output(encoder.zero_count, cut, like) * factor + found.dark
    return factor.unsqueeze(-2), _sum_columns(offset, cut), _sum_columns(found.sums, cut)


def nominal_gain(cut: Geometry, encoder: Encoder, gain: Tensor | float, like: Tensor) -> Tensor:
    """Counts for D as the calibration says them, (m,) or (R, G x C, m).

    Raises:
        ShapeError: gains of another number of tiles.
    """
    if isinstance(gain, Tensor) and tuple(gain.shape) != (cut.rows, cut.groups * cut.columns):
        raise ShapeError(
            f"the layer's analog gains are for {tuple(gain.shape)} tiles and its weight now takes "
            f"{(cut.rows, cut.groups * cut.columns)}; fit them again with photonic.fit_ranges"
        )
    return per_output(encoder.counts_per_d, cut, like) * (
        gain.to(like).unsqueeze(-1) if isinstance(gain, Tensor) else gain
    )


def programmed_blocks(
    weight: Tensor, cut: Geometry, encoder: Encoder, per_row: bool, elements: int
) -> Iterator[tuple[int, Geometry, Programmed]]:
    """A weight (G, M, N), some row tiles at a time: what they are made from stays in cache.

    Args:
        weight: after the sign encoding.
        cut: its tiling.
        encoder: of the chip.
        per_row: a scale for each row of each tile.
        elements: of a block, if a row tile is not more.

    Yields:
        Number of the first row tile of a block, the block's tiling, and its tiles.
    """
    step = max(1, elements // (weight.shape[0] * weight.shape[2]) // cut.m)
    scale = encoder.row_scale(weight, cut)
    for first in range(0, cut.rows, step):
        rows = slice(first * cut.m, (first + step) * cut.m)
        part = weight[:, rows]
        here = replace(cut, outputs=part.shape[1], rows=-(-part.shape[1] // cut.m))
        each = None if scale is None else scale[first : first + step]
        yield first, here, encoder.weights(tile_weight(part, here), here, per_row, each)


def _programmed(weight: Tensor, cut: Geometry, encoder: Encoder, per_row: bool, dtype: torch.dtype) -> Programmed:
    """All tiles, in blocks of row tiles that stay in cache."""
    codes: Tensor | None = None
    parts = []
    for first, here, found in programmed_blocks(weight, cut, encoder, per_row, _CACHED_ELEMENTS):
        if here.rows == cut.rows:
            return replace(found, codes=found.codes.flatten(2).to(dtype))
        if codes is None:
            shape = cut.rows, *found.codes.shape[1:2], found.codes[0, 0].numel()
            codes = torch.empty(shape, dtype=dtype, device=weight.device)
        codes[first : first + here.rows] = found.codes.flatten(2)
        parts.append((found.worth, found.sums, found.dark))
    assert codes is not None  # noqa: S101 - a weight has rows
    return Programmed(codes, *(torch.cat(values) for values in zip(*parts, strict=True)))


def _scale(tiles: Tensor, spec: ChipSpec, response: Response, per_row: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scales each tile (or each row of each tile) to full scale, and rounds to codes.

    Args:
        tiles: (R, G x C, m, n).
        spec: of the chip.
        response: of its calibration.
        per_row: a scale for each output of each tile.

    Returns:
        Codes (R, G x C, m, n), what D = 1 is worth in each output, and the sums of the programmed weights
        (R, G x C, m) each.
    """
    if per_row and many(tiles, inner=True):
        from photonic.physics.compiled import scaling  # numba takes a while to import

        whole = spec.weight_bits is not None
        codes, scale, sums = scaling.rows_to_codes(tiles, response.weight_code_one, whole=whole)
        if not whole:
            codes.clamp_(-response.weight_code_one, response.weight_code_one)  # a rounding error, at the largest
        return codes, scale * spec.n_inputs, sums.div_(response.weight_code_one).mul_(scale)
    codes = tiles.abs()
    scale = codes.amax(dim=-1 if per_row else (-2, -1), keepdim=True)
    torch.mul(tiles, response.weight_code_one / nonzero(scale), out=codes)
    if spec.weight_bits is not None:
        codes = codes.round_()
    else:
        codes.clamp_(-response.weight_code_one, response.weight_code_one)
    scale = scale.squeeze(-1).expand(*tiles.shape[:-1])
    return codes, scale * spec.n_inputs, codes.sum(dim=-1) / response.weight_code_one * scale


def _program(tiles: Tensor, spec: ChipSpec) -> tuple[Tensor, Tensor, Tensor]:
    """The same for a mesh, by its decomposition (float64): D = sum_j (w_j / sigma_max) E_j, phases evenly over 2 pi."""
    drives, largest = svdmesh.program(tiles.flatten(0, 1).to(torch.float64).cpu())
    codes = drives
    if spec.weight_bits is not None:
        turn = spec.weight_code_range[1] + 1
        codes = (drives * (turn / (2 * math.pi))).round_() % turn
    scale = largest.to(tiles).view(*tiles.shape[:2], 1).expand(*tiles.shape[:-1])
    return codes.to(tiles.device).view(*tiles.shape[:2], -1), scale, tiles.sum(dim=-1)


def per_output(values: tuple[float, ...], cut: Geometry, like: Tensor) -> Tensor:
    """One value, or the first m of one for each output, in the dtype and on the device of ``like``."""
    return torch.tensor(values[: cut.m], dtype=like.dtype, device=like.device)


def _sum_columns(values: Tensor, cut: Geometry) -> Tensor:
    """(R, G x C, m) to (G, 1, R m): column tiles are summed, row tiles stand side by side."""
    summed = values.reshape(cut.rows, cut.groups, cut.columns, cut.m).sum(dim=2)
    return summed.transpose(0, 1).reshape(cut.groups, 1, cut.rows * cut.m)
