"""One box of the virtual weight bank (model VDAC): slow voltages, one for each drive, and lists of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from photonic.testing.bench.clock import BenchTime
from photonic.testing.bench.instrument import Instrument, channel
from photonic.testing.bench.parameters import Number, long_or_short, real, word
from photonic.testing.bench.physics import Physics
from photonic.testing.bench.scpierror import ScpiError
from photonic.testing.bench.setup import Drive, Setup
from photonic.testing.bench.tree import Answer, Command, Suffixes
from photonic.testing.bench.units import Parameter

Volts = NDArray[np.float64]


class WeightBox(Instrument):
    """Consecutive channels of the weight bank.

    Args:
        channels: of this box.
        drive: range of its voltages.
        setup: length of a list.
        time: of the bench.
        physics: how the chip's drives follow.

    Attributes:
        levels_v: (channels,) as programmed.
        list_v: (tiles, channels) that a play steps through, in mode LIST.
        writes: programmings since it was built.
    """

    model: ClassVar[str] = "VDAC"

    def __init__(
        self, serial: str, *, name: str, channels: int, drive: Drive, setup: Setup, time: BenchTime, physics: Physics
    ) -> None:
        self.channels, self._drive, self._setup, self._time = channels, drive, setup, time
        self.levels_v: Volts = np.full(channels, drive.off_v)
        self.list_v: Volts = np.empty((0, channels))
        self.writes = 0
        self._heaters = physics.heaters(self.levels_v)
        super().__init__(name, serial)

    def commands(self) -> Sequence[Command]:
        """Levels, list, mode and output."""
        volts = Number("V", self._drive.volts_min, self._drive.volts_max, self._drive.off_v)

        def one(suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
            levels = self.levels_v.copy()
            levels[channel(suffixes, self.channels)] = volts.read(parameters[0])
            self._program(levels)

        def one_query(suffixes: Suffixes, parameters: Sequence[Parameter]) -> str:
            limit = volts.named(word(parameters[0])) if parameters else None
            return real(self.levels_v[channel(suffixes, self.channels)] if limit is None else limit)

        def count_query(suffixes: Suffixes, parameters: Sequence[Parameter]) -> str:
            most = parameters and long_or_short(word(parameters[0]), "MAXimum")
            return str(self._setup.list_length if most else len(self.list_v))

        return (
            *self.formats(),
            Command("SOURce#:VOLTage[:LEVel]", one, one_query, query_parameters=(0, 1)),
            Command("SOURce:LEVel:DATA", self._levels, self._levels_query),
            Command("SOURce:LIST:DATA", self._list, self._list_query),
            Command("SOURce:LIST:COUNt", None, count_query, query_parameters=(0, 1)),
            self.setting("SOURce:LIST:DWELl", "dwell_s", Number("S", 0.0, 100.0, 0.0)),
            self.choice("SOURce:MODE", "mode", ("FIXed", "LIST"), "FIX"),
            Command("SOURce:WRITe:COUNt", None, lambda s, p: str(self.writes)),
            self.constant("SOURce:CHANnel:COUNt", self.channels),
            self.switch("OUTPut[:STATe]", "on", self._switched),
        )

    def reset(self) -> None:
        """``*RST``: outputs off, no list, levels at their default."""
        super().reset()
        self.levels_v = np.full(self.channels, self._drive.off_v)
        self.list_v = np.empty((0, self.channels))
        self._output(self._time.now_s())

    def play(self, tiles: int, dwell_s: float, segment_s: float, moments: int) -> Iterator[Volts]:
        """What the drives have come to, (moments, channels) for each segment, while the bench's time passes.

        In mode LIST each tile settles for the dwell time before its segment; the last one stays at the outputs.
        """
        within_s = (np.arange(moments) + 0.5) / moments * segment_s
        start_s = self._time.now_s()
        for index in range(tiles):
            if self.tiles is not None:
                self.levels_v = self.list_v[index].copy()
                self.writes += 1
                self._output(start_s)
            start_s += dwell_s
            yield np.stack([self._heaters.levels_v(start_s + later_s) for later_s in within_s])
            start_s += segment_s

    @property
    def tiles(self) -> int | None:
        """Length of the list that a play steps through; None: levels are fixed."""
        return len(self.list_v) if self.values["mode"] == "LIST" else None

    @property
    def dwell_s(self) -> float:
        """Before each segment of a play."""
        return float(self.values["dwell_s"]) if self.values["mode"] == "LIST" else 0.0

    def _output(self, now_s: float) -> None:
        """The drives follow what the outputs give from now on."""
        on = self.values["on"]
        self._heaters.follow(self.levels_v if on else np.full(self.channels, self._drive.off_v), now_s)

    def _switched(self, on: bool) -> None:
        self.values["on"] = on
        self._output(self._time.now_s())

    def _note(self, what: str, levels: Volts) -> None:
        """Volts, the largest step from the levels before, and the largest sum of squares of a tile."""
        tiles = levels.reshape(-1, self.channels)
        self.note(
            what,
            low=float(tiles.min()),
            high=float(tiles.max()),
            step=float(np.abs(np.diff(tiles, axis=0, prepend=self.levels_v[None])).max()),
            square=float((tiles**2).sum(axis=1).max()),
        )

    def _program(self, levels: Volts) -> None:
        self._note("levels", levels)
        self.levels_v = levels
        self.writes += 1
        self._output(self._time.now_s())

    def _volts(self, parameter: Parameter, most: int) -> Volts:
        """Tiles of levels (tiles, channels) out of a block."""
        if isinstance(parameter, str) and not parameter.startswith("#"):
            raise ScpiError(-104, "expected a block")
        samples = self.format.decode(parameter)
        if samples.dtype.kind == "i":
            raise ScpiError(-221, "levels are volts: FORM REAL,32 or REAL,64")
        if not samples.size or samples.size % self.channels or samples.size > most * self.channels:
            raise ScpiError(-161, f"{samples.size} levels for {self.channels} channels, up to {most} tiles")
        low, high = self._drive.volts_min, self._drive.volts_max
        slack = 1e-6 * (high - low)  # of 32 bit numbers
        self.note("volts", low=float(samples.min()), high=float(samples.max()))  # refused ones too
        if not (low - slack <= samples.min() and samples.max() <= high + slack):
            raise ScpiError(-222, f"{low:g} V to {high:g} V, found {samples.min():g} to {samples.max():g}")
        return np.asarray(samples.reshape(-1, self.channels), dtype=np.float64)

    def _levels(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
        self._program(self._volts(parameters[0], 1)[0])

    def _levels_query(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> Answer:
        return self._encoded(self.levels_v)

    def _list(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
        self.list_v = self._volts(parameters[0], self._setup.list_length)
        self._note("list", self.list_v)

    def _list_query(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> Answer:
        return self._encoded(self.list_v)

    def _encoded(self, volts: NDArray[Any]) -> Answer:
        if self.format.kind.startswith("INT"):
            raise ScpiError(-221, "levels are volts: FORM REAL,32 or REAL,64")
        return self.format.encode(volts)
