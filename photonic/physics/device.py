"""One device: everything that its data sheet does not say, drawn once from its seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from photonic.physics import seeds
from photonic.physics.optics import Optics
from photonic.physics.parameters import ChipParameters
from photonic.physics.receiver import Receiver
from photonic.physics.transmitter import Transmitter


@dataclass(frozen=True)
class Defects:
    """Weight elements that hold a code of their own.

    Attributes:
        held: which ones, (M, N), or (P,) for a mesh.
        codes: what they hold, the same shape.
    """

    held: Tensor
    codes: Tensor

    @classmethod
    def draw(
        cls, parameters: ChipParameters, shape: tuple[int, ...], limits: tuple[float, float], generator: torch.Generator
    ) -> Defects:
        """Stuck elements hold a code drawn evenly over the range, dead ones the code of no drive."""

        def uniform() -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)

        stuck, dead, codes = uniform() < parameters.stuck_fraction, uniform() < parameters.dead_fraction, uniform()
        codes = limits[0] + codes * (limits[1] - limits[0])
        if parameters.weight_bits is not None:
            codes = codes.round_()
        return cls(stuck | dead, torch.where(dead, parameters.dead_code, codes))

    def apply(self, codes: Tensor) -> Tensor:
        """What codes (T, m, N), or (T, P), become; the same tensor where nothing is wrong."""
        if not self.held.any():
            return codes
        held, own = (self.held, self.codes) if codes.ndim == 2 else (self.held[: codes.shape[1]], self.codes)
        return torch.where(held, own[: held.shape[0]].to(codes.dtype), codes)


@dataclass(frozen=True)
class Device:
    """The hidden truth of one device, by part; each part draws from a stream of its own."""

    optics: Optics
    transmitter: Transmitter
    receiver: Receiver
    defects: Defects

    @classmethod
    def draw(cls, parameters: ChipParameters, seed: int) -> Device:
        """Draws the device of that seed."""
        return cls(
            optics=parameters.draw_optics(seeds.generator("device", seed, "optics")),
            transmitter=Transmitter.draw(parameters, seeds.generator("device", seed, "transmitter")),
            receiver=Receiver.draw(parameters, seeds.generator("device", seed, "receiver")),
            defects=Defects.draw(
                parameters,
                parameters.drive_shape,
                parameters.weight_code_range,
                seeds.generator("device", seed, "defects"),
            ),
        )
