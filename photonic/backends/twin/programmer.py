"""A layer's weight, programmed on the device and joined to what a twin's product takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from photonic.backends import encoding, signs
from photonic.backends.encoding import Encoder, Geometry, Programmed
from photonic.backends.plans import EncodingOptions, Plan
from photonic.backends.twin.prepared import Noise, Prepared, prepare
from photonic.backends.twin.tilewise import OnChip
from photonic.physics.detection import Gain
from photonic.physics.draws import NormalDraws
from photonic.physics.evaluation import Evaluation
from photonic.physics.optics import Surroundings
from photonic.physics.parameters import ChipParameters

# of a weight that is programmed at once: its many steps stay in cache, and hold little memory
PREPARED_ELEMENTS = 2**17


@dataclass(frozen=True)
class Made:
    """A weight as the twin uses it; ``chip`` where it is read tile by tile."""

    prepared: Prepared
    chip: OnChip | None


@dataclass(frozen=True)
class Blocks:
    """The matrices of a weight, which are filled some row tiles at a time.

    Attributes:
        cut: R x G C tiles.
        matrices: (G, R, m, C, K) each: of the mean, and of S where outputs differ in it.
        even: (K,) of S where they do not, or None.
        constant: whether the last of the K channels is constant light.
    """

    cut: Geometry
    matrices: tuple[Tensor, ...]
    even: Tensor | None
    constant: bool

    @classmethod
    def of(cls, cut: Geometry, channels: int, power: Tensor, constant: bool, dtype: torch.dtype) -> Self:
        """Empty ones; ``power`` is W_S of some tiles, (1, 1, K) where it is the same for all."""
        even = power[0, 0] if power.shape[:2] == (1, 1) else None
        shape = cut.groups, cut.rows, cut.m, cut.columns, channels
        return cls(
            cut, tuple(torch.empty(shape, dtype=dtype) for _ in range(1 if even is not None else 2)), even, constant
        )

    def fill(self, first: int, w_d: Tensor, w_s: Tensor, worth: Tensor) -> None:
        """Row tiles from ``first`` on: W_D (G C x R, m, K) is worth (R, G C, m), and W_S is as it is."""
        rows, split = len(worth), (self.cut.groups, self.cut.columns, len(worth))
        here = [each[:, first : first + rows].permute(0, 3, 1, 2, 4) for each in self.matrices]
        each = worth.transpose(0, 1).unflatten(0, split[:2]).unsqueeze(-1)
        torch.mul(w_d.unflatten(0, split), each, out=here[0])
        if self.even is None:
            here[1].copy_(w_s.unflatten(0, split))

    @property
    def matrix(self) -> Tensor:
        """(G, M, C, K) of the mean."""
        return self._outputs(self.matrices[0])

    @property
    def power(self) -> Tensor:
        """(K,) or (G, M, C, K) of S."""
        return self._outputs(self.matrices[1]) if self.even is None else self.even

    def _outputs(self, matrix: Tensor) -> Tensor:
        return matrix.flatten(1, 2)[:, : self.cut.outputs]


@dataclass(frozen=True)
class Programmer:
    """Programs weights.

    Attributes:
        parameters: of the chip.
        evaluation: of the device.
        encoder: of the chip's calibration.
        options: as of ``CalibratedBackend``.
        draws: for what is drawn anew at every programming.
    """

    parameters: ChipParameters
    evaluation: Evaluation
    encoder: Encoder
    options: EncodingOptions
    draws: NormalDraws

    def make(self, weight: Tensor, plan: Plan, dtype: torch.dtype, gains: Tensor | None, *, by_tile: bool) -> Made:
        """Programs a weight, some row tiles at a time: all of it many times over would not stay in cache.

        Args:
            weight: (G, M, N), finite.
            plan: of the product, with its signs.
            dtype: of the arithmetic.
            gains: (R, G x C) analog gain of each tile; None: of the options.
            by_tile: whether it is read tile by tile.
        """
        # a device's hidden truth lives on the CPU, and so does its programming
        signed = signs.encode_weight_signs(weight.cpu(), *plan.signs)
        cut = Geometry.of(self.encoder.spec, *signed.shape)
        setting: Tensor | float = (self.options.analog_gain or 1.0) if gains is None else gains.cpu()
        nominal = encoding.nominal_gain(cut, self.encoder, setting, signed)
        gain = self.evaluation.gain(cut.m, setting, None, dtype)
        if by_tile:
            return self._to_be_read(signed, cut, setting, gain, weight.device)
        found, blocks = self._in_blocks(signed, cut, nominal, gain)
        decoding = encoding.decoding(found, cut, self.encoder, setting, signed)
        made = prepare(decoding, cut, gain, self._noise(), blocks.matrix, blocks.power, blocks.constant)
        return Made(made.to(weight.device), None)

    def _to_be_read(
        self, signed: Tensor, cut: Geometry, setting: Tensor | float, gain: Gain, device: torch.device
    ) -> Made:
        """A weight as the exact chip holds it."""
        dtype, per_row = gain.counts_per_d.dtype, self.options.weight_scale == "row"
        encoded = encoding.encode(signed, self.encoder, per_row, setting, dtype)
        tiles = self.evaluation.tiles(encoded.codes, cut.n, gain, None, self._around(cut, cut.rows))
        decoding = encoded.factor, encoded.offset, encoded.sums
        blocks = Blocks.of(cut, tiles.signed.shape[-1], tiles.power.flatten(0, 1), tiles.constant, dtype)
        worth = encoded.factor.squeeze(-2)
        blocks.fill(0, tiles.signed.flatten(0, 1), tiles.power.flatten(0, 1), worth)
        made = prepare(decoding, cut, gain, self._noise(), blocks.matrix, blocks.power, blocks.constant)
        return Made(made.to(device), OnChip(encoded, tiles, gain))

    def _in_blocks(self, signed: Tensor, cut: Geometry, nominal: Tensor, gain: Gain) -> tuple[Programmed, Blocks]:
        """Some row tiles at a time: what is worth nothing but to make the matrix stays in cache."""
        per_row, dtype = self.options.weight_scale == "row", gain.counts_per_d.dtype
        # counts for D of this device, over what its calibration says
        relative = gain.counts_per_d.squeeze(1).transpose(0, 1) / nominal
        blocks: Blocks | None = None
        parts = []
        for first, here, found in encoding.programmed_blocks(signed, cut, self.encoder, per_row, PREPARED_ELEMENTS):
            codes = found.codes.transpose(0, 1).flatten(2).flatten(0, 1)  # a column's tiles side by side
            w_d, w_s, constant = self.evaluation.programmed(codes, cut.n, None, self._around(cut, here.rows), dtype)
            if blocks is None:
                blocks = Blocks.of(cut, w_d.shape[-1], w_s, constant, dtype)
            some = relative if len(relative) == 1 else relative[first : first + here.rows]
            blocks.fill(first, w_d, w_s, found.worth * some)
            parts.append((found.worth, found.sums, found.dark))
        assert blocks is not None  # noqa: S101 - a weight has rows
        return Programmed(signed, *(torch.cat(values) for values in zip(*parts, strict=True))), blocks

    def _around(self, cut: Geometry, rows: int) -> Surroundings:
        """Of some row tiles."""
        kelvin, tiles = None, cut.groups * cut.columns * rows
        if self.parameters.temperature_error_k != 0:
            kelvin = torch.full((tiles,), self.parameters.temperature_error_k, dtype=torch.float64)
        return Surroundings(self.draws.first, kelvin)

    def _noise(self) -> Noise:
        p = self.parameters
        quantisation = 0.0 if p.adc_bits is None else 1.0 / 12.0
        return Noise(p.noise, p.adc_noise_lsb**2 + quantisation, self.options.shots)
