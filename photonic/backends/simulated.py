"""The simulated chip: exact, code by code and tile by tile; it stands in for the lab everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import get_worker_info

from photonic.backends.chip import Chip, Conditions, Measurement, Usage
from photonic.backends.tilecache import TileCache
from photonic.errors import ChipError, RecordError, SpecError
from photonic.physics import seeds
from photonic.physics.device import Device
from photonic.physics.evaluation import Evaluation, Tiles
from photonic.physics.optics import Surroundings
from photonic.physics.parameters import ChipParameters
from photonic.physics.presets import PRESETS
from photonic.physics.timeline import Moment, Timeline
from photonic.records import ChipSpec

LIMITS = ("resident_tiles", "max_counts_bytes", "max_saturated_fraction")
GAINS = (1.0, 2.0, 4.0, 8.0)


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
    ) -> None:
        spec = _spec(parameters, chip_id or f"sim?device={device}", dict(limits or {}))
        super().__init__(spec)
        self.parameters = parameters
        self._key = ("noise", device, seed, purpose)
        self._calls = 0
        self._generator = torch.Generator()
        self._timeline = Timeline(parameters)
        truth = Device.draw(parameters, device)
        self._evaluation = Evaluation(parameters, truth, spec.response.counts_per_d[0], spec.count_range)
        self._cache = TileCache()
        self._dtype = torch.float64 if torch.float64 in (spec.code_dtype, spec.count_dtype) else torch.float32

    def state(self) -> dict[str, Any]:
        """The index of the next call and the clock: noise is keyed by device, run seed, purpose, rank and call."""
        return {"calls": self._calls, **self._timeline.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on with the noise and the drift of call ``state["calls"]``.

        Raises:
            ChipError: the state is not one of this chip's.
        """
        calls = state.get("calls")
        if set(state) != set(self.state()) or type(calls) is not int or calls < 0:
            raise ChipError(f"chip {self.spec.chip_id}: expected the state {self.state()}, found {dict(state)}")
        self._calls = calls
        self._timeline.restore(state)

    @torch.no_grad()
    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Measurement:
        self._seed_call()
        moment = self._timeline.begin(self._generator)
        power = float(conditions.get("laser_power", 1.0)) * moment.laser
        analog_gain = conditions.get("analog_gain", 1.0)
        evaluation, rows = self._evaluation, weights.shape[0]
        with torch.autocast("cpu", enabled=False):
            columns = self._tiles(weights, inputs, moment)
            m = columns[0].signed.shape[-1]
            counts = torch.empty(*weights.shape[:2], inputs.shape[1], m, dtype=self.spec.count_dtype)
            around = Surroundings(self._generator)
            for c, tiles in enumerate(columns):
                each = analog_gain[:, c] if isinstance(analog_gain, Tensor) else float(analog_gain)
                gain = evaluation.gain(m, each, moment.gain, self._dtype)
                light = evaluation.light(inputs[c].to(self._dtype), rows, tiles, power, moment.bias_rad, around)
                evaluation.counts(light, tiles, gain, power, self._generator, counts[:, c])
        return Measurement(counts, telemetry=_telemetry(moment))

    def _tiles(self, weights: Tensor, inputs: Tensor, moment: Moment) -> list[Tiles]:
        """The tiles of each column, from the cache where nothing but their codes decides about them."""
        kelvin = self._kelvin(weights, inputs.shape[1], moment)
        n = inputs.shape[-1]

        def compute() -> list[Tiles]:
            found = []
            for c in range(weights.shape[1]):
                around = Surroundings(self._generator, None if kelvin is None else kelvin[:, c], moment.phase_rad)
                found.append(self._evaluation.tiles(weights[:, c], n, moment.bias_rad, around, self._dtype))
            return found

        drifting = kelvin is not None or moment.phase_rad is not None or moment.bias_rad is not None
        if drifting or not self._evaluation.device.optics.repeatable:
            return compute()
        return self._cache.get(weights, n, compute)

    def _kelvin(self, weights: Tensor, shots: int, moment: Moment) -> Tensor | None:
        """Temperature (R, C) of each tile while it is read; None: as the data sheet has it."""
        p = self.parameters
        if p.thermal_memory_k == 0:
            return None if moment.kelvin == 0 else torch.full(weights.shape[:2], moment.kelvin, dtype=torch.float64)
        low, high = p.weight_code_range
        loads = (weights.to(torch.float64) - p.dead_code).abs().mean(-1) / (high - low)
        tile_s = p.settle_time_s + shots / p.symbol_rate_hz
        return self._timeline.warmth(loads.flatten(), tile_s).view_as(loads) + moment.kelvin

    def _spent(self, usage: Usage) -> None:
        spec = self.spec
        self._timeline.advance(usage.tiles_programmed * spec.settle_time_s + usage.shots * spec.shot_time_s)

    def _seed_call(self) -> None:
        """Seeds the noise of this call, from rank and worker as they are now: they may have come after the chip."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        worker = get_worker_info()
        key = (*self._key, rank) if worker is None else (*self._key, rank, worker.id)
        # torch's CPU generator takes 32 bits: consecutive calls of a stream get consecutive seeds, never the same one
        self._generator.manual_seed((seeds.derive(*key) + self._calls) % 2**32)
        self._calls += 1


def _telemetry(moment: Moment) -> dict[str, Tensor]:
    """What the chip's own monitors would show at the start of the call."""
    values = {"clock_s": moment.clock_s, "kelvin": moment.kelvin, "laser_power": moment.laser}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def _spec(parameters: ChipParameters, chip_id: str, limits: dict[str, Any]) -> ChipSpec:
    """The data sheet: nothing of the hidden spread."""
    adc, transfer = parameters.adc_bits, parameters.input_transfer
    mesh = len(parameters.drive_shape) == 1
    return ChipSpec(
        chip_id=chip_id,
        n_outputs=parameters.n_outputs,
        n_inputs=parameters.n_inputs,
        layout="program" if mesh else "elementwise",
        n_drives=parameters.drive_shape[0] if mesh else None,
        decomposition="clements_svd" if mesh else None,
        partial_tiles=not mesh,
        weight_bits=parameters.weight_bits,
        weight_code_range=parameters.weight_code_range,
        input_bits=parameters.input_bits,
        input_code_range=(-transfer.code_one if parameters.coherent else 0.0, transfer.code_one),
        adc_bits=adc,
        # without a converter a count is D itself, and nothing clips
        count_range=(-1e30, 1e30) if adc is None else (-(2.0 ** (adc - 1)), 2.0 ** (adc - 1) - 1),
        adc_full_scale=parameters.adc_full_scale,
        shot_time_s=1.0 / parameters.symbol_rate_hz,
        settle_time_s=parameters.settle_time_s,
        conditions={"laser_power": (0.0, 0.25, 0.5, 1.0), "analog_gain": GAINS},
        tile_conditions=("analog_gain",),
        seeded=True,
        response=parameters.response,
        energy=parameters.energy,
        **limits,
    )


def open_simulated(
    preset: str = "typical", *, seed: int = 0, device: int = 0, purpose: str = "run", **options: Any
) -> SimulatedChip:
    """Opens the spec string ``sim`` or ``sim:PRESET``; options are fields of the architecture's parameters, or limits.

    Raises:
        SpecError: an unknown preset or option, or a value out of bounds.
    """
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


def preset_parameters(
    scheme: str, preset: str, options: Mapping[str, Any], others: Sequence[str] = ()
) -> ChipParameters:
    """A preset with some of its quantities replaced.

    Args:
        scheme: for messages.
        preset: its name.
        options: fields of its architecture's parameters; ``laser_power_w`` takes the place of ``power_per_pair_w``.
        others: options that the caller knows besides, for the hint.

    Raises:
        SpecError: an unknown preset or option, or a value out of bounds.
    """
    if preset not in PRESETS:
        raise SpecError(f"unknown preset {preset!r}; the presets are {', '.join(PRESETS)}")
    base, name = PRESETS[preset], f"{scheme}:{preset}"
    fields = type(base).model_fields
    unknown = sorted(set(options) - set(fields))
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*fields, *others], n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise SpecError(f"unknown option {', '.join(unknown)} of {name}{hint}")
    for key, value in options.items():
        if isinstance(value, bool) and fields[key].annotation is not bool:
            raise SpecError(f"{key} of {name} is a number, found {value}")
    given = dict(options)
    if given.get("laser_power_w") is not None:
        given.setdefault("power_per_pair_w", None)
    try:
        return type(base)(**{**base.model_dump(), **given})
    except RecordError as error:
        raise SpecError(f"{name}: {error}") from error
