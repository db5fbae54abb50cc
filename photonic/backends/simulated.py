"""The simulated chip: exact, code by code and tile by tile; it stands in for the lab everywhere."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from photonic.backends.chip import Chip, Conditions
from photonic.errors import ChipError, RecordError, SpecError
from photonic.physics import detection, modulator, seeds
from photonic.physics.parameters import PRESETS, ChipParameters
from photonic.physics.weightbank import RingBank
from photonic.records import ChipSpec

# shots of one tile column are evaluated in blocks that stay in a core's cache
BLOCK_ELEMENTS = 2**18

LIMITS = ("resident_tiles", "max_counts_bytes", "max_saturated_fraction")


class _Device:
    """The hidden truth of one device: everything that the data sheet does not say, drawn once from its seed."""

    def __init__(self, parameters: ChipParameters, device: int) -> None:
        generator = seeds.generator("device", device)

        def normal(count: int) -> Tensor:
            return torch.randn(count, generator=generator, dtype=torch.float64)

        m, n = parameters.n_outputs, parameters.n_inputs
        self.bank = RingBank.draw(parameters, generator)
        # log-normal where the quantity is positive
        self.inverse_v_pi = torch.exp(-parameters.v_pi_spread * normal(n))
        self.bias = parameters.bias_spread_rad * normal(n) / 2
        self.gain = torch.exp(parameters.gain_spread * normal(m))
        self.offset_d = parameters.offset_spread_lsb * parameters.lsb * normal(m)


class SimulatedChip(Chip):
    """A WDM microring weight bank with balanced detection, between converters.

    Codes -> input DAC -> Mach-Zehnder modulators -> ring bank -> balanced pairs with shot noise on the total power,
    thermal noise and RIN common to all outputs -> gain -> ADC. See ``docs/physics.md`` for formulas and sources.

    Args:
        parameters: primary quantities.
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
        super().__init__(_spec(parameters, chip_id or f"sim?device={device}", dict(limits or {})))
        self.parameters = parameters
        self._key = ("noise", device, seed, purpose)
        self._calls = 0
        self._generator = torch.Generator()
        self._device = _Device(parameters, device)
        self._dtype = torch.float64 if torch.float64 in (self.spec.code_dtype, self.spec.count_dtype) else torch.float32

    def state(self) -> dict[str, int]:
        """The index of the next call: noise is keyed by device, run seed, purpose, rank and call."""
        return {"calls": self._calls}

    def restore(self, state: Mapping[str, int]) -> None:
        """Goes on with the noise of call ``state["calls"]``."""
        if set(state) != {"calls"} or type(state["calls"]) is not int or state["calls"] < 0:
            raise ChipError(f"chip {self.spec.chip_id}: expected the state {{'calls': n >= 0}}, found {dict(state)}")
        self._calls = state["calls"]

    @torch.no_grad()
    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor:
        self._seed_call()
        rows, columns, _ = weights.shape
        b, n = inputs.shape[1:]
        m = weights.shape[-1] // n
        power = float(conditions.get("laser_power", 1.0))
        gain = self._gain(m, float(conditions.get("analog_gain", 1.0)))
        offset = (self._device.offset_d[:m] * self.spec.response.counts_per_d[0]).to(self._dtype)
        counts = torch.empty(rows, columns, b, m, dtype=self.spec.count_dtype)
        step = max(1, BLOCK_ELEMENTS // (rows * m))
        with torch.autocast("cpu", enabled=False):
            levels = self._levels(inputs).mul_(power)
            dark = self._levels(torch.zeros(1, self.spec.n_inputs - n, dtype=self._dtype), skip=n).mul_(power)
            if dark.numel():
                levels = F.pad(levels, (0, 1), value=1.0)  # the column that stands for all unused channels
            for c in range(columns):
                w_d, w_s = self._matrices(weights[:, c].reshape(rows, m, n), dark)
                # in counts from here on: gain times D, so that the large array is touched once less
                matrix = (w_d * gain[:, None]).flatten(0, 1).T
                for start in range(0, b, step):
                    light = levels[c, start : start + step]
                    d = (light @ matrix).reshape(-1, rows, m)
                    s = (light @ w_s).unsqueeze(-1)  # (b, 1, 1): the same at all outputs
                    detection.add_noise_(d, s, gain, offset, self.parameters.noise, self._generator)
                    if self.spec.adc_bits is not None:
                        detection.convert_(d, self.spec.count_range)
                    counts[:, c, start : start + step] = d.transpose(0, 1)
        return counts

    def _matrices(self, codes: Tensor, dark: Tensor) -> tuple[Tensor, Tensor]:
        """W_D (R, m, n) and W_S (n, 1) of a column of tiles.

        Where channels are unused, one column more stands for all of them: what their dark light adds for an input of 1.
        """
        bank, n = self._device.bank, codes.shape[-1]
        nominal = codes.to(self._dtype).div(self.parameters.weight_code_one)
        w_d, w_s = bank.matrices(self.parameters, nominal, self._dtype)
        if dark.numel():
            idle = torch.zeros(codes.shape[1], self.spec.n_inputs, dtype=self._dtype)
            idle_d, idle_s = bank.matrices(self.parameters, idle, self._dtype)
            dark_d, dark_s = (idle_d[:, n:] * dark).sum(-1, True), (idle_s[:, n:] * dark).sum(-1, True)
            w_d = torch.cat([w_d, dark_d.expand(len(w_d), -1, -1)], dim=-1)
            w_s = torch.cat([w_s, dark_s], dim=-1)
        return w_d, w_s.T

    def _seed_call(self) -> None:
        """Seeds the noise of this call, from the rank as it is now: a process group may have come after the chip."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        # torch's CPU generator takes 32 bits: consecutive calls of a stream get consecutive seeds, never the same one
        self._generator.manual_seed((seeds.derive(*self._key, rank) + self._calls) % 2**32)
        self._calls += 1

    def _levels(self, inputs: Tensor, skip: int = 0) -> Tensor:
        """Optical levels (..., n) behind the modulators of channel ``skip`` on; each has its own V_pi and bias."""
        transfer, channels = self.spec.response.inputs, slice(skip, skip + inputs.shape[-1])
        slope = (self._device.inverse_v_pi[channels] * (math.pi / 2 / transfer.code_one)).to(self._dtype)
        half_phase = inputs.to(self._dtype).mul(slope).add_(self._device.bias[channels].to(self._dtype))
        return modulator.mzm(half_phase, transfer.level_min)

    def _gain(self, m: int, analog_gain: float) -> Tensor:
        """Counts per D of each output."""
        return (self._device.gain[:m] * (self.spec.response.counts_per_d[0] * analog_gain)).to(self._dtype)


def _spec(parameters: ChipParameters, chip_id: str, limits: dict[str, Any]) -> ChipSpec:
    """The data sheet: nothing of the hidden spread."""
    adc = parameters.adc_bits
    top = parameters.weight_code_one
    return ChipSpec(
        chip_id=chip_id,
        n_outputs=parameters.n_outputs,
        n_inputs=parameters.n_inputs,
        partial_tiles=True,
        weight_bits=parameters.weight_bits,
        weight_code_range=(-top, top),
        input_bits=parameters.input_bits,
        input_code_range=(0.0, parameters.input_transfer.code_one),
        adc_bits=adc,
        # without a converter a count is D itself, and nothing clips
        count_range=(-1e30, 1e30) if adc is None else (-(2.0 ** (adc - 1)), 2.0 ** (adc - 1) - 1),
        adc_full_scale=parameters.adc_full_scale,
        shot_time_s=1.0 / parameters.symbol_rate_hz,
        settle_time_s=parameters.settle_time_s,
        conditions={"laser_power": (0.0, 0.25, 0.5, 1.0), "analog_gain": (1.0, 2.0, 4.0, 8.0)},
        seeded=True,
        response=parameters.response,
        **limits,
    )


def open_simulated(
    preset: str = "typical", *, seed: int = 0, device: int = 0, purpose: str = "run", **options: Any
) -> SimulatedChip:
    """Opens the spec string ``sim`` or ``sim:PRESET``; options are fields of ``ChipParameters`` or limits.

    Raises:
        SpecError: an unknown preset or option, or a value out of bounds.
    """
    preset = preset or "typical"
    if preset not in PRESETS:
        raise SpecError(f"unknown preset {preset!r}; the presets are {', '.join(PRESETS)}")
    limits = {name: options.pop(name) for name in LIMITS if name in options}
    unknown = sorted(set(options) - set(ChipParameters.model_fields))
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*ChipParameters.model_fields, *LIMITS], n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise SpecError(f"unknown option {', '.join(unknown)} of sim:{preset}{hint}")
    for name, value in options.items():
        if isinstance(value, bool) and name != "shot_noise":
            raise SpecError(f"{name} of sim:{preset} is a number, found {value}")
    text = "".join(f"&{name}={value}" for name, value in options.items())
    try:
        parameters = ChipParameters(**{**PRESETS[preset].model_dump(), **options})
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
