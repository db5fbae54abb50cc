"""Plays grids of tiles: programs weights, uploads waveforms, records, takes the counts out, and checks the symbols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonic.backends.visa.assembly import Instruments
from photonic.backends.visa.benchfile import BenchFile
from photonic.backends.visa.brightness import Brightness
from photonic.backends.visa.presence import Presence
from photonic.backends.visa.sync import SyncReader, check_sync
from photonic.backends.visa.timing import Sampler
from photonic.backends.visa.waveform import Segment, sync_pattern, waveforms
from photonic.errors import LabError

Array = NDArray[np.float64]
Codes = NDArray[Any]


class Player:
    """The bench as a player of tiles.

    Args:
        bench: its file's content.
        instruments: opened and on.

    Attributes:
        sampler: of the outputs' symbols; None: not learned yet.
        programmed: how often weights were sent.
    """

    def __init__(self, bench: BenchFile, instruments: Instruments) -> None:
        self._bench, self._instruments = bench, instruments
        self.sampler: Sampler | None = None
        self.programmed = 0
        self.pattern = sync_pattern(bench.timing.sync_symbols)
        self.reader = SyncReader(self.pattern)
        self._brightness = Brightness(bench.spec)
        self.presence = Presence(bench.timing, bench.chip.n_outputs)
        self._held: Array | None = None
        self._configured: tuple[int, int, float] | None = None
        self._list_length = instruments.weights.list_length
        memory = instruments.inputs.memory_samples, instruments.digitizer.memory_samples
        self._source_samples, self._record_samples = memory
        self._granularity = instruments.inputs.granularity_samples
        self._minimum = instruments.inputs.minimum_samples
        self._code_type = np.dtype(np.float64 if bench.chip.input_bits is None else np.int16)
        together = bench.spec.simultaneous_outputs or bench.chip.n_outputs
        outputs = np.arange(bench.chip.n_outputs)
        self._groups = [outputs[i : i + together] for i in range(0, len(outputs), together)]

    def forget(self) -> None:
        """After a failure nothing is known of what instruments hold."""
        self._held, self._configured = None, None

    def segment(self, shots: int, spacing: int = 0) -> Segment:
        """The segment that holds this many shots, with dark symbols between them."""
        timing = self._bench.timing
        return Segment.of(
            shots,
            sync=timing.sync_symbols,
            guard=timing.guard_symbols,
            samples_per_symbol=timing.samples_per_symbol,
            granularity=self._granularity,
            minimum=self._minimum,
            stride=self._bench.symbols_per_shot + spacing,
        )

    def fits(self, rows: int, columns: int, shots: int, spacing: int = 0) -> bool:
        """Whether a grid goes into one play."""
        samples, tiles = self.segment(shots, spacing).samples, rows * columns
        # more than one tile need a list in the weight bank
        return (
            columns * samples <= self._source_samples
            and tiles * samples <= self._record_samples
            and (tiles == 1 or tiles <= self._list_length)
        )

    def counts(self, weights: Codes, inputs: Codes, gain: float, *, light: float = 1.0, spacing: int = 0) -> Codes:
        """Counts (R, C, B, M) of weights (R, C, P) and inputs (C, B, N), which fit one play.

        Args:
            weights: (R, C, P) codes.
            inputs: (C, B, N) codes.
            gain: analog.
            light: relative laser power.
            spacing: dark symbols after each shot.

        Raises:
            LabError: an instrument failed, or symbols are not where they must be.
        """
        sampler = self.sampler
        if sampler is None:
            raise LabError("the delays of the outputs are not known; open the bench again")
        rows, columns, _ = weights.shape
        segment = self.segment(inputs.shape[1], spacing)
        bright, promised = self._brightness.codes(weights, gain)
        blocks = []
        for outputs, record in self.records(weights, inputs, bright, segment, gain):
            sync = self.reader.read(sampler.take(record, outputs, segment.sync_symbols()))
            check_sync(sync, self._bench.timing)
            if light:
                must = None if promised is None else promised[outputs] * light
                key = np.array([gain, light, outputs[0], rows, columns]).tobytes()
                self.presence.check(sync, must, outputs, key)
                self.presence.check_alive(
                    record, outputs, lambda: light * self._brightness.swing(weights, inputs, gain)
                )
            blocks.append(self._shots(sampler, record, outputs, segment))
        found = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=0)
        # (M, T, B) -> (R, C, B, M)
        return np.ascontiguousarray(found.transpose(1, 2, 0)).reshape(rows, columns, -1, len(found))

    def records(
        self, weights: Codes, inputs: Codes, bright: Codes, segment: Segment, gain: float, *, marked: bool = True
    ) -> Sequence[tuple[NDArray[np.intp], Codes]]:
        """Plays a grid: outputs that are read at once, and their record (K, T, samples).

        Args:
            weights: (R, C, P) codes.
            inputs: (C, B, N) codes.
            bright: (C, N) codes of bright sync symbols.
            segment: where symbols go.
            gain: analog.
            marked: whether the marker is high over the data; not for a play that is no measurement.
        """
        rows, columns, _ = weights.shape
        levels = self._levels(weights.reshape(rows * columns, -1))
        shown = waveforms(
            inputs.astype(self._code_type, copy=False),
            segment,
            self.pattern,
            bright.astype(self._code_type, copy=False),
            self._bench.chip.dark_code,
            self._bench.idle_code,
        )
        tiles, digitizer = rows * columns, self._instruments.digitizer
        upload = self._upload(shown, segment, rows, columns, gain, marked)
        if self._held is not None and np.array_equal(levels, self._held):
            upload()
        else:
            # while weights settle, waveforms go to other instruments
            self._held = None
            self.presence.forget()
            self._instruments.crew.each([lambda: self._program(levels), upload])
            self._held = levels
        found = []
        for outputs in self._groups:
            digitizer.arm()
            self._instruments.inputs.play()
            record = digitizer.fetch(outputs.tolist())
            expected = (len(outputs), tiles * segment.samples)
            if record.shape != expected:
                raise LabError(f"the digitizer gave {record.shape} samples, {expected} were asked for")
            found.append((outputs, record.reshape(len(outputs), tiles, segment.samples)))
        return found

    def _upload(
        self, shown: Codes, segment: Segment, rows: int, columns: int, gain: float, marked: bool
    ) -> Callable[[], None]:
        settings = segment.samples, rows * columns, gain

        def upload() -> None:
            if settings != self._configured:
                self._configured = None
                self._instruments.digitizer.configure(
                    segment.samples, rows * columns, rate_hz=self._bench.sample_rate_hz, gain=gain
                )
                self._configured = settings
            marker = segment.marker if marked else (0, 0)
            self._instruments.inputs.load(shown, segments=columns, repeats=rows, marker=marker)

        return upload

    def _levels(self, codes: Codes) -> Array:
        section = self._bench.weights
        return np.asarray(section.volts_at_zero_code + section.volts_per_code * codes.astype(np.float64))

    def _program(self, levels: Array) -> None:
        """(T, P) volts; a single tile has no list to step through."""
        self.programmed += 1
        if len(levels) == 1:
            self._instruments.weights.program(levels[0])
        else:
            self._instruments.weights.program_list(levels, self._bench.timing.settle_time_s)

    def _shots(self, sampler: Sampler, record: Codes, outputs: NDArray[np.intp], segment: Segment) -> Codes:
        """(K, T, B) counts; of an AC-coupled receiver light minus dark, at the rail where one of them is."""
        light = sampler.take(record, outputs, segment.data_symbols())
        if self._bench.symbols_per_shot == 1:
            return light
        dark = sampler.take(record, outputs, segment.data_symbols() + 1)
        low, high = self._bench.chip.count_range
        found = np.clip(light.astype(np.float64) - dark, low, high)
        if self._bench.chip.adc_bits is not None:
            found[(light <= low) | (dark >= high)] = low
            found[(light >= high) | (dark <= low)] = high
        return np.asarray(found, dtype=record.dtype)
