"""The input side of one device: DACs, modulators and channels, with what is hidden in them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from photonic.physics import converters, memory, modulator
from photonic.physics.parameters import ChipParameters


@dataclass(frozen=True)
class Transmitter:
    """The hidden truth of the N inputs.

    Attributes:
        parameters: of the chip.
        shape: of the transfer, as ``InputTransfer`` has it; with "linear" a half phase is the level itself.
        inverse_v_pi: (N,) nominal over actual V_pi.
        bias_rad: (N,) half phase at code zero.
        power: (N,) relative power of each channel.
        dac: (N, codes) what each DAC gives for its code, in LSB; None: the code.
        slope: (N,) half phase of one code.
        level_min: T_min, or the amplitude of the quadrature that is left where a field should be zero.
        memory: of the modulators from shot to shot; 0: none.
        noise_lsb: standard deviation of the DACs' own noise.
        line_rin: variance of each channel's own RIN; 0: none, or common to all.
    """

    parameters: ChipParameters
    shape: str
    inverse_v_pi: Tensor
    bias_rad: Tensor
    power: Tensor
    dac: Tensor | None
    slope: Tensor
    level_min: float
    memory: float
    noise_lsb: float
    line_rin: float

    @classmethod
    def draw(cls, parameters: ChipParameters, generator: torch.Generator) -> Transmitter:
        """Draws a device; the number of draws does not depend on the spreads."""
        n = parameters.n_inputs

        def normal() -> Tensor:
            return torch.randn(n, generator=generator, dtype=torch.float64)

        spread, p = (normal(), normal(), normal()), parameters
        dac = None
        if p.input_bits is not None and (p.input_inl is not None or p.input_mismatch > 0):
            dac = converters.dac_levels(p.input_bits, p.input_inl, p.input_mismatch, n, generator)
        transfer, bandwidth = p.input_transfer, p.modulator_bandwidth_hz
        # log-normal where the quantity is positive
        inverse_v_pi = torch.exp(-p.v_pi_spread * spread[0])
        return cls(
            parameters=p,
            shape=transfer.shape,
            inverse_v_pi=inverse_v_pi,
            bias_rad=p.bias_spread_rad * spread[1] / 2,
            power=torch.exp(p.channel_spread * spread[2]),
            dac=dac,
            slope=inverse_v_pi * (math.pi / 2 / transfer.code_one),
            level_min=_field_leak(p) if p.coherent else transfer.level_min,
            memory=0.0 if bandwidth is None else memory.memory_coefficient(bandwidth, p.symbol_rate_hz),
            noise_lsb=p.input_noise_lsb,
            line_rin=p.noise.rin if p.rin_per_line else 0.0,
        )

    @property
    def shots_differ(self) -> bool:
        """Whether the same code gives other light in every shot, so that row tiles do not see the same."""
        return self.noise_lsb > 0 or self.line_rin > 0

    def light(self, codes: Tensor, bias_drift_rad: Tensor | None, generator: torch.Generator) -> Tensor:
        """Light of all shots, (..., B, n) codes to (..., B, K) levels, or fields with their quadrature.

        Args:
            codes: of the first n inputs, floating point; shots follow each other along B, from code 0.
            bias_drift_rad: (N,) of the nulls' full phase, or None.
            generator: draws the DACs' noise and each line's RIN, where there are any.
        """
        n, dtype = codes.shape[-1], codes.dtype
        drive = codes if self.dac is None else self._converted(codes)
        if self.noise_lsb > 0:
            drive = torch.empty_like(drive).normal_(0.0, self.noise_lsb, generator=generator).add_(drive)
        if self.memory > 0:
            idle = 0.0 if self.dac is None else self._converted(torch.zeros(1, n, dtype=dtype))[0]
            drive = memory.low_pass(drive, self.memory, idle)
        bias = self.bias_rad if bias_drift_rad is None else self.bias_rad + bias_drift_rad / 2
        light = self._sources((drive * self.slope[:n].to(dtype)).add_(bias[:n].to(dtype)))
        if self.parameters.input_crosstalk > 0:
            light = self._crosstalk(light)
        if self.line_rin > 0:
            rho = torch.empty_like(light).normal_(1.0, self.line_rin**0.5, generator=generator)
            light = light * rho.clamp_(min=0.0)  # light is not negative
        return light

    def _converted(self, codes: Tensor) -> Tensor:
        assert self.dac is not None  # noqa: S101 - asked before the call
        low = self.parameters.input_transfer.code_one if self.parameters.coherent else 0.0
        return converters.convert_levels(codes, self.dac[: codes.shape[-1]], offset=int(low))

    def _sources(self, half_phase: Tensor) -> Tensor:
        """Levels, times the power of each channel; or fields, times its root, and their quadrature behind them."""
        p, n, dtype = self.parameters, half_phase.shape[-1], half_phase.dtype
        if self.shape != "field":
            light = half_phase if self.shape == "linear" else modulator.mzm(half_phase, self.level_min)
            return light if self._even else light.mul_(self.power[:n].to(dtype))
        root = self.power[:n].sqrt().to(dtype)
        if p.extinction_ratio_db is None:
            return half_phase.sin_().mul_(root)
        return torch.cat([half_phase.sin() * root, half_phase.cos() * (root * self.level_min)], dim=-1)

    @cached_property
    def _even(self) -> bool:
        """Whether all channels have the power 1."""
        return bool((self.power == 1).all())

    def _crosstalk(self, light: Tensor) -> Tensor:
        """Times 1 + k (T_{j-1} + T_{j+1}) / 2: each channel's light heats its neighbours' devices; not linear in T."""
        p, power = self.parameters, light
        if p.coherent:
            power = light.square()
            if p.extinction_ratio_db is not None:  # and the quadrature's
                power = power.unflatten(-1, (2, -1)).sum(-2)
        around = torch.zeros_like(power)
        around[..., 1:] += power[..., :-1]
        around[..., :-1] += power[..., 1:]
        factor = around.mul_(p.input_crosstalk / 2).add_(1.0)
        return light * (factor if power.shape == light.shape else torch.cat([factor, factor], dim=-1))


def _field_leak(p: ChipParameters) -> float:
    """Unequal splitters leave a field in quadrature, 10^(-ER/20) of full scale, where the light should cancel."""
    return 0.0 if p.extinction_ratio_db is None else 10 ** (-p.extinction_ratio_db / 20)
