"""A weight that is read tile by tile, with the exact chip's own detection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.backends import encoding
from photonic.backends.decoding import decode
from photonic.backends.encoding import EncodedWeight, Encoder, Nominal
from photonic.physics.detection import Gain
from photonic.physics.evaluation import Evaluation, Source, Tiles


@dataclass(frozen=True)
class OnChip:
    """A weight as the exact chip holds it.

    Attributes:
        encoded: its codes and how counts are decoded.
        tiles: what they do to light.
        gain: of these.
    """

    encoded: EncodedWeight
    tiles: Tiles
    gain: Gain

    def read(self, codes: Tensor, shots: int, evaluation: Evaluation, encoder: Encoder) -> tuple[Tensor, int]:
        """Products (G, B, M) of floating-point codes (G, B, N), and how many counts were at the rails.

        Args:
            codes: without a sign, unless the light has one.
            shots: readings that are averaged.
            evaluation: of the device; draws the noise.
            encoder: of the chip; says what its ADCs saw.
        """
        cut, each, spec = self.encoded.cut, codes.shape[1], encoder.spec
        inputs = encoding.tile_inputs(codes.cpu(), cut, spec.dark_code).repeat(1, shots, 1)
        counts = torch.empty(cut.rows, cut.groups * cut.columns, inputs.shape[1], cut.m, dtype=codes.dtype)
        evaluation.counts(inputs, self.tiles, self.gain, Source(), counts)
        low, high = spec.count_range
        # only a measured ADC's table is looked up, by whole counts
        seen = counts if isinstance(encoder, Nominal) else encoder.volts(counts.to(spec.count_dtype), counts.dtype)
        y = decode(seen, self.encoded).to(codes.device)
        if shots > 1:
            y = y.unflatten(1, (shots, each)).mean(dim=1)
        return y, int(((counts <= low) | (counts >= high)).sum())
