"""The bench file: one TOML that says which instruments stand around a chip, how they are wired, and their limits.

``docs/lab.md`` has it key by key. Unknown keys are refused; every channel of the chip is mapped exactly once.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from photonic.backends.visa.sections import (
    Box,
    Digitizer,
    Inputs,
    Laser,
    PowerMonitor,
    Safety,
    Temperature,
    Timing,
    WarmUp,
    Weights,
    every_channel_once,
)
from photonic.backends.visa.tomltext import to_toml
from photonic.errors import RecordError, SpecError
from photonic.records import ChipSpec
from photonic.records.base import Record

NONE = "none"  # how TOML says that a converter has no bits
CONDITIONS = ("laser_power", "analog_gain")
# fields of the chip that may be None and have another default, or none
_BITS = ("weight_bits", "input_bits", "adc_bits", "dac_j", "adc_j", "write_j")


class BenchFile(Record):
    """A bench.

    Attributes:
        chip: its data sheet; ``spec`` adds what the bench says of it.
    """

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    on_close: Literal["park", "off"] = Field(default="park", description="off: laser and temperature controller too")
    calibration: str | None = Field(default=None, description="its record, relative to this file")
    max_saturated_fraction: float | None = Field(default=None, gt=0, le=1)
    transcript: str | None = Field(default=None, description="every exchange is written there, relative to this file")
    telemetry_interval_s: float = Field(default=1.0, ge=0, description="monitors are read no more often")
    chip: ChipSpec
    timing: Timing
    safety: Safety = Safety()
    warm_up: WarmUp | None = None
    weights: Weights
    inputs: Inputs
    digitizer: Digitizer
    laser: Laser = Laser()
    temperature: Temperature = Temperature()
    power_monitor: PowerMonitor = PowerMonitor()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wrong = [*self._names(), *self._channels(), *self._of_the_chip(), *self._volts(), *self._light()]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def spec(self) -> ChipSpec:
        """What the chip says of itself on this bench."""
        timing, digitizer = self.timing, self.digitizer
        together = digitizer.simultaneous_outputs or self.chip.simultaneous_outputs
        more = {
            "shot_time_s": self.symbols_per_shot / timing.symbol_rate_hz,
            "settle_time_s": timing.settle_time_s,
            "simultaneous_outputs": None if together is None or together >= self.chip.n_outputs else together,
            "max_saturated_fraction": self.max_saturated_fraction or self.chip.max_saturated_fraction,
        }
        return ChipSpec(**{**self.chip.model_dump(), **more})

    @property
    def symbols_per_shot(self) -> int:
        """Two where the receiver is AC-coupled: light, and dark."""
        return 2 if self.chip.coupling == "ac" else 1

    @property
    def sample_rate_hz(self) -> float:
        """Of waveforms and records."""
        return self.timing.symbol_rate_hz * self.timing.samples_per_symbol

    @property
    def idle_code(self) -> float:
        """Of inputs that do not play."""
        return self.chip.dark_code if self.inputs.idle_code is None else self.inputs.idle_code

    @property
    def unconnected(self) -> tuple[int, ...]:
        """Inputs that no DAC drives."""
        return tuple(i for first, last in self.inputs.unconnected for i in range(first, last + 1))

    @property
    def resources(self) -> tuple[str, ...]:
        """VISA names of all instruments."""
        return tuple(box.resource for box in self._boxes())

    def _boxes(self) -> list[Box]:
        roles = (self.weights, self.inputs, self.digitizer, self.laser, self.temperature, self.power_monitor)
        return [box for role in roles for box in role.instruments]

    def _names(self) -> list[str]:
        names = [box.name for box in self._boxes()]
        return [f"the name {name!r} is given to several instruments" for name in {*names} if names.count(name) > 1]

    def _channels(self) -> list[str]:
        chip, away = self.chip, set(self.unconnected)
        return [
            *every_channel_once("weights", self.weights.instruments, range(chip.drives)),
            *every_channel_once("inputs", self.inputs.instruments, [i for i in range(chip.n_inputs) if i not in away]),
            *every_channel_once("digitizer", self.digitizer.instruments, range(chip.n_outputs)),
        ]

    def _of_the_chip(self) -> list[str]:
        chip, wrong = self.chip, []
        if chip.partial_tiles or chip.seeded:
            wrong.append(
                "chip.partial_tiles and chip.seeded must be false: a bench plays whole tiles, and draws no seeded noise"
            )
        if chip.tile_conditions or chip.resident_tiles != 1:
            wrong.append("chip.tile_conditions must be empty and chip.resident_tiles 1 on a bench")
        unknown = sorted(set(chip.conditions) - set(CONDITIONS))
        if unknown:
            wrong.append(f"chip.conditions: a bench offers {' and '.join(CONDITIONS)}, found {unknown}")
        if "laser_power" in chip.conditions and not self.laser.instruments:
            wrong.append("chip.conditions offers laser_power, but no laser is in [[laser.instruments]]")
        beyond = [m for m in self.timing.silent_outputs if not 0 <= m < chip.n_outputs]
        if beyond:
            wrong.append(f"timing.silent_outputs: {beyond} are no outputs of the chip")
        if self.digitizer.dead_symbols_after_rail > self.timing.guard_symbols:
            wrong.append("timing.guard_symbols must be at least digitizer.dead_symbols_after_rail")
        return wrong

    def _volts(self) -> list[str]:
        weights = self.weights
        ends = [weights.volts_at_zero_code + weights.volts_per_code * code for code in self.chip.weight_code_range]
        low, high = min(ends), max(ends)
        if weights.volts_min <= low and high <= weights.volts_max:
            return []
        return [
            f"weights: the chip's weight_code_range needs {low:g} to {high:g} V, the limits are volts_min "
            f"{weights.volts_min:g} and volts_max {weights.volts_max:g}; narrow chip.weight_code_range"
        ]

    def _light(self) -> list[str]:
        limit, laser = self.safety.photodiode_power_max_w, self.laser
        if limit is None or laser.power_full_w is None:
            return []
        arrives = laser.power_full_w * max(1, len(laser.instruments)) * 10 ** (-self.safety.path_loss_db / 10)
        if arrives <= limit:
            return []
        return [
            f"laser.power_full_w {laser.power_full_w:g} lets {arrives:g} W through to a photodiode, "
            f"safety.photodiode_power_max_w is {limit:g}"
        ]


def bench_spec(spec: ChipSpec) -> ChipSpec:
    """A chip's data sheet as a bench can offer it: whole tiles, one gain for a record, no seeds."""
    kept = {name: values for name, values in spec.conditions.items() if name in CONDITIONS}
    more = {"partial_tiles": False, "seeded": False, "tile_conditions": (), "resident_tiles": 1, "conditions": kept}
    return ChipSpec(**{**spec.model_dump(), **more})


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        SpecError: it is missing, or no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror or error}; photonic bench writes one") from error
    except ValueError as error:  # of TOML, of UTF-8
        raise SpecError(f"{path} is not TOML: {error}") from error


def load_bench(path: str | os.PathLike[str]) -> BenchFile:
    """The bench of a file.

    Raises:
        SpecError: it is missing, no TOML, or says what no bench can be; the message names the key and the bound.
    """
    content = read_toml(path)
    if isinstance(content.get("chip"), dict):
        content["chip"] = _read_words(content["chip"])
    try:
        return BenchFile(**content)
    except RecordError as error:
        raise SpecError(f"{path}: {error}") from error


def bench_toml(bench: BenchFile) -> str:
    """The text of a bench file; reads back as an equal bench."""
    content = bench.model_dump()
    content["chip"] = _with_words(content["chip"])
    return to_toml(_without_none(content))


def save_bench(bench: BenchFile, path: str | os.PathLike[str]) -> None:
    """Writes a bench file, whole or not at all.

    Raises:
        SpecError: it cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as stream:
            stream.write(bench_toml(bench))
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SpecError(f"{path} cannot be written: {error.strerror or error}") from error


def _read_words(table: dict[str, Any]) -> dict[str, Any]:
    """``none`` read as None where a key of the chip may be it."""
    return {
        key: None if value == NONE and key in _BITS else _read_words(value) if isinstance(value, dict) else value
        for key, value in table.items()
    }


def _with_words(table: dict[str, Any]) -> dict[str, Any]:
    """The reverse: None is written as a word, because without the key its default would be read."""
    return {
        key: NONE if value is None and key in _BITS else _with_words(value) if isinstance(value, dict) else value
        for key, value in table.items()
    }


def _without_none(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_none(value) for key, value in content.items() if value is not None}
    if isinstance(content, list | tuple):
        return [_without_none(item) for item in content]
    return content
