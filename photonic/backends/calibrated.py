"""A chip and its calibration make a backend: the only place where the two seams meet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photonic.backends import encoding, signs
from photonic.backends.base import Backend, ConvGeometry, Programming, Site, fold_output, unfold
from photonic.backends.chip import Chip, Conditions, Measurement, Usage
from photonic.backends.compensation import encoder_of
from photonic.backends.decoding import decode
from photonic.backends.encoding import EncodedWeight
from photonic.backends.ends import array_ends
from photonic.backends.fewrows import FewRows, FewWeights
from photonic.backends.kept import Kept
from photonic.backends.observation import Observation
from photonic.backends.patches import tile_patches
from photonic.backends.plans import EncodingOptions, Plan, check_weight, plain, plan_between, plan_product
from photonic.errors import SaturationError, SpecError, WrongChipError
from photonic.records import BackendSpec, Calibration

# of a part of a call: as many bytes of patches are beside them
CACHED_COUNTS_BYTES = 8 * 2**20


class CalibratedBackend(Backend):
    """Real numbers to codes, a chip's measurement, counts to real numbers.

    Args:
        chip: what measures; closed with this backend.
        calibration: its record; the nominal one when left out.
        sign: how signed inputs reach a chip whose light is non-negative. "auto" is one shot for inputs that are all
            non-negative and "time" otherwise; "time" is two shots, "space" twice the inputs, "offset" one shot of
            doubled noise.
        shots: evaluations averaged for every product; noise falls as 1 / sqrt(shots).
        weight_scale: "row" scales each output of each tile to full scale, "tile" each tile. On a measured chip without
            signs whose weights do not reach 0 it is each output of each tile, the same for its two rows.
        analog_gain: a setting that the chip offers before its ADC, or None.
        name: the spec string that opens this backend again.

    Raises:
        WrongChipError: the record is another chip's.
        CalibrationError: a measured record that does not describe the chip.
        SpecError: an option that does not exist or does not fit the chip.
    """

    results_are_new = True

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
            raise WrongChipError(
                f"this calibration belongs to {calibration.chip_id}, the chip is {chip.spec.chip_id}; calibrate it"
            )
        if chip.spec.layout == "program" and chip.spec.decomposition is None:
            raise SpecError(
                f"chip {chip.spec.chip_id} has layout 'program' and does not say how a weight becomes drive codes; "
                "its spec needs a decomposition, such as 'clements_svd'"
            )
        self._options = EncodingOptions(sign, shots, weight_scale, analog_gain)
        self._options.check(chip.spec)
        super().__init__(BackendSpec(name=name or chip.spec.chip_id, chip=chip.spec, nominal=calibration.nominal))
        self.chip = chip
        self.calibration = calibration
        self._encoder = encoder_of(calibration, chip.spec)
        self._wide = torch.float64 in (chip.spec.code_dtype, chip.spec.count_dtype)
        self._can_few = FewRows.possible(self._encoder, chip.spec) and shots == 1
        self._few: FewWeights[FewRows] = FewWeights(chip.spec)
        self._kept: Kept[EncodedWeight] = self._empty()

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        few = self._linear(x.squeeze(0), weight.squeeze(0), None) if len(x) == 1 else None
        if few is not None:
            return few.unsqueeze(0)
        dtype = self._dtype(x)
        plan = plan_product(x, self.site, self.chip.spec, self._options, dtype)
        encoded = self._encode(weight, plan, dtype)
        return self._product(x, plan, encoded, dtype).to(x.dtype)

    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        # as in the base, but unfolding a block of images at a time: patches are many times larger than images
        dtype, g, kernel = self._dtype(x), geometry.groups, tuple(weight.shape[2:])
        matrix = weight.reshape(g, weight.shape[0] // g, -1)
        images = x.reshape(x.shape[0], g, -1).transpose(0, 1)
        plan = plan_product(images, self.site, self.chip.spec, self._options, dtype)
        encoded = self._encode(matrix, plan, dtype)
        size = geometry.output_size(tuple(x.shape[2:]), kernel)
        parts, rows = [], torch.Size(size).numel()
        by_image = self._by_image(plan) and rows <= self._shots_at_once(plan, encoded, self.chip.spec.max_counts_bytes)
        for some in self._blocks(x.shape[0], rows, plan, encoded):
            block = x[some].detach().to(dtype)
            if not by_image:
                products = self._product(unfold(block, kernel, geometry), plan, encoded, dtype)
                parts.append(fold_output(products, block, weight, geometry))
                continue
            for few in self._image_parts(block.shape[0], rows, plan, encoded):
                patches = self._patches(block[few], plan, encoded, kernel, geometry)
                products = self._ask(patches, plan, encoded, continued=few.start > 0)
                parts.append(fold_output(products, block[few], weight, geometry))
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(x.dtype)

    def tiles(self, groups: int, outputs: int, inputs: int) -> tuple[int, int]:
        """Row tiles and column tiles (all groups) of a weight (groups, outputs, inputs), for inputs of both signs."""
        cut = self._options.tiles_of(self.chip.spec, groups, outputs, inputs)
        return cut.rows, cut.groups * cut.columns

    def programming(self, groups: int, outputs: int, inputs: int) -> Programming:
        """What a weight (groups, outputs, inputs) costs to program once."""
        grid = self.tiles(groups, outputs, inputs)
        tiles = grid[0] * grid[1]
        return Programming(tiles, tiles * self.chip.spec.drives, tiles * self.chip.spec.settle_time_s)

    @property
    def options(self) -> EncodingOptions:
        """What the user chose."""
        return self._options

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
        return torch.float64 if self._wide or x.dtype == torch.float64 else torch.float32

    def _encode(self, weight: Tensor, plan: Plan, dtype: torch.dtype) -> EncodedWeight:
        """The weight as codes: as they are kept for this layer where the weight has not changed."""
        weight, gains = plain(weight, dtype), self.site.gains

        def encode() -> EncodedWeight:
            check_weight(weight, self.site)
            started = time.perf_counter()
            signed = signs.encode_weight_signs(weight, *plan.signs)
            gain = (self._options.analog_gain or 1.0) if gains is None else gains
            per_row = self._options.weight_scale == "row"
            encoded = encoding.encode(signed, self._encoder, per_row, gain)
            self.site.encodings += 1
            self.site.encode_seconds += time.perf_counter() - started
            return encoded

        return self._kept.get(weight, (plan.signs, gains), encode)

    def _empty(self) -> Kept[EncodedWeight]:
        # a decomposition costs more than a product
        return Kept(at_once=self.chip.spec.layout == "program")

    def bind(self, site: Site) -> Self:
        """A view for one layer, which keeps that layer's codes."""
        view = super().bind(site)
        view._kept, view._few = self._empty(), FewWeights(self.chip.spec)  # noqa: SLF001 - a copy of this object
        return view

    def _conditions(self) -> Conditions:
        gain = self._options.analog_gain if self.site.gains is None else self.site.gains.cpu()
        return {} if gain is None else {"analog_gain": gain}

    def _blocks(self, count: int, rows_each: int, plan: Plan, encoded: EncodedWeight) -> Iterator[slice]:
        """Slices of ``count`` items of ``rows_each`` rows, so that the counts of a call stay under the chip's limit."""
        step = max(1, self._shots_at_once(plan, encoded, self.chip.spec.max_counts_bytes) // rows_each)
        for start in range(0, count, step):
            yield slice(start, start + step)

    def _shots_at_once(self, plan: Plan, encoded: EncodedWeight, limit: int) -> int:
        """Rows of which the counts stay under a limit, the chip's for a call; 0 where one is too large already."""
        spec, cut = self.chip.spec, encoded.cut
        row = cut.rows * cut.groups * cut.columns * cut.m * spec.count_dtype.itemsize * self._options.shots
        return limit // (row * (2 if plan.inputs == "time" else 1))

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """Few rows, in one call of the chip."""
        if not self._can_few or not self._few.fit(x, weight):
            return None
        values, spec = (x.detach() if x.requires_grad else x).numpy(), self.chip.spec
        plan = plan_between(*array_ends(values), self.site, spec, self._options)
        if plan.inputs not in ("plain", "time"):
            return None

        def make() -> FewRows:
            encoded = self._encode(weight.unsqueeze(0), plan, torch.float32)
            return FewRows(encoded, spec, self.calibration.response.inputs)

        few = self._few.get(len(values), weight, plan.inputs, self.site.gains, make)
        if few is None:
            return None
        counts = self._few_counts(few, few.codes(values, plan), plan)
        return self._few.added(few.products(counts, plan), bias)

    def _few_counts(self, few: FewRows, codes: NDArray[np.int16], plan: Plan) -> NDArray[np.int16]:
        """Counts (R, C, b, m) of codes (C, b, n), by the chip's own shorter way where it has one."""
        if few.grid is not None and self.site.observe is None:
            try:
                found = self.chip.measure_few(few.grid, codes, self._conditions())
            except SaturationError as error:
                self._saturated(error)
                raise
            if found is not None:
                self._record(found[1])
                return found[0]
        measured = self._measured(few.encoded, torch.from_numpy(codes), plan)
        few.grid = self.chip.ready(few.encoded.codes, codes.shape[-1])
        counts: NDArray[np.int16] = measured.counts.numpy()
        return counts

    def _product(self, x: Tensor, plan: Plan, encoded: EncodedWeight, dtype: torch.dtype) -> Tensor:
        """x (G, B, N) to (G, B, M), in as few calls as the size of their counts allows."""
        blocks = self._blocks(x.shape[1], 1, plan, encoded)
        parts = [self._call(x[:, rows], plan, encoded, dtype) for rows in blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _call(self, x: Tensor, plan: Plan, encoded: EncodedWeight, dtype: torch.dtype) -> Tensor:
        """One call of the chip: x (G, b, N) to (G, b, M)."""
        return self._ask(self._tile_inputs(x.detach().to(dtype), plan, encoded), plan, encoded)

    def _tile_inputs(self, x: Tensor, plan: Plan, encoded: EncodedWeight) -> Tensor:
        """Codes (G C, b, n) of x (G, b, N); nothing else of them is left in memory while the chip measures."""
        values = signs.encode_input_signs(plan.scaled(x), plan.inputs)
        codes = self._encoder.inputs(values, encoded.cut)
        return encoding.tile_inputs(codes, encoded.cut, self.chip.spec.dark_code)

    def _by_image(self, plan: Plan) -> bool:
        """Whether pixels can be encoded before they are cut into patches, each many times in them."""
        return plan.inputs in ("plain", "time") and self._encoder.by_image

    def _image_parts(self, count: int, rows_each: int, plan: Plan, encoded: EncodedWeight) -> Iterator[slice]:
        """Images of one call, all at once, or a few at a time, whose patches and counts stay in cache."""
        step = count
        if self.chip.order_free and self.site.observe is None:
            step = max(1, self._shots_at_once(plan, encoded, CACHED_COUNTS_BYTES) // rows_each)
        for start in range(0, count, step):
            yield slice(start, start + step)

    def _patches(
        self, x: Tensor, plan: Plan, encoded: EncodedWeight, kernel: tuple[int, ...], geometry: ConvGeometry
    ) -> Tensor:
        """Codes (G C, b L, n) of the patches of images (b, C_in, *size)."""
        values = plan.scaled_images(x, geometry.groups)
        if plan.inputs == "time":
            # the code 0 stands for 0, so each number is encoded once, for the shot of its sign
            codes, positive = self._encoder.inputs(values.abs(), encoded.cut), values > 0
            codes = torch.cat([codes * positive, codes.masked_fill(positive, 0)])
        else:
            codes = self._encoder.inputs(values, encoded.cut)
        return tile_patches(codes, kernel, geometry, encoded.cut, self.chip.spec.dark_code)

    def _ask(self, inputs: Tensor, plan: Plan, encoded: EncodedWeight, *, continued: bool = False) -> Tensor:
        """One call of the chip, or more of it: codes (G C, b, n), both signs where there are two, to (G, b, M)."""
        device = inputs.device
        if self._options.shots > 1:
            inputs = inputs.repeat(1, self._options.shots, 1)
        measured = self._measured(encoded, inputs.cpu(), plan, continued=continued)
        volts = self._encoder.volts(measured.counts.to(device), encoded.factor.dtype)
        y = decode(volts, encoded)
        if self._options.shots > 1:
            y = y.reshape(y.shape[0], self._options.shots, -1, y.shape[-1]).mean(dim=1)
        sums = encoded.sums[..., : y.shape[-1]]
        return signs.decode_signs(y, sums, plan.inputs, plan.weights).mul_(plan.scale)

    def _measured(self, encoded: EncodedWeight, inputs: Tensor, plan: Plan, *, continued: bool = False) -> Measurement:
        """What the chip gives for codes (G C, b, n), shown to the layer's observer."""
        codes = encoded.codes
        measured = self._measure(codes if codes.is_cpu else codes.cpu(), inputs, continued)
        if self.site.observe is not None:
            self.site.observe(Observation(measured, encoded, plan.inputs, self._options.shots, self._conditions()))
        return measured

    def _measure(self, codes: Tensor, inputs: Tensor, continued: bool) -> Measurement:
        """Asks the chip and counts for the layer, also a call that ended at the rails."""
        try:
            # chips of others may know nothing of calls in parts
            more = {"continued": True} if continued else {}
            measured = self.chip.measure(codes, inputs, self._conditions(), **more)
        except SaturationError as error:
            self._saturated(error)
            raise
        self._record(measured.usage)
        return measured

    def _saturated(self, error: SaturationError) -> None:
        """Counts for the layer what a call spent that ended at the rails."""
        if isinstance(error.usage, Usage):
            self._record(error.usage)
        error.add_note(f"in layer {self.site.name or '(unnamed)'}")
