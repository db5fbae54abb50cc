"""A vendor's dialect is data: which command does what, as a TOML table that is checked when it is loaded.

A template is a command with fields in braces, such as ``:SOUR{ch}:VOLT {volts}``. Its query is its header with a
question mark, which is how every setting is read back; where an instrument has no such query, the template stands in
``not_read_back``. ``{ch}`` counts from ``first_channel``.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from photonic.backends.visa.messages import Command, ask
from photonic.backends.visa.replies import TOLERANCE
from photonic.errors import SpecError

SUFFIX = ".toml"
Kind = Literal["int16", "float32", "float64"]
_DTYPES = {"int16": "i2", "float32": "f4", "float64": "f8"}


def _template(*fields: str) -> AfterValidator:
    def check(text: str) -> str:
        found = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        if not found <= set(fields):
            raise ValueError(f"{text!r} may have the fields {sorted(fields)}, found {sorted(found)}")
        return text

    return AfterValidator(check)


Plain = Annotated[str, _template()]
Channel = Annotated[str, _template("ch")]
State = Annotated[str, _template("state")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BlockTable(_Table):
    """Format of blocks.

    Attributes:
        kinds: command that selects each kind of number, as ``kind = "FORM:DATA INTeger,16"``.
        order: command that selects the byte order.
        words: what ``order`` takes for each byte order.
        byte_order: that is selected.
    """

    kinds: dict[Kind, Plain]
    order: Annotated[str, _template("order")]
    words: dict[Literal["little", "big"], str]
    byte_order: Literal["little", "big"] = "little"

    def dtype(self, kind: Kind) -> np.dtype[Any]:
        """Of the numbers on the wire."""
        return np.dtype(("<" if self.byte_order == "little" else ">") + _DTYPES[kind])

    def preamble(self, kind: Kind) -> list[Command]:
        """Selects kind and order, and reads both back; stands in every message that has a block."""
        chosen = (self.kinds[kind], self.order.format(order=self.words[self.byte_order]))
        return [command for text in chosen for command in set_and_read(text)]


class LaserTable(_Table):
    """Commands of a laser; those that are None it does not have."""

    power: Annotated[str, _template("power_w")]
    output: State
    interlock: Plain | None = None
    interlock_closed: str = "1"
    wavelength: Plain | None = None
    lock: Plain | None = None
    hops: Plain | None = None


class ModulatorTable(_Table):
    """Commands of a waveform source."""

    driver: Literal["generic", "red-pitaya"] = "generic"
    n_channels: int | None = Field(default=None, gt=0)
    data: Channel = ""
    segments: Annotated[str, _template("segments")] = ""
    repeats: Annotated[str, _template("repeats")] = ""
    marker: Annotated[str, _template("first", "count")] = ""
    rate: Annotated[str, _template("rate_hz")] = ""
    idle: Annotated[str, _template("ch", "code")] = ""
    output: State = ""
    trigger_source: Plain = ""
    arm: Plain = ""
    trigger: Plain = "*TRG"
    done: Plain = "*OPC?"
    abort: Plain = ""
    channels: Plain = ""
    memory: Plain = ""
    granularity: Plain = ""
    minimum: Plain = ""


class WeightTable(_Table):
    """Commands of a weight bank.

    Attributes:
        levels: block with the volts of all channels; empty: ``level`` for each of them.
        listed: block with (tiles, channels) volts; empty: ``list_level`` for each channel, or no list at all.
        level_now: query of what a channel gives now, where ``level`` with a question mark is not it.
        list_prepare: sent before a list, for each channel where it has ``{ch}``.
        list_arm: sent after a list, for each channel.
        list_length: tiles that it holds, where ``list_most`` does not say.
        slew: hardware limit of the slew, set before each programming.
        decimals: of volts that are written in text.
        resolution_v: difference that a read-back may have.
        output: empty: it has no output switch and is always on.
    """

    driver: Literal["generic", "qontrol"] = "generic"
    n_channels: int | None = Field(default=None, gt=0)
    levels: Plain = ""
    level: Annotated[str, _template("ch", "volts")] = ""
    level_now: Channel = ""
    slew: Annotated[str, _template("ch", "slew_v_per_s")] = ""
    fixed: Channel = ""
    listed: Plain = ""
    list_level: Annotated[str, _template("ch", "volts")] = ""
    list_dwell: Annotated[str, _template("ch", "dwell_s")] = ""
    list_prepare: tuple[Channel, ...] = ()
    list_mode: Channel = ""
    list_arm: Channel = ""
    list_most: Plain = ""
    list_length: int = Field(default=1, ge=1)
    writes: Plain = ""
    channels: Plain = ""
    output: State = ""
    decimals: int = Field(default=9, ge=1, le=17)
    resolution_v: float = Field(default=0.0, ge=0)


class DigitizerTable(_Table):
    """Commands of a digitizer."""

    driver: Literal["generic", "red-pitaya"] = "generic"
    n_channels: int | None = Field(default=None, gt=0)
    points: Annotated[str, _template("points")] = ""
    segments: Annotated[str, _template("segments")] = ""
    rate: Annotated[str, _template("rate_hz")] = ""
    gain: Annotated[str, _template("gain")] = ""
    memory: Plain = ""
    channels: Plain = ""
    arm: Plain = ""
    abort: Plain = ""
    state: Plain = ""
    done: str = "DONE"
    data: Channel = ""
    overload: Plain = ""
    no_overload: str = "0"


class TemperatureTable(_Table):
    """Commands of a temperature controller, which takes degrees Celsius."""

    setpoint: Annotated[str, _template("temperature_c")]
    measured: Plain
    output: State


class PowerTable(_Table):
    """Commands of a power meter.

    Attributes:
        setup: sent when it is opened, for each channel where it has ``{ch}``, and read back.
    """

    power: Channel
    channels: Plain = ""
    n_channels: int | None = Field(default=None, gt=0)
    setup: tuple[Channel, ...] = ()


class Dialect(_Table):
    """How one family of instruments is spoken to.

    Attributes:
        untested: what was not run on hardware says so here.
        end: of a message.
        errors: query for one entry of the error queue; empty: it has none.
        clear: sent when the connection is made.
        mark: register of 8 bits that nothing else uses, for telling messages apart; empty: none is known.
        baud_rate: of a serial line.
        first_channel: what the instrument calls its first channel.
        not_read_back: templates whose header has no query.
        tolerance: of numbers that are read back, relative: the instrument's resolution.
    """

    untested: str = ""
    end: str = "\n"
    errors: str = ":SYST:ERR?"
    clear: str = "*CLS"
    mark: str = ""
    baud_rate: int | None = Field(default=None, gt=0)
    first_channel: int = Field(default=1, ge=0)
    not_read_back: tuple[str, ...] = ()
    tolerance: float = Field(default=TOLERANCE, ge=0, lt=1)
    blocks: BlockTable | None = None
    laser: LaserTable | None = None
    modulator: ModulatorTable | None = None
    weights: WeightTable | None = None
    digitizer: DigitizerTable | None = None
    temperature: TemperatureTable | None = None
    power: PowerTable | None = None

    def setting(self, template: str, **fields: float | str) -> list[Command]:
        """A setting with its fields filled in, and the query that reads it back where it has one."""
        text = template.format(**{name: written(value) for name, value in fields.items()})
        return [Command(text)] if template in self.not_read_back else set_and_read(text, self.tolerance)

    def with_byte_order(self, order: Literal["little", "big"] | None) -> Dialect:
        """The same dialect with another byte order; None: its own.

        Raises:
            SpecError: it has no blocks.
        """
        if order is None:
            return self
        if self.blocks is None:
            raise SpecError("byte_order was given, but this dialect has no blocks")
        return self.model_copy(update={"blocks": self.blocks.model_copy(update={"byte_order": order})})


def written(value: float | str) -> str:
    """A field of a command; numbers so that none of their digits is lost."""
    return value if isinstance(value, str) else repr(value if isinstance(value, int) else float(value))


def query_of(text: str) -> str:
    """The query of a setting: its header and a question mark."""
    return text.partition(" ")[0] + "?"


def set_and_read(text: str, tolerance: float = TOLERANCE) -> list[Command]:
    """A setting, and the query that reads it back."""
    return [Command(text), ask(query_of(text), text.partition(" ")[2], tolerance)]


def built_in() -> list[str]:
    """Names of the dialects that come with photonic."""
    folder = resources.files("photonic.backends.visa") / "dialects"
    return sorted(entry.name.removesuffix(SUFFIX) for entry in folder.iterdir() if entry.name.endswith(SUFFIX))


def load_dialect(source: str | Path | Mapping[str, object]) -> Dialect:
    """A dialect by its name, its file, or its table.

    Raises:
        SpecError: unknown, unreadable, or with a key or a template that it may not have.
    """
    label = "the dialect" if isinstance(source, Mapping) else f"the dialect {source}"
    try:
        table = source if isinstance(source, Mapping) else tomllib.loads(_text(source))
        return Dialect.model_validate(table)
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{label} cannot be used: {error}") from error
    except OSError as error:
        raise SpecError(f"{label} cannot be read: {error}") from error


def _text(source: str | Path) -> str:
    if str(source).endswith(SUFFIX):
        return Path(source).read_text(encoding="utf-8")
    if source not in built_in():
        raise SpecError(
            f"unknown dialect {source!r}; known are {', '.join(built_in())}, or a file that ends in {SUFFIX}"
        )
    return (resources.files("photonic.backends.visa") / "dialects" / f"{source}{SUFFIX}").read_text(encoding="utf-8")
