"""A cell from beginning to end, in whichever process it runs."""

from __future__ import annotations

import json
import os
import pickle
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from photonic.errors import PhotonicError, RunError
from photonic.study.built import Built, record_files
from photonic.study.cell import Cell
from photonic.study.images import Samples, load_samples, name_of
from photonic.study.outcome import Outcome, versions
from photonic.study.store import PRETRAINED, StudyFolder
from photonic.study.training import Training
from photonic.train.runs import replacing

# a checkpoint costs some 30 ms; a cell of the digits lasts a second
CHECKPOINT_EVERY_S = 10.0


@dataclass(frozen=True)
class Setting:
    """What all workers of a study are told once.

    Attributes:
        folder: of the study; on a cluster without shared files a folder of its own on each machine.
        data_root: where named data sets lie; None: as ``load_dataset`` looks.
        threads: of torch, in each worker.
    """

    folder: Path
    data_root: Path | None
    threads: int


@dataclass(frozen=True)
class Reply:
    """What a worker says of a cell: it is done, or why it is not.

    Attributes:
        cell: its hash.
        outcome: None if it failed.
        inputs: hashes of what it read, by name.
        error: why it failed.
        trace: where, if that was no error of photonic's.
    """

    cell: str
    outcome: Outcome | None = None
    inputs: dict[str, str] | None = None
    error: str = ""
    trace: str = ""

    def to_json(self) -> str:
        """As text, to cross from one process to another."""
        outcome = None if self.outcome is None else self.outcome.model_dump(mode="json")
        return json.dumps({**vars(self), "outcome": outcome})

    @classmethod
    def from_json(cls, text: str) -> Reply:
        """Back from text."""
        content: dict[str, Any] = json.loads(text)
        outcome = content.pop("outcome")
        return cls(outcome=None if outcome is None else Outcome(**outcome), **content)


class Runner:
    """Runs cells one after the other, in a process that is theirs; keeps the images between them.

    Args:
        setting: of the study.
        stepped: called after every batch.
        epoch: told of every epoch of a cell that is done.
    """

    def __init__(
        self, setting: Setting, stepped: Callable[[], None] = lambda: None, epoch: Callable[[], None] = lambda: None
    ) -> None:
        torch.set_num_threads(setting.threads)
        self._setting, self._stepped, self._epoch = setting, stepped, epoch
        self._folder = StudyFolder(setting.folder)
        self._versions = versions()
        self._loaded: tuple[str, Samples, str] | None = None

    def attempt(self, cell: Cell) -> Reply:
        """Runs a cell; an error is part of the answer, so that the study's other cells go on."""
        try:
            outcome, inputs = self.run(cell)
        except PhotonicError as error:
            return Reply(cell.hash, error=str(error))
        except Exception as error:
            return Reply(cell.hash, error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
        return Reply(cell.hash, outcome, inputs)

    def run(self, cell: Cell) -> tuple[Outcome, dict[str, str]]:
        """Trains a cell from its checkpoint or from the beginning.

        Returns:
            What it found, and hashes of what it read.

        Raises:
            PhotonicError: a cell that cannot be built, data or records that are not there or changed.
        """
        samples, inputs = self._samples(cell)
        inputs |= record_files(cell)
        self._folder.refuse_changed(inputs)
        started, before = time.perf_counter(), 0.0
        start = self._pretrained(cell) if cell.pretrain_epochs else None
        said = list[str]()
        with _noting(said), Built(cell, samples.shape, samples.n_classes, start) as built:
            training = Training(cell, built, samples, self._stepped)
            saved = self._checkpoint(cell)
            if saved is not None:
                training.restore(saved["training"])
                before = saved["seconds"]
            self._train(cell, training, lambda: before + time.perf_counter() - started)
        seconds = before + time.perf_counter() - started
        return self._outcome(cell, training, samples, seconds, tuple(dict.fromkeys(said))), inputs

    def _train(self, cell: Cell, training: Training, seconds: Callable[[], float]) -> None:
        saved = time.perf_counter()
        while training.status is None:
            training.epoch()
            self._epoch()
            if training.status is None and time.perf_counter() - saved > CHECKPOINT_EVERY_S:
                content = {"training": training.state(), "seconds": seconds(), "threads": self._setting.threads}
                _save(self._folder.checkpoint(cell), content)
                saved = time.perf_counter()

    def _checkpoint(self, cell: Cell) -> dict[str, Any] | None:
        path = self._folder.checkpoint(cell)
        if not path.exists():
            return None
        content = _load(path)
        if content["training"]["cell"] != cell.hash or content["threads"] != self._setting.threads:
            path.unlink()  # an epoch more is cheaper than a number that depends on where the run was stopped
            return None
        return content

    def _pretrained(self, cell: Cell) -> dict[str, Any]:
        """The state of the clean network that this cell starts from; made once for all noise levels."""
        clean = cell.pretraining
        path = self._folder.path / PRETRAINED / f"{clean.hash}-{self._setting.threads}.pt"
        if not path.exists():
            samples = load_samples(clean, self._setting.data_root)
            with Built(clean, samples.shape, samples.n_classes, None) as built:
                training = Training(clean, built, samples, self._stepped)
                while training.status is None:
                    training.epoch()
                _save(path, {"network": built.network.state_dict()})
        state: dict[str, Any] = _load(path)["network"]
        return state

    def _samples(self, cell: Cell) -> tuple[Samples, dict[str, str]]:
        name = name_of(cell)
        if self._loaded is None or self._loaded[0] != name:
            samples = load_samples(cell, self._setting.data_root)
            self._loaded = name, samples, samples.sha256()
        return self._loaded[1], {name: self._loaded[2]}

    def _outcome(
        self, cell: Cell, training: Training, samples: Samples, seconds: float, said: tuple[str, ...]
    ) -> Outcome:
        return Outcome(
            cell=cell,
            status=training.status or "finished",
            train_loss=tuple(training.train_loss),
            train_accuracy=tuple(training.train_accuracy),
            test_accuracy=tuple(training.test_accuracy),
            seconds=seconds,
            threads=self._setting.threads,
            train_images=len(samples.train_y),
            test_images=len(samples.test_y),
            n_classes=samples.n_classes,
            parameters=sum(parameter.numel() for parameter in training.built.network.parameters()),
            warnings=said,
            finished=datetime.now(UTC),
            **self._versions,  # type: ignore[arg-type]  # the four are text
        )


@contextmanager
def _noting(texts: list[str]) -> Iterator[None]:
    """Adds the text of each warning inside the block to a list: they belong to the cell, not to a worker's terminal."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts += [str(warning.message) for warning in caught]


def _save(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(content, file)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise RunError(f"{path} is damaged; delete it to run its cell from the beginning") from error
    return content


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
