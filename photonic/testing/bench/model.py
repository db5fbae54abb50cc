"""The bench itself: instruments around one chip, and what happens between them when they are triggered."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.testing.bench.clock import BenchTime
from photonic.testing.bench.digitizer import Digitizer
from photonic.testing.bench.disturbance import Disturbance
from photonic.testing.bench.evaluation import symbol_counts
from photonic.testing.bench.instrument import Instrument
from photonic.testing.bench.laser import Laser
from photonic.testing.bench.modulator import Modulator, Waveforms
from photonic.testing.bench.physics import Physics, Played
from photonic.testing.bench.scpierror import ScpiError
from photonic.testing.bench.setup import Drive, Setup
from photonic.testing.bench.temperature import PowerMeter, TemperatureController
from photonic.testing.bench.weightbank import WeightBox

Counts = NDArray[np.generic]
_LEVELS = 2**22  # of one list of tiles, in all boxes
_READINGS = 2**28  # of one play, symbol by symbol


@dataclass
class Bench:
    """One chip and the instruments around it, as objects; ``VirtualBench`` puts them on sockets.

    Attributes:
        chip: behind the instruments; each play that is recorded is one call of its ``measure``, with exactly the
            symbols under the marker.
        setup: rates, powers and memories.
        physics: between instruments and chip.
        time: of the bench.
        weight_boxes: among which the drives are divided.
        plays: that were recorded.
        lock: held while a message is executed.
        disturbance: what faults do to the signals.
    """

    chip: Chip
    setup: Setup
    physics: Physics
    time: BenchTime
    weight_boxes: int = 1
    plays: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    disturbance: Disturbance = field(default_factory=Disturbance)

    def __post_init__(self) -> None:
        spec, physics = self.chip.spec, self.physics
        most = max(1, min(self.setup.list_length, _LEVELS // spec.drives))
        setup = self.setup = replace(self.setup, list_length=most)
        self.drive = Drive.of(spec)
        self.laser = Laser(setup, physics, "V1001")
        self.modulator = Modulator(spec, setup, "V2001", self.play)
        sizes = [len(part) for part in np.array_split(np.arange(spec.drives), self.weight_boxes)]
        self.boxes = tuple(
            WeightBox(
                f"V300{number}",
                name=f"dac-{number}",
                channels=size,
                drive=self.drive,
                setup=setup,
                time=self.time,
                physics=physics,
            )
            for number, size in enumerate(sizes, 1)
        )
        self.digitizer = Digitizer(spec, setup, "V4001")
        self.tec = TemperatureController(setup, physics, "V5001")
        self.meter = PowerMeter(setup, "V6001", lambda: self.laser.power_w() * physics.power())

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """By name."""
        every = (self.laser, self.modulator, *self.boxes, self.digitizer, self.tec, self.meter)
        return {instrument.name: instrument for instrument in every}

    def play(self) -> None:
        """What the modulator's trigger starts: weights step, waveforms play, the digitizer records.

        Raises:
            ScpiError: settings of the instruments do not fit together; nothing was played.
        """
        waves = self.modulator.waveforms()
        columns = waves.symbols.shape[1]
        grid = waves.repeats, columns
        self._check(waves, grid[0] * grid[1])
        recording = self.digitizer.state == "ARM"
        conditions = self._conditions() if recording else {}
        starts_s, weights = self._weights(waves, grid)
        if not recording:
            return
        self.plays += 1
        dark = self.laser.relative() == 0.0 and "laser_power" not in self.chip.spec.conditions
        symbols = np.full_like(waves.symbols, self.chip.spec.dark_code) if dark else waves.symbols
        counts = symbol_counts(self.chip, weights, symbols, waves.data, conditions)
        self.digitizer.recorded(
            self.physics.record(self._played(counts, waves, starts_s)), self.disturbance.overloaded(len(counts))
        )

    def _played(self, counts: Counts, waves: Waveforms, starts_s: NDArray[np.float64]) -> Played:
        """As much of it as the digitizer records."""
        spec, (segments, points) = self.chip.spec, self.digitizer.wanted()
        rails = None if spec.adc_bits is None else spec.count_range
        return Played(
            counts=self.disturbance.of_counts(counts[:, :segments], rails),
            per_symbol=waves.per_symbol,
            points=points,
            symbol_s=1.0 / self.setup.symbol_rate_hz,
            starts_s=starts_s[:segments],
            rails=rails,
            full_scale=abs(spec.response.counts_per_d[0]) * spec.adc_full_scale,
        )

    def _check(self, waves: Waveforms, tiles: int) -> None:
        spec, most = self.chip.spec, self.setup.list_length
        symbols = tiles * waves.symbols.shape[-1] * max(spec.n_inputs, spec.n_outputs)
        if tiles > most or symbols > _READINGS:
            raise ScpiError(
                -221, f"a play has up to {most} segments and {_READINGS} readings, found {tiles}, {symbols}"
            )
        for box in self.boxes:
            if box.tiles not in (None, tiles) or (box.tiles is None) != (self.boxes[0].tiles is None):
                raise ScpiError(-221, f"{tiles} segments are played, the list of {box.name} has {box.tiles} tiles")
        if self.digitizer.state != "ARM":
            return
        rate_hz, points = float(self.digitizer.values["rate_hz"]), self.digitizer.wanted()[1]
        if abs(rate_hz - float(self.modulator.values["rate_hz"])) > 1e-6 * rate_hz:
            raise ScpiError(-221, f"modulator and digitizer must run at one rate, the digitizer at {rate_hz:g}")
        if points > waves.samples:
            raise ScpiError(-221, f"segments have {waves.samples} samples, {points} are to be recorded")

    def _conditions(self) -> dict[str, float]:
        """What the chip is asked for besides: only what differs from 1."""
        offered, power, found = self.chip.spec.conditions, self.laser.relative(), {}
        if power != 1.0 and "laser_power" in offered:
            if power not in offered["laser_power"]:
                raise ScpiError(-221, f"relative laser power {power:g}, the chip knows {offered['laser_power']}")
            found["laser_power"] = power
        elif power not in (0.0, 1.0):
            raise ScpiError(-221, f"relative laser power {power:g}, the chip knows 0 and 1")
        if self.digitizer.gain != 1.0:
            found["analog_gain"] = self.digitizer.gain
        return found

    def _weights(self, waves: Waveforms, grid: tuple[int, int]) -> tuple[NDArray[np.float64], Tensor]:
        """When each segment starts, and the drive codes (J, R, C, P) that hold in it; the bench's time passes."""
        tiles, segment_s = grid[0] * grid[1], waves.samples / float(self.modulator.values["rate_hz"])
        dwell_s = max(box.dwell_s for box in self.boxes)
        starts_s: NDArray[np.float64] = dwell_s + (dwell_s + segment_s) * np.arange(tiles, dtype=np.float64)
        starts_s += self.time.now_s()
        moments = self.physics.moments
        volts = [np.stack(list(box.play(tiles, dwell_s, segment_s, moments)), axis=1) for box in self.boxes]
        self.time.passes(tiles * (dwell_s + segment_s))
        codes = torch.from_numpy(self._codes(np.concatenate(volts, axis=-1)))
        return starts_s, codes.to(self.chip.spec.code_dtype).unflatten(1, grid)

    def _codes(self, volts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Drive codes of volts."""
        spec = self.chip.spec
        codes = (volts - self.drive.volts_at_zero_code) / self.drive.volts_per_code
        if spec.weight_bits is not None:
            codes = np.rint(codes)
        return codes.clip(*spec.weight_code_range)  # rounding of volts, and outputs that are off
