"""A record's file: readable JSON that knows its own hash, with arrays in an ``.npz`` beside it.

``NAME.json`` holds the record's fields, the sha256 of ``NAME.npz`` and, under ``sha256``, that of its own content in
canonical form (keys sorted, no spaces), so that an edit by hand is noticed. Both files are written in full under other
names and then renamed, the arrays first: whoever reads finds a whole record, or one whose parts do not fit and which is
refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from photonic.errors import ArraysError, CalibrationError, EditedRecordError, RecordVersionError

VERSION = 1
_HASH, _ARRAYS = "sha256", "arrays_sha256"


def write(path: str | os.PathLike[str], content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a record.

    Args:
        path: ends in ``.json``; the arrays go to the same name with ``.npz``.
        content: JSON values; the hashes are added.
        arrays: float64, by name.

    Raises:
        CalibrationError: the name does not end in ``.json``, or the folder cannot be written.
        ArraysError: an array is not float64.
    """
    target = _named(path)
    whole = {**content, _ARRAYS: None}
    files: dict[Path, bytes] = {}
    if arrays:
        packed = files[target.with_suffix(".npz")] = _packed(target, arrays)
        whole[_ARRAYS] = hashlib.sha256(packed).hexdigest()
    whole[_HASH] = _digest(whole)
    files[target] = (json.dumps(whole, indent=2, allow_nan=False) + "\n").encode()
    try:
        _replace(files)
    except OSError as error:
        raise CalibrationError(f"{target} cannot be written: {error}") from error


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads what ``write`` wrote: the content without the hash of itself, and the arrays, which are read-only.

    Raises:
        CalibrationError: no such file, or not a record.
        RecordVersionError: another schema version.
        EditedRecordError: the content is not what its hash says.
        ArraysError: the arrays are missing, or others than the record was saved with.
    """
    source = _named(path)
    try:
        content = json.loads(source.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise CalibrationError(
            f"{source} cannot be read: {error}; photonic calibrate -o {source} writes one"
        ) from error
    except ValueError as error:  # of JSON, of UTF-8
        raise CalibrationError(f"{source} is not a calibration: expected JSON, found {error}") from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise CalibrationError(f"{source} is not a calibration: expected an object with a schema_version")
    if content["schema_version"] != VERSION:
        raise RecordVersionError(
            f"{source} has schema version {content['schema_version']!r}, this photonic reads version {VERSION}; "
            "calibrate again, or open it with the version of photonic that wrote it"
        )
    stated, found = content.pop(_HASH, None), _digest(content)
    if stated != found:
        raise EditedRecordError(
            f"{source} was changed after it was saved: its sha256 should be {found}, found {stated}; take the file as "
            "it was saved, or calibrate again"
        )
    return content, _arrays(source, content.get(_ARRAYS))


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text}, which no JSON has")


def _named(path: str | os.PathLike[str]) -> Path:
    named = Path(path)
    if named.suffix != ".json":
        raise CalibrationError(f"a calibration is a file NAME.json, with its arrays in NAME.npz; found {named}")
    return named


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _packed(target: Path, arrays: Mapping[str, np.ndarray]) -> bytes:
    for name, array in arrays.items():
        if array.dtype != np.float64:
            raise ArraysError(f"{target}: array {name} must be float64, found {array.dtype}")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # allow_pickle is a keyword of newer numpy only
    return buffer.getvalue()


def _arrays(source: Path, stated: str | None) -> dict[str, np.ndarray]:
    """The arrays with the hash that the record states; none where it states none."""
    if stated is None:
        return {}
    beside = source.with_suffix(".npz")
    try:
        packed = beside.read_bytes()
    except OSError as error:
        raise ArraysError(f"{source} needs its arrays in {beside}, which cannot be read: {error}") from error
    found = hashlib.sha256(packed).hexdigest()
    if found != stated:
        raise ArraysError(
            f"{beside} does not belong to {source}: its sha256 should be {stated}, found {found}; take both files as "
            "they were saved together, or calibrate again"
        )
    arrays = _unpacked(beside, packed)
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _unpacked(path: Path, packed: bytes) -> dict[str, np.ndarray]:
    try:
        if not zipfile.is_zipfile(io.BytesIO(packed)):
            raise ValueError("this is no zip file")
        with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ArraysError(f"{path} holds no plain arrays: {error}; calibrate again") from error
    other = [name for name, array in arrays.items() if getattr(array, "dtype", None) != np.float64]
    if other:
        raise ArraysError(f"{path}: expected arrays of float64, found others: {', '.join(other)}; calibrate again")
    return arrays


def _replace(files: Mapping[Path, bytes]) -> None:
    """Puts the files in place, in this order, each of them whole or not at all."""
    with ExitStack() as stack:
        waiting = []
        for target, data in files.items():
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
            stack.callback(temporary.unlink, missing_ok=True)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            waiting.append((temporary, target))
        for temporary, target in waiting:
            temporary.replace(target)
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the new names last through a power failure, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
