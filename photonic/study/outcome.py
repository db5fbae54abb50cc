"""What a finished cell found."""

from __future__ import annotations

import hashlib
import platform
from importlib import resources
from typing import Literal

import torch
from pydantic import AwareDatetime, Field

from photonic.calibration.rawheader import code_version
from photonic.records import Record
from photonic.study.cell import Cell

Status = Literal["finished", "at chance", "fell", "diverged"]


class Outcome(Record):
    """The numbers of one training; per epoch, oldest first."""

    schema_version: Literal[1] = 1
    cell: Cell
    status: Status = Field(description="finished all epochs, or why it was stopped early")
    train_loss: tuple[float | None, ...] = Field(description="mean of an epoch; None where it is not finite")
    train_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...] = Field(min_length=1, description="on the test images, under the cell's noise")
    seconds: float = Field(ge=0, description="wall time, of all parts of an interrupted cell")
    threads: int = Field(ge=1, description="of torch; part of what bit-identical means")
    train_images: int
    test_images: int
    n_classes: int
    parameters: int
    warnings: tuple[str, ...] = Field(default=(), description="given while the network was built and trained")
    code: str = Field(description="version of photonic and a hash of its source")
    torch: str
    python: str
    machine: str
    finished: AwareDatetime

    @property
    def last(self) -> float:
        """Accuracy at the last epoch."""
        return self.test_accuracy[-1]

    @property
    def maximum(self) -> float:
        """The study's figure: the largest accuracy of all epochs, chosen on the test images."""
        return max(self.test_accuracy)


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {
        "code": f"{code_version()}+{source_hash()}",
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def source_hash() -> str:
    """A hash of this package's Python files: a version number alone does not tell two checkouts apart."""
    digest = hashlib.sha256()
    root = resources.files("photonic")
    for path in sorted(root.rglob("*.py")):  # type: ignore[attr-defined]  # an installed package is a folder
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
