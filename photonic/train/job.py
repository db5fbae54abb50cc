"""The two ways into a run: a new one, and one that was interrupted."""

from __future__ import annotations

import time
from pathlib import Path

from photonic.data import load_dataset
from photonic.errors import PhotonicError
from photonic.train.config import TrainConfig
from photonic.train.opened import RunBackends
from photonic.train.progress import Progress
from photonic.train.result import Result
from photonic.train.runs import METRICS, RunFolder, default_folder
from photonic.train.session import Session


def train(
    config: TrainConfig, *, out: Path | None = None, download: bool = False, progress: Progress | None = None
) -> Result:
    """Trains a digital control and a photonic model, evaluates both, and saves the run.

    Args:
        config: what decides the numbers.
        out: the run's folder, new or empty; default ``runs/<UTC time>-<model>-<data>-<backend>-seed<N>``.
        download: whether torchvision may fetch a data set that is not there.
        progress: is told how it goes.

    Returns:
        What ``result.json`` in the folder holds.

    Raises:
        PhotonicError: nothing is written unless data, model and backends are all as asked.
    """
    started = time.perf_counter()
    dataset = load_dataset(config.data, download=download, limit=config.limit)
    with RunBackends(config) as backends:
        session = Session(config, dataset, backends, progress or Progress(), started)
        folder = RunFolder.create(out or default_folder(config), config)
        try:
            return session.run(folder)
        except PhotonicError:
            # a run that failed in its first epoch has nothing to go on with, and is not in the way of the next
            folder.discard_unless_begun()
            raise


def resume(run: Path, *, download: bool = False, progress: Progress | None = None) -> Result:
    """Goes on with a run from its last checkpoint and ends with the numbers of an uninterrupted one.

    A run that was stopped before its first checkpoint starts anew; of a finished one the result is returned.

    Args:
        run: the folder of the run.
        download: as in ``train``.
        progress: is told how it goes.

    Raises:
        RunError: no run folder, a damaged file, or data that changed since.
        PhotonicError: as ``train``.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    folder = RunFolder.open(run)
    config, done = folder.config(), folder.result()
    if done is not None:
        progress.note(f"{run} is finished; this is its result")
        return done
    checkpoint = folder.load_checkpoint()
    dataset = load_dataset(config.data, download=download, limit=config.limit)
    with RunBackends(config) as backends:
        session = Session(config, dataset, backends, progress, started)
        if checkpoint is not None:
            session.restore(checkpoint)
        dropped = folder.write_metrics(session.history)
        where = f"after epoch {session.epoch} of {config.epochs}" if session.epoch else "from the start: no checkpoint"
        lost = f"; {dropped} lines of {METRICS} that no checkpoint covers were dropped" if dropped else ""
        progress.note(f"resuming {where}{lost}")
        return session.run(folder)
