"""An append-only journal with data beside it, whole whenever the process is killed.

``data.bin`` is blobs, one behind the other. ``journal.jsonl`` has one line of JSON for each: what the caller says of
it, its length and its sha256, and the sha256 of the line together with that of the line before; so nothing can be
changed, left out or exchanged unnoticed. A blob is written before its line. Now and then both files are forced to the
disk, and a line ``{"synced": n}`` says that the first n blobs are safe from a power failure as well.

Therefore: what a killed process leaves at the end, a blob without a line or a torn line, is no damage, and is written
over. Nor is anything that does not fit behind the last such mark. Whatever does not fit before it is an error.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from photonic.errors import CalibrationError, EditedRecordError

if sys.platform != "win32":
    import fcntl

JOURNAL, DATA = "journal.jsonl", "data.bin"
_SYNCED = "synced"


@dataclass(frozen=True)
class _Entry:
    """A line of the journal, and where it and its blob lie."""

    content: dict[str, Any]
    line_at: int
    line_end: int
    data_at: int
    data_end: int


class Journal:
    """Reads what is there; the files are changed with the first ``append`` only.

    Args:
        folder: holds both files; ``Journal.create`` makes them.
        root: sha256 that the first line builds on.

    Raises:
        CalibrationError: the files cannot be read.
        EditedRecordError: they were changed, or are damaged.
    """

    def __init__(self, folder: Path, root: str) -> None:
        self.folder, self._root = folder, root
        self._entries: list[_Entry] = []
        self._mark = 0, 0  # blobs that are on the disk for sure, and where the line ends that says so
        self._files: tuple[io.FileIO, io.FileIO] | None = None
        try:
            lines = (folder / JOURNAL).read_bytes()
            self._size = len(lines)
            self._read(lines)
        except OSError as error:
            raise CalibrationError(f"the raw data in {folder} cannot be read: {error}") from error

    @staticmethod
    def create(folder: Path) -> None:
        """Makes the two files, empty."""
        for name in (DATA, JOURNAL):
            (folder / name).touch()

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._entries[index].content

    @property
    def sha256(self) -> str:
        """Of everything: of the last line, which builds on all others."""
        return str(self[-1]["sha256"]) if self._entries else self._root

    def append(self, content: Mapping[str, Any], blob: bytes) -> None:
        """Writes a blob and its line; a process that is killed afterwards has not lost them.

        Raises:
            CalibrationError: the disk is full, say, or another process writes here; the blobs before it are kept.
        """
        line = {**content, "index": len(self), "bytes": len(blob), "data_sha256": hashlib.sha256(blob).hexdigest()}
        line["sha256"] = _chained(self.sha256, line)
        text = _canonical(line) + b"\n"
        line_at, data_at = self._line_end, self._data_end
        with self._writing() as (data, journal):
            _put(data, data_at, blob)
            _put(journal, line_at, text)
        # one step for whoever interrupts: before it, the next write goes to the same place
        self._entries.append(_Entry(line, line_at, line_at + len(text), data_at, data_at + len(blob)))

    def sync(self) -> None:
        """Waits until everything written is on the disk, and notes that it is.

        Raises:
            CalibrationError: it cannot be written.
        """
        if self._files is None or self._mark[0] == len(self):
            return
        count, at = len(self), self._line_end
        text = _canonical({_SYNCED: count}) + b"\n"
        with self._writing() as (data, journal):
            os.fsync(data.fileno())
            os.fsync(journal.fileno())
            _put(journal, at, text)
        self._mark = count, at + len(text)

    def blobs(self) -> Iterator[bytes]:
        """All blobs in order.

        Raises:
            CalibrationError: the data cannot be read.
            EditedRecordError: one of them is not what its line says.
        """
        return self._blobs(self._entries, 0)

    def blob(self, index: int) -> bytes:
        """One blob.

        Raises:
            CalibrationError, EditedRecordError: as ``blobs``.
        """
        return next(self._blobs(self._entries[index : index + 1], index))

    def truncate(self, count: int) -> None:
        """Forgets all blobs but the first ``count``, and waits until that is on the disk.

        Raises:
            CalibrationError: it cannot be written; nothing is forgotten then, or the journal is.
        """
        if count >= len(self):
            return
        end = self._entries[count].line_at  # behind every mark that counts no more than what is left
        with self._writing() as (_, journal):
            journal.truncate(end)
            os.fsync(journal.fileno())
        del self._entries[count:]
        # a mark that lies before ``end`` is written over, which loses nothing but the mark
        self._mark = self._mark if self._mark[1] <= end else (0, 0)

    def close(self) -> None:
        """Syncs and lets go of the files, also where it cannot sync; a second call does nothing."""
        if self._files is None:
            return
        try:
            self.sync()
            with self._writing() as (_, journal):
                os.fsync(journal.fileno())  # the mark itself
        finally:
            files, self._files = self._files, None
            for file in files:
                file.close()

    def _blobs(self, entries: Sequence[_Entry], first: int) -> Iterator[bytes]:
        """Of these entries, which lie behind one another; ``first`` is the index of the first."""
        try:
            with (self.folder / DATA).open("rb") as file:
                file.seek(entries[0].data_at if entries else 0)
                for index, entry in enumerate(entries, first):
                    blob = file.read(entry.data_end - entry.data_at)
                    if hashlib.sha256(blob).hexdigest() != entry.content["data_sha256"]:
                        raise self._damaged(index)
                    yield blob
        except OSError as error:
            raise CalibrationError(f"the raw data in {self.folder} cannot be read: {error}") from error

    @property
    def _data_end(self) -> int:
        return self._entries[-1].data_end if self._entries else 0

    @property
    def _line_end(self) -> int:
        return max(self._mark[1], self._entries[-1].line_end if self._entries else 0)

    @contextmanager
    def _writing(self) -> Iterator[tuple[io.FileIO, io.FileIO]]:
        try:
            if self._files is None:
                self._files = self._opened()
            yield self._files
        except OSError as error:
            reason = error.strerror or error
            raise CalibrationError(
                f"cannot write {self.folder}: {reason}; its first {len(self)} readings are kept"
            ) from error

    def _opened(self) -> tuple[io.FileIO, io.FileIO]:
        """Both files for writing; nobody else may write, or have written since they were read."""
        journal = (self.folder / JOURNAL).open("r+b", buffering=0)
        try:
            if not _locked(journal) or journal.seek(0, os.SEEK_END) != self._size:
                raise CalibrationError(
                    f"another process writes to {self.folder}; let it finish, or give this calibration another folder"
                )
            return (self.folder / DATA).open("r+b", buffering=0), journal
        except BaseException:
            journal.close()
            raise

    def _read(self, journal: bytes) -> None:
        """Takes over what fits, and raises where what does not fit had been safe on the disk."""
        *lines, _torn = journal.split(b"\n")
        at, fits = 0, True
        for raw in lines:
            line, end = _parsed(raw), at + len(raw) + 1
            if line is not None and line.keys() == {_SYNCED}:
                count = line[_SYNCED]
                if not fits or count != len(self):
                    raise self._damaged(len(self))
                self._mark = count, end
            elif fits and line is not None and self._continues(line):
                data_at = self._data_end
                self._entries.append(_Entry(line, at, end, data_at, data_at + line["bytes"]))
            else:
                fits = False
            at = end
        self._check_data()

    def _continues(self, line: dict[str, Any]) -> bool:
        stated = {name: value for name, value in line.items() if name != "sha256"}
        chained = line.get("sha256") == _chained(self.sha256, stated)
        return chained and line.get("index") == len(self) and type(line.get("bytes")) is int

    def _check_data(self) -> None:
        whole = 0
        try:
            for _ in self.blobs():
                whole += 1
        except EditedRecordError:
            if whole < self._mark[0]:
                raise
        del self._entries[whole:]

    def _damaged(self, index: int) -> EditedRecordError:
        return EditedRecordError(
            f"the raw data in {self.folder} was changed after it was saved, or is damaged: reading {index} is not what "
            "its sha256 says; take the folder as it was saved, or measure again"
        )


def _put(file: io.FileIO, at: int, data: bytes) -> None:
    """Writes, without a buffer, over whatever an interrupted write left from there on."""
    file.seek(at)
    file.truncate()
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _locked(file: io.FileIO) -> bool:
    """Keeps other processes from writing, as long as this one lives and the file is open; not on Windows."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _chained(before: str, content: Mapping[str, Any]) -> str:
    return hashlib.sha256(before.encode() + _canonical(content)).hexdigest()


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw, parse_constant=_no_number)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text}, which no JSON has")
