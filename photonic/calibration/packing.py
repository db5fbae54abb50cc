"""The arrays of a reading as bytes: a small ``.npz``, compressed, that ``numpy.load`` opens by itself."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photonic.errors import CalibrationError

# zlib's fastest: the next level takes twice the time and saves 3 %, on codes and counts of 8 bits
_LEVEL = 1
_NARROW = (np.dtype(np.int8), np.dtype(np.uint8))


def pack(arrays: Mapping[str, Tensor]) -> bytes:
    """Packs arrays without loss; the same arrays always give the same bytes.

    Whole numbers of 16 bits go into 8 where they all fit, and a matrix whose rows are all alike becomes its first row.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, tensor in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, _shrunk(tensor.numpy()), allow_pickle=False)
    return buffer.getvalue()


def unpack(data: bytes, wanted: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> dict[str, Tensor]:
    """What ``pack`` was given.

    Args:
        data: as packed.
        wanted: shape and dtype of each array.

    Raises:
        CalibrationError: it holds something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            found = {name: torch.from_numpy(stored[name]) for name in stored.files}
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise CalibrationError(f"expected the arrays of a reading, found something else: {error}") from error
    if found.keys() != wanted.keys():
        raise CalibrationError(f"expected the arrays {sorted(wanted)}, found {sorted(found)}")
    return {name: _grown(name, found[name], *form) for name, form in wanted.items()}


def _shrunk(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 2 and len(array) > 1 and bool((array == array[0]).all()):
        array = array[:1]
    if array.dtype == np.int16 and array.size:
        low, high = array.min(), array.max()
        for dtype in _NARROW:
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return array.astype(dtype)
    return array


def _grown(name: str, found: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    alike = len(shape) == 2 and tuple(found.shape) == (1, shape[1])
    if tuple(found.shape) != shape and not alike:
        raise CalibrationError(f"expected {name} of shape {shape}, found {tuple(found.shape)}")
    if found.dtype != dtype and not (dtype == torch.int16 and found.dtype in (torch.int8, torch.uint8)):
        raise CalibrationError(f"expected {name} of {dtype}, found {found.dtype}")
    return found.to(dtype).expand(shape).contiguous()
