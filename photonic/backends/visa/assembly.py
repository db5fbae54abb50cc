"""Opens the instruments of a bench file, and puts those that share a role together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from photonic.backends.visa import opening
from photonic.backends.visa.benchfile import BenchFile
from photonic.backends.visa.limits import CodeLimits, LaserLimits, PowerBudget, TemperatureLimits, WeightLimits
from photonic.backends.visa.opening import Access
from photonic.backends.visa.roles import (
    Digitizer,
    InputModulator,
    Instrument,
    LaserSource,
    PowerMonitor,
    TemperatureController,
    WeightBank,
)
from photonic.backends.visa.sections import Box
from photonic.backends.visa.spans import Crew, DigitizerSpan, InputSpan, Part, WeightSpan
from photonic.errors import LabError

I = TypeVar("I", bound=Instrument)  # noqa: E741 - an instrument


class Openers(Protocol):
    """What opens one instrument in each role: ``photonic.backends.visa.opening``, or a test's own."""

    def open_laser(self, access: Access, limits: LaserLimits) -> LaserSource: ...  # noqa: D102
    def open_modulator(  # noqa: D102
        self, access: Access, limits: CodeLimits, *, rate_hz: float, channels: Sequence[int] | None = None
    ) -> InputModulator: ...
    def open_weights(  # noqa: D102
        self,
        access: Access,
        limits: WeightLimits,
        *,
        channels: Sequence[int],
        settle_time_s: float,
        budget: PowerBudget | None = None,
    ) -> WeightBank: ...
    def open_digitizer(  # noqa: D102
        self, access: Access, limits: CodeLimits, *, channels: Sequence[int] | None = None
    ) -> Digitizer: ...
    def open_temperature(self, access: Access, limits: TemperatureLimits) -> TemperatureController: ...  # noqa: D102
    def open_power(self, access: Access, *, channels: Sequence[int] | None = None) -> PowerMonitor: ...  # noqa: D102


@dataclass(frozen=True)
class Instruments:
    """All instruments of a bench, opened; nothing was switched on."""

    weights: WeightSpan
    inputs: InputSpan
    digitizer: DigitizerSpan
    lasers: tuple[LaserSource, ...]
    temperature: tuple[TemperatureController, ...]
    taps: tuple[PowerMonitor, ...]
    crew: Crew

    def __iter__(self) -> Iterator[Instrument]:
        """In the order in which they are switched on."""
        yield from self.temperature
        yield from self.lasers
        yield from self.inputs.instruments()
        yield from self.weights.instruments()
        yield from self.digitizer.instruments()
        yield from self.taps

    def close(self) -> list[str]:
        """Releases all connections; returns what went wrong with whom."""
        failed = []
        for instrument in self:
            try:
                instrument.close()
            except LabError as error:
                failed.append(f"{instrument.name}: {error}")
        self.crew.close()
        return failed


class Assembly:
    """Opens instruments one after the other, and closes all of them when one does not open.

    Args:
        bench: its file's content.
        folder: where the file is; paths in it are relative to that.
        openers: what opens one instrument.
    """

    def __init__(self, bench: BenchFile, folder: str | os.PathLike[str], openers: Openers | None = None) -> None:
        self.bench, self._folder = bench, Path(folder)
        self._openers: Openers = opening if openers is None else openers
        self._opened: list[Instrument] = []
        self._budget = None if bench.safety.total_heater_power_w is None else PowerBudget(
            bench.safety.total_heater_power_w
        )  # fmt: skip

    def roles(self) -> Mapping[str, tuple[Sequence[Box], Callable[[Box], Instrument]]]:
        """Boxes of each role, and what opens one of them."""
        bench = self.bench
        return {
            "temperature": (bench.temperature.instruments, self._temperature),
            "laser": (bench.laser.instruments, self._laser),
            "inputs": (bench.inputs.instruments, self._inputs),
            "weights": (bench.weights.instruments, self._weights),
            "digitizer": (bench.digitizer.instruments, self._digitizer),
            "power_monitor": (bench.power_monitor.instruments, self._power),
        }

    def open(self) -> Instruments:
        """Opens and identifies all of them.

        Raises:
            LabError: one does not answer, or is another than the file names.
        """
        bench, chip = self.bench, self.bench.chip
        boxes = sum(len(items) for items, _ in self.roles().values())
        crew = Crew(boxes)
        try:
            return Instruments(
                temperature=tuple(self._all(bench.temperature.instruments, self._temperature)),
                lasers=tuple(self._all(bench.laser.instruments, self._laser)),
                inputs=InputSpan(self._parts(bench.inputs.instruments, self._inputs), chip.n_inputs, crew),
                weights=WeightSpan(self._parts(bench.weights.instruments, self._weights), chip.drives, crew),
                digitizer=DigitizerSpan(
                    self._parts(bench.digitizer.instruments, self._digitizer), chip.n_outputs, crew
                ),
                taps=tuple(self._all(bench.power_monitor.instruments, self._power)),
                crew=crew,
            )
        except BaseException:
            for instrument in self._opened:
                with suppress(LabError):  # the first error is the one to tell
                    instrument.close()
            crew.close()
            raise

    def _all(self, boxes: Sequence[Box], opener: Callable[[Box], I]) -> list[I]:
        found = []
        for box in boxes:
            instrument = opener(box)
            self._opened.append(instrument)
            instrument.identify()
            found.append(instrument)
        return found

    def _parts(self, boxes: Sequence[Box], opener: Callable[[Box], I]) -> list[Part[I]]:
        instruments = self._all(boxes, opener)
        return [
            Part(instrument, np.array(box.logical(), dtype=np.intp))
            for box, instrument in zip(boxes, instruments, strict=True)
        ]

    def _access(self, box: Box) -> Access:
        bench = self.bench
        own = box.dialect.endswith(".toml")
        return Access(
            name=box.name,
            resource=box.resource,
            dialect=self._folder / box.dialect if own else box.dialect,
            identity=box.identity,
            timeout_s=box.timeout_s,
            visa_backend=box.visa_backend,
            transcript=None if bench.transcript is None else self._folder / bench.transcript,
            byte_order=box.byte_order,
            message_bytes=box.message_bytes,
        )

    def _laser(self, box: Box) -> LaserSource:
        limit = self.bench.laser.power_max_w
        assert limit is not None  # noqa: S101 - the file was checked
        return self._openers.open_laser(self._access(box), LaserLimits(limit, self.bench.safety.laser_consent))

    def _temperature(self, box: Box) -> TemperatureController:
        section = self.bench.temperature
        limits = TemperatureLimits(section.temperature_min_k, section.temperature_max_k)
        return self._openers.open_temperature(self._access(box), limits)

    def _power(self, box: Box) -> PowerMonitor:
        return self._openers.open_power(self._access(box), channels=box.own() or None)

    def _inputs(self, box: Box) -> InputModulator:
        low, high = self.bench.chip.input_code_range
        limits = CodeLimits(low, high, self.bench.idle_code, real=self.bench.chip.input_bits is None)
        return self._openers.open_modulator(
            self._access(box), limits, rate_hz=self.bench.sample_rate_hz, channels=box.own()
        )

    def _digitizer(self, box: Box) -> Digitizer:
        low, high = self.bench.chip.count_range
        idle = min(max(0.0, low), high)
        limits = CodeLimits(low, high, idle, real=self.bench.chip.adc_bits is None)
        return self._openers.open_digitizer(self._access(box), limits, channels=box.own())

    def _weights(self, box: Box) -> WeightBank:
        section, channels = self.bench.weights, box.own()
        limits = WeightLimits.uniform(
            len(channels),
            volts_min=section.volts_min,
            volts_max=section.volts_max,
            safe_v=section.safe_v,
            slew_v_per_s=section.slew_v_per_s,
            resistance_ohm=section.resistance_ohm,
            writes_max=self.bench.chip.write_endurance,
        )
        return self._openers.open_weights(
            self._access(box),
            limits,
            channels=channels,
            settle_time_s=self.bench.timing.settle_time_s,
            budget=self._budget,
        )
