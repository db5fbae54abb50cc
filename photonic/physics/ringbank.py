"""A WDM microring weight bank with add-drop rings and balanced detection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from photonic.physics.heaters import HeaterGrid, check_pitch
from photonic.physics.many import many
from photonic.physics.optics import Optics, Surroundings
from photonic.physics.parameters import ChipParameters
from photonic.physics.ringleak import RingLeakage
from photonic.physics.sections import switch


class RingBankParameters(ChipParameters):
    """M buses of N rings: drop port L = 1 / (1 + (2 delta / FWHM)^2) (Bogaerts et al., Laser Photonics Rev. 6, 47).

    A code means a nominal weight in [-1, 1]; the driver's table turns it into the detuning at which a *nominal* ring,
    alone, has that weight, 2 L - 1.

    Channels are numbered towards longer wavelengths. Heat shifts a ring that way, from its own channel i towards
    channel i + 1, and so does a higher temperature of the whole chip.
    """

    architecture: ClassVar[str] = "ring"

    ring_fwhm_nm: float = Field(default=0.08, gt=0)
    fsr_nm: float = Field(default=32.0, gt=0, description="free spectral range: all channels lie within one")
    channel_spacing_nm: float = Field(default=0.5, gt=0)
    max_detuning_nm: float | None = Field(
        default=0.25,
        gt=0,
        description="reach of the heater; None: unlimited",
        json_schema_extra=switch("heater reach", None),
    )
    channel_leakage: bool = Field(
        default=True,
        description="every ring also drops its bus's other channels, by its tuning",
        json_schema_extra=switch("channel leakage", False),
    )
    resonance_spread_nm: float = Field(
        default=0.0,
        ge=0,
        description="of each ring, left after trimming; hidden",
        json_schema_extra=switch("ring spread", 0.0),
    )
    fwhm_spread: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="of each ring, relative; hidden",
        json_schema_extra=switch("ring spread", 0.0),
    )
    thermal_crosstalk: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="a in a exp(-b d) between heaters",
        json_schema_extra=switch("thermal crosstalk", 0.0),
    )
    thermal_decay_per_um: float = Field(default=0.127, gt=0, description="b")
    heater_pitch_um: float = Field(default=60.0, gt=0)
    resonance_nm_per_k: float = Field(default=0.07, description="common shift with temperature (silicon)")

    @model_validator(mode="after")
    def _channels_fit(self) -> Self:
        if self.channel_leakage:
            span = self.n_inputs * self.channel_spacing_nm
            if span > self.fsr_nm * (1 + 1e-9):
                raise ValueError(
                    f"{self.n_inputs} channels {self.channel_spacing_nm} nm apart need {span:g} nm, fsr_nm is "
                    f"{self.fsr_nm}"
                )
            reach, limit = self.max_detuning_nm, self.channel_spacing_nm / 2
            if reach is None or reach > limit:
                raise ValueError(
                    f"max_detuning_nm must be at most half a channel_spacing_nm ({limit:g}) with channel_leakage: "
                    f"beyond, a ring takes its neighbour's light; found {reach}"
                )
        return self

    @model_validator(mode="after")
    def _heaters_apart(self) -> Self:
        check_pitch(self.thermal_crosstalk, self.heater_pitch_um)
        return self

    def draw_optics(self, generator: torch.Generator) -> RingBank:
        """Draws the rings of one device."""
        return RingBank.draw(self, generator)

    @property
    def dead_code(self) -> float:
        """Without heat a ring is on resonance: weight +1."""
        return self.weight_code_one

    @property
    def half_linewidth_nm(self) -> float:
        """Of a nominal ring; the unit of detunings."""
        return self.ring_fwhm_nm / 2

    @property
    def hold_w_per_drive(self) -> float:
        """A phase of 2 pi is one FSR; at rest a ring stands on its channel, as spreads are what trimming has left.

        The detuning of a weight drawn evenly from -1 to 1 is atan(d_max) half linewidths on average, d_max being the
        heater's reach: the mean of min(sqrt((1 - w) / (1 + w)), d_max).
        """
        reach = math.inf if self.max_detuning_nm is None else self.max_detuning_nm / self.half_linewidth_nm
        return self.heater_pi_w * 2 * math.atan(reach) * self.half_linewidth_nm / self.fsr_nm


@dataclass(frozen=True)
class RingBank(Optics):
    """The hidden truth of one device's rings, (M, N) each; relative to half the nominal linewidth.

    Attributes:
        parameters: of the chip.
        offset: resonance offset, in nominal half linewidths.
        inverse_width: nominal over actual linewidth.
    """

    parameters: RingBankParameters
    offset: Tensor
    inverse_width: Tensor

    @classmethod
    def draw(cls, parameters: RingBankParameters, generator: torch.Generator) -> RingBank:
        """Draws a device; normal spreads with the standard deviations of ``parameters``."""
        shape = parameters.n_outputs, parameters.n_inputs

        def normal() -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        return cls(
            parameters=parameters,
            offset=normal() * (parameters.resonance_spread_nm / parameters.half_linewidth_nm),
            # log-normal: widths are positive
            inverse_width=torch.exp(-parameters.fwhm_spread * normal()),
        )

    def matrices(self, codes: Tensor, around: Surroundings) -> tuple[Tensor, Tensor]:
        """W_D (T, m, N) and W_S (1, 1, N).

        A lossless add-drop ring moves power between the two arms of its balanced pair, so the sum does not depend on
        the weights.
        """
        p = self.parameters
        tuning = self._tuning(codes)
        common = (0.0, 0.0)
        if around.kelvin is not None:
            shift = around.kelvin.to(torch.float64) * (p.resonance_nm_per_k / p.half_linewidth_nm)
            tuning.add_(shift.to(codes.dtype).reshape(-1, 1, 1))
            common = float(shift.min()), float(shift.max())
        each = 1.0 / p.n_inputs
        power = torch.full((1, 1, p.n_inputs), each, dtype=codes.dtype)
        offset, inverse_width = (
            values[: codes.shape[-2]].to(codes.dtype) for values in (self.offset, self.inverse_width)
        )
        if p.channel_leakage:
            # weight = drop - through = 1 - 2 through: what no ring has taken is on the other arm
            through = self._leakage.remaining(tuning.add_(offset), common)
            return through.mul_(-2.0 * each).add_(each), power
        return _weights(tuning, offset, inverse_width, each), power

    def _tuning(self, codes: Tensor) -> Tensor:
        """Resonances (T, m, N) of nominal rings from their channels, in half linewidths, at the nominal temperature."""
        p = self.parameters
        tuning = _detuning(codes, p)
        if p.thermal_crosstalk > 0:
            # half an FSR is as far as a ring is ever driven: beyond, its next resonance is nearer
            furthest = p.fsr_nm / 2 / p.half_linewidth_nm
            idle = float(_detuning(torch.zeros(1, dtype=codes.dtype), p))
            tuning.add_(self._heaters.received(tuning.clamp(max=furthest), idle))
        return tuning

    @cached_property
    def _heaters(self) -> HeaterGrid:
        p = self.parameters
        return HeaterGrid(p.n_outputs, p.n_inputs, p.thermal_crosstalk, p.thermal_decay_per_um, p.heater_pitch_um)

    @cached_property
    def _leakage(self) -> RingLeakage:
        p, half = self.parameters, self.parameters.half_linewidth_nm
        assert p.max_detuning_nm is not None  # noqa: S101 - the record demands it with leakage
        most = 1 + self._heaters.most if p.thermal_crosstalk > 0 else 1.0
        return RingLeakage(
            spacing=p.channel_spacing_nm / half,
            fsr=p.fsr_nm / half,
            lowest=float(self.offset.min()),
            highest=float(self.offset.max()) + most * p.max_detuning_nm / half,
            inverse_width=self.inverse_width,
        )


def _detuning(codes: Tensor, parameters: RingBankParameters) -> Tensor:
    """Detuning in half linewidths at which a nominal ring has a code's weight: the driver's linearising table.

    With w = code / code_one, L = (1 + w) / 2 = 1 / (1 + d^2), so d = sqrt((1 - w) / (1 + w)), up to the reach of the
    heater.
    """
    reach, one = math.inf, parameters.weight_code_one
    if parameters.max_detuning_nm is not None:
        reach = parameters.max_detuning_nm / parameters.half_linewidth_nm
    if many(codes):
        from photonic.physics.compiled import rings  # numba takes a while to import

        return rings.detunings(codes, one, reach)
    # d^2 = 2 / (1 + w) - 1, without a second large tensor
    squared = (codes + one).reciprocal_().mul_(2 * one).sub_(1.0)
    return squared.clamp_(0.0, reach**2).sqrt_()


def _weights(tuning: Tensor, offset: Tensor, inverse_width: Tensor, each: float) -> Tensor:
    """Lorentzian drop ports, times ``each``: drop - through = 2 L - 1; overwrites the tuning (T, m, N)."""
    if many(tuning, offset, inverse_width):
        from photonic.physics.compiled import rings  # numba takes a while to import

        return rings.weights_(tuning, offset, inverse_width, each)
    detuned = tuning.add_(offset).mul_(inverse_width)
    weights = torch.addcmul(tuning.new_ones(()), detuned, detuned, out=detuned).reciprocal_()
    return weights.mul_(2.0 * each).sub_(each)
