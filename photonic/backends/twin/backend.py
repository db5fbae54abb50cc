"""The twin: the same chip as ``sim``, by the statistics of its outputs instead of count by count."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from photonic.backends import signs
from photonic.backends.base import (
    Backend,
    ConvGeometry,
    Programming,
    Pullback,
    Site,
    fold_output,
    unfold,
)
from photonic.backends.chip import Usage
from photonic.backends.compensation import encoder_of
from photonic.backends.datasheet import data_sheet
from photonic.backends.encoding import Nominal
from photonic.backends.ends import array_ends
from photonic.backends.fewrows import FewRows, FewWeights
from photonic.backends.fromrecord import FromRecord
from photonic.backends.judgement import Judgement
from photonic.backends.kept import Kept
from photonic.backends.plans import EncodingOptions, Plan, check_weight, plain, plan_between, plan_product
from photonic.backends.streams import CallStreams
from photonic.backends.twin import gradient, statistics, validity
from photonic.backends.twin.convolution import NativeConvolution, sample
from photonic.backends.twin.few import FewOutputs
from photonic.backends.twin.inputs import InputCodes, Inputs
from photonic.backends.twin.light import Light, lit
from photonic.backends.twin.prepared import Prepared, moved
from photonic.backends.twin.programmer import Made, Programmer
from photonic.backends.twin.tilewise import OnChip
from photonic.errors import RangeError
from photonic.physics.device import Device
from photonic.physics.evaluation import Evaluation
from photonic.physics.parameters import ChipParameters
from photonic.physics.transmitter import Transmitter
from photonic.records import BackendSpec

# ways of a product
AT_ONCE, BY_ROW, BY_TILE, NATIVE = "all at once", "row by row", "tile by tile", "native convolution"


class TwinBackend(Backend):
    """A simulated chip with its nominal calibration, or a measured chip with its own, as the layer's output sees it.

    The mean response is the device's own, hidden spread included. Thermal, shot and converter noise of all tiles of an
    output are one draw; RIN is one factor per shot (row tile, column tile, input). Where that is not what the chip
    does, the twin goes tile by tile, or refuses (docs/twin.md).

    Args:
        parameters: of the chip.
        device: seed of the hidden spread.
        seed: of the run's noise.
        purpose: names the noise stream.
        options: as of ``CalibratedBackend``.
        name: the spec string that opens this backend again.
        record: that the chip is made from, with its parameters, and that encodes for it; in place of a device's seed.

    Raises:
        SpecError: an option that does not exist, or an effect that a twin cannot carry.
        CalibrationError: a record that does not describe the chip.
    """

    results_are_new = True

    def __init__(
        self,
        parameters: ChipParameters,
        *,
        device: int = 0,
        seed: int = 0,
        purpose: str = "run",
        options: EncodingOptions | None = None,
        name: str | None = None,
        record: FromRecord | None = None,
    ) -> None:
        name = name or f"twin?device={device}"
        validity.refuse_unknown_effects(parameters, name)
        chip = data_sheet(parameters, name, {})
        validity.refuse_unknown_codes(chip)
        self._options = options or EncodingOptions()
        self._options.check(chip)
        super().__init__(BackendSpec(name=name, chip=chip, nominal=record is None, gradients=("ideal", "twin")))
        self.parameters = parameters
        self.chip_spec = chip
        self._detector = parameters.noise
        key = device if record is None else record.calibration.chip_id
        self._streams = CallStreams("twin", key, seed, purpose)
        self._evaluation = Evaluation(
            parameters,
            Device.draw(parameters, device) if record is None else record.device,
            chip.response.counts_per_d[0],
            chip.count_range,
            chip.input_code_range,
            self._streams.draws,
        )
        self.device_seed = device
        encoder = Nominal(chip, chip.response) if record is None else encoder_of(record.calibration, chip)
        self._inputs = Inputs(encoder)
        self._programmer = Programmer(parameters, self._evaluation, encoder, self._options, self._streams.draws)
        self._wide = torch.float64 in (chip.code_dtype, chip.count_dtype)
        self._can_few = FewRows.possible(encoder, chip) and self._evaluation.device.optics.repeatable
        self._few: FewWeights[FewOutputs | None] = FewWeights(chip)
        self._native = NativeConvolution(self._evaluation.device.transmitter, chip)
        self._kept: Kept[Made] = self._empty()

    # ------------------------------------------------------------ the seam

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        few = self._linear(x.squeeze(0), weight.squeeze(0), None) if len(x) == 1 else None
        if few is not None:
            return few.unsqueeze(0)
        dtype = self._dtype(x)
        plan = plan_product(x, self.site, self.chip_spec, self._options, dtype)
        with self._session.lock:
            self._streams.begin_call()
            y = self._product(x.detach().to(dtype), weight, plan)
        return y.to(x.dtype)

    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        dtype, g = self._dtype(x), geometry.groups
        images = x.reshape(x.shape[0], g, -1).transpose(0, 1)
        plan = plan_product(images, self.site, self.chip_spec, self._options, dtype)
        matrix = weight.detach().reshape(g, weight.shape[0] // g, -1)
        x_detached = x.detach().to(dtype)
        with self._session.lock:
            self._streams.begin_call()
            y = self._natively(x_detached, weight, matrix, plan, geometry)
            if y is None:
                y = self._product(unfold(x_detached, tuple(weight.shape[2:]), geometry), matrix, plan)
                y = fold_output(y, x, weight, geometry)
        return y.to(x.dtype)

    def _natively(self, x: Tensor, weight: Tensor, matrix: Tensor, plan: Plan, geometry: ConvGeometry) -> Tensor | None:
        """The convolution without unfolding; None where its tiles must be told apart."""
        possible = self._inputs.encoder.by_image and self._native.possible
        if self._by_tile() or plan.inputs not in ("plain", "time") or not possible:
            return None
        prepared = self._prepare(matrix, plan, x.dtype).prepared
        two = plan.inputs == "time"
        kernel, inputs = tuple(weight.shape[2:]), self._inputs

        def code(images: Tensor) -> Tensor:
            return inputs.by_value(plan.scaled_images(images, geometry.groups), two_sided=two)

        some = sample(x, kernel, geometry, validity.SAMPLED // prepared.worth[0].numel())
        light = self._light(InputCodes((inputs.by_value(plan.scaled(some), two_sided=two),), two), prepared)
        share, common = validity.shared(light, prepared, self._detector, self._options.shots)
        if share > validity.RIN_SHARE:
            return None
        found = self._judge(light, prepared, NATIVE, share)
        convolved = self._native.convolve(x, code, prepared, plan, kernel, geometry, common)
        shots = x.shape[0] * convolved.y.shape[2:].numel()
        self._count(prepared, shots * (2 if two else 1) * self._options.shots, found)
        return convolved.finish_(self._streams.draws)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """Few rows, where tiles need not be told apart and nobody judges."""
        if not self._can_few or self.site.judge is not None or not self._few.fit(x, weight):
            return None
        values, spec = (x.detach() if x.requires_grad else x).numpy(), self.chip_spec
        plan = plan_between(*array_ends(values), self.site, spec, self._options)
        if plan.inputs not in ("plain", "time"):
            return None
        with self._session.lock:
            gains = self.site.gains
            few = self._few.get(len(values), weight, plan.inputs, gains, lambda: self._make_few(weight, plan))
            if few is None:
                return None
            self._streams.begin_call()
            y, clipped = few.products(values, plan, self._streams.draws)
        shots = len(values) * (2 if plan.inputs == "time" else 1)
        found = Judgement(BY_ROW, few.prepared.worth.numel() * shots, clipped, 0, 0.0) if clipped else None
        self._count(few.prepared, shots * self._options.shots, 0 if found is None else self._judged(found))
        return self._few.added(y, bias)

    def _make_few(self, weight: Tensor, plan: Plan) -> FewOutputs | None:
        spec, made = self.chip_spec, self._prepare(weight.unsqueeze(0), plan, torch.float32)
        prepared = made.prepared
        levels = self._evaluation.level_table(prepared.matrix.shape[-1] - prepared.constant)
        if levels is None or made.chip is not None:
            return None
        rail = None if self.parameters.adc_bits is None else spec.count_range[1]
        return FewOutputs(prepared, levels, spec.response.inputs, self._common(), rail)

    def _product(self, x: Tensor, weight: Tensor, plan: Plan) -> Tensor:
        """x (G, B, N) to (G, B, M) in its dtype."""
        made = self._prepare(weight, plan, x.dtype)
        prepared = made.prepared
        if made.chip is not None:
            y = self._tile_by_tile(self._inputs.codes(x, plan, prepared.cut), made.chip, prepared)
        else:
            light, again = self._lit(self._inputs.codes(x, plan, prepared.cut), prepared)
            common = self._common()
            way = AT_ONCE if again is None and common.none else BY_ROW
            found = self._judge(light.sample(validity.SAMPLED // prepared.worth[0].numel()), prepared, way)
            self._count(prepared, x.shape[1] * light.readings * self._options.shots, found)
            y = statistics.outputs(light, again, prepared, common, self._streams.draws)
        # with two shots the difference is taken already
        sign: signs.Sign = "plain" if plan.inputs == "time" else plan.inputs
        return signs.decode_signs(y, prepared.sums, sign, plan.weights) * plan.scale

    def _matmul_vjp(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Pullback]:
        """The product and the pullback of its mean response, rounding taken as straight through."""
        y = self.matmul(x, weight)
        dtype = self._dtype(x)
        plan = plan_product(x, self.site, self.chip_spec, self._options, dtype)
        with torch.no_grad(), self._session.lock:
            prepared = self._prepare(weight, plan, dtype).prepared
            span = self._inputs.levels(prepared.cut.n)[1]
            actual = gradient.actual_weight(prepared, span, plan, weight.shape[-1])
            values = x.detach().to(dtype)
            seen = gradient.seen_inputs(
                values, plan, prepared, self._inputs, lambda codes: self._light(codes, prepared)
            )

        def pullback(grad: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
            wide = grad.to(dtype)
            dx = (wide @ actual).to(x.dtype) if needs[0] else None
            return dx, (wide.mT @ seen).to(weight.dtype) if needs[1] else None

        return y, pullback

    # ------------------------------------------------------------ parts

    def _dtype(self, x: Tensor) -> torch.dtype:
        return torch.float64 if self._wide or x.dtype == torch.float64 else torch.float32

    def _light(self, codes: InputCodes, prepared: Prepared) -> Light:
        """Of the shots of codes (G, B, N)."""
        device = codes.values[0].device
        transmitter, generator = self._transmitter(device), self._streams.draws.on(device)

        def of(shot: Tensor) -> Tensor:
            return lit(shot, prepared.cut, transmitter, prepared.constant, generator)

        return Light(*map(of, codes.shots()))

    def _lit(self, codes: InputCodes, prepared: Prepared) -> tuple[Light, Callable[[], Light] | None]:
        """The light of codes, and what draws it anew for them where every shot has its own."""

        def draw() -> Light:
            return self._light(codes, prepared)

        return draw(), draw if self._evaluation.device.transmitter.shots_differ else None

    def _transmitter(self, device: torch.device) -> Transmitter:
        """The modulators, on the device of the arithmetic."""
        transmitter = self._evaluation.device.transmitter
        return transmitter if device.type == "cpu" else moved(transmitter, device)

    def _prepare(self, weight: Tensor, plan: Plan, dtype: torch.dtype) -> Made:
        """The weight, as it is kept for this layer where it has not changed."""
        weight, gains = plain(weight, dtype), self.site.gains
        if not self._evaluation.device.optics.repeatable:
            return self._make(weight, plan, dtype)
        return self._kept.get(weight, (plan.signs, gains), lambda: self._make(weight, plan, dtype))

    def _make(self, weight: Tensor, plan: Plan, dtype: torch.dtype) -> Made:
        check_weight(weight, self.site)
        started = time.perf_counter()
        made = self._programmer.make(weight, plan, dtype, self.site.gains, by_tile=self._by_tile())
        self.site.encodings += 1
        self.site.encode_seconds += time.perf_counter() - started
        return made

    def _common(self) -> statistics.Common:
        noise, shots = self._detector, self._options.shots
        # the light carries each line's own RIN already
        rin = 0.0 if self._evaluation.device.transmitter.line_rin else noise.rin
        return statistics.Common(rin / shots, noise.common_mode / shots)

    def _by_tile(self) -> bool:
        gains = self.site.gains
        least = (self._options.analog_gain or 1.0) if gains is None else float(gains.min())
        return validity.needs_tiles(self.parameters, least, self._evaluation.device.receiver)

    def _judge(self, light: Light, prepared: Prepared, way: str, share: float | None = None) -> Judgement:
        """Refuses ranges where a product's way would be wrong, or tells the layer's judge.

        Args:
            light: of a sample of shots.
            prepared: the weight.
            way: of the product; only tile by tile can counts be coarse, and only there do they have rails.
            share: what outputs share of the variance; None: asked for the judge alone.
        """
        readings, clipped, coarse, judge = prepared.worth.numel(), 0, 0, self.site.judge
        if self.parameters.adc_bits is not None and way == BY_TILE:
            readings, coarse = validity.coarse(light, prepared, self.parameters)
        elif self.parameters.adc_bits is not None:
            readings, clipped = validity.clipped(light, prepared, self.chip_spec.count_range[1])
        if share is None and judge is not None:
            share, _ = validity.shared(light, prepared, self._detector, self._options.shots)
        return self._judged(Judgement(way, readings, clipped, coarse, share or 0.0))

    def _judged(self, found: Judgement) -> Judgement:
        """Refuses, or tells the layer's judge."""
        judge = self.site.judge
        if judge is not None:
            judge(found)
        elif (refusal := found.refusal(self.site.name)) is not None:
            raise RangeError(refusal)
        return found

    def _tile_by_tile(self, codes: InputCodes, chip: OnChip, prepared: Prepared) -> Tensor:
        """Every tile read and converted for itself, as the exact chip does it."""
        two, each = codes.readings == 2, codes.joined()
        y, rails = chip.read(each, self._options.shots, self._evaluation, self._inputs.encoder)
        light = self._light(InputCodes((each,)), prepared)
        self._judge(light.sample(validity.SAMPLED // prepared.worth[0].numel()), prepared, BY_TILE)
        self._count(prepared, each.shape[1] * self._options.shots, rails)
        if two:
            plus, minus = y.chunk(2, dim=1)
            return plus - minus
        return y

    def _count(self, prepared: Prepared, shots: int, saturated: Judgement | int) -> None:
        """What the exact chip would have spent on the shots of one tile; counts at the rails, or a sample of them."""
        grid = prepared.cut.tiles
        counts = grid * shots * prepared.cut.m
        rails = saturated if isinstance(saturated, int) else round(saturated.clipped_fraction * counts)
        self._record(Usage(1, grid * shots, grid, counts, rails))

    # ------------------------------------------------------------ the rest of a backend

    @property
    def options(self) -> EncodingOptions:
        """What the user chose."""
        return self._options

    def tiles(self, groups: int, outputs: int, inputs: int) -> tuple[int, int]:
        """Row tiles and column tiles (all groups) of a weight (groups, outputs, inputs), for inputs of both signs."""
        cut = self._options.tiles_of(self.chip_spec, groups, outputs, inputs)
        return cut.rows, cut.groups * cut.columns

    def programming(self, groups: int, outputs: int, inputs: int) -> Programming:
        """What a weight (groups, outputs, inputs) would cost to program once."""
        rows, columns = self.tiles(groups, outputs, inputs)
        tiles = rows * columns
        return Programming(tiles, tiles * self.chip_spec.drives, tiles * self.chip_spec.settle_time_s)

    def state(self) -> dict[str, Any]:
        """The index of the next call: noise is keyed by device, run seed, purpose, rank and call."""
        return self._streams.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on with the noise of call ``state["calls"]``.

        Raises:
            ChipError: the state is not one of a twin's.
        """
        self._streams.restore(state, self.spec.name)

    def _empty(self) -> Kept[Made]:
        # a decomposition costs more than a product
        return Kept(at_once=self.chip_spec.layout == "program")

    def bind(self, site: Site) -> Self:
        """A view for one layer, which keeps that layer's weight as it was prepared."""
        view = super().bind(site)
        view._kept, view._few = self._empty(), FewWeights(self.chip_spec)  # noqa: SLF001 - a copy of this object
        return view
