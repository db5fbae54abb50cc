"""What a calibration says of a chip: parameters with intervals, arrays, and the verdict of its verification."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, field_validator
from pydantic.types import AwareDatetime

from photonic.errors import RecordError
from photonic.records import files
from photonic.records.base import Record
from photonic.records.chip import ChipSpec, Response

Verdict = Literal["pass", "fail", "not distinguishable"]


class Parameter(Record):
    """One family of fitted parameters: a number, or an array of the record that it sums up.

    A family that the budget did not identify has no value, and says how many shots it would need.
    """

    name: str = Field(min_length=1)
    unit: str
    status: Literal["fitted", "not identified", "not measured"] = "fitted"
    value: float | None = Field(default=None, description="of one number; the mean of an array")
    standard_error: float | None = Field(default=None, ge=0, description="of one number; rms over an array")
    low: float | None = Field(default=None, description="95 % interval of one number; least of an array")
    high: float | None = Field(default=None, description="95 % interval of one number; most of an array")
    entries: int = Field(default=1, ge=0)
    array: str | None = Field(default=None, description="key of the record's arrays; its errors are NAME_se")
    shots_needed: int | None = Field(default=None, ge=1, description="of a family that is not identified")
    note: str = ""


class Check(Record):
    """One statement of a verification: an interval and the margin that it must lie inside."""

    name: str = Field(min_length=1)
    cause: str = Field(description="what is wrong with the model where this fails, e.g. 'gain', 'noise'")
    verdict: Verdict
    value: float
    low: float
    high: float
    margin_low: float
    margin_high: float
    unit: str = ""
    worst: str = Field(default="", description="where, e.g. 'output 5'")
    shots_needed: int | None = Field(default=None, ge=1, description="where the data cannot decide")


class Suspect(Record):
    """A fault, outside of what a record can hold, that explains what it leaves of the readings."""

    name: str = Field(min_length=1)
    z: float = Field(description="of the statistic: its value over its standard error")
    threshold: float = Field(description="of z, above which it is significant")
    size: float | None = Field(default=None, description="largest effect that is left, in margins of a mean error")
    least: float | None = Field(default=None, description="size from which it is named")
    note: str = ""


class Verification(Record):
    """Whether a record matches its chip, on data that the fit has not seen."""

    verdict: Verdict
    checks: tuple[Check, ...] = ()
    causes: tuple[str, ...] = Field(default=(), description="of the checks that failed")
    suspects: tuple[Suspect, ...] = Field(default=(), description="faults that explain what is left, largest first")
    shots: int = Field(ge=0)


class DriftModel(Record):
    """What moves from shot to shot and between readings: gain of all outputs alike."""

    kind: Literal["none found", "ar1", "random walk", "not measured"] = "not measured"
    sigma: float = Field(default=0.0, ge=0, description="stationary (ar1), relative gain")
    time_s: float | None = Field(default=None, gt=0, description="correlation time (ar1)")
    per_root_s: float = Field(default=0.0, ge=0, description="of a random walk, relative gain per sqrt(s)")
    sigma_interval: tuple[float, float] | None = Field(default=None, description="95 % (ar1)")
    time_interval_s: tuple[float, float] | None = Field(
        default=None, description="95 % (ar1); None: not known to a factor of 100"
    )
    per_root_s_interval: tuple[float, float] | None = Field(default=None, description="95 % (random walk)")
    within: float = Field(
        default=0.0, ge=0, description="variance over the repeats of a noise point, which the noise term rin leaves out"
    )
    block_s: float | None = Field(default=None, gt=0, description="longest block to average: least Allan deviation")


class Provenance(Record):
    """Where a record comes from."""

    started: AwareDatetime
    ended: AwareDatetime
    code_version: str
    raw_sha256: str
    budget: int = Field(ge=1)
    shots: int = Field(ge=1)
    seconds: float = Field(ge=0)
    seed: int | None = None
    conditions: dict[str, float | str] = Field(default_factory=dict)
    instruments: dict[str, str] = Field(default_factory=dict, description="role: *IDN? and settings")
    telemetry_start: dict[str, float] = Field(default_factory=dict)
    telemetry_end: dict[str, float] = Field(default_factory=dict)

    @field_validator("telemetry_start", "telemetry_end", mode="before")
    @classmethod
    def _shown(cls, values: Any) -> Any:
        """A monitor that showed nothing (NaN) is left out: it is no reason to lose a calibration."""
        if not isinstance(values, Mapping):
            return values
        return {name: value for name, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


class Calibration(Record):
    """The record that turns a chip into a backend; *nominal* when computed from the data sheet alone.

    Attributes:
        chip_id: of the chip that it belongs to.
        nominal: whether nothing was measured.
        response: enough to encode numbers and to decode counts, with one gain and zero for each output.
        spec: of the chip when it was measured; None: nominal.
        arrays: by name, float64, saved beside the record (see ``photonic.records.files``); empty: nominal.
        arrays_sha256: of their file, where the record comes from one.
        model: facts about the arrays that are no numbers of a family, e.g. which crosstalk was chosen.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    schema_version: Literal[1] = 1
    chip_id: str = Field(min_length=1)
    nominal: bool
    response: Response
    spec: ChipSpec | None = None
    parameters: tuple[Parameter, ...] = ()
    goodness: dict[str, str] = Field(default_factory=dict, description="part: how well it fits, in words and numbers")
    drift: DriftModel = DriftModel()
    verification: Verification | None = None
    provenance: Provenance | None = None
    valid_until: AwareDatetime | None = None
    model: dict[str, float | str] = Field(default_factory=dict)
    overrides: tuple[str, ...] = Field(default=(), description="what a caller accepted by name, e.g. 'failed'")
    arrays_sha256: str | None = None
    arrays: Mapping[str, np.ndarray] = Field(default_factory=dict, exclude=True, repr=False)

    def __eq__(self, other: object) -> bool:
        """Equal JSON and equal arrays."""
        if not isinstance(other, Calibration):
            return NotImplemented
        beside = {"arrays_sha256"}  # of a file, which equal arrays need not come from
        if self.model_dump(exclude=beside) != other.model_dump(exclude=beside):
            return False
        mine, theirs = self.arrays, other.arrays
        return mine.keys() == theirs.keys() and all(
            np.array_equal(mine[name], theirs[name], equal_nan=True) for name in mine
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    @classmethod
    def from_spec(cls, spec: ChipSpec) -> Calibration:
        """The nominal calibration: what the chip's data sheet promises, nothing measured."""
        return cls(chip_id=spec.chip_id, nominal=True, response=spec.response)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """The record of a file ``NAME.json``, with the arrays of ``NAME.npz`` beside it.

        Raises:
            CalibrationError: no such record, or its file says which of EditedRecordError, RecordVersionError and
                ArraysError it is.
            RecordError: a key that no calibration has, or a value out of bounds.
        """
        content, arrays = files.read(path)
        try:
            return cls(**{**content, "arrays": arrays})
        except RecordError as error:
            raise RecordError(
                f"{path}: {error}; open it with the photonic that wrote it, or calibrate again"
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes ``NAME.json`` and, where there are arrays, ``NAME.npz``, each whole or not at all.

        Raises:
            CalibrationError: the path is no ``NAME.json`` or cannot be written, or an array is not float64.
        """
        files.write(path, self.model_dump(mode="json"), self.arrays)

    def replaced(self, **fields: Any) -> Calibration:
        """A copy with other fields, checked again."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**values, **fields})
