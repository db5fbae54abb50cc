"""The head of a folder of raw data: the chip's spec, and which plan its readings belong to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import Field
from pydantic.types import AwareDatetime

from photonic.calibration.reading import Reading
from photonic.errors import DISTRIBUTION, CalibrationError, EditedRecordError, RecordError, RecordVersionError
from photonic.records import ChipSpec, Record

PLAN = "plan.json"
VERSION = 1


class RawHeader(Record):
    """What holds for all readings of a folder.

    Attributes:
        code_version: of the photonic that made the plan.
        started: when the folder was made, UTC.
        seed: that the plan was drawn with.
        budget: shots that the plan was made for.
        plan_sha256: of ``plan_sha256(plan)``.
        readings: in the plan.
        shots: in the plan.
        spec: of the chip.
        instruments: around the chip, who they are and how they are set; empty for a chip without any.
    """

    schema_version: Literal[1] = 1
    code_version: str
    started: AwareDatetime
    seed: int | None
    budget: int = Field(ge=1)
    plan_sha256: str
    readings: int = Field(ge=1)
    shots: int = Field(ge=1)
    spec: ChipSpec
    instruments: dict[str, str] = Field(default_factory=dict)


def default_folder(record: str | os.PathLike[str]) -> Path:
    """Where the raw data of a record lies: ``chip7.raw`` beside ``chip7.json``."""
    return Path(record).with_suffix(".raw")


def plan_sha256(plan: Sequence[Reading]) -> str:
    """Of all patterns, conditions and purposes, in order."""
    digest = hashlib.sha256()
    for reading in plan:
        codes = [tensor.contiguous().numpy() for tensor in (reading.weights, reading.inputs)]
        forms = [(list(array.shape), str(array.dtype)) for array in codes]
        asked = [reading.purpose, reading.block, plain_conditions(reading.conditions), forms]
        digest.update(json.dumps(asked).encode())
        for array in codes:
            digest.update(array.tobytes())
    return digest.hexdigest()


def plain_conditions(conditions: Mapping[str, float | str]) -> dict[str, float | str]:
    """As JSON gives them back: by name, numbers as floats."""
    return {name: value if isinstance(value, str) else float(value) for name, value in sorted(conditions.items())}


def code_version() -> str:
    """Of this photonic."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "not installed"


def write_header(folder: Path, header: RawHeader) -> str:
    """Writes it whole or not at all, and gives its sha256.

    Raises:
        OSError: it cannot be written.
    """
    content = header.model_dump(mode="json")
    digest = _digest(content)
    temporary = folder / f".{PLAN}.tmp"
    with temporary.open("wb") as file:
        file.write((json.dumps({**content, "sha256": digest}, indent=2, allow_nan=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / PLAN)
    if os.name == "posix":  # elsewhere a folder cannot be forced to the disk
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    return digest


def read_header(folder: Path) -> tuple[RawHeader, str]:
    """The header and its sha256.

    Raises:
        CalibrationError: the folder has none.
        RecordVersionError: it has another schema version, or fields that this photonic does not know.
        EditedRecordError: it was changed after it was saved, or is damaged.
    """
    path = folder / PLAN
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise CalibrationError(
            f"{folder} holds no raw data of a calibration: {PLAN} cannot be read: {error.strerror or error}"
        ) from error
    except ValueError as error:  # of JSON, of UTF-8
        raise EditedRecordError(f"{path} is damaged: expected JSON, found {error}; measure again") from error
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found != VERSION:
        raise RecordVersionError(
            f"{path} has schema version {found!r}, this photonic reads version {VERSION}; open it with the version of "
            "photonic that wrote it"
        )
    stated, digest = content.pop("sha256", None), _digest(content)
    if stated != digest:
        raise EditedRecordError(
            f"{path} was changed after it was saved: its sha256 should be {digest}, found {stated}; take the folder as "
            "it was saved, or measure again"
        )
    try:
        return RawHeader(**content), digest
    except RecordError as error:
        raise RecordVersionError(
            f"{path} was written by photonic {content.get('code_version')} and does not fit this one: {error}; open it "
            "with that version"
        ) from error


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text}, which no JSON has")
