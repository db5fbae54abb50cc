"""Raw counts of a sweep on disk, before anything is fitted: crash-safe, resumable, and enough to fit again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from photonic.calibration import rawfiles
from photonic.calibration.reading import Reading, Taken
from photonic.errors import CalibrationError, RecordError
from photonic.records import ChipSpec

_CHUNK_READINGS, _CHUNK_S = 64, 2.0


class RawStore:
    """A folder of readings.

    Args:
        folder: exists and has a header.
        header: its content.
        entries: of its journal.

    Attributes:
        folder: where it lies.
        spec: of the chip that was measured.
        done: readings that are on the disk or about to be.
    """

    def __init__(self, folder: Path, header: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        self.folder, self._header, self._entries = folder, header, entries
        self.spec = ChipSpec(**header["spec"])
        self._waiting: list[Taken] = []
        self._flushed = time.monotonic()

    @classmethod
    def create(
        cls, folder: Path, spec: ChipSpec, plan: Sequence[Reading], *, budget: int, seed: int | None = None
    ) -> RawStore:
        """Makes a new folder for a plan.

        Raises:
            CalibrationError: the folder holds something, or cannot be made.
        """
        if folder.exists() and any(folder.iterdir()):
            raise CalibrationError(f"{folder} is not empty; open it to go on with its sweep, or choose another")
        header = {
            "version": rawfiles.VERSION,
            "spec": spec.model_dump(mode="json"),
            "plan_sha256": plan_digest(plan),
            "readings": len(plan),
            "shots": sum(len(reading.inputs) for reading in plan),
            "budget": budget,
            "seed": seed,
            "started": datetime.now(UTC).isoformat(),
            "code_version": version("photonic-torch"),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            rawfiles.write_file(folder / rawfiles.HEADER, json.dumps(header, indent=2).encode())
        except OSError as error:
            raise CalibrationError(f"{folder} cannot be written: {error}") from error
        return cls(folder, header, [])

    @classmethod
    def open(cls, folder: Path) -> RawStore:
        """Opens a folder, whole or broken off.

        Raises:
            CalibrationError: not such a folder, of another version, or damaged.
        """
        try:
            header = json.loads((folder / rawfiles.HEADER).read_text())
            if header["version"] != rawfiles.VERSION:
                raise CalibrationError(
                    f"{folder} has version {header['version']!r}, this photonic reads {rawfiles.VERSION}; sweep again"
                )
            return cls(folder, header, rawfiles.read_journal(folder))
        except (OSError, ValueError, KeyError, TypeError, RecordError) as error:
            raise CalibrationError(f"{folder} holds no raw readings: {error}") from error

    def check(self, spec: ChipSpec, plan: Sequence[Reading]) -> None:
        """Refuses to go on with another chip or another plan.

        Raises:
            CalibrationError: which of the two.
        """
        if spec != self.spec:
            raise CalibrationError(
                f"{self.folder} was measured on {self.spec.chip_id}, the chip is {spec.chip_id} or states other "
                "values; choose another folder"
            )
        if plan_digest(plan) != self._header["plan_sha256"]:
            raise CalibrationError(
                f"{self.folder} follows another plan (budget, seed or version); choose another folder"
            )

    @property
    def done(self) -> int:
        """Readings so far."""
        return sum(int(entry["readings"]) for entry in self._entries) + len(self._waiting)

    @property
    def complete(self) -> bool:
        """Whether the whole plan was measured."""
        return self.done == int(self._header["readings"])

    @property
    def header(self) -> dict[str, Any]:
        """What is measured: budget, seed, start, version of the code."""
        return dict(self._header)

    @property
    def sha256(self) -> str:
        """Of all chunks, in order."""
        return hashlib.sha256("".join(str(entry["sha256"]) for entry in self._entries).encode()).hexdigest()

    def append(self, taken: Taken) -> None:
        """Keeps a reading; on the disk at latest two seconds, or 64 readings, later."""
        self._waiting.append(taken)
        if len(self._waiting) >= _CHUNK_READINGS or time.monotonic() - self._flushed > _CHUNK_S:
            self.flush()

    def flush(self) -> None:
        """Writes what waits.

        Raises:
            CalibrationError: the disk is full, or the folder is gone.
        """
        self._flushed = time.monotonic()
        if not self._waiting:
            return
        content = rawfiles.pack(self._waiting)
        name = f"chunk-{len(self._entries):05d}.npz"
        entry = {
            "file": name,
            "readings": len(self._waiting),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        try:
            rawfiles.write_file(self.folder / name, content)
            rawfiles.append_line(self.folder / rawfiles.JOURNAL, entry)
        except OSError as error:
            raise CalibrationError(f"{self.folder} cannot be written: {error}; make room and go on") from error
        self._entries.append(entry)
        self._waiting = []

    def taken(self) -> list[Taken]:
        """All readings, in order."""
        self.flush()
        return [
            item
            for entry in self._entries
            for item in rawfiles.unpack(self.folder / str(entry["file"]), str(entry["sha256"]))
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def plan_digest(plan: Sequence[Reading]) -> str:
    """sha256 of everything that a plan asks."""
    digest = hashlib.sha256()
    for reading in plan:
        digest.update(json.dumps([reading.purpose, dict(reading.conditions), reading.block]).encode())
        digest.update(reading.weights.contiguous().numpy().tobytes())
        digest.update(reading.inputs.contiguous().numpy().tobytes())
    return digest.hexdigest()
