"""Files and folders of the user's: npz, parquet, idx, and folders of images."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from photonic.data.dataset import Arrays, Dataset, checked, spaced, split
from photonic.errors import DataError, MissingExtraError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label", "labels")
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
# names of the four idx files, as MNIST and its relatives ship them
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
LAYOUTS = "train*.parquet and test*.parquet, four idx files, or train/CLASS/*.png and test/CLASS/*.png"


def load_npz(path: Path, limit: int | None) -> Dataset:
    """Arrays x_train, y_train, x_test, y_test; or x and y, which are split by a fixed rule.

    Raises:
        DataError: other arrays, pickled objects, or a damaged file.
    """
    try:
        # opened here: numpy would leave a damaged file open
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable .npz file of plain arrays: {error}") from error
    if {"x_train", "y_train", "x_test", "y_test"} <= set(arrays):
        train, test = (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
    elif {"x", "y"} <= set(arrays):
        train, test = split(str(path), arrays["x"], arrays["y"])
    else:
        raise DataError(
            f"{path}: expected the arrays x_train, y_train, x_test, y_test (or x and y), found {sorted(arrays)}"
        )
    return checked(str(path), train, test).limited(limit)


def load_parquet(path: Path, limit: int | None) -> Dataset:
    """One file of images and labels, split by a fixed rule.

    Raises:
        DataError: as ``read_parquet``.
    """
    # the split first, the limit after: the test part of a limited run is part of the whole's
    return checked(str(path), *split(str(path), *read_parquet([path], None))).limited(limit)


def load_folder(path: Path, limit: int | None) -> Dataset:
    """A folder in one of the layouts that ``LAYOUTS`` names.

    Raises:
        DataError: none of them.
    """
    parquet = [sorted(path.glob(f"{part}*.parquet")) for part in ("train", "test")]
    if all(parquet):
        train, test = (read_parquet(files, limit) for files in parquet)
        return checked(str(path), train, test)
    if any(parquet):
        raise DataError(f"{path}: found parquet files of one part only; expected train*.parquet and test*.parquet")
    if _idx(path, IDX_FILES[0]):
        return load_idx(path, limit)
    if (path / "train").is_dir() and (path / "test").is_dir():
        return load_images(path, limit)
    raise DataError(f"{path}: no data set recognised; looked for {LAYOUTS}")


def load_idx(path: Path, limit: int | None) -> Dataset:
    """The four idx files of MNIST's kind, plain or in gzip.

    Raises:
        DataError: one is missing, damaged or of another length than it says.
    """
    files = [_idx(path, name) for name in IDX_FILES]
    missing = [name for name, file in zip(IDX_FILES, files, strict=True) if file is None]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} (or .gz) not found")
    train_x, train_y, test_x, test_y = (_read_idx(file) for file in files if file is not None)
    return checked(str(path), (train_x, train_y), (test_x, test_y)).limited(limit)


def load_images(path: Path, limit: int | None) -> Dataset:
    """train/CLASS/* and test/CLASS/* of images of one size.

    Raises:
        DataError: other classes in test than in train, no images, or images of several sizes.
    """
    classes = tuple(sorted(folder.name for folder in (path / "train").iterdir() if folder.is_dir()))
    extra = sorted({folder.name for folder in (path / "test").iterdir() if folder.is_dir()} - set(classes))
    if extra:
        raise DataError(f"{path}: test has the classes {extra}, which train does not have")
    parts = []
    for part in ("train", "test"):
        found = [
            (file, label)
            for label, name in enumerate(classes)
            for file in sorted((path / part / name).glob("*"))
            if file.suffix.lower() in IMAGE_ENDINGS
        ]
        if not found:
            raise DataError(f"{path / part}: no images found; expected CLASS/*{' or *'.join(IMAGE_ENDINGS)}")
        chosen = [found[i] for i in spaced(len(found), limit).tolist()]
        images = decode_images((str(file), _bytes(file)) for file, _ in chosen)
        parts.append((images, np.array([label for _, label in chosen])))
    return checked(str(path), parts[0], parts[1], classes)


def read_parquet(files: list[Path], limit: int | None) -> Arrays:
    """Images and labels of files in Hugging Face's layout: a struct of encoded bytes, and an integer.

    Raises:
        DataError: other columns, a missing image, or a damaged file.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data") from error
    name = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    try:
        schema = pyarrow.parquet.read_schema(files[0])
        image = next((column for column in IMAGE_COLUMNS if column in schema.names), None)
        label = next((column for column in LABEL_COLUMNS if column in schema.names), None)
        if image is None or label is None:
            raise DataError(
                f"{name}: expected a column {' or '.join(IMAGE_COLUMNS)} and a column {' or '.join(LABEL_COLUMNS)}, "
                f"found {schema.names}"
            )
        table = pyarrow.concat_tables([pyarrow.parquet.read_table(file, columns=[image, label]) for file in files])
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: not a readable parquet file: {error}") from error
    if table.num_rows == 0:
        raise DataError(f"{name}: holds no samples")
    table = table.take(spaced(table.num_rows, limit).numpy())
    if table[label].null_count:
        raise DataError(f"{name}: {table[label].null_count} labels are missing")
    return decode_images(_cells(table[image], name)), np.asarray(table[label].to_numpy())


def _cells(column: Any, name: str) -> Iterator[tuple[str, bytes]]:
    """The encoded bytes of each image, with a name for messages."""
    for row, cell in enumerate(column):
        value = cell.as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise DataError(f"{name}: row {row} holds no image bytes, found {type(data).__name__}")
        yield f"{name}, row {row}", data


def decode_images(encoded: Iterable[tuple[str, bytes]]) -> np.ndarray:
    """Decodes images of one size and mode to (n, C, H, W) uint8.

    Raises:
        DataError: a damaged image, or one of another size.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtraError("pillow", "data") from error

    def decode(item: tuple[str, bytes]) -> np.ndarray:
        name, data = item
        try:
            with Image.open(io.BytesIO(data)) as image:
                pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{name}: not a readable image: {error}") from error
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    # PIL releases the interpreter's lock while it decodes
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(decode, encoded))
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise DataError(f"images must be of one size, found {sorted(shapes)[:4]} (channels, height, width)")
    return np.stack(images)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _idx(path: Path, name: str) -> Path | None:
    """The file of that name, plain or in gzip."""
    return next((file for file in (path / name, path / f"{name}.gz") if file.is_file()), None)


def _read_idx(path: Path) -> np.ndarray:
    """An idx file of unsigned bytes: magic 0x000008DD with DD dimensions, their sizes (big-endian), the bytes."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(raw) < 8 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{path}: not an idx file of unsigned bytes")
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    data = raw[4 + 4 * raw[3] :]
    if len(data) != int(np.prod(shape)):
        raise DataError(f"{path}: says {shape}, {int(np.prod(shape))} bytes, and holds {len(data)}; is it cut off?")
    values = np.frombuffer(data, dtype=np.uint8).reshape(shape).copy()
    return values.astype(np.int64) if raw[3] == 1 else values
