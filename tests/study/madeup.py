"""A small grid, and outcomes that nobody trained."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from photonic.study.cell import Cell
from photonic.study.outcome import Outcome

# four cells of a second together
TINY = """
name = "tiny"
title = "Tiny"

[base]
data = "digits"
train_images = 120
test_images = 100
network = "mlp"
backend = "digital"
epochs = 2
batch_size = 8
lr = 0.005
seed = [0, 1]

[[grid]]
activation = ["relu", "gelu"]
"""


def made_up(seed: int, test_accuracy: tuple[float, ...], **fields: Any) -> Outcome:
    """An outcome that nobody trained."""
    cell = Cell(**({"backend": "digital"} | fields), seed=seed, epochs=len(test_accuracy))
    return Outcome(
        cell=cell,
        status="finished",
        train_loss=tuple(1.0 for _ in test_accuracy),
        train_accuracy=test_accuracy,
        test_accuracy=test_accuracy,
        seconds=1.0,
        threads=1,
        train_images=100,
        test_images=100,
        n_classes=10,
        parameters=10,
        code="none",
        torch="none",
        python="none",
        machine="none",
        finished=datetime(2026, 1, 1, tzinfo=UTC),
    )
