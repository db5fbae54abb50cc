"""TensorBoard events of a run: ``tensorboard --logdir runs``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from photonic.train.result import Accuracy
from photonic.train.runs import Metrics


class EventWriter:
    """Writes scalars; a context manager.

    Args:
        path: folder of the event files.
        first_epoch: the first that will be written. What an interrupted run wrote from here on is hidden.
    """

    def __init__(self, path: Path, first_epoch: int) -> None:
        # tensorboard takes a second to import, which only a run that starts should pay
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(path), purge_step=first_epoch)

    def epoch(self, rows: Sequence[Metrics]) -> None:
        """Writes one epoch: a chart for each quantity, a line for each model."""
        for row in rows:
            for name in ("train_loss", "train_accuracy", "test_accuracy"):
                self._writer.add_scalar(f"{name}/{row['model']}", row[name], row["epoch"])
        self._writer.flush()

    def accuracy(self, accuracy: Accuracy, epochs: int) -> None:
        """Writes the final accuracies."""
        for name in ("digital", "photonic", "digital_same_weights"):
            self._writer.add_scalar(f"final_test_accuracy/{name}", getattr(accuracy, name), epochs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
