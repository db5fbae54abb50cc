"""What all simulated chips have in common: primary quantities in, derived ones computed and never stored."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field

from photonic.physics import converters
from photonic.physics.optics import Optics
from photonic.physics.sections import Converters, Defects, Detection, Energy, Link, Modulators, Time
from photonic.records import ChipSpec, EnergyModel, InputTransfer, NoiseModel, Response, effective_bits

ELEMENTARY_CHARGE_C = 1.602176634e-19  # exact since the SI of 2019


class ChipParameters(Link, Detection, Converters, Modulators, Defects, Time, Energy):
    """The parts that every architecture has; a subclass adds its optics.

    The switch of an effect is its own field (see ``sections``): ``None``, zero or ``False``.

    D = 1 is an output with all inputs at full level and all weights nominally +1; in amperes that is
    ``full_scale_current_a``.
    """

    architecture: ClassVar[str]
    coherent: ClassVar[bool] = False  # inputs are fields, detected against a local oscillator
    states_power: ClassVar[bool] = True  # in watts; a record of counts does not

    n_outputs: int = Field(default=64, ge=1, description="M, detector pairs")
    n_inputs: int = Field(default=64, ge=1, description="N, input channels")

    def draw_optics(self, generator: torch.Generator) -> Optics:
        """Draws the optics of one device; the same draws whatever the spreads are."""
        raise NotImplementedError(f"{type(self).__name__} has no optics of its own; take an architecture's class")

    @property
    def dead_code(self) -> float:
        """The code that a weight element without drive seems to hold."""
        return 0.0

    @property
    def drive_shape(self) -> tuple[int, ...]:
        """Drive codes of a tile: (M, N) where each weight has one, (P,) for a mesh."""
        return self.n_outputs, self.n_inputs

    @property
    def weight_code_range(self) -> tuple[float, float]:
        """Lowest and highest drive code."""
        return -self.weight_code_one, self.weight_code_one

    @property
    def hold_w_per_drive(self) -> float:
        """What one weight element consumes while it holds its weight, on average over weights."""
        return 0.0

    @property
    def write_j_per_drive(self) -> float | None:
        """What changing one weight element costs, its converter and its holding power not included; None: not stated.

        A heater takes nothing more: it is held, and held while it settles.
        """
        return 0.0

    @property
    def phase_drift_rad(self) -> float:
        """Standard deviation of the local oscillators' phase; 0 with direct detection."""
        return 0.0

    @property
    def insertion_loss_db(self) -> float:
        """From the source to a detector, splitting among the outputs not included."""
        return self.coupling_loss_db + self.modulator_loss_db + self.routing_loss_db + self.device_loss_db

    @property
    def signal_power_w(self) -> float:
        """Optical power at full scale at one output's detectors, after the link."""
        if self.power_per_pair_w is not None:
            return self.power_per_pair_w
        assert self.laser_power_w is not None  # noqa: S101 - the record has exactly one of the two
        return self.laser_power_w / self._source_per_signal

    @property
    def source_power_w(self) -> float:
        """All light of the source: signal power x outputs x insertion loss."""
        return self.signal_power_w * self._source_per_signal

    @property
    def _source_per_signal(self) -> float:
        return self.n_outputs * 10 ** (self.insertion_loss_db / 10)

    @property
    def full_scale_current_a(self) -> float:
        """Photocurrent of D = 1."""
        return self.responsivity_a_per_w * self.signal_power_w

    @property
    def lsb(self) -> float:
        """One count in D; 1/256 of D = 1 where the ADC has no bits (only offsets are stated in it then)."""
        return 1.0 / 256.0 if self.adc_bits is None else 2.0 * self.adc_full_scale / 2**self.adc_bits

    @property
    def noise(self) -> NoiseModel:
        """Variances of one output in D^2: thermal + shot S + RIN D^2 + common-mode S^2 + the ADC's own noise.

        Shot noise is 2 q (I_plus + I_minus + 2 I_dark) B: the dark part does not depend on S and joins the thermal.
        """
        current, bandwidth = self.full_scale_current_a, self.bandwidth_hz
        shot = 2 * ELEMENTARY_CHARGE_C * bandwidth / current if self.shot_noise else 0.0
        thermal = self.thermal_noise_a_per_rthz**2 * bandwidth / current**2
        rin = 0.0 if self.rin_db_per_hz is None else 10 ** (self.rin_db_per_hz / 10) * bandwidth
        return NoiseModel(
            thermal=thermal + shot * 2 * self.dark_current_a / current,
            shot=shot,
            rin=rin,
            common_mode=0.0 if self.cmrr_db is None else rin * 10 ** (-self.cmrr_db / 10),
            converter=(self.adc_noise_lsb * self.lsb) ** 2,
        )

    @property
    def adc_noise_lsb(self) -> float:
        """Standard deviation of the ADC's own noise, quantisation not included."""
        if self.adc_bits is None or self.adc_enob is None:
            return 0.0
        return converters.enob_noise_lsb(self.adc_bits, self.adc_enob)

    @property
    def input_noise_lsb(self) -> float:
        """The same for an input's DAC."""
        if self.input_bits is None or self.input_enob is None:
            return 0.0
        return converters.enob_noise_lsb(self.input_bits, self.input_enob)

    @property
    def input_transfer(self) -> InputTransfer:
        """The modulators' transfer as the data sheet gives it; code_one is the drive at V_pi."""
        if self.coherent:
            code_one = 1.0 if self.input_bits is None else 2.0 ** (self.input_bits - 1) - 1
            return InputTransfer(shape="field", code_one=code_one)
        code_one = 1.0 if self.input_bits is None else 2.0**self.input_bits - 1
        return InputTransfer(shape="mzm", code_one=code_one, extinction_ratio_db=self.extinction_ratio_db)

    @property
    def weight_code_one(self) -> float:
        """Drive code of a weight of +1; codes are symmetric, so that a weight of zero has a code."""
        return 1.0 if self.weight_bits is None else 2.0 ** (self.weight_bits - 1) - 1

    @property
    def response(self) -> Response:
        """The nominal response, everything hidden left out."""
        return Response(
            inputs=self.input_transfer,
            weight_code_one=self.weight_code_one,
            counts_per_d=(1.0 if self.adc_bits is None else 1.0 / self.lsb,),
            noise=self.noise,
        )

    @property
    def sheet(self) -> ChipSpec | None:
        """The whole data sheet, where it is known and does not follow from these parameters."""
        return None

    @property
    def energy(self) -> EnergyModel:
        """Laser P / eta, converters FoM 2^ENOB (Walden), heaters and amplifiers while it is on (docs/profile.md)."""
        weight_dac_j = converters.walden_j(self.dac_j_per_step, self.weight_bits)
        element_j = self.write_j_per_drive
        return EnergyModel(
            laser_w=self.source_power_w / self.wall_plug_efficiency,
            hold_w=math.prod(self.drive_shape) * self.hold_w_per_drive,
            tia_w=self.n_outputs * self.tia_w,
            dac_j=converters.walden_j(self.dac_j_per_step, self.input_enob or self.input_bits),
            modulator_j=self.modulator_j_per_symbol,
            adc_j=converters.walden_j(self.adc_j_per_step, self.adc_enob or self.adc_bits),
            write_j=None if element_j is None or weight_dac_j is None else element_j + weight_dac_j,
        )

    @property
    def enob(self) -> float | None:
        """Effective bits at (S, D) = (1, 0), quantisation included: log2(span / (sigma sqrt(12))); None: unlimited."""
        quantisation = 0.0 if self.adc_bits is None else self.lsb**2 / 12
        return effective_bits(2 * self.adc_full_scale, self.noise.variance(1.0, 0.0) + quantisation)

    def summary(self) -> str:
        """One line of derived quantities: noise at three operating points, in LSB, and effective bits."""
        points = ((0.0, 0.0), (1.0, 0.0), (1.0, self.adc_full_scale))
        sigmas = " / ".join(f"{math.sqrt(self.noise.variance(s, d)) / self.lsb:.2f}" for s, d in points)
        bits = "unlimited" if self.enob is None else f"{self.enob:.1f}"
        return f"noise {sigmas} LSB at (S, D) = (0, 0) / (1, 0) / (1, {self.adc_full_scale:g}), effective bits {bits}"
