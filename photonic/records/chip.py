"""What a chip says of itself.

Everything is in the units of DESIGN section 2: a level T is the fraction of a channel's full optical power, D is the
signed result of an output (1 when all inputs and all nominal weights are +1), S the total detected power in the same
unit, a count is one ADC reading.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from photonic.records.base import Record


def effective_bits(span: float, variance: float) -> float | None:
    """Effective bits of a reading, log2(span / (sigma sqrt(12))); None where nothing limits them."""
    return None if variance == 0 else math.log2(span / math.sqrt(12.0 * variance))


class InputTransfer(Record):
    """How an input code becomes an optical level T of its channel, or its field.

    ``mzm``: T = T_min + (1 - T_min) sin^2(pi/2 (code - code_zero) / (code_one - code_zero)), the intensity transfer of
    a Mach-Zehnder modulator biased at its null, with T_min = 10^(-extinction_ratio_db / 10).
    ``field``: E = sin(pi/2 (code - code_zero) / (code_one - code_zero)), the field behind the same modulator, signed.
    ``linear``: T = (code - code_zero) / (code_one - code_zero), signed where the code range allows it.
    """

    shape: Literal["linear", "mzm", "field"] = "linear"
    code_zero: float = 0.0
    code_one: float = Field(default=255.0, description="code of full level, T = 1")
    extinction_ratio_db: float | None = Field(default=None, gt=0, description="None: infinite, T_min = 0")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.code_one == self.code_zero:
            raise ValueError(f"code_one must differ from code_zero, found {self.code_one} for both")
        if self.shape != "mzm" and self.extinction_ratio_db is not None:
            raise ValueError(f"extinction_ratio_db belongs to shape 'mzm'; {self.shape!r} is dark at code_zero")
        return self

    @property
    def level_min(self) -> float:
        """T_min, the level of the darkest code."""
        return 0.0 if self.extinction_ratio_db is None else 10.0 ** (-self.extinction_ratio_db / 10.0)


class NoiseModel(Record):
    """Variance of one output, V = thermal + shot S + rin D^2 + common_mode S^2 + converter, in D^2.

    Quantisation is not in it.
    """

    thermal: float = Field(default=0.0, ge=0)
    shot: float = Field(default=0.0, ge=0, description="per unit of S")
    rin: float = Field(default=0.0, ge=0, description="per unit of D^2; one factor per shot, common to all outputs")
    common_mode: float = Field(default=0.0, ge=0, description="per unit of S^2; RIN that balancing lets through")
    converter: float = Field(default=0.0, ge=0, description="the ADC's own, at an analog gain of 1")

    def variance(self, s: float, d: float) -> float:
        """Variance of an output at total power ``s`` and signed result ``d``, in D^2."""
        return self.thermal + self.shot * s + self.rin * d * d + self.common_mode * s * s + self.converter


class Response(Record):
    """The nominal (data sheet) or fitted response of a chip, enough to encode numbers and to decode counts.

    A count is ``zero_count + counts_per_d * D``; a weight is ``code / weight_code_one``.
    """

    inputs: InputTransfer = InputTransfer()
    weight_code_one: float = Field(default=127.0, gt=0, description="drive code of a weight of +1")
    counts_per_d: tuple[float, ...] = Field(min_length=1, description="one value, or one for each output")
    zero_count: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    noise: NoiseModel = NoiseModel()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if 0.0 in self.counts_per_d:
            raise ValueError("counts_per_d must not be 0: such an output answers to nothing")
        return self


class EnergyModel(Record):
    """What a chip consumes while it runs: what is always on, what each shot costs, what each programming costs."""

    laser_w: float = Field(ge=0, description="electrical")
    hold_w: float = Field(ge=0, description="heaters of a full tile, on average over weights")
    tia_w: float = Field(ge=0, description="amplifiers of all outputs")
    dac_j: float | None = Field(ge=0, description="one sample of one input; None: not stated")
    modulator_j: float = Field(ge=0, description="one symbol of one input")
    adc_j: float | None = Field(ge=0, description="one count of one output; None: not stated")
    write_j: float | None = Field(
        ge=0, description="one drive code of one weight element, converter included; None: not stated"
    )


class ChipSpec(Record):
    """What a chip says of itself: geometry, converters, times, conditions, and its data sheet's response.

    ``layout="elementwise"`` (banks, crossbars): a tile of m outputs and n inputs is m x n drive codes, row-major.
    ``layout="program"`` (meshes): a tile is always ``n_drives`` phases that the chip's decomposition gives, with
    ``weight_code_range`` spread over 0 to 2 pi.
    """

    chip_id: str = Field(min_length=1)
    n_outputs: int = Field(ge=1, description="M, physical outputs")
    n_inputs: int = Field(ge=1, description="N, physical inputs")
    layout: Literal["elementwise", "program"] = "elementwise"
    n_drives: int | None = Field(default=None, ge=1, description="P; None: M x N")
    decomposition: Literal["clements_svd"] | None = Field(default=None, description="of layout 'program'")
    partial_tiles: bool = Field(default=False, description="_measure accepts m < M and n < N without padding")

    weight_bits: int | None = Field(default=8, ge=1, le=15, description="None: no converter, float64 codes")
    weight_code_range: tuple[float, float] = (-127.0, 127.0)
    input_bits: int | None = Field(default=8, ge=1, le=15)
    input_code_range: tuple[float, float] = (0.0, 255.0)
    dark_code: float = Field(default=0.0, description="input code of an unused channel")
    adc_bits: int | None = Field(default=8, ge=1, le=16)
    count_range: tuple[float, float] = Field(default=(-128.0, 127.0), description="rails of the ADC")
    adc_full_scale: float = Field(default=0.25, gt=0, description="|D| at which the ADC clips")

    coupling: Literal["dc", "ac"] = "dc"
    simultaneous_outputs: int | None = Field(default=None, ge=1, description="None: all outputs are read at once")
    shot_time_s: float = Field(default=0.0, ge=0)
    settle_time_s: float = Field(default=0.0, ge=0, description="after one programming of a tile")
    resident_tiles: int = Field(default=1, ge=1)
    write_endurance: int | None = Field(default=None, ge=1)
    conditions: dict[str, tuple[float | str, ...]] = Field(default_factory=dict, description="name: allowed values")
    tile_conditions: tuple[str, ...] = Field(default=(), description="conditions that each tile can have by itself")
    max_saturated_fraction: float = Field(default=1.0, gt=0, le=1)
    max_counts_bytes: int = Field(default=64 * 2**20, ge=1, description="largest array of counts in one call")
    seeded: bool = Field(default=False, description="the same device and run seed give the same counts")

    response: Response
    energy: EnergyModel | None = Field(default=None, description="None: not stated")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, bits, (low, high) in (
            ("weight_code_range", self.weight_bits, self.weight_code_range),
            ("input_code_range", self.input_bits, self.input_code_range),
            ("count_range", self.adc_bits, self.count_range),
        ):
            if not low < high:
                raise ValueError(f"{name} must rise, found ({low}, {high})")
            if bits is not None and high - low > 2**bits - 1:
                raise ValueError(f"{name} ({low}, {high}) has more than the {2**bits} values of {bits} bits")
        if self.layout == "program" and self.n_drives is None:
            raise ValueError("n_drives is needed for layout 'program'")
        unknown = sorted(set(self.tile_conditions) - set(self.conditions))
        if unknown:
            raise ValueError(f"tile_conditions {unknown} are not among the conditions {sorted(self.conditions)}")
        if not self.input_code_range[0] <= self.dark_code <= self.input_code_range[1]:
            raise ValueError(f"dark_code {self.dark_code} is outside input_code_range {self.input_code_range}")
        for name, values in (("counts_per_d", self.response.counts_per_d), ("zero_count", self.response.zero_count)):
            if len(values) not in (1, self.n_outputs):
                raise ValueError(f"response.{name} needs 1 or {self.n_outputs} values, found {len(values)}")
        return self

    @property
    def drives(self) -> int:
        """P, the number of drive codes of a full tile."""
        return self.n_outputs * self.n_inputs if self.n_drives is None else self.n_drives

    @property
    def code_dtype(self) -> torch.dtype:
        """Dtype of drive and input codes: int16, or float64 where a converter has no bits."""
        return torch.float64 if self.weight_bits is None or self.input_bits is None else torch.int16

    @property
    def count_dtype(self) -> torch.dtype:
        """Dtype of counts: int16, or float64 where the ADC has no bits."""
        return torch.float64 if self.adc_bits is None else torch.int16

    @property
    def signed_weights(self) -> bool:
        """Whether drive codes give negative weights."""
        return self.layout == "program" or self.weight_code_range[0] < 0

    @property
    def signed_inputs(self) -> bool:
        """Whether an input code gives a negative level."""
        return self.response.inputs.shape != "mzm" and self.input_code_range[0] < self.response.inputs.code_zero

    @property
    def enob(self) -> float | None:
        """Effective bits of one output, ``log2(span / (sigma sqrt(12)))`` at (S, D) = (1, 0), quantisation included.

        None where nothing limits them: no noise and no converter.
        """
        variance = self.response.noise.variance(1.0, 0.0)
        if self.adc_bits is not None:
            lsb = 1.0 / abs(self.response.counts_per_d[0])
            variance += lsb * lsb / 12.0
        return effective_bits(2.0 * self.adc_full_scale, variance)


class BackendSpec(Record):
    """What a backend says of itself."""

    name: str = Field(min_length=1, description="the spec string that opens it again")
    differentiable: bool = Field(default=False, description="call under plain autograd, no custom Function")
    gradients: tuple[str, ...] = ("ideal",)
    chip: ChipSpec | None = None
    nominal: bool = Field(default=False, description="uses a calibration that was computed, not measured")
