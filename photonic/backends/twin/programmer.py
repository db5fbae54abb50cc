"""A layer's weight, programmed on the device and joined to what a twin's product takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.backends import encoding
from photonic.backends.encoding import EncodedWeight, Encoder, Geometry
from photonic.backends.plans import EncodingOptions, Plan
from photonic.backends.twin.prepared import Noise, Prepared, join, prepare
from photonic.backends.twin.tilewise import OnChip
from photonic.physics.detection import Gain
from photonic.physics.draws import NormalDraws
from photonic.physics.evaluation import Evaluation, Tiles
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
        signed = encoding.encode_weight_signs(weight.cpu(), *plan.signs)
        cut = Geometry.of(self.encoder.spec, *signed.shape)
        rows = max(1, PREPARED_ELEMENTS // (cut.groups * cut.inputs) // cut.m)
        if by_tile:
            rows = cut.rows
        if cut.rows * cut.m > cut.outputs:
            signed = F.pad(signed, (0, 0, 0, cut.rows * cut.m - cut.outputs))
        parts: list[Prepared] = []
        matrix: Tensor | None = None
        for first in range(0, cut.rows, rows):
            begin = first * cut.m
            some = None if gains is None else gains.cpu()[first : first + rows]
            encoded, tiles, gain = self._program(signed[:, begin : begin + rows * cut.m], some, dtype)
            if matrix is None:
                matrix = torch.empty(cut.groups, cut.outputs, cut.columns, tiles.signed.shape[-1], dtype=dtype)
            end = min(begin + rows * cut.m, cut.outputs)
            parts.append(prepare(encoded, tiles, gain, self._noise(), end - begin, matrix[:, begin:end]))
        assert matrix is not None  # noqa: S101 - a weight has rows
        prepared = join(parts, cut, matrix).to(weight.device)
        return Made(prepared, OnChip(replace(encoded, cut=cut), tiles, gain) if by_tile else None)

    def _program(self, weight: Tensor, gains: Tensor | None, dtype: torch.dtype) -> tuple[EncodedWeight, Tiles, Gain]:
        """Some row tiles of a weight, after the sign encoding, on the device."""
        p, evaluation = self.parameters, self.evaluation
        setting: Tensor | float = (self.options.analog_gain or 1.0) if gains is None else gains
        encoded = encoding.encode(weight, self.encoder, self.options.weight_scale == "row", setting, dtype)
        kelvin = None
        if p.temperature_error_k != 0:
            kelvin = torch.full((encoded.codes[..., 0].numel(),), p.temperature_error_k, dtype=torch.float64)
        around = Surroundings(self.draws.first, kelvin)
        gain = evaluation.gain(encoded.cut.m, setting, None, dtype)
        return encoded, evaluation.tiles(encoded.codes, encoded.cut.n, gain, None, around), gain

    def _noise(self) -> Noise:
        p = self.parameters
        quantisation = 0.0 if p.adc_bits is None else 1.0 / 12.0
        return Noise(p.noise, p.adc_noise_lsb**2 + quantisation, self.options.shots)
