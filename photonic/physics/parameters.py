"""The primary quantities of a simulated chip: named, in units, each effect with its own switch.

Derived ones (noise in LSB, effective bits, T_min) are computed, never stored.
"""

from __future__ import annotations

import math

from pydantic import Field

from photonic.records import InputTransfer, NoiseModel, Record, Response, effective_bits

ELEMENTARY_CHARGE_C = 1.602176634e-19  # exact since the SI of 2019


class ChipParameters(Record):
    """A WDM microring weight bank with balanced detection: what a designer chooses or a lab measures.

    The switch of an effect is its own field: ``None`` for converters, extinction, RIN and detuning limit, zero for
    the spreads and the dark current, ``False`` for shot noise.

    D = 1 is the photocurrent ``responsivity x power_per_pair``: all inputs at full level on weights of +1.
    """

    n_outputs: int = Field(default=64, ge=1, description="M, balanced detector pairs")
    n_inputs: int = Field(default=64, ge=1, description="N, wavelength channels")

    # detection: shot 2 q I B, thermal i_n^2 B, RIN 10^(RIN/10) I^2 B (Agrawal, Fiber-Optic Comm. Systems, ch. 4)
    power_per_pair_w: float = Field(default=1e-3, gt=0, description="at a balanced pair, full scale, after the links")
    responsivity_a_per_w: float = Field(
        default=1.0, gt=0, le=1.6, description="1.6 A/W: unit quantum efficiency at 2 um"
    )
    bandwidth_hz: float = Field(default=5e9, gt=0, description="noise bandwidth B of the receiver")
    shot_noise: bool = Field(default=True, description="on the sum of both arms")
    thermal_noise_a_per_rthz: float = Field(default=15e-12, ge=0, description="input-referred, TIA included, per pair")
    rin_db_per_hz: float | None = Field(default=-145.0, lt=0, description="one comb source: common to all outputs")
    dark_current_a: float = Field(default=0.0, ge=0, description="of one photodiode; a pair has two")

    # converters
    input_bits: int | None = Field(default=8, ge=1, le=15, description="DAC of the modulators; None: no converter")
    weight_bits: int | None = Field(default=8, ge=2, le=15, description="DAC of the heaters; None: no converter")
    adc_bits: int | None = Field(default=8, ge=2, le=16, description="None: no converter")
    adc_full_scale: float = Field(default=0.25, gt=0, description="|D| at which the ADC clips")

    # modulator: T = T_min + (1 - T_min) sin^2 (Saleh and Teich, Fundamentals of Photonics, ch. 20)
    extinction_ratio_db: float | None = Field(default=25.0, gt=0, description="None: infinite, T_min = 0")

    # ring: drop port L = 1 / (1 + (2 delta / FWHM)^2), weight 2 L - 1 (Bogaerts et al., Laser Photonics Rev. 6, 47)
    ring_fwhm_nm: float = Field(default=0.08, gt=0)
    max_detuning_nm: float | None = Field(default=1.5, gt=0, description="reach of the heater; None: unlimited")

    # hidden spread of a device, drawn once from its seed; standard deviations
    resonance_spread_nm: float = Field(default=0.0, ge=0, description="of each ring, left after trimming")
    fwhm_spread: float = Field(default=0.0, ge=0, lt=0.3, description="of each ring, relative")
    channel_spread: float = Field(default=0.0, ge=0, lt=0.3, description="power of each comb line, relative")
    v_pi_spread: float = Field(default=0.0, ge=0, lt=0.3, description="of each modulator, relative")
    bias_spread_rad: float = Field(default=0.0, ge=0, lt=1, description="of each modulator's null")
    gain_spread: float = Field(default=0.0, ge=0, lt=0.3, description="of each output's amplifier, relative")
    offset_spread_lsb: float = Field(default=0.0, ge=0, description="of each ADC; of D = 1/256 where it has no bits")

    # time, on the chip's own clock
    symbol_rate_hz: float = Field(default=5e9, gt=0)
    settle_time_s: float = Field(default=10e-6, ge=0, description="of the heaters after one programming")

    @property
    def full_scale_current_a(self) -> float:
        """Photocurrent of D = 1."""
        return self.responsivity_a_per_w * self.power_per_pair_w

    @property
    def lsb(self) -> float:
        """One count in D; 1/256 of D = 1 where the ADC has no bits (only offsets are stated in it then)."""
        return 1.0 / 256.0 if self.adc_bits is None else 2.0 * self.adc_full_scale / 2**self.adc_bits

    @property
    def noise(self) -> NoiseModel:
        """Variances of one output in D^2: thermal + shot S + RIN D^2.

        Shot noise is 2 q (I_plus + I_minus + 2 I_dark) B: the dark part does not depend on S and joins the thermal.
        """
        current, bandwidth = self.full_scale_current_a, self.bandwidth_hz
        shot = 2 * ELEMENTARY_CHARGE_C * bandwidth / current if self.shot_noise else 0.0
        thermal = self.thermal_noise_a_per_rthz**2 * bandwidth / current**2
        return NoiseModel(
            thermal=thermal + shot * 2 * self.dark_current_a / current,
            shot=shot,
            rin=0.0 if self.rin_db_per_hz is None else 10 ** (self.rin_db_per_hz / 10) * bandwidth,
        )

    @property
    def input_transfer(self) -> InputTransfer:
        """The modulators' transfer as the data sheet gives it; code_one is the drive at V_pi."""
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


PRESETS: dict[str, ChipParameters] = {
    "ideal": ChipParameters(
        shot_noise=False,
        thermal_noise_a_per_rthz=0.0,
        rin_db_per_hz=None,
        input_bits=None,
        weight_bits=None,
        adc_bits=None,
        adc_full_scale=1.0,
        extinction_ratio_db=None,
        max_detuning_nm=None,
    ),
    # sources: DESIGN 6; 25 dB and 8 bits: reference ranges of link models; RIN of a DFB laser; spreads as left after
    # trimming, so that the weights start about 2 % off
    "typical": ChipParameters(
        dark_current_a=50e-9,
        resonance_spread_nm=0.0005,
        fwhm_spread=0.01,
        channel_spread=0.02,
        v_pi_spread=0.005,
        bias_spread_rad=0.01,
        gain_spread=0.02,
        offset_spread_lsb=0.5,
    ),
    "pessimistic": ChipParameters(
        power_per_pair_w=0.2e-3,
        thermal_noise_a_per_rthz=20e-12,
        rin_db_per_hz=-140.0,
        dark_current_a=60e-9,
        input_bits=6,
        weight_bits=6,
        adc_bits=6,
        extinction_ratio_db=15.0,
        resonance_spread_nm=0.002,
        fwhm_spread=0.03,
        channel_spread=0.05,
        v_pi_spread=0.02,
        bias_spread_rad=0.03,
        gain_spread=0.05,
        offset_spread_lsb=1.0,
    ),
}
