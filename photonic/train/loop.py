"""One model in training: the plain PyTorch loop, with every random draw keyed by the run's seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photonic.errors import RunError
from photonic.physics import seeds
from photonic.train.config import TrainConfig

# images in one evaluation batch; a constant, since a per-batch input range makes it part of a photonic result
EVALUATION_BATCH = 256


@contextmanager
def seeded_globally(*key: int | str) -> Iterator[None]:
    """Seeds torch's global CPU generator from a key for a block, and gives the user's state back afterwards.

    Torch's initialisers and its dropout take no generator, so the global one is the only way to key them. Only the
    CPU's is touched: nothing here draws on another device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeds.derive(*key))
        yield


class Learner:
    """A model with its optimiser, schedule and data order: all that a checkpoint must hold of it.

    Args:
        name: for people and files.
        model: trained in place.
        config: of the run.
    """

    def __init__(self, name: str, model: nn.Module, config: TrainConfig) -> None:
        self.name, self.model, self._config = name, model, config
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, config.epochs)
        # one stream for each learner, from the same key: control and photonic model see the same batches
        self._order = seeds.generator("order", config.seed)

    def epoch(self, epoch: int, x: Tensor, y: Tensor, stepped: Callable[[], None]) -> dict[str, float]:
        """Trains on all images once and returns the mean loss and the accuracy while learning.

        Raises:
            RunError: the loss is no longer a finite number.
        """
        self.model.train()
        loss_sum, correct = 0.0, 0
        # keyed by epoch, so that dropout needs no state in the checkpoint; the same masks for both models
        with seeded_globally("dropout", self._config.seed, epoch):
            for batch in self._batches(len(x)):
                logits = self.model(x[batch])
                loss = F.cross_entropy(logits, y[batch])
                self._check_finite(float(loss.detach()), epoch)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                loss_sum += float(loss.detach()) * len(batch)
                correct += int((logits.detach().argmax(1) == y[batch]).sum())
                stepped()
        self.scheduler.step()
        return {"train_loss": loss_sum / len(x), "train_accuracy": correct / len(x)}

    def state(self) -> dict[str, Any]:
        """For ``torch.save``; tensors, numbers, strings and containers only."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "order": self._order.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what ``state()`` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self._order.set_state(state["order"])

    def _batches(self, count: int) -> tuple[Tensor, ...]:
        # sizes differ by at most one: a last batch of a single image would stop BatchNorm
        return torch.randperm(count, generator=self._order).tensor_split(steps(count, self._config.batch_size))

    def _check_finite(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            raise RunError(
                f"the loss of the {self.name} model is {loss} in epoch {epoch}: training diverged; "
                f"lower --lr (now {self._config.lr:g})"
            )


def steps(count: int, batch_size: int) -> int:
    """Batches of an epoch."""
    return math.ceil(count / batch_size)


def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Accuracy on all images, in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        return sum(
            int((model(images).argmax(1) == labels).sum())
            for images, labels in zip(x.split(EVALUATION_BATCH), y.split(EVALUATION_BATCH), strict=True)
        ) / len(x)
