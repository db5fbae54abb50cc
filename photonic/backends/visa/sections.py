"""The tables of a bench file: roles, instruments, limits, times. Units are in the names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from photonic.records.base import Record

Range = tuple[int, int]
MOST_CHANNELS = 2**20
LONGEST_WAIT_S = 3600.0  # nobody waits longer for one setting: a slip of the pen


class Box(Record):
    """One instrument, or the part of one that plays a role."""

    name: str = Field(min_length=1, description="for messages; each is used once")
    resource: str = Field(min_length=1, description="VISA resource, e.g. TCPIP0::192.168.0.4::5025::SOCKET")
    dialect: str = Field(default="virtual", description="a dialect of photonic, or a file DIALECT.toml beside this one")
    identity: str = Field(
        default="", description="regular expression, searched for in its answer to *IDN?; name the serial number"
    )
    channels: tuple[Range, ...] = Field(
        default=(), description="logical channels [first, last] of its own channels, in their order"
    )
    own_channels: tuple[Range, ...] = Field(
        default=(), description="the instrument's channels, from 0, that these are; empty: its first ones"
    )
    timeout_s: float = Field(default=5.0, gt=0, le=600, description="deadline of one operation, writes included")
    byte_order: Literal["little", "big"] | None = Field(default=None, description="of blocks; None: the dialect's")
    visa_backend: str = Field(default="@py", description="what pyvisa.ResourceManager takes: @py, @ivi, a library")
    message_bytes: int = Field(default=4 * 2**20, ge=4096, description="longest message that is sent to it")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_ranges(self.name, (*self.channels, *self.own_channels))
        try:
            re.compile(self.identity)
        except re.error as error:
            raise ValueError(f"{self.name}: identity {self.identity!r} is no regular expression: {error}") from error
        if self.own_channels and len(self.own()) != len(self.logical()):
            raise ValueError(
                f"{self.name}: own_channels are {len(self.own())}, channels {len(self.logical())}; one for each"
            )
        return self

    def logical(self) -> tuple[int, ...]:
        """Logical channel of each of its own channels that is used, in their order."""
        return _spread(self.channels)

    def own(self) -> tuple[int, ...]:
        """Which of the instrument's channels those are."""
        return _spread(self.own_channels) if self.own_channels else tuple(range(len(self.logical())))


class Role(Record):
    """What plays a role: one instrument or several."""

    instruments: tuple[Box, ...] = ()


class Weights(Role):
    """Slow outputs: volts = volts_at_zero_code + volts_per_code * code."""

    volts_per_code: float = 1.0
    volts_at_zero_code: float = 0.0
    safe_v: float = Field(default=0.0, description="where channels are parked")
    volts_min: float
    volts_max: float
    slew_v_per_s: float | None = Field(default=None, gt=0, description="None: the instrument may step")
    resistance_ohm: float | None = Field(default=None, gt=0, description="of one heater; None: draws no power")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.volts_per_code == 0:
            raise ValueError("volts_per_code must not be 0")
        if not self.volts_min <= self.safe_v <= self.volts_max:
            raise ValueError(f"safe_v {self.safe_v:g} is outside [{self.volts_min:g}, {self.volts_max:g}]")
        return self


class Inputs(Role):
    """Waveforms, in raw codes of the converters."""

    idle_code: float | None = Field(default=None, description="outputs that do not play; None: the chip's dark_code")
    unconnected: tuple[Range, ...] = Field(
        default=(), description="inputs that no DAC drives; they stay dark, and any other code for them is refused"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_ranges("unconnected", self.unconnected)
        return self


class Digitizer(Role):
    """Records, in raw counts."""

    simultaneous_outputs: int | None = Field(
        default=None, ge=1, description="read at once; fewer than outputs: one play for each part of them. None: all"
    )
    dead_symbols_after_rail: int = Field(
        default=0, ge=0, description="symbols after one at a rail that cannot be trusted: they are measured again"
    )


class Laser(Role):
    """Light. The photodiode limit is in [safety]."""

    power_full_w: float | None = Field(default=None, gt=0, description="the power at which laser_power is 1")
    power_max_w: float | None = Field(default=None, gt=0, description="absolute limit")
    settle_time_s: float = Field(default=0.0, ge=0, le=LONGEST_WAIT_S, description="after a change of power")
    dark: Literal["power", "inputs"] = Field(
        default="power", description="how laser_power = 0 is made: 0 W, or all inputs at their idle code"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.instruments:
            return self
        if self.power_full_w is None or self.power_max_w is None:
            raise ValueError("a laser needs power_full_w and power_max_w")
        if self.power_full_w > self.power_max_w:
            raise ValueError(f"power_full_w {self.power_full_w:g} is above power_max_w {self.power_max_w:g}")
        return self


class Temperature(Role):
    """The chip's temperature controller."""

    temperature_k: float = Field(default=298.15, gt=0)
    temperature_min_k: float = Field(default=283.15, gt=0)
    temperature_max_k: float = Field(default=333.15, gt=0)
    tolerance_k: float = Field(default=0.1, gt=0, description="within which the chip is at its temperature")
    deadline_s: float = Field(default=300.0, gt=0, description="to get there, at opening")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.temperature_min_k <= self.temperature_k <= self.temperature_max_k:
            raise ValueError(
                f"temperature_k {self.temperature_k:g} is outside [{self.temperature_min_k:g}, "
                f"{self.temperature_max_k:g}]"
            )
        return self


class PowerMonitor(Role):
    """Taps."""

    power_max_w: float | None = Field(default=None, gt=0, description="a tap above it ends the measurement")
    wavelength_m: float | None = Field(default=None, gt=0)


class Timing(Record):
    """How symbols become samples, and what is asked of them."""

    symbol_rate_hz: float = Field(gt=0)
    samples_per_symbol: int = Field(default=4, ge=1, le=1024)
    sync_symbols: int = Field(default=8, ge=8, le=1024, description="before and after the data of each segment")
    guard_symbols: int = Field(default=4, ge=2, le=1024, description="dark, between sync and data")
    sample_phase: float = Field(default=0.75, ge=0, lt=1, description="where in a symbol its count is taken")
    settle_time_s: float = Field(ge=0, le=LONGEST_WAIT_S, description="after one programming of weights")
    max_skew_symbols: float = Field(
        default=2.0, ge=0, le=1024, description="longest delay of an output that is looked for"
    )
    max_memory: float = Field(
        default=0.005, gt=0, lt=0.5, description="largest part of a step between symbols that the sampled phase misses"
    )
    max_unsettled: float = Field(
        default=0.03, gt=0, lt=0.5, description="largest change of a tile's response from begin to end of a segment"
    )
    max_response_error: float = Field(
        default=0.25,
        gt=0,
        description="largest relative error of the response against the data sheet, over all outputs",
    )
    max_response_change: float = Field(
        default=0.1, gt=0, description="largest relative change of the response while weights stay the same"
    )
    silent_outputs: tuple[int, ...] = Field(
        default=(), description="outputs known not to answer; others that do not answer are an error"
    )


class Safety(Record):
    """Absolute limits of the bench as a whole, and consent."""

    laser_consent: bool = Field(
        default=False, description="somebody who is responsible allows this bench to emit light"
    )
    total_heater_power_w: float | None = Field(default=None, gt=0)
    watchdog_s: float | None = Field(default=None, gt=0, description="without a call: outputs off")
    photodiode_power_max_w: float | None = Field(default=None, gt=0)
    path_loss_db: float = Field(default=0.0, ge=0, description="least loss from all lasers to one photodiode")


class WarmUp(Record):
    """Evidence that the bench is steady: the Allan deviation of a reference pattern."""

    readings: int = Field(default=32, ge=16, le=4096)
    spacing_s: float = Field(default=0.05, ge=0)
    max_deviation: float = Field(default=0.01, gt=0, description="relative, at a quarter of the readings")
    deadline_s: float = Field(default=600.0, gt=0)


def _check_ranges(name: str, ranges: Sequence[Range]) -> None:
    """Before they are spread: a slip of the pen must not fill the memory."""
    for first, last in ranges:
        if not 0 <= first <= last < MOST_CHANNELS:
            raise ValueError(
                f"{name}: expected channels [first, last], 0 <= first <= last < {MOST_CHANNELS}, found {first, last}"
            )


def _spread(ranges: Sequence[Range]) -> tuple[int, ...]:
    return tuple(channel for first, last in ranges for channel in range(first, last + 1))


def every_channel_once(role: str, boxes: Sequence[Box], wanted: Sequence[int]) -> Iterator[str]:
    """What is wrong with a channel map, in words."""
    seen: dict[int, str] = {}
    allowed = set(wanted)
    for box in boxes:
        beyond = [channel for channel in box.logical() if channel not in allowed]
        if beyond:
            yield (
                f"{role}: {box.name} maps channel {', '.join(map(str, beyond[:4]))}{' ...' if beyond[4:] else ''}, "
                "which the chip does not have (or is unconnected)"
            )
        for channel in box.logical():
            if channel in seen:
                yield f"{role}: channel {channel} is mapped twice, in {seen[channel]} and in {box.name}"
            seen.setdefault(channel, box.name)
    missing = sorted(allowed - set(seen))
    if missing:
        yield f"{role}: {len(missing)} of {len(allowed)} channels are not mapped, {missing[0]} the first of them"
