"""The images of a cell: the part of a data set that it uses, and a hash of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from photonic.data import load_dataset
from photonic.data.dataset import spaced
from photonic.errors import DataError
from photonic.study.cell import Images


@dataclass(frozen=True)
class Samples:
    """Images and labels of one cell.

    Attributes:
        train_x: (n, C, H, W) in [0, 1].
        train_y: (n,) labels from 0.
        test_x: as train_x.
        test_y: as train_y.
        n_classes: number of classes.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    n_classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        c, h, w = self.train_x.shape[1:]
        return c, h, w

    def sha256(self) -> str:
        """Of all of it, shortened."""
        digest = hashlib.sha256()
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]


def name_of(part: Images) -> str:
    """What a cell uses, for people and for the study's list of inputs."""
    text = f"{part.data}, {part.train_images or 'all'} images, {part.test_images or 'all'} for testing"
    if part.classes is not None:
        text += f", classes {' '.join(map(str, part.classes))}"
    return text if part.colour else f"{text}, gray"


def load_samples(part: Images, root: Path | None) -> Samples:
    """Loads what a cell uses; nothing is downloaded.

    Args:
        part: which images.
        root: where named sets are looked for; None: as ``load_dataset`` does.

    Raises:
        DataError: missing, or fewer images or classes than asked for.
    """
    sizes = (part.train_images, part.test_images)
    # with chosen classes the limit comes after the choice; and a limit reads fewer files
    limit = max(size for size in sizes if size) if all(sizes) and part.classes is None else None
    data = load_dataset(part.data, limit=limit, root=root)
    train = _chosen(part, "training", data.train_x, data.train_y, part.train_images)
    test = _chosen(part, "test", data.test_x, data.test_y, part.test_images)
    return Samples(*train, *test, data.n_classes if part.classes is None else len(part.classes))


def _chosen(part: Images, which: str, x: Tensor, y: Tensor, limit: int | None) -> tuple[Tensor, Tensor]:
    if part.classes is not None:
        x, y = _of_classes(part, which, x, y)
    if limit is not None and limit > len(y):
        raise DataError(f"{part.data} has {len(y)} {which} images to choose from, {limit} are asked for")
    some = spaced(len(y), limit)
    x, y = x[some], y[some]
    return x if part.colour else x.mean(1, keepdim=True), y


def _of_classes(part: Images, which: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    classes = torch.tensor(part.classes)
    if len(classes) < 2 or len(classes.unique()) < len(classes):
        raise DataError(f"{part.data}: classes must be at least two different ones, found {part.classes}")
    absent = [each for each in classes.tolist() if not bool((y == each).any())]
    if absent:
        raise DataError(f"{part.data} has no {which} images of the classes {absent}")
    hits = y[:, None] == classes
    kept = hits.any(1)
    return x[kept], hits[kept].long().argmax(1)
