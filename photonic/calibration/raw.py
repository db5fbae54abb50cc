"""The raw data of a calibration on disk: what was asked and what the chip answered, before anything is fitted.

A folder: ``plan.json`` (the chip's spec, where the plan came from, and its hash), ``journal.jsonl`` (one line for each
reading) and ``data.bin`` (the arrays of each reading, see ``packing``; how both survive a killed process is in
``journal``). The patterns are in it once, with the counts that they gave, so that the data can be fitted again without
the chip and without the code that made the plan.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from photonic.calibration.journal import DATA, JOURNAL, Journal
from photonic.calibration.packing import pack, unpack
from photonic.calibration.rawheader import (
    PLAN,
    RawHeader,
    code_version,
    plain_conditions,
    plan_sha256,
    read_header,
    write_header,
)
from photonic.calibration.reading import Reading, Taken
from photonic.errors import CalibrationError, ClosedError, EditedRecordError, ShapeError
from photonic.records import ChipSpec

# whichever comes first; a power failure, unlike a killed process, loses what came after the last time
_SYNC_READINGS, _SYNC_S = 64, 2.0


@dataclass(frozen=True)
class Note:
    """What a sweep adds to a reading.

    Attributes:
        flag: what looks wrong with it, e.g. "rails"; "" where it looks well; None where that cannot be told.
        state: ``Chip.state()`` after it, for a resumed sweep; None where JSON cannot hold it.
    """

    flag: str | None = None
    state: Mapping[str, Any] | None = None


class RawStore:
    """Readings in a folder, appended one by one; use ``create`` or ``open``. A context manager.

    ``open`` changes nothing on the disk; the first ``append`` removes what a killed process left half-written.

    Attributes:
        folder: as given.
        header: of the folder.
    """

    def __init__(self, folder: Path, header: RawHeader, journal: Journal) -> None:
        self.folder, self.header = folder, header
        self._journal = journal
        self._closed = False
        self._synced_s = time.monotonic()

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        spec: ChipSpec,
        plan: Sequence[Reading],
        *,
        seed: int | None,
        budget: int,
        instruments: Mapping[str, str] | None = None,
    ) -> Self:
        """Makes the folder for a plan of which nothing is measured yet.

        Args:
            folder: new, or empty.
            spec: of the chip.
            plan: the readings, in order.
            seed: that the plan was drawn with.
            budget: shots that the plan was made for.
            instruments: around the chip, by role.

        Raises:
            CalibrationError: the folder holds something already, or cannot be written.
            RecordError: an empty plan, or a budget below 1.
        """
        target = Path(folder)
        header = RawHeader(
            code_version=code_version(),
            started=datetime.now(UTC),
            seed=seed,
            budget=budget,
            plan_sha256=plan_sha256(plan),
            readings=len(plan),
            shots=sum(len(reading.inputs) for reading in plan),
            spec=spec,
            instruments=dict(instruments or {}),
        )
        try:
            target.mkdir(parents=True, exist_ok=True)
            _require_empty(target)
            Journal.create(target)
            digest = write_header(target, header)  # last: a folder with a header is complete
        except OSError as error:
            raise CalibrationError(f"cannot make the folder {target} of raw data: {error.strerror or error}") from error
        return cls(target, header, Journal(target, digest))

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """Opens the raw data of an earlier sweep, finished or not, to fit it again or to go on.

        Raises:
            CalibrationError: it is no such folder, or not readable.
            RecordVersionError: it has another schema version.
            EditedRecordError: it was changed after it was saved, or is damaged.
        """
        target = Path(folder)
        header, digest = read_header(target)
        store = cls(target, header, Journal(target, digest))
        if store.done > header.readings:
            raise EditedRecordError(f"{target} holds {store.done} readings of a plan of {header.readings}")
        return store

    @property
    def spec(self) -> ChipSpec:
        """Of the chip, as it was when the sweep began."""
        return self.header.spec

    @property
    def started(self) -> datetime:
        """When the folder was made, UTC."""
        return self.header.started

    @property
    def sha256(self) -> str:
        """Of everything so far: the header, and each reading with all that is known of it, in order."""
        return self._journal.sha256

    @property
    def done(self) -> int:
        """How many readings are kept."""
        return len(self._journal)

    @property
    def notes(self) -> list[Note]:
        """Of each reading that is kept."""
        return [Note(**self._journal[index]["note"]) for index in range(self.done)]

    @property
    def purposes(self) -> list[str]:
        """Of each reading that is kept."""
        return [str(self._journal[index]["purpose"]) for index in range(self.done)]

    @property
    def last_note(self) -> Note:
        """Of the last reading; an empty one before the first."""
        return Note(**self._journal[self.done - 1]["note"]) if self.done else Note()

    @property
    def last_times(self) -> tuple[float, float] | None:
        """``clock_s`` and ``utc`` of the last reading; None before the first."""
        if self.done == 0:
            return None
        line = self._journal[self.done - 1]
        return line["clock_s"], line["utc"]

    def check_plan(self, plan: Sequence[Reading]) -> None:
        """Refuses a plan that is not the one the folder was made for.

        Raises:
            CalibrationError: it is another one.
        """
        kept = self.header
        found = plan_sha256(plan)
        if found != kept.plan_sha256:
            shots = sum(len(reading.inputs) for reading in plan)
            raise CalibrationError(
                f"{self.folder} belongs to another plan: expected {kept.readings:,} readings, {kept.shots:,} shots, "
                f"sha256 {kept.plan_sha256[:12]}, made by photonic {kept.code_version} with seed {kept.seed} and "
                f"budget {kept.budget:,}; found {len(plan):,} readings, {shots:,} shots, sha256 {found[:12]}, photonic "
                f"{code_version()}; resume with the plan that it was begun with, or measure into another folder"
            )

    def append(self, taken: Taken, note: Note | None = None) -> None:
        """Keeps a reading: from now on a killed process does not lose it, and after a few seconds nor a power failure.

        Args:
            taken: the next reading of the plan.
            note: what the sweep adds.

        Raises:
            ClosedError: after ``close()``.
            ShapeError: shapes or dtypes that do not fit the chip.
            CalibrationError: more readings than planned, a time that is no number or runs backwards, or a folder that
                cannot be written; what was appended before is kept.
        """
        if self._closed:
            raise ClosedError(f"the raw data in {self.folder} is closed; open it again with RawStore.open")
        self._check(taken)
        reading = taken.reading
        content = {
            "purpose": reading.purpose,
            "block": reading.block,
            "conditions": plain_conditions(reading.conditions),
            "shots": len(taken.counts),
            "clock_s": float(taken.clock_s),
            "telemetry": {name: _finite(value) for name, value in taken.telemetry.items()},
            "utc": float(taken.utc),
            "seconds": float(taken.seconds),
            "note": asdict(note or Note()),
        }
        self._journal.append(content, pack(_arrays(taken)))
        if self.done % _SYNC_READINGS == 0 or time.monotonic() - self._synced_s > _SYNC_S:
            self.flush()

    def flush(self) -> None:
        """Waits until all readings are on the disk.

        Raises:
            CalibrationError: the folder cannot be written.
        """
        self._journal.sync()
        self._synced_s = time.monotonic()

    def taken(self) -> list[Taken]:
        """All readings that are kept, in order.

        Raises:
            CalibrationError: the data cannot be read.
            EditedRecordError: it was changed since it was opened.
        """
        return [self._taken(self._journal[index], blob) for index, blob in enumerate(self._journal.blobs())]

    def reading(self, index: int) -> Taken:
        """One reading that is kept.

        Raises:
            CalibrationError: the data cannot be read.
            EditedRecordError: it was changed since it was opened.
        """
        return self._taken(self._journal[index], self._journal.blob(index))

    def drop_after(self, count: int) -> None:
        """Keeps the first ``count`` readings only: the ones behind were measured on a chip that no longer answered.

        Raises:
            ClosedError: after ``close()``.
            CalibrationError: the folder cannot be written.
        """
        if self._closed:
            raise ClosedError(f"the raw data in {self.folder} is closed; open it again with RawStore.open")
        self._journal.truncate(count)

    def close(self) -> None:
        """Flushes and closes; a second call does nothing.

        Raises:
            CalibrationError: the folder cannot be written.
        """
        self._closed = True
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except CalibrationError as unsaved:
            if error is None:
                raise
            error.add_note(str(unsaved))  # the first error, Ctrl-C perhaps, must not be replaced by this one

    def _check(self, taken: Taken) -> None:
        if self.done >= self.header.readings:
            raise CalibrationError(f"{self.folder} holds all {self.done} readings of its plan already; found one more")
        found = _arrays(taken)
        for name, (shape, dtype) in _forms(self.spec, len(taken.reading.inputs)).items():
            if tuple(found[name].shape) != shape or found[name].dtype != dtype:
                raise ShapeError(
                    f"reading {self.done}: expected {name} {shape} of {dtype}, "
                    f"found {tuple(found[name].shape)} of {found[name].dtype}"
                )
        times = {"clock_s": taken.clock_s, "utc": taken.utc, "seconds": taken.seconds}
        if not all(math.isfinite(value) for value in times.values()):
            raise CalibrationError(f"reading {self.done}: expected times in seconds, found {times}")
        last = self.last_times
        if last is not None and taken.clock_s < last[0]:
            raise CalibrationError(
                f"reading {self.done}: the chip's clock_s ran backwards from {last[0]:g} to {taken.clock_s:g}; "
                "without it drift cannot be told"
            )

    def _taken(self, line: dict[str, Any], blob: bytes) -> Taken:
        arrays = unpack(blob, _forms(self.spec, line["shots"]))
        reading = Reading(line["purpose"], arrays["weights"], arrays["inputs"], line["conditions"], line["block"])
        telemetry = {name: math.nan if value is None else value for name, value in line["telemetry"].items()}
        return Taken(reading, arrays["counts"], line["clock_s"], telemetry, line["utc"], line["seconds"])


def _arrays(taken: Taken) -> dict[str, torch.Tensor]:
    return {"weights": taken.reading.weights, "inputs": taken.reading.inputs, "counts": taken.counts}


def _forms(spec: ChipSpec, shots: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {
        "weights": ((spec.drives,), spec.code_dtype),
        "inputs": ((shots, spec.n_inputs), spec.code_dtype),
        "counts": ((shots, spec.n_outputs), spec.count_dtype),
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN: a monitor that showed none is null."""
    return float(value) if math.isfinite(value) else None


def _require_empty(folder: Path) -> None:
    """Refuses a folder with anything but what a process leaves that is killed while it makes one."""
    for path in folder.iterdir():
        empty = path.name in (JOURNAL, DATA) and path.stat().st_size == 0
        if path.name == PLAN or not (empty or path.name == f".{PLAN}.tmp"):
            raise CalibrationError(
                f"{folder} is not empty: it holds {path.name}; resume it, or give the raw data another folder"
            )
