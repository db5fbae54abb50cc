"""A chip and its calibration make a backend: the only place where the two seams meet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from photonic.backends import encoding
from photonic.backends.base import Backend, ConvGeometry, Programming, Site, fold_output, unfold
from photonic.backends.chip import Chip, Conditions, Measurement, Usage
from photonic.backends.encoding import EncodedWeight, Geometry, Sign
from photonic.errors import CalibrationError, RangeError, SaturationError, SpecError
from photonic.records import BackendSpec, Calibration

SIGNS = ("auto", "time", "space", "offset")


@dataclass(frozen=True)
class _Plan:
    """How one product's inputs are encoded: scale (G, 1, 1), and sign encodings of inputs and weights."""

    scale: Tensor
    inputs: Sign
    weights: Sign


@dataclass(frozen=True)
class _Kept:
    """A layer's codes, and what they were made from; whether they are fresh is decided by comparing numbers."""

    weight: Tensor
    signs: tuple[Sign, Sign]
    gains: Tensor | None
    encoded: EncodedWeight

    def holds(self, weight: Tensor, signs: tuple[Sign, Sign], gains: Tensor | None) -> bool:
        if signs != self.signs or gains is not self.gains or weight.dtype != self.weight.dtype:
            return False
        return weight.device == self.weight.device and torch.equal(weight, self.weight)


class CalibratedBackend(Backend):
    """Real numbers to codes, a chip's measurement, counts to real numbers.

    Args:
        chip: what measures; closed with this backend.
        calibration: its record; the nominal one when left out.
        sign: how signed inputs reach a chip whose light is non-negative. "auto" is one shot for inputs that are all
            non-negative and "time" otherwise; "time" is two shots, "space" twice the inputs, "offset" one shot of
            doubled noise.
        shots: evaluations averaged for every product; noise falls as 1 / sqrt(shots).
        weight_scale: "row" scales each output of each tile to full scale, "tile" each tile.
        analog_gain: a setting that the chip offers before its ADC, or None.
        name: the spec string that opens this backend again.

    Raises:
        CalibrationError: the record is another chip's.
        SpecError: an option that does not exist or does not fit the chip.
    """

    def __init__(
        self,
        chip: Chip,
        calibration: Calibration | None = None,
        *,
        sign: str = "auto",
        shots: int = 1,
        weight_scale: str = "row",
        analog_gain: float | None = None,
        name: str | None = None,
    ) -> None:
        calibration = calibration or Calibration.from_spec(chip.spec)
        if calibration.chip_id != chip.spec.chip_id:
            raise CalibrationError(
                f"this calibration belongs to {calibration.chip_id}, the chip is {chip.spec.chip_id}; calibrate it"
            )
        if chip.spec.layout == "program" and chip.spec.decomposition is None:
            raise SpecError(
                f"chip {chip.spec.chip_id} has layout 'program' and does not say how a weight becomes drive codes; "
                "its spec needs a decomposition, such as 'clements_svd'"
            )
        _check_option("sign", sign, SIGNS)
        _check_option("weight_scale", weight_scale, ("row", "tile"))
        if not isinstance(shots, int) or isinstance(shots, bool) or shots < 1:
            raise SpecError(f"shots must be a whole number of at least 1, found {shots!r}")
        if analog_gain is not None and analog_gain not in chip.spec.conditions.get("analog_gain", ()):
            offered = chip.spec.conditions.get("analog_gain", "none")
            raise SpecError(f"chip {chip.spec.chip_id} offers the analog gains {offered}, found {analog_gain}")
        super().__init__(BackendSpec(name=name or chip.spec.chip_id, chip=chip.spec, nominal=calibration.nominal))
        self.chip = chip
        self.calibration = calibration
        self._sign, self._shots, self._per_row = sign, shots, weight_scale == "row"
        self._analog_gain, self._response = analog_gain, calibration.response
        self._kept: _Kept | None = None

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        dtype = self._dtype(x)
        plan = self._plan(x.flatten(1), weight)
        encoded = self._encode(weight, plan, dtype)
        return self._product(x, plan, encoded, dtype).to(x.dtype)

    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        # as in the base, but unfolding a block of images at a time: patches are many times larger than images
        dtype, g, kernel = self._dtype(x), geometry.groups, tuple(weight.shape[2:])
        matrix = weight.reshape(g, weight.shape[0] // g, -1)
        plan = self._plan(x.reshape(x.shape[0], g, -1).transpose(0, 1), matrix)
        encoded = self._encode(matrix, plan, dtype)
        size = geometry.output_size(tuple(x.shape[2:]), kernel)
        parts = []
        for images in self._blocks(x.shape[0], torch.Size(size).numel(), plan, encoded):
            block = x[images]
            products = self._product(unfold(block.to(dtype), kernel, geometry), plan, encoded, dtype)
            parts.append(fold_output(products, block, weight, geometry))
        return torch.cat(parts).to(x.dtype)

    def tiles(self, groups: int, outputs: int, inputs: int) -> tuple[int, int]:
        """Row tiles and column tiles (all groups) of a weight (groups, outputs, inputs), for inputs of both signs."""
        weights = self._weight_sign()
        m = outputs * (2 if weights == "space" else 1)
        n = inputs * (2 if self._sign == "space" else 1)
        cut = Geometry.of(self.chip.spec, groups, m, n)
        return cut.rows, cut.groups * cut.columns

    def programming(self, groups: int, outputs: int, inputs: int) -> Programming:
        """What a weight (groups, outputs, inputs) costs to program once."""
        rows, columns = self.tiles(groups, outputs, inputs)
        tiles = rows * columns
        return Programming(tiles, tiles * self.chip.spec.drives, tiles * self.chip.spec.settle_time_s)

    def state(self) -> dict[str, Any]:
        """The chip's (see ``Chip.state``)."""
        return self.chip.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Gives the chip's state back."""
        self.chip.restore(state)

    def _close(self) -> None:
        self.chip.close()

    def _dtype(self, x: Tensor) -> torch.dtype:
        """Of the arithmetic around the chip: float32, or float64 where the numbers or the chip have that much."""
        spec = self.chip.spec
        return torch.float64 if torch.float64 in (x.dtype, spec.code_dtype, spec.count_dtype) else torch.float32

    def _plan(self, x: Tensor, weight: Tensor) -> _Plan:
        """Finds the range and the signs of x, whose first dimension is the group, and refuses what is not finite."""
        low, high = torch.aminmax(x.reshape(x.shape[0], -1), dim=1)
        encoding.check_finite(f"the input of layer {self.site.name or '(unnamed)'}", low, high)
        encoding.check_finite(f"the weight of layer {self.site.name or '(unnamed)'}", *torch.aminmax(weight))
        span = torch.maximum(low.abs(), high.abs())
        if self.site.input_range is not None:
            span = _static_range(span, self.site.input_range, self.site.name)
        signs = self._input_sign(bool((low >= 0).all()))
        return _Plan(span.to(self._dtype(x)).reshape(-1, 1, 1), signs, self._weight_sign())

    def _input_sign(self, one_sided: bool) -> Sign:
        if one_sided or self.chip.spec.signed_inputs:
            # even where sign="space": the weight stays as it is and no input is wasted
            return "plain"
        if self._sign == "space":
            return "space"
        return "offset" if self._sign == "offset" else "time"

    def _weight_sign(self) -> Sign:
        return "plain" if self.chip.spec.signed_weights else "space"

    def _encode(self, weight: Tensor, plan: _Plan, dtype: torch.dtype) -> EncodedWeight:
        """The weight as codes: as they are kept for this layer where the weight has not changed."""
        weight, signs, gains = weight.detach().to(dtype), (plan.inputs, plan.weights), self.site.gains
        kept = self._kept
        if kept is not None and kept.holds(weight, signs, gains):
            return kept.encoded
        started = time.perf_counter()
        signed = encoding.encode_weight_signs(weight, *signs)
        gain = (self._analog_gain or 1.0) if gains is None else gains
        encoded = encoding.encode_weight(signed, self.chip.spec, self._response, self._per_row, gain)
        self.site.encodings += 1
        self.site.encode_seconds += time.perf_counter() - started
        self._kept = _Kept(weight.clone(), signs, gains, encoded)
        return encoded

    def bind(self, site: Site) -> Self:
        """A view for one layer, which keeps that layer's codes."""
        view = super().bind(site)
        view._kept = None  # noqa: SLF001 - a copy of this object
        return view

    def _conditions(self) -> Conditions:
        gain = self._analog_gain if self.site.gains is None else self.site.gains.cpu()
        return {} if gain is None else {"analog_gain": gain}

    def _blocks(self, count: int, rows_each: int, plan: _Plan, encoded: EncodedWeight) -> Iterator[slice]:
        """Slices of ``count`` items of ``rows_each`` rows, so that the counts of a call stay under the chip's limit."""
        spec, cut = self.chip.spec, encoded.cut
        row = cut.rows * cut.groups * cut.columns * cut.m * spec.count_dtype.itemsize * self._shots
        row *= 2 if plan.inputs == "time" else 1
        step = max(1, spec.max_counts_bytes // (row * rows_each))
        for start in range(0, count, step):
            yield slice(start, start + step)

    def _product(self, x: Tensor, plan: _Plan, encoded: EncodedWeight, dtype: torch.dtype) -> Tensor:
        """x (G, B, N) to (G, B, M), in as few calls as the size of their counts allows."""
        blocks = self._blocks(x.shape[1], 1, plan, encoded)
        parts = [self._call(x[:, rows], plan, encoded, dtype) for rows in blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _call(self, x: Tensor, plan: _Plan, encoded: EncodedWeight, dtype: torch.dtype) -> Tensor:
        """One call of the chip: x (G, b, N) to (G, b, M)."""
        spec = self.chip.spec
        values = encoding.encode_input_signs(x.detach().to(dtype) / encoding.nonzero(plan.scale), plan.inputs)
        codes = encoding.input_codes(values, spec, self._response)
        inputs = encoding.tile_inputs(codes, encoded.cut, spec.dark_code)
        if self._shots > 1:
            inputs = inputs.repeat(1, self._shots, 1)
        measured = self._measure(encoded.codes.cpu(), inputs.cpu())
        y = encoding.decode(measured.counts.to(x.device), encoded)
        if self._shots > 1:
            y = y.reshape(y.shape[0], self._shots, -1, y.shape[-1]).mean(dim=1)
        sums = encoded.sums[..., : y.shape[-1]]
        return encoding.decode_signs(y, sums, plan.inputs, plan.weights) * plan.scale

    def _measure(self, codes: Tensor, inputs: Tensor) -> Measurement:
        """Asks the chip and counts for the layer, also a call that ended at the rails."""
        try:
            measured = self.chip.measure(codes, inputs, self._conditions())
        except SaturationError as error:
            if isinstance(error.usage, Usage):
                self._record(error.usage)
            error.add_note(f"in layer {self.site.name or '(unnamed)'}")
            raise
        self._record(measured.usage)
        return measured


def _static_range(span: Tensor, limit: Tensor, layer: str) -> Tensor:
    """The calibrated range of a layer; what exceeds it must have been clamped, and counted, before."""
    limit = limit.to(span.dtype)
    if bool((span > limit * (1 + 1e-5)).any()):
        raise RangeError(
            f"layer {layer or '(unnamed)'}: inputs reach {float(span.max()):g}, its input range is {float(limit):g}; "
            "clamp them first, or widen the range"
        )
    return limit.expand_as(span)


def _check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SpecError(f"{name} must be one of {allowed}, found {value!r}")
