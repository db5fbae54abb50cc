"""What a model costs a chip: frozen records, printed by ``--json``. None is "not stated", never 0."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from photonic.records import Record

NOT_STATED = "not stated"


class Counts(Record):
    """What a chip is asked for in one forward: its own counters, and what its converters do."""

    tiles: int = Field(ge=0, description="that hold the weight, partly used ones included")
    shots: int = Field(ge=0, description="one input vector on one tile")
    programmed: int = Field(ge=0, description="programming events")
    samples: int = Field(ge=0, description="input codes sent, shots x inputs of the tile")
    conversions: int = Field(ge=0, description="outputs read, shots x outputs of the tile")
    drives: int = Field(ge=0, description="drive codes written, programming events x codes of the tile")


class Latency(Record):
    """Time on the chip's own clock; nothing overlaps, since tiles are programmed and read one after the other."""

    symbols_s: float = Field(description="shots x time of a shot")
    converters_s: float = Field(description="further readings where fewer outputs than a tile has are read at once")
    settling_s: float = Field(description="programming events x settling time")
    total_s: float
    bottleneck: str = Field(description="the longest of the three")

    @classmethod
    def of(cls, symbols_s: float, converters_s: float, settling_s: float) -> Self:
        """The sum of the parts, and its largest."""
        parts = {"symbols": symbols_s, "converters": converters_s, "settling": settling_s}
        return cls(
            **{f"{name}_s": seconds for name, seconds in parts.items()},
            total_s=sum(parts.values()),
            bottleneck=max(parts, key=lambda name: parts[name]),
        )

    def __add__(self, other: Latency) -> Latency:
        return Latency.of(
            self.symbols_s + other.symbols_s,
            self.converters_s + other.converters_s,
            self.settling_s + other.settling_s,
        )


class Energy(Record):
    """Electrical energy by component; the total is stated where all of them are."""

    laser_j: float | None
    heaters_j: float | None
    tia_j: float | None
    modulators_j: float | None
    dac_j: float | None = Field(description="of inputs")
    adc_j: float | None
    write_j: float | None = Field(description="programming, DAC of weights included")
    total_j: float | None

    @classmethod
    def of(cls, **parts: float | None) -> Self:
        """The parts by name, and their sum."""
        stated = [part for part in parts.values() if part is not None]
        return cls(**parts, total_j=sum(stated) if len(stated) == len(parts) else None)


class Digital(Record):
    """Operations that remain outside the chip; they are not in its time nor in its energy."""

    column_adds: int = Field(default=0, ge=0, description="sums over column tiles")
    dark_adds: int = Field(
        default=0, ge=0, description="what the tiles give when nothing shines in, taken off each sum"
    )
    average_adds: int = Field(default=0, ge=0, description="over shots")
    sign_adds: int = Field(default=0, ge=0, description="that undo the sign encodings of inputs and weights")
    bias_adds: int = Field(default=0, ge=0)
    multiplies: int = Field(default=0, ge=0, description="scales: of each count, each average, each result")

    @property
    def adds(self) -> int:
        """All additions and subtractions."""
        return self.column_adds + self.dark_adds + self.average_adds + self.sign_adds + self.bias_adds

    def __add__(self, other: Digital) -> Digital:
        fields = type(self).model_fields
        return Digital(**{name: getattr(self, name) + getattr(other, name) for name in fields})


class Cost(Record):
    """Counts, time and energy of some multiplications."""

    macs: int = Field(ge=0, description="of the products themselves, unused parts of tiles not counted")
    counts: Counts
    latency: Latency | None
    energy: Energy | None
    tops: float | None = Field(description="10^12 operations per second, a MAC being two")
    macs_per_j: float | None

    @classmethod
    def of(cls, macs: int, counts: Counts, latency: Latency | None, energy: Energy | None) -> Self:
        """With the ratios, where they are stated."""
        seconds = None if latency is None else latency.total_s
        joules = None if energy is None else energy.total_j
        return cls(
            macs=macs,
            counts=counts,
            latency=latency,
            energy=energy,
            tops=2e-12 * macs / seconds if seconds else None,
            macs_per_j=macs / joules if joules else None,
        )


class LayerProfile(Record):
    """One layer in one forward."""

    layer: str
    kind: str = Field(description="its class in torch")
    macs: int = Field(ge=0)
    grids: tuple[tuple[int, int], ...] = Field(description="row tiles x column tiles of each of its weights")
    signed: bool = Field(description="an input was negative")
    shots_per_input: int | None = Field(description="on one tile: signs in time x averaged shots; None: they differ")
    cost: Cost | None = Field(description="from an empty chip; None: the layer stays digital")
    digital: Digital


class Source(Record):
    """The one power, as a simulated chip states it."""

    power_per_pair_w: float = Field(description="light at a balanced pair at full scale, after the link")
    light_w: float = Field(description="all light of the source")


class Profile(Record):
    """A model on a backend, layer by layer and in sum, in one forward of a batch."""

    backend: str
    chip: str | None = Field(description="None: the backend has none")
    input_shape: tuple[int, ...] = Field(description="batch first")
    enob: float | None = Field(description="effective bits of one shot; None: unlimited, or no chip")
    source: Source | None = Field(description="None: not stated")
    laser_w: float | None = Field(description="electrical power of the laser; None: not stated")
    layers: tuple[LayerProfile, ...] = Field(description="in the order of their first use")
    total: Cost | None = Field(description="of all layers on the chip, from an empty chip")
    again: Cost | None = Field(description="of a further forward with the same weights, the chip left as it was")
    digital: Digital = Field(description="of all layers on the chip")
    digital_macs: int = Field(ge=0, description="of layers that were left or routed to exact arithmetic")
    unsupported: dict[str, str] = Field(description="layers that no backend can take, with the reason; not counted")
