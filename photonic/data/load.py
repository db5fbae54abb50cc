"""From what the user typed to a data set."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import numpy as np

from photonic.data import files
from photonic.data.dataset import Dataset, checked, split
from photonic.errors import DataError, MissingExtraError

# name: the class of torchvision.datasets
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
NAMES = ("digits", *TORCHVISION)
# where Debian's package dataset-fashion-mnist puts its files
DEBIAN = Path("/usr/share/datasets")


def load_dataset(source: str, *, download: bool = False, limit: int | None = None, root: Path | None = None) -> Dataset:
    """Loads a data set into memory.

    Args:
        source: ``digits`` (1,797 real 8 x 8 digits of scikit-learn, 540 of them for testing), ``mnist``,
            ``fashion-mnist``, ``cifar10``, ``cifar100`` (from ``PHOTONIC_DATA``, or the user's cache), a folder
            (parquet in Hugging Face's layout, idx files, or images by class), a ``.npz`` or a ``.parquet`` file.
        download: let torchvision fetch a named set that is not there.
        limit: at most so many training and so many test samples, evenly spaced.
        root: where named sets are looked for, in place of ``PHOTONIC_DATA``.

    Raises:
        DataError: unknown, missing, damaged or of another form.
        MissingExtraError: a package that this source needs is not installed.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit must be at least 1 sample, found {limit}")
    if source == "digits":
        return _digits().limited(limit)
    if source in TORCHVISION:
        return _named(source, download, limit, data_root() if root is None else root)
    path = Path(source).expanduser()
    if path.is_dir():
        return files.load_folder(path, limit)
    if not path.is_file():
        near = difflib.get_close_matches(source, NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise DataError(f"no data set {source!r}: known are {', '.join(NAMES)}, a folder, a .npz or a .parquet{hint}")
    loaders = {".npz": files.load_npz, ".parquet": files.load_parquet}
    if path.suffix not in loaders:
        raise DataError(f"{path}: expected a file that ends in .npz or .parquet")
    return loaders[path.suffix](path, limit)


def data_root() -> Path:
    """Where named sets are looked for: ``PHOTONIC_DATA``, or the user's cache."""
    given = os.environ.get("PHOTONIC_DATA")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "photonic"


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)
    return checked("digits", *split("digits", images, bunch.target))


def _named(name: str, download: bool, limit: int | None, root: Path) -> Dataset:
    """A set of torchvision's, or the same set in a layout of ours below the data root or Debian's folder."""
    for folder in (root / name, DEBIAN / name):
        if folder.is_dir() and (any(folder.glob("train*.parquet")) or any(folder.glob("train-images-idx3-ubyte*"))):
            return files.load_folder(folder, limit)
    try:
        import torchvision.datasets
    except ImportError as error:
        raise MissingExtraError("torchvision", "data") from error
    kind = getattr(torchvision.datasets, TORCHVISION[name])
    try:
        parts = [kind(root, train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        if not download:
            raise DataError(
                f"{name} is not in {root} (set PHOTONIC_DATA to look elsewhere); pass --download to fetch it there"
            ) from error
        raise DataError(f"{name} could not be downloaded to {root}: {error}") from error
    (train, test) = ((_pixels(part.data), np.asarray(part.targets)) for part in parts)
    return checked(name, train, test, tuple(str(label) for label in parts[0].classes)).limited(limit)


def _pixels(data: object) -> np.ndarray:
    """Torchvision's pixels, (n, H, W) or (n, H, W, 3), to (n, H, W) or (n, 3, H, W)."""
    pixels = np.asarray(data)
    return pixels.transpose(0, 3, 1, 2) if pixels.ndim == 4 else pixels
