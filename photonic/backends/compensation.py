"""Encoding through a measured calibration: codes that make the chip as it is give the product that is wanted.

    D_i = 1/N sum_j w_ij p_j T_j(u_j)           the count before the ADC is g_i D_i + z_i

Light: all channels can give the levels from t to t + d, and v_j in [0, 1] is coded by p_j T_j = t + d v_j. Weights: a
row is divided by a scale, so that each of its elements reaches what it should be, and the codes make up for the curve
of each element and for its neighbours. With the weights w that rounded codes really have,

    sum_j w_ij v_j = (N (c_i - z_i) / g_i - t sum_used w_ij - sum_unused w_ij p_j T_j(dark)) / d,

so that nothing is left but the rounding of codes, which `photonic.backends.rounding` balances in each row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from photonic.backends import adcvolts
from photonic.backends.channels import Channels
from photonic.backends.elements import Elements
from photonic.backends.encoding import Encoder, Geometry, Nominal, Programmed, nonzero, tile_weight
from photonic.backends.meshcompensation import MeshCompensation
from photonic.backends.rounding import balanced
from photonic.errors import ArraysError, CalibrationError
from photonic.records import Calibration, ChipSpec

Arrays = Mapping[str, NDArray[np.float64]]


def encoder_of(calibration: Calibration, spec: ChipSpec) -> Encoder:
    """What encodes for a chip: through the arrays of a measured record, else by its response alone.

    Raises:
        CalibrationError: see ``Compensation.of`` and ``MeshCompensation.of``.
    """
    if not calibration.arrays:
        return Nominal(spec, calibration.response)
    if spec.layout == "program":
        return MeshCompensation.of(calibration, spec)
    return Compensation.of(calibration, spec)


@dataclass(frozen=True)
class Compensation:
    """Encodes for a chip whose elements, channels and converters were measured.

    Attributes:
        spec: of the chip.
        calibration: its record.
        counts: (M or 1, 2^bits) what an ADC saw when it gives a count, lowest count first; None: the count.
    """

    spec: ChipSpec
    calibration: Calibration
    counts: Tensor | None
    _elements: dict[tuple[int, int, torch.dtype, torch.device], Elements] = field(default_factory=dict, repr=False)
    _channels: dict[int, Channels] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, calibration: Calibration, spec: ChipSpec) -> Compensation:
        """For a chip with a code for each weight.

        Raises:
            ArraysError: arrays are missing, or do not fit the chip.
            CalibrationError: inputs that carry fields.
        """
        if calibration.response.inputs.shape == "field":
            raise CalibrationError(
                f"chip {spec.chip_id}: expected a record of inputs of shape 'mzm' or 'linear', found 'field', which no "
                "measured record describes; use the nominal calibration"
            )
        _check(calibration.arrays, spec)
        transitions = calibration.arrays.get("transitions")
        return cls(spec, calibration, None if transitions is None else adcvolts.seen_values(torch.tensor(transitions)))

    @property
    def by_image(self) -> bool:
        """Never: a pixel meets another channel at each place of the kernel."""
        return False

    @property
    def counts_per_d(self) -> tuple[float, ...]:
        """(M,) g."""
        return tuple(self.calibration.arrays["counts_per_d"].tolist())

    @property
    def zero_count(self) -> tuple[float, ...]:
        """(M,) z."""
        return tuple(self.calibration.arrays["zero_count"].tolist())

    def row_scale(self, weight: Tensor, cut: Geometry) -> Tensor | None:
        """Where weights have no sign and do not reach 0: one scale for the two rows of an output, in each column tile.

        One row holds its positive weights, the other its negative ones. What both have too much (``Elements.lift``)
        cancels in the difference, if it is the same.
        """
        elements = self._elements_of(cut, weight)
        if elements.lift == 0:
            return None
        tiles = tile_weight(weight, cut)
        needed: Tensor = (tiles / (elements.highest - elements.lift)).amax(-1)  # (R, G C, m)
        rows = needed.unflatten(1, (cut.groups, cut.columns)).permute(1, 2, 0, 3).flatten(2)[..., : cut.outputs]
        both = rows.unflatten(2, (2, -1)).amax(2).repeat(1, 1, 2)
        padded = F.pad(both, (0, cut.rows * cut.m - cut.outputs))
        scale: Tensor = padded.unflatten(2, (cut.rows, cut.m)).permute(2, 0, 1, 3).flatten(1, 2)
        return scale

    def weights(self, tiles: Tensor, cut: Geometry, per_row: bool, scale: Tensor | None = None) -> Programmed:
        """Programs tiles (R, G x C, m, n) at the upper left of the chip; formulas in the module's docstring.

        Raises:
            CalibrationError: an element in use hardly reaches any weight; or channels have no level in common.
        """
        elements, channels = self._elements_of(cut, tiles), self._channels_of(cut.n)
        flat = tiles.flatten(0, 1)
        scale = elements.scale(flat, per_row) if scale is None else scale.flatten(0, 1).unsqueeze(-1)
        used = (torch.arange(cut.columns * cut.n, device=tiles.device) < cut.inputs).view(cut.columns, cut.n)
        used = used.repeat(cut.groups, 1).to(tiles)
        codes = self._codes(elements, flat / nonzero(scale) + elements.lift, used.repeat(len(tiles), 1).unsqueeze(1))
        realised = elements.weights(codes).view(*tiles.shape[:3], -1)
        scale = scale.view(*tiles.shape[:2], -1).expand(tiles.shape[:3])
        sums = torch.einsum("rcmn,cn->rcm", realised[..., : cut.n], used)
        light = channels.dark.to(tiles).repeat(len(used), 1)
        light[:, : cut.n] *= 1 - used
        dark = sums * channels.base + torch.einsum("rcmn,cn->rcm", realised, light)
        return Programmed(
            codes=codes.view(tiles.shape),
            worth=scale * (self.spec.n_inputs / channels.span),
            sums=sums * scale,
            dark=dark * scale / channels.span,
        )

    def _codes(self, elements: Elements, wanted: Tensor, used: Tensor) -> Tensor:
        """Codes (T, m, n) of weights in reach; ``used`` (T, 1, n) is 1 where there is an input."""
        fine, steps = elements.codes(wanted)
        if self.spec.weight_bits is None:
            return fine
        codes = fine.round()
        if self.spec.signed_inputs:
            return codes  # whose mean is 0: nothing to balance
        off = elements.weights(codes)[..., : wanted.shape[-1]].sub_(wanted).mul_(used)
        return balanced(fine, codes, off, steps.mul_(used))

    def inputs(self, values: Tensor, cut: Geometry) -> Tensor:
        """Codes of values (G, B, N), each by the channel that it meets in its tile."""
        return self._channels_of(cut.n).codes(values)

    def volts(self, counts: Tensor, dtype: torch.dtype) -> Tensor:
        """What the ADCs saw on average: the middle between the transitions of a count (R, G x C, B, m)."""
        if self.counts is None:
            return counts
        return adcvolts.volts(counts, self.counts, self.spec.count_range[0], dtype)

    def _elements_of(self, cut: Geometry, like: Tensor) -> Elements:
        key = cut.m, cut.n, like.dtype, like.device
        if key not in self._elements:
            self._elements[key] = Elements.of(self.calibration.arrays, self.spec, cut.m, cut.n, like)
        return self._elements[key]

    def _channels_of(self, n: int) -> Channels:
        if n not in self._channels:
            self._channels[n] = Channels.of(self.calibration.arrays, self.spec, self.calibration.response.inputs, n)
        return self._channels[n]


def _check(arrays: Arrays, spec: ChipSpec) -> None:
    """Refuses arrays that cannot be of this chip.

    Raises:
        ArraysError: which, and what they should be.
    """
    m, n = spec.n_outputs, spec.n_inputs
    curves = len(arrays["curves"]) if "curves" in arrays else 0
    terms = len(arrays["neighbour_offsets"]) if "neighbour_offsets" in arrays else 0
    shapes: dict[str, tuple[float, ...]] = {
        "counts_per_d": (m,),
        "zero_count": (m,),
        "power": (n,),
        "inverse_v_pi": (n,),
        "bias_rad": (n,),
        "level_min": (1,),
        "curves": (max(curves, 2), math.nan),
        "element": (m, n, curves),
        "neighbour_offsets": (terms, 2),
        "neighbour": (terms, math.nan),
        "neighbour_target": (1,),
    }
    if "transitions" in arrays and spec.adc_bits is not None:
        rows = len(arrays["transitions"])
        shapes["transitions"] = (1 if rows == 1 else m, 2.0**spec.adc_bits - 1)
    wrong = [
        f"{name} {shape}, found {_found(arrays, name)}"
        for name, shape in shapes.items()
        if not _fits(arrays, name, shape)
    ]
    if not wrong and arrays["curves"].shape[1] < 2:
        wrong = [f"curves of at least 2 codes, found {arrays['curves'].shape}"]
    if wrong:
        raise ArraysError(
            f"the record of {spec.chip_id} does not fit the chip: expected finite arrays {'; '.join(wrong)} (nan: any "
            "length); calibrate again"
        )


def _found(arrays: Arrays, name: str) -> object:
    if name not in arrays:
        return "none"
    return arrays[name].shape if np.isfinite(arrays[name]).all() else "values that are not finite"


def _fits(arrays: Arrays, name: str, shape: tuple[float, ...]) -> bool:
    if name not in arrays or arrays[name].ndim != len(shape) or not np.isfinite(arrays[name]).all():
        return False
    return all(math.isnan(want) or want == size for want, size in zip(shape, arrays[name].shape, strict=True))
