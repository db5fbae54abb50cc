"""Encoding for a mesh that was measured: inputs by their own transfer, weights by the data sheet's decomposition.

    E_j = sin(pi/2 v_j (u - u_0) / (u_1 - u_0) + b_j), or (u - u_0) / (u_1 - u_0);  D_i = sum_j a_j A_ij E_j

All channels can give fields from -r to r, and v_j in [-1, 1] is coded by E_j = r v_j. The matrix that is programmed is
W / a, so that A is W where the mesh does what its data sheet says. What its phases do otherwise a record tells only for
the programs that were measured, which no layer's weights are: nothing is compensated there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from photonic.backends import adcvolts
from photonic.backends.encoding import Geometry, Nominal, Programmed
from photonic.errors import ArraysError, CalibrationError
from photonic.records import Calibration, ChipSpec

LEAST_REACH = 0.5


@dataclass(frozen=True)
class MeshCompensation:
    """Encodes for a mesh whose channels, gains and converters were measured.

    Attributes:
        spec: of the chip.
        nominal: with the gain and the zero of each output.
        amplitude: (N,) a.
        slope: (N,) half phase, or field, of one code.
        bias: (N,) at ``code_zero``.
        reach: r.
        seen: (M or 1, 2^bits) what an ADC saw when it gives a count; None: the count.
    """

    spec: ChipSpec
    nominal: Nominal
    amplitude: Tensor
    slope: Tensor
    bias: Tensor
    reach: float
    seen: Tensor | None

    @classmethod
    def of(cls, calibration: Calibration, spec: ChipSpec) -> MeshCompensation:
        """From a record's arrays.

        Raises:
            ArraysError: arrays are missing, or do not fit the chip.
            CalibrationError: channels that hardly have a field in common.
        """
        names = ("power", "inverse_v_pi", "bias_rad")
        found = {name: torch.tensor(calibration.arrays.get(name, ()), dtype=torch.float64) for name in names}
        wrong = [
            name for name, a in found.items() if tuple(a.shape) != (spec.n_inputs,) or not bool(a.isfinite().all())
        ]
        if wrong or not bool((found["power"] > 0).all()) or not bool((found["inverse_v_pi"] > 0).all()):
            raise ArraysError(
                f"the record of {spec.chip_id} does not fit the chip: expected positive power and inverse_v_pi and a "
                f"bias_rad of {spec.n_inputs} inputs each, look at {', '.join(wrong) or 'their signs'}; calibrate again"
            )
        transfer = calibration.response.inputs
        span = transfer.code_one - transfer.code_zero
        slope, bias = (
            found["inverse_v_pi"] * ((math.pi / 2 if transfer.shape == "field" else 1.0) / span),
            found["bias_rad"],
        )
        transitions = calibration.arrays.get("transitions")
        seen = None if transitions is None else adcvolts.seen_values(torch.tensor(transitions))
        nominal = Nominal(spec, calibration.response)
        made = cls(spec, nominal, found["power"].sqrt(), slope, bias, 1.0, seen)
        return replace(made, reach=made._common_reach())

    @property
    def by_image(self) -> bool:
        """Never: a pixel meets another channel at each place of the kernel."""
        return False

    @property
    def counts_per_d(self) -> tuple[float, ...]:
        """(M,) g."""
        return self.nominal.counts_per_d

    @property
    def zero_count(self) -> tuple[float, ...]:
        """(M,) z."""
        return self.nominal.zero_count

    def row_scale(self, weight: Tensor, cut: Geometry) -> None:
        """A program is scaled as a whole."""
        return

    def weights(self, tiles: Tensor, cut: Geometry, per_row: bool, scale: Tensor | None = None) -> Programmed:
        """Programs tiles (R, G x C, M, N) by the data sheet's decomposition of W / a."""
        found = self.nominal.weights(tiles / self.amplitude.to(tiles), cut, per_row)
        return replace(found, worth=found.worth / self.reach, sums=tiles.sum(dim=-1))

    def inputs(self, values: Tensor, cut: Geometry) -> Tensor:
        """Codes of values (G, B, N) in [-1, 1], each by the channel that it meets in its tile."""
        length = values.shape[-1]
        slope, bias = (
            each.to(values).repeat(-(-length // self.spec.n_inputs))[:length] for each in (self.slope, self.bias)
        )
        field = values * self.reach
        phase = field.clamp(-1, 1).asin() if self._curved else field
        codes = (phase - bias) / slope + self.nominal.response.inputs.code_zero
        if self.spec.input_bits is not None:
            codes = codes.round_()
        return codes.clamp_(*self.spec.input_code_range).to(self.spec.code_dtype)

    def volts(self, counts: Tensor, dtype: torch.dtype) -> Tensor:
        """What the ADCs saw on average (R, G x C, B, m)."""
        if self.seen is None:
            return counts
        return adcvolts.volts(counts, self.seen, self.spec.count_range[0], dtype)

    @property
    def _curved(self) -> bool:
        return self.nominal.response.inputs.shape == "field"

    def _common_reach(self) -> float:
        """Largest field that all channels can give, with either sign where they have one; at most 1."""
        zero = self.nominal.response.inputs.code_zero
        low, high = (self.bias + self.slope * (code - zero) for code in self.spec.input_code_range)
        if self._curved:
            low, high = (x.clamp(-math.pi / 2, math.pi / 2).sin() for x in (low, high))
        reach = torch.minimum(high, -low) if self.spec.signed_inputs else high
        worst = int(reach.argmin())
        if float(reach[worst]) < LEAST_REACH:
            raise CalibrationError(
                f"chip {self.spec.chip_id}: channel {worst} gives a field of {float(reach[worst]):.3f} at most, "
                f"expected at least {LEAST_REACH:g}; repair its modulator's bias and calibrate again"
            )
        return min(1.0, float(reach[worst]))
