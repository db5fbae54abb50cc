"""The folder of a run: every file is whole or absent, whenever the process is killed."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import torch

from photonic.errors import RecordError, RunError
from photonic.train.config import TrainConfig
from photonic.train.result import Result

CONFIG, METRICS, CHECKPOINT = "config.json", "metrics.jsonl", "checkpoint.pt"
RESULT, CURVES, TENSORBOARD = "result.json", "curves.png", "tensorboard"
SCHEMA_VERSION = 2  # of the checkpoint

Metrics = dict[str, Any]


class RunFolder:
    """Reads and writes the files of one run; use ``create`` or ``open``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: TrainConfig) -> RunFolder:
        """Makes the folder and writes its config.

        Raises:
            RunError: it holds something already, or cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise RunError(f"{path} is not empty; continue it with --resume {path}, or give another --out")
        except OSError as error:
            raise RunError(f"cannot make the run folder {path}: {error.strerror}; give another --out") from error
        folder = cls(path)
        folder._write_json(CONFIG, config.model_dump(mode="json"))
        folder.write_metrics([])
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Opens the folder of an earlier run, and removes what a killed process left half-written.

        Raises:
            RunError: it is no run folder.
        """
        if not (path / CONFIG).is_file():
            raise RunError(f"{path} is no run folder: it holds no {CONFIG}")
        for leftover in path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        return cls(path)

    def config(self) -> TrainConfig:
        """The run's config.

        Raises:
            RunError: the file is damaged, or from another version of photonic.
        """
        return TrainConfig(**self._read_json(CONFIG))

    def result(self) -> Result | None:
        """The result of a finished run, or None."""
        return Result(**self._read_json(RESULT)) if (self.path / RESULT).exists() else None

    def write_result(self, result: Result) -> None:
        """Marks the run as finished."""
        self._write_json(RESULT, result.model_dump(mode="json"))

    def append_metrics(self, rows: Sequence[Metrics]) -> None:
        """Adds whole lines and waits until they are on the disk."""
        with self._guard(METRICS), (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(_lines(rows))
            file.flush()
            os.fsync(file.fileno())

    def write_metrics(self, rows: Sequence[Metrics]) -> int:
        """Makes the file hold exactly these rows, and returns how many lines it held beyond them."""
        path = self.path / METRICS
        text = _lines(rows)
        with self._guard(METRICS):
            found = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            if found == text and path.exists():
                return 0
            with replacing(path) as file:
                file.write(text.encode())
        return max(0, len(found.splitlines()) - len(rows))

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replaces the checkpoint."""
        with self._guard(CHECKPOINT), replacing(self.path / CHECKPOINT) as file:
            torch.save({"schema_version": SCHEMA_VERSION, **state}, file)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None if the run was stopped before its first.

        Raises:
            RunError: the file is damaged, or from another version of photonic.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise RunError(f"{path} is damaged and cannot be resumed from; delete it to start the run anew") from error
        if state.get("schema_version") != SCHEMA_VERSION:
            raise RunError(f"{path}: expected schema_version {SCHEMA_VERSION}, found {state.get('schema_version')!r}")
        return state

    def discard_unless_begun(self) -> None:
        """Removes the folder, which this run made, if it holds no checkpoint."""
        if not (self.path / CHECKPOINT).exists():
            shutil.rmtree(self.path, ignore_errors=True)

    def write_curves(self, png: io.BytesIO) -> None:
        """Writes the picture of the learning curves."""
        with self._guard(CURVES), replacing(self.path / CURVES) as file:
            file.write(png.getbuffer())

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        with self._guard(name), replacing(self.path / name) as file:
            file.write((json.dumps(content, indent=2) + "\n").encode())

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise RecordError(f"{path}: expected a JSON object, found {type(content).__name__}")
        return content

    @contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"cannot write {self.path / name}: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` when the block ends well; else ``path`` stays as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def default_folder(config: TrainConfig) -> Path:
    """``runs/<UTC time>-<model>-<data>-<backend>-seed<N>``, with a number behind it where that is taken."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    data = Path(config.data).stem or "data"
    parts = [time, config.model, data, config.backend, f"seed{config.seed}"]
    name = "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-.") for part in parts)
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def _lines(rows: Sequence[Metrics]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
