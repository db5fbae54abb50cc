"""One network in training: draws are keyed by the cell's seed, and after an epoch another process may go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from photonic.physics import seeds
from photonic.study.built import Built
from photonic.study.cell import Cell
from photonic.study.images import Samples
from photonic.study.outcome import Status
from photonic.train.loop import evaluate, seeded_globally, steps

# the study's rules
CHANCE_FROM_EPOCH, CHANCE_FACTOR, FALL = 10, 1.25, 0.05


class Training:
    """Trains the network of a cell, epoch by epoch.

    The order of the images and the dropout are keyed by seed and epoch, so that a checkpoint needs no state of theirs
    and all activations of a seed see the same batches.

    Args:
        cell: what to train, and how.
        built: its network, trained in place.
        samples: its images.
        stepped: called after every batch; what it raises ends the training.

    Attributes:
        train_loss: per epoch; None where it is not finite.
        train_accuracy: per epoch, of the noisy network while it learnt.
        test_accuracy: per epoch, under the cell's noise.
        status: None while there are epochs left.
    """

    def __init__(self, cell: Cell, built: Built, samples: Samples, stepped: Callable[[], None]) -> None:
        self.cell, self.built, self._samples, self._stepped = cell, built, samples, stepped
        self._optimizer = torch.optim.Adam(built.network.parameters(), lr=cell.lr, weight_decay=cell.weight_decay)
        self.train_loss: list[float | None] = []
        self.train_accuracy: list[float] = []
        self.test_accuracy: list[float] = []
        self.status: Status | None = None

    def epoch(self) -> None:
        """Trains on all images once, tests, and decides whether to go on."""
        epoch, network = len(self.test_accuracy) + 1, self.built.network
        self._set_lr(epoch)
        self.built.begin_epoch(epoch)
        network.train()
        with seeded_globally("study dropout", self.cell.seed, epoch):
            loss, correct, count = self._learn(epoch)
        finite = math.isfinite(loss)
        self.train_loss.append(loss if finite else None)
        self.train_accuracy.append(correct / count)
        self.test_accuracy.append(evaluate(network, self._samples.test_x, self._samples.test_y))
        self.status = self._judge(epoch, finite)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "cell": self.cell.hash,
            "network": self.built.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "noise": self.built.state(),
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
            "test_accuracy": self.test_accuracy,
            "status": self.status,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what ``state()`` gave."""
        self.built.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.built.restore(state["noise"])
        self.train_loss, self.train_accuracy = list(state["train_loss"]), list(state["train_accuracy"])
        self.test_accuracy, self.status = list(state["test_accuracy"]), state["status"]

    def _learn(self, epoch: int) -> tuple[float, int, int]:
        """Sum of the losses per image, right answers and images of an epoch; stops at a loss that is no number."""
        x, y, network = self._samples.train_x, self._samples.train_y, self.built.network
        total, correct, count = 0.0, 0, 0
        for batch in self._batches(epoch, y):
            logits = network(x[batch])
            loss = F.cross_entropy(logits, y[batch])
            value = float(loss.detach())
            count += len(batch)
            correct += int((logits.detach().argmax(1) == y[batch]).sum())
            total += value * len(batch)
            if not math.isfinite(value):
                break
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self._stepped()
        return total / count, correct, count

    def _batches(self, epoch: int, y: Tensor) -> tuple[Tensor, ...]:
        order = seeds.generator("study order", self.cell.seed, epoch)
        # sizes differ by at most one: a last batch of a single image would stop BatchNorm
        return torch.randperm(len(y), generator=order).tensor_split(steps(len(y), self.cell.batch_size))

    def _set_lr(self, epoch: int) -> None:
        cell = self.cell
        falling = 0.5 * (1 + math.cos(math.pi * (epoch - 1) / cell.epochs)) if cell.schedule == "cosine" else 1.0
        for group in self._optimizer.param_groups:
            group["lr"] = cell.lr * falling

    def _judge(self, epoch: int, finite: bool) -> Status | None:
        rule = self.cell.early_stopping
        if not finite:
            return "diverged"
        if epoch == self.cell.epochs:
            return "finished"
        floor = CHANCE_FACTOR / self._samples.n_classes
        if rule != "off" and epoch >= CHANCE_FROM_EPOCH and self.train_accuracy[-1] < floor:
            return "at chance"
        if rule == "study" and self.test_accuracy[-1] < max(self.test_accuracy) - FALL:
            return "fell"
        return None
