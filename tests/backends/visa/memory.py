"""Instruments in memory around a chip: the roles without a wire, for tests of what drives them.

One ``Rig`` holds what the instruments share: levels, waveforms, the chip, and what is wrong with it. Time is counted,
not waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from photonic.backends.chip import Chip
from photonic.backends.visa.benchfile import BenchFile
from photonic.backends.visa.limits import PowerBudget, WeightLimits
from photonic.backends.visa.opening import Access
from photonic.backends.visa.roles import Identity, LaserLock, Setting
from photonic.errors import InterlockError

Codes = NDArray[Any]


@dataclass
class Rig:
    """What stands on the table.

    Attributes:
        chip: behind the instruments.
        bench: how they are wired.
        log: what was done, (instrument, what, value).
        fail: called before everything that an instrument does, with its name and what; may raise.
        delay: (M,) samples by which each output comes late.
        memory: part of a step that is missing at the first sample of a symbol; squared at the next, and so on.
        stretch: relative excess of the digitizer's clock.
        unsettled: of the weights: part of a step that is missing when a play begins; gone at the end of a long segment.
        volts: (P,) now.
        list_v: (T, P) of a list.
    """

    chip: Chip
    bench: BenchFile
    log: list[tuple[str, str, Any]] = field(default_factory=list)
    fail: Callable[[str, str], None] = lambda name, what: None
    delay: NDArray[np.intp] | None = None
    memory: float = 0.0
    stretch: float = 0.0
    unsettled: float = 0.0
    list_length: int = 4096
    source_samples: int = 2**20
    record_samples: int = 2**22
    granularity: int = 1
    interlock: bool = True
    volts: NDArray[np.float64] = field(init=False)
    list_v: NDArray[np.float64] | None = None
    previous: NDArray[np.float64] | None = None
    on: dict[str, bool] = field(default_factory=dict)
    power_w: float = 0.0
    waves: NDArray[Any] = field(init=False)
    shape: tuple[int, int] = (1, 1)
    marker: tuple[int, int] = (0, 0)
    gain: float = 1.0
    tiles: int = 1
    record: Codes | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        spec = self.bench.chip
        self.volts = np.full(spec.drives, self.bench.weights.safe_v)
        self.previous = self.volts.copy()
        self.waves = np.zeros((spec.n_inputs, 1))

    def say(self, name: str, what: str, value: Any = None) -> None:
        self.fail(name, what)
        self.log.append((name, what, value))

    def done(self, name: str) -> list[str]:
        """What an instrument did, in order."""
        return [what for who, what, _ in self.log if who == name]

    def _codes(self, volts: NDArray[np.float64]) -> torch.Tensor:
        section, spec = self.bench.weights, self.bench.chip
        codes = (volts - section.volts_at_zero_code) / section.volts_per_code
        return torch.from_numpy(codes if spec.weight_bits is None else np.rint(codes)).to(self.chip.spec.code_dtype)

    def _measure(self, weights: torch.Tensor, inputs: Codes) -> Codes:
        settings = {"laser_power": self.power_w / (self.bench.laser.power_full_w or 1.0), "analog_gain": self.gain}
        given = {name: value for name, value in settings.items() if name in self.chip.spec.conditions and value != 1.0}
        codes = torch.from_numpy(inputs).to(self.chip.spec.code_dtype)
        return self.chip.measure(weights, codes, given).counts.numpy()

    def play(self) -> None:
        """One measurement of the chip with the marked symbols, and one, which does not count, with all others."""
        columns, rows = self.shape
        spec, r = self.chip.spec, self.bench.timing.samples_per_symbol
        levels = self.volts[None] if self.list_v is None else self.list_v
        assert self.tiles == rows * columns == len(levels)
        samples = self.waves.shape[1] // columns
        symbols = self.waves.reshape(len(self.waves), columns, samples)[:, :, ::r].transpose(1, 2, 0)
        weights = self._codes(levels).reshape(rows, columns, -1)
        state = self.chip.state()
        counts = self._measure(weights, np.ascontiguousarray(symbols)).copy()  # (R, C, K, M)
        if self.unsettled and self.previous is not None:
            old = self._measure(
                self._codes(self.previous[None]).expand(rows, columns, -1), np.ascontiguousarray(symbols)
            )
            part = self.unsettled * np.exp(-np.arange(counts.shape[2]) / 16)[:, None]
            counts = (counts + part * (old - counts.astype(np.float64))).astype(counts.dtype)
        self.chip.restore(state)
        first, count = self.marker
        if count:
            marked = slice(first // r, (first + count) // r)
            counts[:, :, marked] = self._measure(weights, np.ascontiguousarray(symbols[:, marked]))
        self.previous = levels[-1].copy()
        held = counts.reshape(-1, *counts.shape[2:]).transpose(2, 0, 1).repeat(r, axis=2)  # (M, T, samples)
        self.record = self._received(held, r).reshape(spec.n_outputs, -1)

    def _received(self, held: Codes, r: int) -> Codes:
        places = np.floor(np.arange(held.shape[2]) / (1 + self.stretch) + 1e-9).astype(int).clip(max=held.shape[2] - 1)
        if self.memory:
            before = np.concatenate([held[:, :, :r] * 0, held[:, :, :-r]], axis=2)
            part = self.memory ** (1 + np.arange(held.shape[2]) % r)
            held = np.rint(held + part * (before - held.astype(np.float64))).astype(held.dtype)
        held = held[:, :, places]
        if self.delay is None:
            return held
        return np.stack([np.roll(row, late, axis=-1) for row, late in zip(held, self.delay, strict=True)])

    # what opens the instruments (photonic.backends.visa.assembly.Openers)

    def open_laser(self, access: Access, limits: Any) -> Laser:
        return Laser(self, access.name)

    def open_modulator(self, access: Access, limits: Any, *, rate_hz: float, channels: Any = None) -> Source:
        return Source(self, access.name, self._rows(self.bench.inputs, access.name))

    def open_weights(
        self,
        access: Access,
        limits: WeightLimits,
        *,
        channels: Sequence[int],
        settle_time_s: float,
        budget: PowerBudget | None = None,
    ) -> Bank:
        return Bank(self, access.name, self._rows(self.bench.weights, access.name), limits, budget)

    def open_digitizer(self, access: Access, limits: Any, *, channels: Any = None) -> Recorder:
        return Recorder(self, access.name, self._rows(self.bench.digitizer, access.name))

    def open_temperature(self, access: Access, limits: Any) -> Controller:
        return Controller(self, access.name)

    def open_power(self, access: Access, *, channels: Any = None) -> Meter:
        return Meter(self, access.name)

    def _rows(self, role: Any, name: str) -> NDArray[np.intp]:
        return next(np.array(box.logical()) for box in role.instruments if box.name == name)


class Item:
    """What all instruments have."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig, self._name = rig, name

    @property
    def name(self) -> str:
        return self._name

    def identify(self) -> Identity:
        self.rig.say(self.name, "identify")
        return Identity("TEST", self.name, "1", "1.0")

    def snapshot(self) -> Mapping[str, Setting]:
        return {}

    def make_safe(self) -> None:
        self.rig.say(self.name, "make_safe")
        self.rig.on[self.name] = False

    def close(self) -> None:
        self.rig.say(self.name, "close")

    def enabled(self) -> bool:
        return self.rig.on.get(self.name, False)

    def enable(self) -> None:
        self.rig.say(self.name, "enable")
        self.rig.on[self.name] = True

    def disable(self) -> None:
        self.rig.say(self.name, "disable")
        self.rig.on[self.name] = False


class Laser(Item):
    def power_w(self) -> float:
        return self.rig.power_w

    def set_power(self, power_w: float) -> None:
        self.rig.say(self.name, "set_power", power_w)
        self.rig.power_w = power_w

    def interlock_closed(self) -> bool:
        return self.rig.interlock

    def enable(self) -> None:
        if not self.rig.interlock:
            raise InterlockError("open")
        super().enable()

    def lock(self) -> LaserLock:
        return LaserLock(1.55e-6, True, 0)


class Source(Item):
    def __init__(self, rig: Rig, name: str, rows: NDArray[np.intp]) -> None:
        super().__init__(rig, name)
        self.rows, self.n_channels = rows, len(rows)
        self.memory_samples, self.granularity_samples, self.minimum_samples = rig.source_samples, rig.granularity, 1

    def load(self, waveforms: Codes, *, segments: int, repeats: int, marker: tuple[int, int]) -> None:
        rig = self.rig
        rig.say(self.name, "load", waveforms.shape)
        assert waveforms.shape[0] == len(self.rows)
        assert waveforms.shape[1] <= rig.source_samples
        assert waveforms.shape[1] % rig.granularity == 0
        with rig.lock:  # several sources load at once
            if rig.waves.shape[1] != waveforms.shape[1] or rig.waves.dtype != waveforms.dtype:
                empty = np.full((rig.bench.chip.n_inputs, waveforms.shape[1]), rig.bench.idle_code)
                rig.waves = empty.astype(waveforms.dtype)
            rig.waves[self.rows] = waveforms
        rig.shape, rig.marker = (segments, repeats), marker

    def park(self) -> None:
        self.rig.say(self.name, "park")

    def arm(self) -> None:
        self.rig.say(self.name, "arm")

    def trigger(self) -> None:
        self.rig.say(self.name, "trigger")
        self.rig.play()


class Bank(Item):
    def __init__(
        self, rig: Rig, name: str, rows: NDArray[np.intp], limits: WeightLimits, budget: PowerBudget | None
    ) -> None:
        super().__init__(rig, name)
        self.rows, self.n_channels, self.list_length = rows, len(rows), rig.list_length
        self._limits, self._budget = limits, budget

    def levels_v(self) -> NDArray[np.float64]:
        self.rig.say(self.name, "levels_v")
        return self.rig.volts[self.rows]

    def _check(self, levels_v: NDArray[np.float64]) -> None:
        self._limits.check_levels(self.name, levels_v)
        if self._budget is not None:
            self._budget.reserve(self.name, self._limits.power_w(levels_v))

    def program(self, levels_v: NDArray[np.float64]) -> None:
        self._check(levels_v)
        self.rig.say(self.name, "program")
        self.rig.volts[self.rows] = levels_v
        self.rig.list_v = None

    def program_list(self, levels_v: NDArray[np.float64], dwell_s: float) -> None:
        self._check(levels_v)
        self.rig.say(self.name, "program_list", (len(levels_v), dwell_s))
        assert len(levels_v) <= self.list_length
        with self.rig.lock:
            if self.rig.list_v is None or len(self.rig.list_v) != len(levels_v):
                self.rig.list_v = np.zeros((len(levels_v), self.rig.bench.chip.drives))
            self.rig.list_v[:, self.rows] = levels_v

    def writes(self) -> int | None:
        return None


class Recorder(Item):
    def __init__(self, rig: Rig, name: str, rows: NDArray[np.intp]) -> None:
        super().__init__(rig, name)
        self.rows, self.n_channels, self.memory_samples = rows, len(rows), rig.record_samples

    def configure(self, samples: int, segments: int, *, rate_hz: float, gain: float = 1.0) -> None:
        self.rig.say(self.name, "configure", (samples, segments, rate_hz, gain))
        assert samples * segments <= self.memory_samples
        self.rig.gain, self.rig.tiles = gain, segments

    def arm(self) -> None:
        self.rig.say(self.name, "arm")

    def fetch(self, channels: Sequence[int]) -> Codes:
        self.rig.say(self.name, "fetch", tuple(channels))
        assert self.rig.record is not None
        return self.rig.record[self.rows[list(channels)]]


class Controller(Item):
    setpoint = 298.15

    def temperature_k(self) -> float:
        return self.setpoint

    def setpoint_k(self) -> float:
        return self.setpoint

    def set_temperature(self, temperature_k: float) -> None:
        self.rig.say(self.name, "set_temperature", temperature_k)
        self.setpoint = temperature_k


class Meter(Item):
    n_channels = 1

    def power_w(self, channel: int) -> float:
        self.rig.fail(self.name, "power_w")
        return self.rig.power_w / 100
