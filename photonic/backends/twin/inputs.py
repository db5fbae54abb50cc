"""The codes of a product's inputs, by the encoder of the chip's calibration, and what they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.backends import signs
from photonic.backends.channels import Channels
from photonic.backends.compensation import Compensation
from photonic.backends.encoding import Encoder, Geometry
from photonic.backends.plans import Plan
from photonic.physics import modulator


@dataclass(frozen=True)
class InputCodes:
    """Codes of a product's shots, floating point.

    Attributes:
        values: (G, B, N) of each shot; or of two shots at once, where the code 0 stands for 0: what is below 0 is the
            negative shot's. Images may take the place of (B, N).
        two_in_one: whether it is the latter.
    """

    values: tuple[Tensor, ...]
    two_in_one: bool = False

    def shots(self) -> Iterator[Tensor]:
        """Codes of each shot, without a sign unless the light has one."""
        if not self.two_in_one:
            yield from self.values
            return
        yield self.values[0].clamp(min=0.0)
        yield self.values[0].neg().clamp_(min=0.0)

    @property
    def readings(self) -> int:
        """Shots for one result, 1 or 2."""
        return 2 if self.two_in_one else len(self.values)

    def joined(self) -> Tensor:
        """(G, readings x B, N), one shot after the other."""
        return self.values[0] if self.readings == 1 else torch.cat(list(self.shots()), dim=1)


@dataclass(frozen=True)
class Inputs:
    """Encodes a product's inputs.

    Attributes:
        encoder: of the chip.
    """

    encoder: Encoder

    def codes(self, x: Tensor, plan: Plan, cut: Geometry) -> InputCodes:
        """Codes of x (G, B, N), in its dtype."""
        values = plan.scaled(x)
        two = plan.inputs == "time"
        if self.encoder.by_image:
            values = values if two else signs.encode_input_signs(values, plan.inputs)
            return InputCodes((self.by_value(values, two_sided=two),), two)
        # each channel has a code of its own for 0, which no sign can tell from another
        if two:
            parts: tuple[Tensor, ...] = (values.clamp(min=0.0), values.neg().clamp_(min=0.0))
        else:
            parts = (signs.encode_input_signs(values, plan.inputs),)
        return InputCodes(tuple(self.encoder.inputs(part, cut).to(x.dtype) for part in parts))

    def by_value(self, values: Tensor, *, two_sided: bool) -> Tensor:
        """Codes of values in [0, 1], or in [-1, 1] with their sign where the light has none; the same for all channels.

        Where the encoder is ``by_image``; floating point.
        """
        spec = self.encoder.spec
        signed, transfer = two_sided and not spec.signed_inputs, spec.response.inputs
        if spec.input_bits is not None:
            return modulator.nearest_codes(transfer, values, signed=signed)
        codes = modulator.codes(transfer, values.abs() if signed else values)
        return codes.copysign_(values) if signed else codes

    def levels(self, n: int) -> tuple[float, float]:
        """The light that stands for 0 in a tile of n inputs, and what it rises by until it stands for 1."""
        if isinstance(self.encoder, Compensation):
            record = self.encoder.calibration
            channels = Channels.of(record.arrays, self.encoder.spec, record.response.inputs, n)
            return channels.base, channels.span
        least = self.encoder.spec.response.inputs.level_min
        return least, 1.0 - least
