"""How raw readings lie in a folder: chunks that are whole or absent, and a journal of them.

``header.json`` says what is measured; ``chunk-NNNNN.npz`` holds some readings; each line of ``journal.jsonl`` names a
chunk, how many readings it holds and its sha256. A chunk is written under another name, synced and renamed before its
line is written and synced, so whatever stops the process loses what was not yet written and nothing else: a chunk
without a line, or half a line, is dropped when the folder is opened again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from photonic.calibration.reading import Reading, Taken
from photonic.errors import CalibrationError

HEADER, JOURNAL, VERSION = "header.json", "journal.jsonl", 1


def write_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, and its name in the folder."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Appends a line of JSON and waits until it is on the disk."""
    with path.open("ab") as file:
        file.write(json.dumps(entry).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of the journal; half a line at its end is cut off, chunks that no line names are removed.

    Raises:
        CalibrationError: a line that is no entry.
    """
    path = folder / JOURNAL
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    try:
        entries = [json.loads(line) for line in whole.splitlines()]
        known = {str(entry["file"]) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise CalibrationError(f"{path} is damaged: expected lines of JSON, found {error}; sweep again") from error
    if len(whole) < len(content):
        write_file(path, whole)
    for orphan in [*folder.glob("chunk-*.npz"), *folder.glob(".*.part")]:
        if orphan.name not in known:
            orphan.unlink()
    return entries


def pack(taken: Sequence[Taken]) -> bytes:
    """Readings as the bytes of an ``.npz``; a vector that is repeated in all of a reading is kept once."""
    inputs = [item.reading.inputs for item in taken]
    same = [bool((rows == rows[:1]).all()) for rows in inputs]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        weights=torch.stack([item.reading.weights for item in taken]).numpy(),
        inputs=torch.cat([rows[:1] if one else rows for rows, one in zip(inputs, same, strict=True)]).numpy(),
        same=np.array(same),
        shots=np.array([len(rows) for rows in inputs]),
        counts=torch.cat([item.counts for item in taken]).numpy(),
        numbers=np.array([[item.clock_s, item.utc, item.seconds] for item in taken]),
        block=np.array([item.reading.block for item in taken]),
        text=np.array([json.dumps(_text(item)) for item in taken]),
    )
    return buffer.getvalue()


def unpack(path: Path, digest: str) -> list[Taken]:
    """The readings of a chunk.

    Raises:
        CalibrationError: the file is gone, or is not the one that was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CalibrationError(f"{path} is in the journal and cannot be read: {error}; sweep again") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise CalibrationError(
            f"{path} is not what the sweep wrote: its sha256 differs from the journal's; sweep again"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as data:
            return _unpacked({name: data[name] for name in data.files})
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CalibrationError(f"{path} holds no readings: {error}; sweep again") from error


def _text(item: Taken) -> dict[str, Any]:
    reading = item.reading
    return {"purpose": reading.purpose, "conditions": dict(reading.conditions), "telemetry": dict(item.telemetry)}


def _unpacked(data: Mapping[str, np.ndarray]) -> list[Taken]:
    inputs, counts = torch.from_numpy(data["inputs"]), torch.from_numpy(data["counts"])
    found, row, shot = [], 0, 0
    for index, shots in enumerate(data["shots"].tolist()):
        kept = 1 if data["same"][index] else shots
        text = json.loads(str(data["text"][index]))
        reading = Reading(
            purpose=text["purpose"],
            weights=torch.from_numpy(data["weights"][index]),
            inputs=inputs[row : row + kept].expand(shots, -1),
            conditions=text["conditions"],
            block=int(data["block"][index]),
        )
        clock, utc, seconds = (float(value) for value in data["numbers"][index])
        found.append(Taken(reading, counts[shot : shot + shots], clock, text["telemetry"], utc, seconds))
        row, shot = row + kept, shot + shots
    return found
