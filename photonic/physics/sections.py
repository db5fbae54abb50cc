"""The primary quantities of a simulated chip, by part: named, in units, each effect with its own switch.

A switch is a field's "off" value, and the field says which effect it belongs to; ``photonic explain`` reads both.
"""

from __future__ import annotations

import math
from typing import Any, Self

from pydantic import Field, model_validator

from photonic.errors import RangeError
from photonic.physics import converters
from photonic.records import Record


def switch(effect: str, off: Any) -> dict[str, Any]:
    """Metadata of a field: the effect that it belongs to, and the value that switches the effect off."""
    return {"effect": effect, "off": off}


class Link(Record):
    """One optical power, from the laser to the detectors (link budget, in dB)."""

    power_per_pair_w: float | None = Field(
        default=1e-3, gt=0, description="at a balanced pair, full scale, after the link; None: from laser_power_w"
    )
    laser_power_w: float | None = Field(
        default=None, gt=0, description="all light of the source; None: what power_per_pair_w needs"
    )
    coupling_loss_db: float = Field(default=0.0, ge=0, description="source to chip and back")
    modulator_loss_db: float = Field(default=0.0, ge=0, description="of an input modulator at full level")
    routing_loss_db: float = Field(default=0.0, ge=0, description="splitters (excess), crossings, waveguides")
    device_loss_db: float = Field(default=0.0, ge=0, description="of one ring, cell or interferometer")

    @model_validator(mode="after")
    def _one_power(self) -> Self:
        if (self.power_per_pair_w is None) == (self.laser_power_w is None):
            raise ValueError("exactly one of power_per_pair_w and laser_power_w is given: they state the same power")
        return self


class Detection(Record):
    """Balanced pairs: shot 2 q I B, thermal i_n^2 B, RIN 10^(RIN/10) I^2 B (Agrawal, Fiber-Optic Comm. Sys., ch. 4)."""

    responsivity_a_per_w: float = Field(
        default=1.0, gt=0, le=1.6, description="1.6 A/W: unit quantum efficiency at 2 um"
    )
    bandwidth_hz: float = Field(default=5e9, gt=0, description="noise bandwidth B of the receiver")
    shot_noise: bool = Field(
        default=True, description="on the sum of both arms", json_schema_extra=switch("shot noise", False)
    )
    thermal_noise_a_per_rthz: float = Field(
        default=15e-12,
        ge=0,
        description="input-referred, TIA included, per pair",
        json_schema_extra=switch("thermal noise", 0.0),
    )
    rin_db_per_hz: float | None = Field(
        default=-145.0,
        lt=0,
        description="relative intensity noise of the source",
        json_schema_extra=switch("RIN", None),
    )
    rin_per_line: bool = Field(
        default=False, description="one laser for each channel instead of one comb: RIN is independent between inputs"
    )
    cmrr_db: float | None = Field(
        default=None,
        gt=0,
        description="common-mode rejection of RIN at signal frequencies; None: perfect",
        json_schema_extra=switch("common-mode RIN", None),
    )
    dark_current_a: float = Field(
        default=0.0,
        ge=0,
        description="of one photodiode; a pair has two",
        json_schema_extra=switch("dark current", 0.0),
    )
    arm_imbalance_spread: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="of each pair's responsivities, relative; hidden",
        json_schema_extra=switch("arm imbalance", 0.0),
    )
    gain_spread: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="of each output's amplifier, relative; hidden",
        json_schema_extra=switch("gain spread", 0.0),
    )

    @model_validator(mode="after")
    def _rin_is_possible(self) -> Self:
        if self.rin_db_per_hz is None:
            return self
        most = -10 * math.log10(self.bandwidth_hz)
        if self.rin_db_per_hz > most:
            raise ValueError(
                f"rin_db_per_hz must be at most {most:.1f} with bandwidth_hz {self.bandwidth_hz:g}, where the variance "
                f"is 1, that of thermal light; found {self.rin_db_per_hz}"
            )
        if self.rin_per_line and self.cmrr_db is not None:
            raise ValueError(
                f"cmrr_db must be None with rin_per_line: it rejects what is common to all channels; "
                f"found {self.cmrr_db}"
            )
        return self


class Converters(Record):
    """DACs of inputs and weights, and the ADC: bits, effective bits, nonlinearity (IEEE Std 1241)."""

    input_bits: int | None = Field(
        default=8,
        ge=1,
        le=15,
        description="DAC of the modulators; None: no converter",
        json_schema_extra=switch("input quantisation", None),
    )
    input_enob: float | None = Field(
        default=None,
        gt=0,
        description="None: quantisation alone",
        json_schema_extra=switch("input DAC noise", None),
    )
    input_inl_lsb: tuple[float, ...] | None = Field(
        default=None, description="table over the codes, the same for all", json_schema_extra=switch("input INL", None)
    )
    input_dnl_lsb: tuple[float, ...] | None = Field(
        default=None, description="of every code, in place of the INL", json_schema_extra=switch("input INL", None)
    )
    input_mismatch: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="unit element of each binary-weighted DAC, relative; hidden",
        json_schema_extra=switch("input INL", 0.0),
    )
    weight_bits: int | None = Field(
        default=8,
        ge=2,
        le=15,
        description="DAC of the heaters; None: no converter",
        json_schema_extra=switch("weight quantisation", None),
    )
    adc_bits: int | None = Field(
        default=8,
        ge=2,
        le=16,
        description="None: no converter",
        json_schema_extra=switch("ADC quantisation and clipping", None),
    )
    adc_full_scale: float = Field(default=0.25, gt=0, description="|D| at which the ADC clips")
    adc_enob: float | None = Field(
        default=None,
        gt=0,
        description="of the converter alone, INL excluded; None: quantisation alone",
        json_schema_extra=switch("ADC noise", None),
    )
    adc_inl_lsb: tuple[float, ...] | None = Field(
        default=None, description="table over the codes, the same for all", json_schema_extra=switch("ADC INL", None)
    )
    adc_dnl_lsb: tuple[float, ...] | None = Field(
        default=None, description="of every code, in place of the INL", json_schema_extra=switch("ADC INL", None)
    )
    adc_mismatch: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="unit capacitor of each SAR ADC, relative; hidden",
        json_schema_extra=switch("ADC INL", 0.0),
    )
    offset_spread_lsb: float = Field(
        default=0.0,
        ge=0,
        description="of each ADC; of D = 1/256 where it has no bits; hidden",
        json_schema_extra=switch("offset spread", 0.0),
    )

    @model_validator(mode="after")
    def _converters_exist(self) -> Self:
        for side, bits, extras in (
            ("input", self.input_bits, ("input_enob", "input_inl_lsb", "input_dnl_lsb", "input_mismatch")),
            ("adc", self.adc_bits, ("adc_enob", "adc_inl_lsb", "adc_dnl_lsb", "adc_mismatch")),
        ):
            given = [name for name in extras if getattr(self, name) not in (None, 0.0)]
            if bits is None and given:
                raise ValueError(f"{', '.join(given)} belong to a converter, but {side}_bits is None")
            if bits is None:
                continue
            if extras[1] in given and extras[2] in given:
                raise ValueError(f"at most one of {extras[1]} and {extras[2]} is given: they state the same table")
            enob, dnl = getattr(self, extras[0]), getattr(self, extras[2])
            if enob is not None and enob > bits:
                raise ValueError(f"{extras[0]} must be at most {side}_bits = {bits}, found {enob}")
            if dnl is not None and len(dnl) != 2**bits:
                raise ValueError(f"{extras[2]} needs {2**bits} values for {bits} bits, found {len(dnl)}")
        return self

    @model_validator(mode="after")
    def _tables_are_converters(self) -> Self:
        for name, bits, table in (
            ("adc", self.adc_bits, converters.transitions_from_inl),
            ("input", self.input_bits, converters.table),
        ):
            try:
                inl = getattr(self, f"{name}_inl")
                if bits is not None and inl is not None:
                    table(inl, bits)
            except RangeError as error:
                given = "inl" if getattr(self, f"{name}_dnl_lsb") is None else "dnl"
                raise ValueError(f"{name}_{given}_lsb: {error}") from error
        return self

    @property
    def adc_inl(self) -> tuple[float, ...] | None:
        """Table of the ADCs' INL, whichever of INL and DNL is given."""
        return self.adc_inl_lsb if self.adc_dnl_lsb is None else converters.inl_from_dnl(self.adc_dnl_lsb)

    @property
    def input_inl(self) -> tuple[float, ...] | None:
        """The same for the DACs of the inputs."""
        return self.input_inl_lsb if self.input_dnl_lsb is None else converters.dac_inl_from_dnl(self.input_dnl_lsb)


class Modulators(Record):
    """T = T_min + (1 - T_min) sin^2 (Saleh and Teich, Fundamentals of Photonics, ch. 20)."""

    extinction_ratio_db: float | None = Field(
        default=25.0,
        gt=0,
        description="None: infinite, T_min = 0",
        json_schema_extra=switch("finite extinction", None),
    )
    modulator_bandwidth_hz: float | None = Field(
        default=None,
        gt=0,
        description="3 dB, first order; None: unlimited",
        json_schema_extra=switch("modulator memory", None),
    )
    channel_spread: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="power of each channel, relative; hidden",
        json_schema_extra=switch("channel imbalance", 0.0),
    )
    v_pi_spread: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="of each modulator, relative; hidden",
        json_schema_extra=switch("modulator spread", 0.0),
    )
    bias_spread_rad: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of each modulator's null; hidden",
        json_schema_extra=switch("modulator spread", 0.0),
    )


class Defects(Record):
    """Elements that do not do as they are told; hidden."""

    stuck_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="weight elements that hold a random code",
        json_schema_extra=switch("stuck elements", 0.0),
    )
    dead_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="weight elements whose drive does not arrive",
        json_schema_extra=switch("dead elements", 0.0),
    )


class Time(Record):
    """The chip's own clock, and what changes with it: warm-up, AR(1) drift, temperature."""

    symbol_rate_hz: float = Field(default=5e9, gt=0)
    settle_time_s: float = Field(default=10e-6, ge=0, description="of the weights after one programming")

    temperature_error_k: float = Field(
        default=0.0,
        description="away from where the data sheet or a calibration holds",
        json_schema_extra=switch("temperature", 0.0),
    )
    warm_up_k: float = Field(
        default=0.0, description="at time 0, decaying with warm_up_s", json_schema_extra=switch("warm-up", 0.0)
    )
    warm_up_s: float = Field(default=600.0, gt=0)
    temperature_drift_k: float = Field(
        default=0.0,
        ge=0,
        description="standard deviation, AR(1) with drift_s",
        json_schema_extra=switch("temperature drift", 0.0),
    )
    laser_drift: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="relative standard deviation of the power (log-normal), AR(1) with drift_s",
        json_schema_extra=switch("laser drift", 0.0),
    )
    laser_walk_per_root_s: float = Field(
        default=0.0,
        ge=0,
        description="random walk of the power from time 0: relative standard deviation after 1 s (log-normal)",
        json_schema_extra=switch("laser drift", 0.0),
    )
    gain_drift: float = Field(
        default=0.0,
        ge=0,
        lt=0.3,
        description="relative standard deviation of each output's gain (log-normal), AR(1) with drift_s",
        json_schema_extra=switch("gain drift", 0.0),
    )
    bias_drift_rad: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="standard deviation of each modulator's null, AR(1) with drift_s",
        json_schema_extra=switch("bias drift", 0.0),
    )
    drift_s: float = Field(default=60.0, gt=0, description="correlation time of the drifts")

    # for tests of a calibration: effects that its model has no parameter for
    thermal_memory_k: float = Field(
        default=0.0,
        ge=0,
        description="temperature rise at full heater drive, following earlier tiles with thermal_memory_s",
        json_schema_extra=switch("thermal memory", 0.0),
    )
    thermal_memory_s: float = Field(default=1e-3, gt=0)
    input_crosstalk: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="T_j becomes T_j (1 + k (T_{j-1} + T_{j+1}) / 2), and a field E_j the same times E_j",
        json_schema_extra=switch("input crosstalk", 0.0),
    )


class Energy(Record):
    """What the parts consume; primary quantities, the formulas are in docs/profile.md."""

    wall_plug_efficiency: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="light over electrical power of the laser (Lightening-Transformer, SimPhony)",
    )
    modulator_j_per_symbol: float = Field(
        default=200e-15, ge=0, description="J, of one modulator; 200 fJ/bit at 20 Gb/s in silicon (Baehr-Jones 2012)"
    )
    heater_pi_w: float = Field(
        default=10e-3,
        ge=0,
        description="W, of one heater for a phase of pi; 0.5 to 58 mW are reported (Micromachines 13, 1509)",
    )
    adc_j_per_step: float = Field(
        default=25e-15,
        ge=0,
        description="J, Walden's figure of merit, times 2^ENOB is one conversion (IEEE 9731625: 14.8 mW at 10 GS/s, "
        "which are 5.9 effective bits of its 8)",
    )
    dac_j_per_step: float = Field(
        default=14e-15,
        ge=0,
        description="J, the same for a DAC, inputs' and weights' (IEEE 9162776: 50 mW, 14 GS/s, nominal 8 bits)",
    )
    tia_w: float = Field(default=3e-3, ge=0, description="W, of one output's amplifier (IEEE 8510668)")
