"""The simulated chip: exact, code by code and tile by tile; it stands in for the lab everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photonic.backends.chip import Chip, Conditions, Measurement, Usage
from photonic.backends.datasheet import data_sheet, preset_parameters
from photonic.backends.fromrecord import SUFFIX, FromRecord, RecordSource, accepted, loaded, open_record
from photonic.backends.resident import Grid
from photonic.backends.streams import CallStreams
from photonic.backends.tilecache import TileCache
from photonic.errors import ChipError, RecordError, SpecError
from photonic.physics.detection import Gain
from photonic.physics.device import Device
from photonic.physics.evaluation import Evaluation, Factors, Source, Tiles
from photonic.physics.fewshots import FEW, FEW_WEIGHTS, FewShots
from photonic.physics.optics import Surroundings
from photonic.physics.parameters import ChipParameters
from photonic.physics.timeline import Moment, Part, Span, Timeline
from photonic.records import Calibration

_INSTANT = Span(1, 1, 0, 0.0, 0.0)
LIMITS = ("resident_tiles", "max_counts_bytes", "max_saturated_fraction")


class SimulatedChip(Chip):
    """A photonic accelerator of any architecture, between converters.

    Codes -> input DACs -> modulators -> optics -> detector pairs with shot noise on the total power, thermal noise and
    RIN common to all outputs -> gain -> ADC. See ``docs/physics.md`` for formulas and sources.

    Args:
        parameters: primary quantities, of one architecture.
        device: seed of the hidden spread; part of the chip's id.
        seed: of the run's noise.
        purpose: names the noise stream: calibration, verification and training draw from streams of their own.
        chip_id: defaults to ``sim?device=N``.
        limits: further fields of the ``ChipSpec`` (``resident_tiles``, ``max_counts_bytes``,
            ``max_saturated_fraction``).
        record: that the chip is made from, with its parameters; in place of a device's seed.

    Attributes:
        parameters: as given.
        calibration: of this very chip, which a backend uses unless it is given one; None: nothing was measured.
    """

    def __init__(
        self,
        parameters: ChipParameters,
        *,
        device: int = 0,
        seed: int = 0,
        purpose: str = "run",
        chip_id: str | None = None,
        limits: Mapping[str, Any] | None = None,
        record: FromRecord | None = None,
    ) -> None:
        spec = data_sheet(parameters, chip_id or f"sim?device={device}", dict(limits or {}))
        super().__init__(spec)
        self.parameters = parameters
        self.calibration: Calibration | None = None
        self._timeline = Timeline(parameters)
        if record is None:
            self._streams = CallStreams("noise", device, seed, purpose)
            truth = Device.draw(parameters, device)
        else:
            self._streams = CallStreams("noise", record.calibration.chip_id, seed, purpose)
            truth = record.device
            self.calibration = record.calibration.replaced(chip_id=spec.chip_id)
        self._evaluation = Evaluation(
            parameters,
            truth,
            spec.response.counts_per_d[0],
            spec.count_range,
            spec.input_code_range,
            self._streams.draws,
        )
        # whether tiles are the same at every reading
        self._steady = self._timeline.steady and truth.optics.repeatable and parameters.temperature_error_k == 0
        self._cache = TileCache(at_once=spec.layout == "program")
        # a subclass that measures in a way of its own is always asked
        self._can_few = all(
            getattr(type(self), name) is getattr(SimulatedChip, name) for name in ("measure", "_measure")
        )
        self._counted = spec.count_dtype
        self._dtype = torch.float64 if torch.float64 in (spec.code_dtype, spec.count_dtype) else torch.float32

    @property
    def order_free(self) -> bool:
        """Where nothing drifts, no tile differs from reading to reading, and no modulator remembers."""
        return self._steady and self._evaluation.remembered == 0

    def state(self) -> dict[str, Any]:
        """The next call, the clock with what drifts on it, and the tiles that the next call need not program.

        Noise is keyed by device, run seed, purpose, rank and call.
        """
        return {"calls": self._streams.calls, "resident": self._resident.state(), **self._timeline.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on with the noise and the drift of call ``state["calls"]``.

        Raises:
            ChipError: the state is not one of this chip's.
        """
        calls = state.get("calls")
        if set(state) != set(self.state()) or type(calls) is not int or calls < 0:
            raise ChipError(f"chip {self.spec.chip_id}: expected the state {self.state()}, found {dict(state)}")
        self._timeline.restore(state)
        self._streams.calls = calls
        self._resident.restore(state["resident"])

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Measurement:
        self._streams.begin_call()
        few = None if self._grid is None else self._made(self._grid, inputs.shape[1], conditions)
        if few is not None:  # of a chip on which nothing drifts
            moment, _ = self._timeline.begin(self._streams.draws.first, _INSTANT)
            return Measurement(torch.from_numpy(few.counts(inputs.numpy())), telemetry=Telemetry(moment))
        moment, parts = self._timeline.begin(self._streams.draws.first, self._span(weights, inputs))
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            warmth = self._warmth(weights, inputs.shape[1])
            if parts:
                counts = self._in_parts(weights, inputs, conditions, parts, warmth)
            else:
                counts = self._evaluated(weights, inputs, conditions, moment, warmth)
        return Measurement(counts, telemetry=Telemetry(moment))

    def _span(self, weights: Tensor, inputs: Tensor) -> Span:
        (rows, columns), p = weights.shape[:2], self.parameters
        settle_s = p.settle_time_s * self._programmed / max(1, rows * columns)
        return Span(rows, columns, inputs.shape[1], settle_s, 1 / p.symbol_rate_hz)

    def _in_parts(
        self, weights: Tensor, inputs: Tensor, conditions: Conditions, parts: Sequence[Part], warmth: Tensor | None
    ) -> Tensor:
        """Counts of a call in which something drifts."""
        counts = torch.empty(*weights.shape[:2], inputs.shape[1], self._outputs(weights, inputs), dtype=self._counted)
        for part in parts:
            here = part.rows, part.columns
            settings = {k: v[here] if isinstance(v, Tensor) else v for k, v in conditions.items()}
            begin = part.shots.start or 0
            # modulators remember: a few shots before are sent once more, and not read
            lead = min(begin, self._evaluation.remembered)
            some = inputs[part.columns, begin - lead : part.shots.stop]
            warm = None if warmth is None else warmth[here]
            found = self._evaluated(weights[here], some, settings, part.moment, warm)
            counts[(*here, part.shots)] = found[:, :, lead:]
        return counts

    def _outputs(self, weights: Tensor, inputs: Tensor) -> int:
        return self.spec.n_outputs if self.spec.layout == "program" else weights.shape[-1] // inputs.shape[-1]

    def _evaluated(
        self, weights: Tensor, inputs: Tensor, conditions: Conditions, moment: Moment, warmth: Tensor | None
    ) -> Tensor:
        analog = conditions.get("analog_gain", 1.0)
        power, moving, factors = float(conditions.get("laser_power", 1.0)), moment.gain, Factors()
        if isinstance(moment.laser, Tensor) or (moving is not None and moving.ndim > 1):
            laser = moment.laser if isinstance(moment.laser, Tensor) else None
            factors, moving = Factors(laser, moving), None
        source = Source(power if isinstance(moment.laser, Tensor) else power * moment.laser, moment.bias_rad)
        m = self._outputs(weights, inputs)
        analog = analog if isinstance(analog, Tensor) else float(analog)
        gain = self._evaluation.gain(m, analog, moving, self._dtype)
        kelvin = _kelvin(weights, moment, warmth)
        drifting = any(value is not None for value in (kelvin, moment.phase_rad, moment.bias_rad, moving))
        tiles = self._tiles(weights, inputs, gain, moment, kelvin, drifting)
        few = self._make(tiles, gain, inputs.shape[1], conditions)
        if few is not None:
            return torch.from_numpy(few.counts(inputs.numpy()))
        counts = torch.empty(*weights.shape[:2], inputs.shape[1], m, dtype=self._counted)
        self._evaluation.counts(inputs, tiles, gain, source, counts, factors)
        return counts

    def _is_ready(self, grid: Grid, shape: tuple[int, ...], conditions: Conditions) -> bool:
        fits = self._can_few and shape[0] == grid.shape[1] and shape[1] > 0 and shape[2] == grid.inputs
        return fits and self._made(grid, shape[1], conditions) is not None

    def _few(self, grid: Grid, inputs: NDArray[np.int16]) -> NDArray[np.int16]:
        self._streams.begin_call()
        self._timeline.pass_over()
        few: FewShots = grid.made[1]
        return few.counts(inputs)

    def _are_few(self, grid: Grid, shots: int) -> bool:
        """Whether this call's shots are few: decided by sizes alone, so that a resumed run goes the same way."""
        if not self._steady:
            return False
        rows, columns, codes = grid.shape
        return columns * shots * max(grid.inputs, rows * grid.outputs) <= FEW and rows * columns * codes <= FEW_WEIGHTS

    def _made(self, grid: Grid, shots: int, conditions: Conditions) -> FewShots | None:
        """A grid as an earlier call made it ready for few shots, if these are few."""
        if grid.made is None or not self._are_few(grid, shots):
            return None
        few: FewShots
        settings, few = grid.made
        return few if _same(conditions, settings) else None

    def _make(self, tiles: Tiles, gain: Gain, shots: int, conditions: Conditions) -> FewShots | None:
        """Makes a grid ready for few shots; keeps it when it comes a second time, which it never does in training."""
        grid = self._grid
        if grid is None or not self._are_few(grid, shots) or "laser_power" in conditions:
            return None
        few = self._evaluation.few_shots(tiles, gain)
        if few is not None and grid.calls > 1:
            settings = {
                name: value.clone() if isinstance(value, Tensor) else value for name, value in conditions.items()
            }
            grid.made = settings, few
        return few

    def _tiles(
        self, weights: Tensor, inputs: Tensor, gain: Gain, moment: Moment, kelvin: Tensor | None, drifting: bool
    ) -> Tiles:
        """The tiles, from the cache where nothing but their codes and the gain decides about them."""
        n = inputs.shape[-1]

        def compute() -> Tiles:
            each = None if kelvin is None else kelvin.T.reshape(-1)
            around = Surroundings(self._streams.draws.first, each, moment.phase_rad)
            return self._evaluation.tiles(weights, n, gain, moment.bias_rad, around)

        if drifting or not self._evaluation.device.optics.repeatable:
            return compute()
        return self._cache.get(weights, n, gain, compute)

    def _warmth(self, weights: Tensor, shots: int) -> Tensor | None:
        """Temperature (R, C) that earlier tiles leave to each; None: no tile leaves any."""
        p = self.parameters
        if p.thermal_memory_k == 0:
            return None
        low, high = p.weight_code_range
        loads = (weights.to(torch.float64) - p.dead_code).abs().mean(-1) / (high - low)
        tile_s = p.settle_time_s + shots / p.symbol_rate_hz
        return self._timeline.warmth(loads.flatten(), tile_s).view_as(loads)

    def _spent(self, usage: Usage) -> None:
        spec = self.spec
        self._timeline.advance(usage.tiles_programmed * spec.settle_time_s + usage.shots * spec.shot_time_s)


def _kelvin(weights: Tensor, moment: Moment, warmth: Tensor | None) -> Tensor | None:
    """Temperature (R, C) of each tile while it is read; None: as the data sheet has it."""
    if warmth is None:
        return None if moment.kelvin == 0 else torch.full(weights.shape[:2], moment.kelvin, dtype=torch.float64)
    return warmth + moment.kelvin


def _same(one: Conditions, other: Conditions) -> bool:
    """Whether settings are the same; those of tiles, which are tensors, in full."""
    if not one and not other:
        return True
    return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())


def _alike(one: float | str | Tensor, other: float | str | Tensor) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other


class Telemetry(Mapping[str, Tensor]):
    """What the chip's own monitors would show at the start of a call; tensors are made when they are asked for."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def __getitem__(self, name: str) -> Tensor:
        moment = self._moment
        shown = {"clock_s": moment.clock_s, "kelvin": moment.kelvin, "laser_power": moment.laser}
        return torch.tensor(shown[name], dtype=torch.float64)

    def __iter__(self) -> Iterator[str]:
        return iter(("clock_s", "kelvin", "laser_power"))

    def __len__(self) -> int:
        return 3


def open_simulated(
    preset: str = "typical", *, seed: int = 0, device: int = 0, purpose: str = "run", **options: Any
) -> SimulatedChip:
    """Opens ``sim`` or ``sim:PRESET``, with fields of the architecture's parameters, or limits; or ``sim:FILE.json``.

    Raises:
        SpecError: an unknown preset or option, or a value out of bounds.
        CalibrationError: a record that cannot be read, or may not be used.
    """
    if preset.endswith(SUFFIX):
        record, name = open_record("sim", preset, options)
        return SimulatedChip(record.drifting, seed=seed, purpose=purpose, chip_id=name, record=record)
    preset = preset or "typical"
    limits = {name: options.pop(name) for name in LIMITS if name in options}
    parameters = preset_parameters("sim", preset, options, LIMITS)
    text = "".join(f"&{name}={value}" for name, value in options.items())
    try:
        return SimulatedChip(
            parameters,
            device=device,
            seed=seed,
            purpose=purpose,
            chip_id=f"sim:{preset}?device={device}{text}",
            limits=limits,
        )
    except RecordError as error:
        raise SpecError(f"sim:{preset}: {error}") from error


def twin(
    calibration: RecordSource,
    *,
    seed: int | None = None,
    purpose: str = "run",
    allow_failed: bool = False,
    allow_expired: bool = False,
) -> SimulatedChip:
    """An exact simulated chip from a calibration; ``open_backend("twin:FILE.json")`` is the fast statistical one.

    Args:
        calibration: measured, of a chip with a code for each weight; or its file.
        seed: of the run's noise, default 0. There is no device to choose: it is the one that was measured.
        purpose: names the noise stream.
        allow_failed: also from a record whose verification failed or could not decide.
        allow_expired: also from one whose time has passed.

    Raises:
        CalibrationError: the record cannot be read, may not be used, or lacks what a twin is made of.
    """
    given = accepted(loaded(calibration), allow_failed=allow_failed, allow_expired=allow_expired)
    record, name = FromRecord.of(given), f"twin of {given.chip_id}"
    return SimulatedChip(record.drifting, seed=seed or 0, purpose=purpose, chip_id=name, record=record)
