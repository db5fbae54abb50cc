"""The virtual digitizer (model VADC): one record of raw counts for each output of the chip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from photonic.records import ChipSpec
from photonic.testing.bench.instrument import Instrument, channel
from photonic.testing.bench.parameters import Number, real, word
from photonic.testing.bench.scpierror import ScpiError
from photonic.testing.bench.setup import Setup
from photonic.testing.bench.tree import Answer, Command, Suffixes
from photonic.testing.bench.units import Parameter

MEASURING, OVERLOADED = 16, 512  # bits of the operation and of the questionable status register


class Digitizer(Instrument):
    """M records of T segments each, started by the modulator's marker line once it is armed.

    Args:
        spec: outputs, counts and gains.
        setup: rates and memory.

    Attributes:
        state: IDLE, ARM, RUN (fewer segments came than were asked for) or DONE.
        overloaded: channels, from 1, that were overloaded in the last record.
    """

    model: ClassVar[str] = "VADC"

    def __init__(self, spec: ChipSpec, setup: Setup, serial: str) -> None:
        self._spec, self._setup = spec, setup
        self.gains = tuple(float(gain) for gain in spec.conditions.get("analog_gain", (1.0,)))
        self.state = "IDLE"
        self.overloaded: tuple[int, ...] = ()
        self._record: NDArray[Any] | None = None
        self._gain = 1.0
        super().__init__("digitizer", serial, "INT,16" if spec.adc_bits is not None else "REAL,64")

    def commands(self) -> Sequence[Command]:
        """Record, rate, gain, arming and fetching."""
        memory = self._setup.memory_samples
        default_hz = self._setup.symbol_rate_hz * self._setup.samples_per_symbol
        rate = Number("HZ", self._setup.symbol_rate_hz, 64 * self._setup.symbol_rate_hz, default_hz)
        return (
            *self.formats(),
            self.setting("ACQuire:POINts", "points", Number("", 1, memory, 1, whole=True)),
            self.setting("ACQuire:SEGMent:COUNt", "segments", Number("", 1, 2**16, 1, whole=True)),
            self.setting("ACQuire:RATE", "rate_hz", rate),
            Command("ACQuire:GAIN", self._set_gain, self._gain_query, query_parameters=(0, 1)),
            self.constant("SENSe:CHANnel:COUNt", self._spec.n_outputs),
            self.action("INITiate[:IMMediate]", self._arm),
            self.action("ABORt", self._abort),
            Command("ACQuire:STATe", None, lambda s, p: self.state),
            Command("ACQuire:OVERload", None, lambda s, p: ",".join(map(str, self.overloaded)) or "0"),
            Command("TRACe#:DATA", None, self._fetch),
        )

    def reset(self) -> None:
        """``*RST``: no record, not armed."""
        super().reset()
        self._gain, self._record, self.overloaded = 1.0, None, ()
        self._change("IDLE")

    @property
    def gain(self) -> float:
        """Analog gain."""
        return self._gain

    def wanted(self) -> tuple[int, int]:
        """Segments and samples of each that a record holds."""
        return int(self.values["segments"]), int(self.values["points"])

    def recorded(self, record: NDArray[Any], overloaded: Sequence[int] = ()) -> None:
        """Takes (M, segments, samples) that came in; the record is done once all segments have come."""
        self._record = record
        self.overloaded = tuple(overloaded)
        self.status.questionable.set(OVERLOADED, bool(overloaded))
        self._change("DONE" if record.shape[1] == self.wanted()[0] else "RUN")

    def _arm(self) -> None:
        segments, points = self.wanted()
        if self.state == "ARM":
            raise ScpiError(-213)
        if segments * points > self._setup.memory_samples:
            raise ScpiError(-221, f"{segments} x {points} samples, memory {self._setup.memory_samples}")
        self._record, self.overloaded = None, ()
        self._change("ARM")

    def _abort(self) -> None:
        self._record = None
        self._change("IDLE")

    def _change(self, state: str) -> None:
        self.state = state
        self.status.operation.set(MEASURING, state in ("ARM", "RUN"))

    def _set_gain(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> None:
        gain = Number("", min(self.gains), max(self.gains), 1.0).read(parameters[0])
        if gain not in self.gains:
            raise ScpiError(-224, f"gains {self.gains}, found {gain:g}")
        self._gain = gain

    def _gain_query(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> str:
        limit = Number("", min(self.gains), max(self.gains), 1.0).named(word(parameters[0])) if parameters else None
        return real(self._gain if limit is None else limit)

    def _fetch(self, suffixes: Suffixes, parameters: Sequence[Parameter]) -> Answer:
        index = channel(suffixes, self._spec.n_outputs)
        if self._record is None or self.state != "DONE":
            raise ScpiError(-230, f"no record; the digitizer is {self.state}")
        return self.format.encode(self._record[index])
