"""A data set in memory, checked once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from photonic.errors import DataError

Arrays = tuple[np.ndarray, np.ndarray]

CHANNELS = (1, 3)
# of a set that comes without a test part: a fixed share, the same for every run
TEST_SHARE = 0.3
SPLIT_SEED = 0


@dataclass(frozen=True)
class Dataset:
    """Training and test part of a classification set.

    Attributes:
        name: what it was loaded as.
        train_x: (n, C, H, W), float32; images are in [0, 1], F features stand in one row, (n, 1, 1, F).
        train_y: (n,) labels, int64, 0 ... n_classes - 1.
        test_x: as train_x.
        test_y: as train_y.
        class_names: one for each class.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    class_names: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def limited(self, limit: int | None) -> Dataset:
        """At most ``limit`` training and ``limit`` test samples, evenly spaced through each part.

        Evenly spaced, because a file may be sorted by class.

        Raises:
            DataError: ``limit`` below 1.
        """
        if limit is None:
            return self
        train, test = spaced(len(self.train_y), limit), spaced(len(self.test_y), limit)
        return Dataset(
            self.name, self.train_x[train], self.train_y[train], self.test_x[test], self.test_y[test], self.class_names
        )


def spaced(count: int, limit: int | None) -> Tensor:
    """Indices of at most ``limit`` of ``count`` samples, evenly spaced, in order.

    Raises:
        DataError: ``limit`` below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit must be at least 1 sample, found {limit}")
    if limit is None or limit >= count:
        return torch.arange(count)
    return torch.arange(limit) * count // limit


def checked(
    name: str,
    train: Arrays,
    test: Arrays,
    class_names: tuple[str, ...] | None = None,
) -> Dataset:
    """Makes a Dataset of arrays: uint8 images become [0, 1]; labels must be 0 ... n - 1.

    Args:
        name: for messages.
        train: samples and labels.
        test: samples and labels.
        class_names: as many as classes; numbers if left out.

    Raises:
        DataError: empty, not finite, of two shapes, labels that are no classes, or a single class.
    """
    (train_x, train_y), (test_x, test_y) = (_part(name, part, *arrays) for part, arrays in _parts(train, test))
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(
            f"{name}: training samples are {tuple(train_x.shape[1:])}, test samples {tuple(test_x.shape[1:])}"
        )
    highest = int(max(train_y.max(), test_y.max()))
    names = tuple(str(i) for i in range(highest + 1)) if class_names is None else class_names
    if highest >= len(names):
        raise DataError(f"{name}: labels reach {highest}, but there are {len(names)} classes")
    if len(train_y.unique()) < 2:
        raise DataError(f"{name}: all training labels are {int(train_y[0])}; a classifier needs at least two classes")
    return Dataset(name, train_x, train_y, test_x, test_y, names)


def _parts(train: Arrays, test: Arrays) -> tuple[tuple[str, Arrays], ...]:
    return ("training", train), ("test", test)


def _part(name: str, part: str, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    """Samples and labels of one part as tensors."""
    if x.ndim not in (2, 3, 4) or y.ndim != 1 or len(x) != len(y):
        raise DataError(
            f"{name}: expected {part} samples (n, F), (n, H, W) or (n, C, H, W) and labels (n,), "
            f"found {x.shape} and {y.shape}"
        )
    if 0 in x.shape:
        raise DataError(f"{name}: the {part} part is empty, found {x.shape}")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise DataError(f"{name}: {part} labels must be whole numbers of at least 0, found {y.dtype}, from {y.min()}")
    return _samples(name, part, x), torch.from_numpy(y.astype(np.int64))


def _samples(name: str, part: str, x: np.ndarray) -> Tensor:
    """uint8 in [0, 255] to float32 in [0, 1], other numbers as they are; always (n, C, H, W), features as one row."""
    if x.dtype == np.uint8:
        samples = torch.from_numpy(np.ascontiguousarray(x)).float().div_(255)
    elif np.issubdtype(x.dtype, np.number) and not np.issubdtype(x.dtype, np.complexfloating):
        samples = torch.from_numpy(x.astype(np.float32))
    else:
        raise DataError(f"{name}: {part} samples must be real numbers, found {x.dtype}")
    if not torch.isfinite(samples).all():
        raise DataError(f"{name}: the {part} samples hold NaN or infinite values")
    if samples.ndim == 2:
        return samples[:, None, None, :]
    if samples.ndim == 3:
        return samples.unsqueeze(1)
    return _channels_first(name, samples)


def _channels_first(name: str, samples: Tensor) -> Tensor:
    """(n, C, H, W) as it is, (n, H, W, C) transposed; told apart by which of the two is 1 or 3.

    Raises:
        DataError: neither is.
    """
    if samples.shape[1] in CHANNELS:
        return samples
    if samples.shape[3] in CHANNELS:
        return samples.permute(0, 3, 1, 2).contiguous()
    raise DataError(
        f"{name}: expected images (n, C, H, W) or (n, H, W, C) with 1 or 3 channels, found {tuple(samples.shape)}"
    )


def split(name: str, x: np.ndarray, y: np.ndarray) -> tuple[Arrays, Arrays]:
    """A fixed, stratified split: the same test samples for every seed, so that runs compare.

    Raises:
        DataError: a class is too small to stand in both parts.
    """
    from sklearn.model_selection import train_test_split

    if y.ndim != 1 or len(x) != len(y):
        raise DataError(f"{name}: expected as many labels as samples, found {x.shape} and {y.shape}")
    # the ceiling, so that 1,797 digits leave 540 to test on
    try:
        train, test = train_test_split(np.arange(len(y)), test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=y)
    except ValueError as error:
        raise DataError(f"{name}: cannot be split into training and test part: {error}") from error
    return (x[train], y[train]), (x[test], y[test])
