"""A run in memory: the digital control and the photonic model, side by side, epoch by epoch."""

from __future__ import annotations

import copy
import hashlib
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from photonic.data import Dataset
from photonic.errors import DISTRIBUTION, RunError, SpecError
from photonic.models.networks import build_model
from photonic.train.config import TrainConfig
from photonic.train.evaluation import PASSES, chip_usage, counters, layer_uses, measure_accuracy, restore_counters
from photonic.train.events import EventWriter
from photonic.train.loop import Learner, evaluate, seeded_globally, steps
from photonic.train.opened import RunBackends
from photonic.train.plot import draw_curves
from photonic.train.progress import Progress
from photonic.train.result import Accuracy, ChipUse, Result, Seconds
from photonic.train.runs import TENSORBOARD, Metrics, RunFolder
from photonic.train.warned import noting


class Session:
    """One run between two checkpoints. Nothing is written before ``run``.

    Args:
        config: of the run.
        dataset: images and labels.
        backends: opened.
        progress: is told how it goes.
        started: when the clock of this process started, by ``time.perf_counter``.

    Raises:
        PhotonicError: a model that cannot be built or converted as asked.
    """

    def __init__(
        self, config: TrainConfig, dataset: Dataset, backends: RunBackends, progress: Progress, started: float
    ) -> None:
        self.config, self.dataset, self._backends, self._progress = config, dataset, backends, progress
        self.epoch, self.history = 0, list[Metrics]()
        self._warnings = list(backends.warnings)
        self._fingerprint = _fingerprint(dataset)
        self._started, self._seconds_before = started, 0.0
        control = self._build()
        photonic = copy.deepcopy(control)
        backends.convert_(photonic)
        # neither model sees a random draw of the other; a table or a plot reads them in this order
        self._control, self._photonic = Learner("digital", control, config), Learner("photonic", photonic, config)

    def run(self, folder: RunFolder) -> Result:
        """Trains the epochs that are left, evaluates, and writes everything."""
        self._progress.folder(folder.path)
        with EventWriter(folder.path / TENSORBOARD, first_epoch=self.epoch + 1) as events:
            self._train(folder, events)
            result = self._result(self._evaluate(), folder.path)
            events.accuracy(result.accuracy, self.config.epochs)
        folder.write_curves(draw_curves(self.history, result))
        # last: a folder with a result is a finished run
        folder.write_result(result)
        return result

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a checkpoint.

        Raises:
            RunError: it does not belong to this data, these backends or this model.
        """
        if state["data"] != self._fingerprint:
            raise RunError(
                f"the data {self.config.data} changed since the run was started; restore it or start a new run"
            )
        try:
            for learner in (self._control, self._photonic):
                learner.restore(state["learners"][learner.name])
            restore_counters(self._photonic.model, state["counters"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise RunError(f"the checkpoint does not fit this version's {self.config.model}: {error}") from error
        self._backends.restore(state["backends"])
        self.epoch, self.history = state["epoch"], state["history"]
        self._seconds_before = state["seconds"]

    def _train(self, folder: RunFolder, events: EventWriter) -> None:
        config = self.config
        per_model = steps(len(self.dataset.train_x), config.batch_size)
        self._progress.stage("training", (config.epochs - self.epoch) * 2 * per_model)
        for epoch in range(self.epoch + 1, config.epochs + 1):
            rows = [self._learn(learner, epoch) for learner in (self._control, self._photonic)]
            self.epoch, self.history = epoch, self.history + rows
            # metrics before the checkpoint: a kill between the two leaves lines too many, which resuming drops
            folder.append_metrics(rows)
            folder.save_checkpoint(self._state())
            events.epoch(rows)

    def _learn(self, learner: Learner, epoch: int) -> Metrics:
        data, started = self.dataset, time.perf_counter()
        text = f"epoch {epoch}/{self.config.epochs} {learner.name}"
        trained = learner.epoch(epoch, data.train_x, data.train_y, lambda: self._progress.step(text))
        return {
            "epoch": epoch,
            "model": learner.name,
            **trained,
            "test_accuracy": evaluate(learner.model, data.test_x, data.test_y),
            "seconds": time.perf_counter() - started,
        }

    def _evaluate(self) -> Accuracy:
        self._progress.stage(f"evaluating, {PASSES} noisy passes", PASSES + 2)
        data = self.dataset
        return measure_accuracy(
            self._control.model, self._photonic.model, data.test_x, data.test_y, self._progress.step
        )

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "history": self.history,
            "learners": {learner.name: learner.state() for learner in (self._control, self._photonic)},
            "backends": self._backends.state(),
            "counters": counters(self._photonic.model),
            "seconds": self._seconds(),
            "data": self._fingerprint,
        }

    def _build(self) -> nn.Module:
        config, data = self.config, self.dataset
        c, h, w = data.train_x.shape[1:]
        with noting(self._warnings), seeded_globally("weights", config.seed):
            model = build_model(config.model, (c, h, w), data.n_classes, config.activation)
        count = len(data.train_x)
        smallest = count // steps(count, config.batch_size)
        if smallest < 2 and any(isinstance(module, _BatchNorm) for module in model.modules()):
            raise SpecError(
                f"model {config.model} normalises over a batch and needs at least 2 images in each, "
                f"found {count} images in batches of {config.batch_size}; raise --batch-size or --limit"
            )
        return model

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def _result(self, accuracy: Accuracy, out: Path) -> Result:
        config, opened, model = self.config, self._backends.described(), self._photonic.model
        usage = chip_usage(model)
        total = self._seconds()
        bits = [backend.enob for backend in opened if backend.enob is not None]
        return Result(
            accuracy=accuracy,
            backends=opened,
            enob=min(bits) if bits else None,
            saturated_fraction=usage.saturated_fraction,
            layers=layer_uses(model),
            chip=ChipUse(calls=usage.calls, tiles_programmed=usage.tiles_programmed, shots=usage.shots),
            seconds=Seconds(chip=usage.seconds, outside=total - usage.seconds, total=total),
            nominal=any(backend.nominal for backend in opened),
            warnings=tuple(self._warnings),
            out=str(out),
            train_images=len(self.dataset.train_x),
            test_images=len(self.dataset.test_x),
            threads=torch.get_num_threads(),
            versions=_versions(),
            **config.model_dump(exclude={"schema_version", "limit"}),
        )


def _fingerprint(dataset: Dataset) -> str:
    """A hash of all images and labels: a resumed run must see the same ones."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in (dataset.train_x, dataset.train_y, dataset.test_x, dataset.test_y):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    try:
        own = version(DISTRIBUTION)
    except PackageNotFoundError:
        own = "not installed"
    return {"photonic": own, "torch": str(torch.__version__), "python": platform.python_version()}
