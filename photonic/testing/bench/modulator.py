"""The virtual input modulators (model VAWG): one waveform of raw codes for each input of the chip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from photonic.records import ChipSpec
from photonic.testing.bench.instrument import Instrument, channel, whole_codes
from photonic.testing.bench.parameters import Number, long_or_short, real, word
from photonic.testing.bench.scpierror import ScpiError
from photonic.testing.bench.setup import Setup
from photonic.testing.bench.tree import Answer, Command, Suffixes
from photonic.testing.bench.units import Parameter

WAITING = 32  # bit of the operation status register: waiting for a trigger


@dataclass(frozen=True)
class Waveforms:
    """What one play sends.

    Attributes:
        symbols: (N, C, symbols) input codes; a segment's last symbol may be cut short by its end.
        samples: length of a segment.
        per_symbol: samples of a symbol.
        repeats: R, how often all segments are played.
        data: first symbol and number of symbols under the marker.
    """

    symbols: NDArray[Any]
    samples: int
    per_symbol: int
    repeats: int
    data: tuple[int, int]


class Modulator(Instrument):
    """N waveforms of C segments each, played R times on ``*TRG``.

    Args:
        spec: range and resolution of the codes.
        setup: rates and memory.
        play: called when armed and triggered.
    """

    model: ClassVar[str] = "VAWG"

    def __init__(self, spec: ChipSpec, setup: Setup, serial: str, play: Callable[[], None]) -> None:
        self._spec, self._setup, self._play = spec, setup, play
        self._waveforms: list[NDArray[Any] | None] = [None] * spec.n_inputs
        self._idle = [spec.dark_code] * spec.n_inputs
        self._marker = (0, 0)
        self.armed = False
        super().__init__("awg", serial, "INT,16" if spec.input_bits is not None else "REAL,64")

    def commands(self) -> Sequence[Command]:
        """Waveforms, segments, marker, rates, trigger and output."""
        setup = self._setup
        default_hz = setup.symbol_rate_hz * setup.samples_per_symbol
        rate = Number("HZ", setup.symbol_rate_hz, 64 * setup.symbol_rate_hz, default_hz)
        return (
            *self.formats(),
            Command("SOURce#:TRACe:DATA", self._load, self._load_query),
            self.setting("SOURce:SEGMent:COUNt", "segments", Number("", 1, 2**16, 1, whole=True)),
            self.setting("SOURce:SEQuence:REPeat", "repeats", Number("", 1, 2**16, 1, whole=True)),
            Command("SOURce:MARKer", self._mark, lambda s, p: "{},{}".format(*self._marker), parameters=(2, 2)),
            self.setting("SOURce:FREQuency:RASTer", "rate_hz", rate),
            Command("SOURce#:IDLE", self._set_idle, self._idle_query),
            Command("SOURce:TRACe:POINts", None, self._points, query_parameters=(0, 1)),
            self.constant("SOURce:TRACe:GRANularity", setup.granularity_samples),
            self.constant("SOURce:CHANnel:COUNt", self._spec.n_inputs),
            self.switch("OUTPut[:STATe]", "on"),
            self.choice("TRIGger:SOURce", "trigger", ("BUS",), "BUS"),
            self.action("INITiate[:IMMediate]", self._arm),
            self.action("ABORt", self._disarm),
        )

    def reset(self) -> None:
        """``*RST``: no waveforms, outputs off."""
        super().reset()
        self._waveforms = [None] * self._spec.n_inputs
        self._idle = [self._spec.dark_code] * self._spec.n_inputs
        self._marker = (0, 0)
        self._disarm()

    def trigger(self) -> None:
        """Plays once; ends before the next command is executed.

        Raises:
            ScpiError: not armed, or settings do not fit together; nothing was played.
        """
        if not self.armed:
            raise ScpiError(-211)
        self._disarm()
        self._play()

    def waveforms(self) -> Waveforms:
        """What a play sends, in symbols.

        Raises:
            ScpiError: lengths, segments, marker and raster do not fit together.
        """
        samples = self._segment()
        ratio = float(self.values["rate_hz"]) / self._setup.symbol_rate_hz
        per_symbol = round(ratio)
        if abs(ratio - per_symbol) > 1e-9:
            raise ScpiError(-221, f"raster must be a multiple of the symbol rate, found {ratio:g}")
        first, count = self._marker
        if first % per_symbol or count % per_symbol or first + count > samples:
            raise ScpiError(-221, f"marker {first},{count} in segments of {samples} samples, {per_symbol} a symbol")
        dtype = np.int16 if self._spec.code_dtype.itemsize == 2 else np.float64
        segments = int(self.values["segments"])
        every = np.empty((self._spec.n_inputs, segments, samples), dtype=dtype)
        for index, waveform in enumerate(self._waveforms):
            silent = waveform is None or not self.values["on"]
            level = self._idle[index] if self.values["on"] else self._spec.dark_code
            every[index] = level if silent else waveform.reshape(segments, samples)  # type: ignore[union-attr]
        symbols = np.ascontiguousarray(every[..., ::per_symbol])
        if not _held(every, symbols, per_symbol):
            raise ScpiError(-221, f"levels must be held for the {per_symbol} samples of a symbol")
        return Waveforms(
            symbols, samples, per_symbol, int(self.values["repeats"]), (first // per_symbol, count // per_symbol)
        )

    def _segment(self) -> int:
        """Samples of a segment."""
        sizes = {waveform.size for waveform in self._waveforms if waveform is not None}
        if len(sizes) != 1:
            raise ScpiError(-221, f"waveforms of one length are needed, found lengths {sorted(sizes)}")
        size, segments = sizes.pop(), int(self.values["segments"])
        if size % segments:
            raise ScpiError(-221, f"{size} samples are no {segments} segments")
        return size // segments

    def _arm(self) -> None:
        if self.armed:
            raise ScpiError(-213)
        self.armed = True
        self.status.operation.set(WAITING, True)

    def _disarm(self) -> None:
        self.armed = False
        self.status.operation.set(WAITING, False)

    def _load(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
        index, setup, spec = channel(suffixes, self._spec.n_inputs), self._setup, self._spec
        codes = whole_codes(self.format.decode(parameters[0]), *spec.input_code_range, spec.input_bits)
        if codes.size > setup.memory_samples:
            raise ScpiError(-223, f"{codes.size} samples, memory {setup.memory_samples}")
        if codes.size < setup.minimum_samples or codes.size % setup.granularity_samples:
            raise ScpiError(
                -222,
                f"{codes.size} samples; at least {setup.minimum_samples}, a multiple of {setup.granularity_samples}",
            )
        self.note("codes", channel=index + 1, low=float(codes.min()), high=float(codes.max()))
        self._waveforms[index] = codes

    def _load_query(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> Answer:
        waveform = self._waveforms[channel(suffixes, self._spec.n_inputs)]
        return self.format.encode(np.empty(0) if waveform is None else waveform)

    def _mark(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
        samples = Number("", 0, self._setup.memory_samples, 0, whole=True)
        self._marker = int(samples.read(parameters[0])), int(samples.read(parameters[1]))

    def _set_idle(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
        low, high = self._spec.input_code_range
        code = Number("", low, high, self._spec.dark_code, whole=self._spec.input_bits is not None)
        self._idle[channel(suffixes, self._spec.n_inputs)] = code.read(parameters[0])

    def _idle_query(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> str:
        code = self._idle[channel(suffixes, self._spec.n_inputs)]
        return real(code) if self._spec.input_bits is None else str(int(code))

    def _points(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> str:
        if parameters and long_or_short(word(parameters[0]), "MINimum"):
            return str(self._setup.minimum_samples)
        if parameters and not long_or_short(word(parameters[0]), "MAXimum"):
            raise ScpiError(-224, "MIN or MAX")
        if parameters:
            return str(self._setup.memory_samples)
        return str(max((waveform.size for waveform in self._waveforms if waveform is not None), default=0))


def _held(every: NDArray[Any], symbols: NDArray[Any], per_symbol: int) -> bool:
    """Whether all samples of each symbol are equal."""
    whole = every.shape[-1] // per_symbol
    parts = every[..., : whole * per_symbol].reshape(*every.shape[:-1], whole, per_symbol)
    ends = every[..., whole * per_symbol :]
    held = all(np.array_equal(parts[..., k], symbols[..., :whole]) for k in range(1, per_symbol))
    return held and bool((ends == symbols[..., whole:]).all())
